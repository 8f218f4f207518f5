"""Exchanges as lines on stdout, which may be a pipe whose reader leaves (`| head`)."""

from __future__ import annotations

import sys
from collections.abc import Callable

from otel_tap.cli.exchange_view import ExchangeView
from otel_tap.cli.session import reader_left
from otel_tap.exchange import Exchange
from otel_tap.origin import Origin


class Lines:
    """Writes one line per exchange, for people or as JSON.

    `wall_offset_ns` gives what makes nanoseconds since 1970 of a ktime_ns.
    """

    def __init__(self, *, as_json: bool, wall_offset_ns: Callable[[], int]) -> None:
        self._as_json = as_json
        self._wall_offset_ns = wall_offset_ns
        self._gone = False

    def on_exchange(self, exchange: Exchange, origin: Origin) -> None:
        """One finished exchange."""
        view = ExchangeView(exchange, origin, self._wall_offset_ns())
        try:
            sys.stdout.write((view.json_line() if self._as_json else view.line()) + "\n")
        except BrokenPipeError:
            self._gone = True

    def each_turn(self) -> bool:
        """Flush, once for all exchanges of a turn; whether anybody still reads."""
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            self._gone = True
        return not self._gone and not reader_left()
