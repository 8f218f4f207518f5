"""What spans and log records carry beyond the defaults."""

from __future__ import annotations

from dataclasses import dataclass

KNOWN_METHODS = (
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Choices of the user; the defaults are those of the semantic conventions."""

    request_headers: tuple[str, ...] = ()  # lower-case names that become attributes
    response_headers: tuple[str, ...] = ()
    attributes: frozenset[str] = frozenset()  # of names.OPT_IN_ATTRIBUTES
    known_methods: tuple[str, ...] = KNOWN_METHODS
    bodies: bool = False  # body content on log records
    body_limit: int = 65536  # bytes of one body after its content coding was removed
    traces: bool = True
    logs: bool = True
