"""The three ways through HTTP/1, and one reader met with the same bytes in other pieces.

1. While nothing is lost, bytes that come call by call are read alike by `Turns` and by `Http1`.
2. A conversation of requests first, responses then, is the same in whatever pieces it comes, as
   long as every response has a whole request: without one, where a response ends is not known,
   and what is known of it depends on what came with it. So it does behind a request to switch
   protocols: what follows is only read if it begins with a request line.
3. A conversation that is held again and again, until its heads have outlines where they may, is
   read alike by turns and by `Http1`.
"""

from __future__ import annotations

from typing import Any

from otel_tap.events import Direction
from otel_tap.protocols.http1 import Http1
from otel_tap.protocols.http1.head import HeadParser
from otel_tap.protocols.http1.turns import Turns
from otel_tap.turn import Turn
from tests.fuzz.conversation import STEP
from tests.fuzz.targets import http1
from tests.unit.wire import SECOND, Wire

TOKENS = http1.TOKENS
SEEDS = http1.SEEDS


_AGAIN = 4


def _wire(way: type[Turns | Http1], **asked: Any) -> Wire:
    wire = Wire(**asked).opened()
    (state,) = wire.connections._states.values()
    # Where detection stood: everything is taken for HTTP/1 at once.
    state.protocol = way(state.carrier, HeadParser(), Direction.EGRESS)
    return wire


def _seen(wire: Wire) -> list[tuple[Any, ...]]:
    wire.closed().later(2 * SECOND)
    return [
        (one.request, one.response, one.error, one.position, one.reused) for one in wire.exchanges
    ]


def _full(turn: Turn) -> object:
    return turn.exchange()


def _hold(steps: list[bytes], *wires: Wire) -> None:
    for step in steps:
        for wire in wires:
            if step[0] & 1:
                wire.request(step[2:])
            else:
                wire.response(step[2:])


def check(data: bytes) -> None:
    """Reads the conversation each way, then its directions whole and in pieces."""
    steps = [step for step in data[1:].split(STEP) if len(step) > 2]
    short, long = _wire(Turns, body_limit=300), _wire(Http1, body_limit=300)
    _hold(steps, short, long)
    assert _seen(short) == _seen(long)

    turns = _wire(Turns, body_limit=0, on_turn=_full)
    long = _wire(Http1, body_limit=0, on_turn=_full)
    _hold(steps * _AGAIN, turns, long)
    assert _seen(turns) == _seen(long)

    whole, cut = Wire(body_limit=300).opened(), Wire(body_limit=300).opened()
    sent = b"".join(step[2:] for step in steps if step[0] & 1)
    got = b"".join(step[2:] for step in steps if not step[0] & 1)
    if not sent or not got or b"CONNECT" in sent or b"upgrade" in sent.lower():
        return
    whole.request(sent).response(got)
    for at in range(0, len(sent), 1 + data[0] % 7):
        cut.request(sent[at : at + 1 + data[0] % 7])
    for at in range(0, len(got), 1 + data[0] % 5):
        cut.response(got[at : at + 1 + data[0] % 5])
    seen = _seen(whole)
    if all(request is not None and request.complete for request, *_ in seen):
        assert _seen(cut) == seen
