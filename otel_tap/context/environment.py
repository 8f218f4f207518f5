"""What a program says of itself in its environment: two variables, and nothing else of it.

Owns: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES as the OpenTelemetry specification defines
them. Promises: pure; every other variable is forgotten, for an environment is full of secrets.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

SERVICE_NAME = "service.name"

_NAME_VARIABLE = b"OTEL_SERVICE_NAME="
_ATTRIBUTES_VARIABLE = b"OTEL_RESOURCE_ATTRIBUTES="
_MAX_VALUE = 16384  # bytes: a target must not be able to fill the agent's memory
_MAX_ATTRIBUTES = 128  # the specification's default attribute count limit
_HEX = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class Declared:
    """What the environment declares; `malformed` when a variable was there and unusable."""

    service_name: str | None
    attributes: tuple[tuple[str, str], ...]  # without service.name
    malformed: bool


NOTHING_DECLARED = Declared(None, (), malformed=False)


def declared_by(environ: bytes, *, truncated: bool = False) -> Declared:
    """Read the two variables out of the bytes of /proc/PID/environ.

    A variable that stands twice has its first value, as getenv() says. An empty one counts as not
    set. `truncated`: the end was cut off, so the last variable is not whole and is left out.
    """
    # Most programs declare nothing: one search instead of a split of everything.
    if b"OTEL_" not in environ:
        return NOTHING_DECLARED
    if truncated:
        environ = environ[: environ.rfind(b"\0") + 1]
    name = _variable(environ, _NAME_VARIABLE)
    attributes = _variable(environ, _ATTRIBUTES_VARIABLE)
    malformed = False
    service_name: str | None = None
    if name:
        service_name = _text(name) if len(name) <= _MAX_VALUE else None
        malformed = service_name is None
    parsed: dict[str, str] | None = {}
    if attributes:
        parsed = parse_resource_attributes(attributes)
        malformed = malformed or parsed is None
    parsed = parsed or {}
    named = parsed.pop(SERVICE_NAME, None)
    return Declared(service_name or named or None, tuple(parsed.items()), malformed)


def parse_resource_attributes(value: bytes) -> dict[str, str] | None:
    """`key=value,key=value` with percent-encoding; None when any of it is malformed.

    The specification wants the whole value discarded then. Empty items are let pass, as the SDKs
    do: a trailing comma is common.
    """
    if len(value) > _MAX_VALUE:
        return None
    attributes: dict[str, str] = {}
    for item in value.split(b","):
        if not item.strip():
            continue
        key, separator, content = item.partition(b"=")
        decoded_key = _decoded(key.strip())
        decoded = _decoded(content.strip())
        if not separator or not decoded_key or decoded is None:
            return None
        attributes[decoded_key] = decoded
    return attributes if len(attributes) <= _MAX_ATTRIBUTES else None


def _variable(environ: bytes, prefix: bytes) -> bytes | None:
    if environ.startswith(prefix):
        start = len(prefix)
    else:
        at = environ.find(b"\0" + prefix)
        if at < 0:
            return None
        start = at + 1 + len(prefix)
    end = environ.find(b"\0", start)
    return environ[start:] if end < 0 else environ[start:end]


def _decoded(value: bytes) -> str | None:
    if b"%" not in value:
        return _text(value)
    at = value.find(b"%")
    while at >= 0:
        digits = value[at + 1 : at + 3]
        if len(digits) != 2 or not _HEX.issuperset(digits):
            return None
        at = value.find(b"%", at + 3)
    return _text(unquote_to_bytes(value))


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
