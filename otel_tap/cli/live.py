"""`otel-tap live`: exchanges in the terminal, as a screen, as lines or as JSON.

Needs no backend and sends nothing anywhere. Lines end quietly when their reader leaves (`| head`).
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from otel_tap.cli.lines import Lines
from otel_tap.cli.options import ConfigOption, settings_from, with_capture_flags
from otel_tap.cli.session import (
    make_agent,
    run_until_stopped,
    status_line,
    wall_offset_ns,
)
from otel_tap.cli.terminal_text import report

if TYPE_CHECKING:
    from otel_tap.settings import Settings


class Output(StrEnum):
    """What `live` writes."""

    TEXT = "text"
    JSON = "json"


@with_capture_flags
def live(
    flags: dict[str, object],
    *,
    output: Annotated[
        Output, typer.Option(help="Text for people, or one JSON object a line.")
    ] = Output.TEXT,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of a screen, also on a terminal.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Show the HTTP exchanges of this host as they happen.

    On a terminal: a list to scroll, filter (/) and open (Enter); q quits. Else one line each.
    """
    settings = settings_from(config, {**flags, "output": "none"}).settings
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if output is Output.TEXT and on_terminal and not plain:
        from otel_tap.cli.live_screen import show  # noqa: PLC0415 - rich, only where it is seen

        raise typer.Exit(show(settings))
    raise typer.Exit(_lines(settings, as_json=output is Output.JSON))


def _lines(settings: Settings, *, as_json: bool) -> int:
    lines = Lines(as_json=as_json, wall_offset_ns=wall_offset_ns)
    agent = make_agent(settings, lines.on_exchange, report)
    code = run_until_stopped(agent, lines.each_turn)
    lines.each_turn()  # what ended with the agent
    report(status_line(agent.status()))
    return code
