"""One layer of settings per place they can come from: file, environment, flags.

Each reader turns its place into a `Layer`: values as they were written, under dotted keys, each
with the place it stands at, and the problems met on the way. Owns unknown and doubled keys; what a
value must be is for the models to say. Only `read_file` touches the disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from otel_tap.errors import ConfigError
from otel_tap.settings.keys import (
    ENVIRONMENT_PREFIX,
    flag,
    is_list,
    leaves,
    nearest,
    sections,
    variable,
)

Written = str | int | float | bool | list["Written"] | dict[str, "Written"]
Location = tuple[str | int, ...]

_NOT_SETTINGS = frozenset({"OTEL_TAP_DEBUG", "OTEL_TAP_CONFIG"})
# Kubernetes gives every pod such variables for a Service that is named otel-tap.
_KUBERNETES = re.compile(r"OTEL_TAP_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_.*)?)")
_STANDARD_METHODS = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"
_LIST_REMEDY = "write a,b or [a, b]"
_NULL_TAG = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written; `place` is how messages begin, `source` what `show` prints.

    `inner` has the places of the parts of a composed value, by their location in it.
    """

    value: object
    place: str
    source: str
    inner: Mapping[Location, str] = field(default_factory=dict)


@dataclass(slots=True)
class Layer:
    """What one place says."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[ConfigError] = field(default_factory=list)


def read_flags(flags: Mapping[str, object]) -> Layer:
    """The layer of the command line; `flags` has dotted keys, None stands for a flag not given."""
    layer = Layer()
    for key, value in flags.items():
        if key not in leaves():
            raise KeyError(key)
        if value is None or value == []:
            continue
        layer.given[key] = Given(value, flag(key), f"flag {flag(key)}")
    return layer


def read_environment(environ: Mapping[str, str]) -> Layer:
    """The layer of `OTEL_TAP_*`; an empty variable counts as not set, as OpenTelemetry has it.

    Several values stand behind commas, or in a YAML list in brackets where one has a comma.
    """
    layer = Layer()
    key_of = {_STANDARD_METHODS: "telemetry.known_methods"}
    key_of |= {variable(key): key for key in leaves()}
    # In order of name the standard variable comes first, so that our own wins over it.
    for name in sorted(environ):
        text = environ[name]
        key = key_of.get(name)
        if key is None:
            if name.startswith(ENVIRONMENT_PREFIX) and not _is_foreign(name):
                layer.problems.append(_unknown_variable(name))
            continue
        if not text:
            continue
        value: object = text
        if is_list(leaves()[key]):
            try:
                value = _list_of(text)
            except (yaml.YAMLError, RecursionError):
                layer.problems.append(
                    ConfigError(f"{name}: not a list: {text!r}", remedy=_LIST_REMEDY)
                )
                continue
        layer.given[key] = Given(value, name, f"env {name}")
    return layer


def read_file(path: Path) -> Layer:
    """The layer of a YAML file; what cannot be read or parsed at all is a ConfigError."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file",
            remedy="`otel-tap config example` prints one to start from",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", remedy="check the path and its rights"
        ) from None
    remedy = "correct the YAML; `otel-tap config example` prints a whole file"
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigError(
            f"{path}{line}: not valid YAML: {error.problem or error.context}", remedy=remedy
        ) from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path}: not valid YAML: {reason}", remedy=remedy) from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply", remedy=remedy) from None
    layer = Layer()
    if root is not None and not _is_null(root):
        _FileWalk(path, layer).section(root, "")
    return layer


class _FileWalk:
    """Carries the values of a composed document into a layer."""

    def __init__(self, path: Path, layer: Layer) -> None:
        self._path = path
        self._layer = layer

    def section(self, node: Node, prefix: str) -> None:
        """Take in a mapping of settings whose names begin with `prefix`."""
        if not isinstance(node, MappingNode):
            what = f"{prefix[:-1]} is" if prefix else "the file holds"
            self._problem(node, f"{what} not a mapping of settings", "write `name: value` lines")
            return
        seen: dict[str, Node] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, ScalarNode) else "?"
            key = prefix + name
            if name in seen:
                first = seen[name].start_mark.line + 1
                self._problem(
                    key_node, f'key "{key}" stands here again, first in line {first}', "keep one"
                )
                continue
            seen[name] = key_node
            if key in leaves():
                self._leaf(key, key_node, value_node)
            elif key not in sections():
                self._problem(key_node, *_unknown(key))
            elif not _is_null(value_node):
                self.section(value_node, f"{key}.")

    def _leaf(self, key: str, key_node: Node, value_node: Node) -> None:
        if _is_null(value_node):
            return  # a name whose values are all commented out keeps its default
        inner: dict[Location, str] = {}
        try:
            value = self._written(value_node, (), inner)
        except RecursionError:
            self._problem(value_node, f"{key} is nested too deeply", "write the values out")
            return
        place = self._place(key_node)
        self._layer.given[key] = Given(value, place, place, inner)

    def _written(self, node: Node, location: Location, inner: dict[Location, str]) -> Written:
        inner[location] = self._place(node)
        if isinstance(node, SequenceNode):
            return [self._written(e, (*location, n), inner) for n, e in enumerate(node.value)]
        if isinstance(node, MappingNode):
            return {
                str(name.value): self._written(e, (*location, str(name.value)), inner)
                for name, e in node.value
            }
        # Text as it was written: YAML 1.1 would make 012 octal, 1e5 a float and `no` a boolean.
        return str(node.value)

    def _place(self, node: Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"

    def _problem(self, node: Node, message: str, remedy: str) -> None:
        self._layer.problems.append(ConfigError(f"{self._place(node)}: {message}", remedy=remedy))


def _is_foreign(name: str) -> bool:
    return name in _NOT_SETTINGS or _KUBERNETES.fullmatch(name) is not None


def _list_of(text: str) -> object:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return _plain(node)


def _plain(node: Node | None) -> Written:
    if isinstance(node, SequenceNode):
        return [_plain(element) for element in node.value]
    if isinstance(node, MappingNode):
        return {str(name.value): _plain(element) for name, element in node.value}
    return str(node.value) if node is not None else ""


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _NULL_TAG


def _unknown(key: str) -> tuple[str, str]:
    near = nearest(key)
    hint = f'; did you mean "{near}"?' if near is not None else ""
    return f'unknown key "{key}"{hint}', "`otel-tap config example` lists every key"


def _unknown_variable(name: str) -> ConfigError:
    near = nearest(name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."))
    hint = f"; did you mean {variable(near)}?" if near in leaves() else ""
    return ConfigError(
        f"environment: unknown variable {name}{hint}",
        remedy="`otel-tap config show` lists every key; bodies.limit is OTEL_TAP_BODIES__LIMIT",
    )
