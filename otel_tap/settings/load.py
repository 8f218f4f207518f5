"""Settings from all their places: flags before environment before file before default.

A list is replaced by the layer that wins, never joined over layers. Every problem is found in one
pass; each says where, which key, what was written and what is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from otel_tap.errors import ConfigError
from otel_tap.settings.keys import leaves
from otel_tap.settings.layers import Given, Layer, read_environment, read_file, read_flags
from otel_tap.settings.model import Settings

_KEY_REMEDY = "`otel-tap config example` explains every key"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force; `sources` names for each key where its value comes from."""

    settings: Settings
    sources: Mapping[str, str]

    def values(self) -> list[tuple[str, object, str]]:
        """(key, value as it would be written, source) of every setting."""
        written = self.settings.model_dump(mode="json")
        return [(key, _at(written, key), self.sources[key]) for key in leaves()]


def load_settings(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Loaded:
    """The settings in force, or the first problem as a ConfigError.

    `flags` has dotted keys (`bodies.limit`); a value of None or an empty list is a flag not given.
    """
    loaded, problems = check_settings(path, environ, flags)
    if loaded is None:
        raise problems[0]
    return loaded


def check_settings(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
) -> tuple[Loaded | None, list[ConfigError]]:
    """The settings in force, or every problem that stands in the way of having them."""
    try:
        layers = [read_file(path)] if path is not None else []
    except ConfigError as error:
        return None, [error]
    layers += [read_environment(environ), read_flags(flags)]
    return _join(layers)


def _join(layers: list[Layer]) -> tuple[Loaded | None, list[ConfigError]]:
    given: dict[str, Given] = {}
    problems: list[ConfigError] = []
    for layer in layers:
        given |= layer.given
        problems += layer.problems
    try:
        settings = Settings.model_validate(_nested(given))
    except ValidationError as error:
        problems += [_problem(details, given) for details in error.errors(include_url=False)]
        return None, problems
    if problems:
        return None, problems
    sources = {key: given[key].source if key in given else "default" for key in leaves()}
    return Loaded(settings, sources), []


def _nested(given: Mapping[str, Given]) -> dict[str, object]:
    root: dict[str, object] = {}
    for key, entry in given.items():
        *groups, name = key.split(".")
        group = root
        for step in groups:
            below = group.setdefault(step, {})
            assert isinstance(below, dict)  # noqa: S101 - a section's name is never a leaf's
            group = below
        group[name] = entry.value
    return root


def _at(tree: object, key: str) -> object:
    for step in key.split("."):
        assert isinstance(tree, dict)  # noqa: S101 - `key` is a leaf of the models
        tree = tree[step]
    return tree


def _problem(details: ErrorDetails, given: Mapping[str, Given]) -> ConfigError:
    location = details["loc"]
    depth = next(
        n for n in range(len(location), 0, -1) if ".".join(map(str, location[:n])) in given
    )
    key = ".".join(map(str, location[:depth]))
    inner = location[depth:]
    entry = given[key]
    place = entry.inner.get(inner) or entry.inner.get(inner[:-1]) or entry.place
    for step in inner:
        key += f"[{step}]" if isinstance(step, int) else f".{step}"
    if details["type"] == "extra_forbidden":
        return ConfigError(f'{place}: unknown key "{key}"', remedy=_KEY_REMEDY)
    if details["type"] == "missing":
        return ConfigError(f"{place}: {key} is missing", remedy=_KEY_REMEDY)
    return ConfigError(
        f"{place}: {key} is {_quoted(details['input'])}; accepted: {_accepted(details)}",
        remedy=_KEY_REMEDY,
    )


def _quoted(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    text = str(value)
    shown = text if len(text) <= 80 else text[:79] + "…"
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown) + '"'


def _accepted(details: ErrorDetails) -> str:
    kind = details["type"]
    context = details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return str(context["expected"])
    if kind.startswith("bool"):
        return "true or false"
    if kind.startswith("int"):
        return "a whole number"
    if kind == "greater_than_equal":
        return f"a whole number from {context['ge']}"
    if kind.startswith("tuple"):
        return "a list"
    if kind.startswith("model"):
        return "a mapping"
    return "a text" if kind.startswith("string") else details["msg"]
