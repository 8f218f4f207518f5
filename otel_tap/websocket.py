"""A WebSocket session (RFC 6455) as an observer can know it.

It hangs on the exchange of its handshake: `exchange.Exchange.websocket`. Counts are of what moved;
those of a direction in which frames may have passed unseen are lower bounds, and say so.

As with messages, mypy keeps these from being changed (`Final`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otel_tap.messages import Body


@dataclass(slots=True)
class Flow:
    """What one end of a session sent. Sizes are of payloads as framed: compressed, if they were."""

    messages: Final[int]  # whole ones, text and binary
    text_messages: Final[int]
    message_bytes: Final[int]  # payload of all data frames, also of a message that did not end
    frames: Final[int]  # data frames: more than messages where those are fragmented
    compressed_messages: Final[int]
    pings: Final[int]
    pongs: Final[int]
    lost_bytes: Final[int]  # that fell into gaps
    exact: Final[bool]  # no frame can have passed unseen: the counts are all there is


@dataclass(slots=True)
class Session:
    """A session that is over, or of which no more will be known."""

    sent: Final[Flow]  # by the process
    received: Final[Flow]
    subprotocol: Final[bytes | None]  # as the server chose it
    deflate: Final[bool | None]  # permessage-deflate was agreed upon; None: not known
    # What the first close frame said: RFC 6455 7.4.1, 1005 when it had no code. None: no close
    # frame was seen, or its code was lost.
    close_code: Final[int | None]
    close_reason: Final[bytes]  # "" unless contents are wanted
    closed_here: Final[bool | None]  # whether the process sent it; None: no close frame was seen


@dataclass(slots=True)
class Message:
    """One whole message. The content is decompressed, or empty where that cannot be done.

    `body.size` counts payload bytes as framed; `body.truncated` says that content is missing.
    """

    sent: Final[bool]  # by the process
    text: Final[bool]
    compressed: Final[bool]
    number: Final[int | None]  # from 0, in its direction; None: unknown after a loss
    body: Final[Body]
    start_ktime_ns: Final[int]  # its first byte
