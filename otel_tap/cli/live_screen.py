"""The terminal of `live`: keys in, drawings out.

Owns the terminal while the screen is up and gives it back as it was, whatever happens. Keys are
read between two turns of the agent, so there is no thread and no lock.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from otel_tap.cli.exchange_view import ExchangeView
from otel_tap.cli.live_view import Screen, ScreenDrawing, keys_of
from otel_tap.cli.session import make_agent, run_until_stopped, status_line, wall_offset_ns
from otel_tap.cli.terminal_text import report
from otel_tap.exchange import Exchange
from otel_tap.origin import Origin
from otel_tap.settings import Settings

_LOOK_S = 1.0  # between looks at what runs: each goes through all connections
_RUNNING_NS = 1_000_000_000  # shorter ones are soon in the list anyway
_REDRAW_S = 0.2  # five drawings a second can be read, and cost little


def show(settings: Settings) -> int:
    """Run the screen until q or a signal; returns the exit code."""
    screen = Screen()
    reports: list[str] = []
    drawn_at = looked_at = 0.0

    def on_exchange(exchange: Exchange, origin: Origin) -> None:
        screen.add(ExchangeView(exchange, origin, wall_offset_ns()))

    agent = make_agent(settings, on_exchange, reports.append)
    console = Console()
    with (
        _terminal_kept(),
        Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as display,
    ):

        def each_turn() -> bool:
            nonlocal drawn_at, looked_at
            keys = _typed()
            for key in keys:
                screen.press(key)
            now = time.monotonic()
            if now - looked_at >= _LOOK_S:
                looked_at = now
                offset = wall_offset_ns()
                screen.look(
                    ExchangeView(exchange, origin, offset, running=True)
                    for exchange, origin in agent.under_way(_RUNNING_NS)
                )
            if keys or now - drawn_at >= _REDRAW_S:
                drawn_at = now
                said = f"   {reports[-1]}" if reports else ""
                drawing = ScreenDrawing(screen, status_line(agent.status()) + said)
                display.update(drawing, refresh=True)
            return not screen.quit

        code = run_until_stopped(agent, each_turn)
    for message in reports:
        report(message)
    report(status_line(agent.status()))
    return code


def _typed() -> list[str]:
    """Keys pressed since the last call; never waits. A closed terminal reads as q."""
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    if not ready:
        return []
    try:
        typed = os.read(sys.stdin.fileno(), 1024)
    except OSError:
        typed = b""
    return keys_of(typed) if typed else ["q"]


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """Keys arrive one by one and unseen; Ctrl-C still interrupts."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
