"""What counts as secret: names of header fields, of query parameters, of keys in bodies.

Owns: the defaults, and what settings add to them. Promises: decisions by name alone; nothing is
remembered. Must not know: where a name was found.

The defaults are always on. "Nothing here is secret" is answered for a whole URL or body by looking
for substrings, in a fraction of the time of a regular expression; patterns that settings add are
regular expressions and cost what they cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from otel_tap.errors import ConfigError

REDACTED: Final = b"REDACTED"

_PART: Final = re.compile(rb"token|secret|passw|api[-_]?key|session|credential|signature").search

_HEADERS: Final = frozenset(
    (
        b"cookie",
        b"set-cookie",
        b"x-api-key",
        b"x-auth-token",
        b"x-amz-security-token",
        b"x-csrf-token",
    )
)

# Proxies pass credentials on under names of their own (X-Forwarded-Authorization).
_AUTHORIZATION: Final = b"authorization"

_QUERY_KEYS: Final = frozenset(
    (
        b"x-amz-signature",
        b"x-amz-credential",
        b"x-amz-security-token",
        b"awsaccesskeyid",
        b"signature",
        b"sig",
        b"x-goog-signature",
    )
)
_MAX_DECODING: Final = 4


@dataclass(frozen=True, slots=True)
class RedactionSettings:
    """What an operator adds to the defaults, and the headers that are kept on purpose."""

    headers: tuple[str, ...] = ()  # further header names
    query_keys: tuple[str, ...] = ()  # further names of query parameters and keys in bodies
    patterns: tuple[str, ...] = ()  # further regular expressions on either, case-insensitive
    keep_headers: tuple[str, ...] = ()  # header names whose values stay, whatever a rule says


class SecretNames:
    """Decides by name. Raises ConfigError for a pattern that is no regular expression."""

    __slots__ = ("_added_keys", "_headers", "_kept", "_patterns")

    def __init__(self, settings: RedactionSettings) -> None:
        self._headers = _HEADERS | _lower(settings.headers)
        self._kept = _lower(settings.keep_headers)
        self._added_keys = _lower(settings.query_keys)
        self._patterns = tuple(_compiled(pattern) for pattern in settings.patterns)

    def is_kept_header(self, name: bytes) -> bool:
        """Whether the operator wants this header as it is."""
        return name.lower() in self._kept

    def is_authorization(self, name: bytes) -> bool:
        """Whether the value is credentials behind the name of a scheme."""
        return _AUTHORIZATION in name.lower()

    def is_secret_header(self, name: bytes) -> bool:
        """Whether the whole value goes."""
        lowered = name.lower()
        return lowered in self._headers or self._matches(lowered)

    def is_secret_key(self, key: bytes) -> bool:
        """Whether the value under this key goes; percent-encoding and case do not hide a key."""
        if b"%" in key:
            key = decoded(key)
        lowered = key.lower().strip()
        return lowered in _QUERY_KEYS or lowered in self._added_keys or self._matches(lowered)

    def may_be_secret(self, text: bytes) -> bool:
        """False only when no key in `text` (percent-encoding removed) can be secret."""
        if not text:
            return False
        if self._added_keys or self._patterns:
            return True
        # `in` is five times as fast on str: on bytes it first raises an error, for they may have
        # been asked for a number.
        lowered = text.decode("latin-1").lower()
        # A superset of _PART and _QUERY_KEYS in few and short words; this runs for every query.
        return (
            "token" in lowered
            or "secret" in lowered
            or "passw" in lowered
            or "key" in lowered
            or "session" in lowered
            or "credential" in lowered
            or "sig" in lowered
        )

    def _matches(self, lowered: bytes) -> bool:
        if _PART(lowered) is not None:
            return True
        patterns = self._patterns
        return bool(patterns) and any(pattern.search(lowered) for pattern in patterns)


def decoded(text: bytes) -> bytes:
    """Percent-encoding removed as often as it was applied, up to a bound."""
    for _ in range(_MAX_DECODING):
        if b"%" not in text:
            break
        once = unquote_to_bytes(text)
        if once == text:
            break
        text = once
    return text


def _lower(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.strip().lower().encode() for name in names)


def _compiled(pattern: str) -> re.Pattern[bytes]:
    try:
        return re.compile(pattern.encode(), re.IGNORECASE)
    except re.error as error:
        raise ConfigError(
            f"redaction pattern {pattern!r} is not a regular expression: {error}",
            remedy="Write a Python regular expression, for example: (customer|account)[-_]?number",
        ) from error
