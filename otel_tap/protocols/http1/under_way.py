"""An exchange of HTTP/1 while it runs, as if it were over now.

Owns how such a look is made; it changes nothing, so that looking has no effect on what is emitted
later. `end_ktime_ns` is the time of the look.
"""

from __future__ import annotations

from otel_tap.exchange import Connection, Exchange, Role
from otel_tap.messages import Request, Response
from otel_tap.protocols.http1.open_exchange import OpenExchange, position


def seen_now(
    one: OpenExchange,
    connection: Connection,
    role: Role,
    now_ns: int,
    request: Request | None,
    response: Response | None,
) -> Exchange | None:
    """What is known of it; `request` and `response` are those under way. None: nothing yet."""
    request = one.request or request
    response = one.response or response
    if request is None and response is None:
        return None
    return Exchange(
        role,
        connection,
        one.tid,
        request,
        response,
        one.start_ns,
        one.request_end_ns,
        one.response_start_ns,
        now_ns,
        now_ns,
        not one.first or not connection.from_start,
        position(connection, role, one.offset, one.tcp_position, one.into_event),
        None,
    )
