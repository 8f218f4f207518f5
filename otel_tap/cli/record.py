"""`otel-tap record`: the raw events of this host in a file, to be replayed elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_tap.cli.options import (
    HAR,
    OF_EXCHANGES,
    ConfigOption,
    settings_from,
    with_shared_flags,
)
from otel_tap.cli.session import require_host, run_until_stopped, size, status_line
from otel_tap.cli.terminal_text import report, safe

if TYPE_CHECKING:
    from otel_tap.agent import Agent

_PROGRESS_S = 0.5
_LEAST_SIZE = 64 * 1024
_MOST_SIZE = 1 << 50


def _size_of(text: str | None) -> int | None:
    from otel_tap.settings.quantities import parse_size  # noqa: PLC0415 - quick --help

    if text is None:
        return None
    try:
        amount = parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(f"--max-size: {text!r} is not {error}") from error
    if not _LEAST_SIZE <= amount <= _MOST_SIZE:
        raise typer.BadParameter(f"--max-size: {text!r} is not from 64KiB to 1PiB")
    return amount


def _duration_of(text: str | None) -> float | None:
    from otel_tap.settings.quantities import parse_duration  # noqa: PLC0415 - quick --help

    if text is None:
        return None
    try:
        amount = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--duration: {text!r} is not {error}") from error
    if amount <= 0:
        raise typer.BadParameter("--duration: must be longer than nothing")
    return amount / 1e9


@with_shared_flags(without=OF_EXCHANGES | HAR)
def record(
    flags: dict[str, object],
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the recording goes.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="End when the file has this size (2GiB).")
    ] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="End after this time (90s, 10m).")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Record the raw events of this host, secrets included; `otel-tap replay FILE` plays them.

    Filters on processes hold here, those on requests (--host, --status ...) when it is replayed.
    """
    max_bytes, duration_s = _size_of(max_size), _duration_of(duration)
    settings = settings_from(config, {**flags, "output": "none"}).settings
    settings = settings.model_copy(update={"har": None})
    require_host(settings)
    for name in sorted(OF_EXCHANGES):
        if getattr(settings.filters, name) or getattr(settings.filters.exclude, name):
            report(f"the filter on {name} does not hold for a recording; use it on replay")

    from otel_tap.agent import Agent  # noqa: PLC0415 - quick --help
    from otel_tap.capture.recording import RecordTo  # noqa: PLC0415

    target = RecordTo(file, replace=force, max_bytes=max_bytes)
    agent = Agent(settings, on_exchange=None, report=report, record=target)
    report(
        f"{file} will hold what programs send and receive as it is, secrets included; "
        "only its owner may read it"
    )
    progress = _Progress(agent, file, duration_s)
    code = run_until_stopped(agent, progress.each_turn)
    raise typer.Exit(_conclude(agent, file) or code)


class _Progress:
    """Ends the recording in time, and says how far it is on a terminal."""

    def __init__(self, agent: Agent, file: Path, duration_s: float | None) -> None:
        self._agent = agent
        self._file = file
        self._duration_s = duration_s
        self._began: float | None = None
        self._shown_at = 0.0
        self._shows = sys.stderr.isatty()

    def each_turn(self) -> bool:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        recording = self._agent.recording
        over = self._duration_s is not None and now - self._began >= self._duration_s
        going_on = not over and recording is not None and not recording.ended
        if self._shows and (not going_on or now - self._shown_at >= _PROGRESS_S):
            self._shown_at = now
            with suppress(OSError):
                end = "" if going_on else "\n"
                sys.stderr.write(f"\r\x1b[K{safe(self._line())}{end}")
                sys.stderr.flush()
        return going_on

    def _line(self) -> str:
        status = self._agent.status()
        recording = self._agent.recording
        written = 0 if recording is None else recording.written_bytes
        lost = sum(status.lost.values()) + (0 if recording is None else recording.unrecorded)
        return (
            f"{self._file.name}: {status.events} events, {size(status.bytes)} "
            f"({size(written)} on disk), {lost} lost"
        )


def _conclude(agent: Agent, file: Path) -> int:
    """Say what was recorded; raises `CaptureError` if the file could not take it all."""
    from otel_tap.errors import CaptureError  # noqa: PLC0415 - quick --help

    recording = agent.recording
    if recording is None:
        return 0
    parts = [f"{file}: {size(recording.written_bytes)}", status_line(agent.status())]
    if recording.unrecorded:
        parts.append(f"{recording.unrecorded} events not recorded")
    report(", ".join(parts))
    if recording.failure:
        raise CaptureError(
            f"the recording ended early: {file}: {recording.failure}",
            remedy="what it holds can be replayed; record again where there is room",
        )
    if recording.full:
        report("the recording ended at --max-size")
    return 0
