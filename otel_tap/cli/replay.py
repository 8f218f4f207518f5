"""`otel-tap replay`: a recording through the same pipeline, without root and without probes.

Two replays of one file give the same telemetry, to the byte: ids, order, and times, for the
observed time of a log record is the recorded one as well.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_tap.cli.options import CAPTURE, ConfigOption, settings_from, with_shared_flags
from otel_tap.cli.session import run_until_stopped, status_line
from otel_tap.cli.terminal_text import report

if TYPE_CHECKING:
    from otel_tap.agent import Agent

_LINES = ("text", "json")
_FASTEST = 1e6
_SLOWEST = 1e-3


@with_shared_flags(without=CAPTURE)
def replay(
    flags: dict[str, object],
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording of otel-tap record.")],
    output: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="text (default), json, otlp, otlp-json:PATH or none."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            min=_SLOWEST,
            max=_FASTEST,
            help="1 replays in real time; not given: as fast as it goes.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Play a recording: lines in the terminal, or spans and log records as `run` sends them.

    Neither root nor this host's kernel is needed. What is sent has the times of the recording.
    """
    as_lines = output in _LINES
    settings = settings_from(config, {**flags, "output": "none" if as_lines else output}).settings
    if settings.output is None:
        settings = settings.model_copy(update={"output": "none"})
        output, as_lines = _LINES[0], True

    from otel_tap.agent import Agent  # noqa: PLC0415 - quick --help
    from otel_tap.cli.lines import Lines  # noqa: PLC0415

    lines = Lines(as_json=output == "json", wall_offset_ns=lambda: agent.unix_offset_ns)
    agent = Agent(
        settings,
        on_exchange=lines.on_exchange if as_lines else None,
        report=report,
        replay=file,
        speed=speed,
    )
    code = run_until_stopped(
        agent, lambda: not agent.finished and (lines.each_turn() or not as_lines)
    )
    lines.each_turn()  # what ended with the recording
    status = agent.status()
    sent = "" if as_lines or settings.output == "none" else f", {status.sent} spans sent"
    report(status_line(status) + sent)
    _say_where_it_ends(agent)
    raise typer.Exit(code)


def _say_where_it_ends(agent: Agent) -> None:
    recorded = agent.replayed
    if recorded is None or recorded.whole or not recorded.exhausted:
        return
    end_ns = recorded.ktime_ns + recorded.unix_offset_ns
    try:
        at = datetime.fromtimestamp(end_ns / 1e9, tz=UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        at = "a time that no calendar has"
    report(
        f"{recorded.path} ends early, without the end that its recorder writes: "
        f"{recorded.records} records, the last of {at}"
    )
