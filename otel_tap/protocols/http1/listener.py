"""What the two readers of an HTTP/1 connection tell, and to whom.

Owns the interface between framing and pairing only, so that neither knows the other's inside.
"""

from __future__ import annotations

from otel_tap.events import DataEvent
from otel_tap.exchange import ExchangeError
from otel_tap.messages import Request, Response
from otel_tap.protocols.content import ReadExchange
from otel_tap.protocols.http2.grpc import Messages


class Listener:
    """Who is told of messages; the pairing of requests and responses."""

    __slots__ = ()

    def request_began(self, event: DataEvent, at: int, begin_ktime_ns: int) -> None:
        """The first byte of a request is `event.payload[at]`."""
        raise NotImplementedError

    def request_head(self, method: bytes, *, switches: bool) -> None:
        """The head of that request is complete; `switches`: CONNECT or Upgrade."""
        raise NotImplementedError

    def request_is_read(self, read: ReadExchange) -> None:
        """The contents of that exchange are read while they flow."""
        raise NotImplementedError

    def request_call(self, kind: int, messages: Messages | None) -> None:
        """By its head that request is a gRPC call of this form; `messages` counts."""
        raise NotImplementedError

    def response_call(self, kind: int, messages: Messages | None) -> None:
        """By its head the response that began last answers such a call."""
        raise NotImplementedError

    def request_ended(
        self, request: Request | None, error: ExchangeError | None, ktime_ns: int
    ) -> None:
        """That request is over; None when not even its request line is known."""
        raise NotImplementedError

    def response_begins(self, tid: int, begin_ktime_ns: int) -> bytes:
        """A final response is here; returns the method of its request, b"" unknown."""
        raise NotImplementedError

    def response_is_read(self) -> ReadExchange | None:
        """Who reads the exchange of that response, if anybody does."""
        raise NotImplementedError

    def response_ended(
        self, response: Response, error: ExchangeError | None, ktime_ns: int, begin_ktime_ns: int
    ) -> None:
        """That response is over; the times are those of the call that moved its last byte."""
        raise NotImplementedError

    def requests_hidden(self, *, whole: bool, lost: bool, skipped: bool) -> None:
        """Requests may have passed unseen; `whole`: since the last request had ended.

        Not `lost`: before the stream was met. `skipped`: in bytes that moved just now and were
        not read; otherwise at any time since the last bytes.
        """
        raise NotImplementedError

    def responses_hidden(self, *, lost: bool) -> None:
        """Responses may have passed unseen; not `lost`: before the stream was met."""
        raise NotImplementedError

    def malformed(self) -> None:
        """These bytes are not HTTP/1: no message follows."""
        raise NotImplementedError
