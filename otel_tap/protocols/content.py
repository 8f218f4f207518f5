"""Who reads contents while they flow, beside what is kept of them.

Owns the interfaces only: what a protocol knows of a reader, and a reader of the protocol. Few
contents are read: event streams, and those of exchanges that `ContentRules` choose.
"""

from __future__ import annotations

from otel_tap.exchange import GenAi
from otel_tap.messages import Field


class ContentSink:
    """Reads the text of one content, or one document after the other of it."""

    __slots__ = ()

    def text(self, data: bytes, ktime_ns: int) -> None:
        """The next bytes, which moved at `ktime_ns`."""
        raise NotImplementedError

    def document_ends(self) -> None:
        """What follows begins anew."""
        raise NotImplementedError

    def cut(self) -> None:
        """Bytes are missing here, and none follow."""
        raise NotImplementedError


class ReadExchange:
    """One exchange both contents of which are read."""

    __slots__ = ()

    def request_sink(self) -> ContentSink:
        """Reads the content of the request."""
        raise NotImplementedError

    def response_sink(self) -> ContentSink:
        """Reads the content of the response."""
        raise NotImplementedError

    def said(self, *, request_complete: bool, response_complete: bool) -> GenAi | None:
        """What was read; None when the contents are not what they seemed to be."""
        raise NotImplementedError


class ContentRules:
    """Chooses exchanges by the heads of their requests."""

    __slots__ = ()

    def matches(self, method: bytes, target: bytes) -> bool:
        """Whether the contents of this exchange are to be read; quick, for it is asked always."""
        raise NotImplementedError

    def begin(self, target: bytes, fields: tuple[Field, ...]) -> ReadExchange | None:
        """Reads an exchange that matches."""
        raise NotImplementedError
