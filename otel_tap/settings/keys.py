"""The dotted names of all settings, and what each is called in the environment and as a flag.

Derived from the models once, when first asked. A *leaf* is a setting that has a value of its own
(`bodies.limit`); a *section* only groups (`bodies`).
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic.fields import FieldInfo

from otel_tap.settings.model import Section, Settings

ENVIRONMENT_PREFIX = "OTEL_TAP_"
_FLAGS_OF_OTHER_NAME = {"bodies.enabled": "--bodies", "bodies.limit": "--body-limit"}


@cache
def leaves() -> dict[str, FieldInfo]:
    """Every setting with a value, in the order of declaration."""
    return dict(_walk(Settings, ""))


@cache
def sections() -> dict[str, FieldInfo]:
    """Every group of settings."""
    found: dict[str, FieldInfo] = {}
    for key in leaves():
        path = key.split(".")[:-1]
        model: type[Section] = Settings
        for depth, name in enumerate(path, start=1):
            field = model.model_fields[name]
            found[".".join(path[:depth])] = field
            nested = section_of(field)
            assert nested is not None  # noqa: S101 - only sections have leaves behind them
            model = nested
    return found


def section_of(field: FieldInfo) -> type[Section] | None:
    """The model of the group that `field` declares, or None for a leaf."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def is_list(field: FieldInfo) -> bool:
    """Whether the setting takes several values."""
    kinds = get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
    return any(get_origin(kind) is tuple for kind in kinds)


def variable(key: str) -> str:
    """The environment variable that sets `key`."""
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "__")


def flag(key: str) -> str:
    """The command-line flag that sets `key`."""
    name = key.removeprefix("filters.").replace(".", "-").replace("_", "-")
    return _FLAGS_OF_OTHER_NAME.get(key, f"--{name}")


def nearest(unknown: str) -> str | None:
    """The setting whose name comes nearest to `unknown`; None if none is near."""
    names = [*leaves(), *sections()]
    close = get_close_matches(unknown, names, n=1, cutoff=0.75)
    if close:
        return close[0]
    # A right name in the wrong place: compare what stands behind the last dot.
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    close = get_close_matches(unknown.rpartition(".")[2], list(by_last), n=1, cutoff=0.75)
    return by_last[close[0]] if close else None


def _is_union(kind: object) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _walk(model: type[Section], prefix: str) -> list[tuple[str, FieldInfo]]:
    found: list[tuple[str, FieldInfo]] = []
    for name, field in model.model_fields.items():
        nested = section_of(field)
        if nested is None:
            found.append((prefix + name, field))
        else:
            found += _walk(nested, f"{prefix}{name}.")
    return found
