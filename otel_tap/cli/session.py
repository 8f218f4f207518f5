"""Running the agent in the foreground: until a signal, a key or a reader who left.

Owns the signals and the exit code that each means; guarantees that the agent is stopped, and with
it flushed, however the run ends. Knows the agent only by the shape below.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Protocol, cast

from otel_tap.errors import RightsError
from otel_tap.exchange import Exchange
from otel_tap.origin import Origin

if TYPE_CHECKING:  # pydantic is loaded when a command runs, not for --help
    from otel_tap.settings import Settings

EXIT_OK = 0
EXIT_INTERRUPTED = 130
STDOUT = 1

OnExchange = Callable[[Exchange, Origin], None]
Report = Callable[[str], None]


class Status(Protocol):
    """What the agent counted since its start."""

    @property
    def events(self) -> int:
        """Events from the kernel."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of payload in them."""
        ...

    @property
    def exchanges(self) -> int:
        """Exchanges that passed the filters."""
        ...

    @property
    def sent(self) -> int:
        """Spans that their sink accepted."""
        ...

    @property
    def lost(self) -> Mapping[str, int]:
        """Events lost before the agent saw them, by reason."""
        ...

    @property
    def lost_bytes(self) -> Mapping[str, int]:
        """Bytes that moved and were not captured, by reason."""
        ...

    @property
    def shed_bytes(self) -> int:
        """Bytes of connections that were left out for overload."""
        ...

    @property
    def shed_share(self) -> float:
        """The part of all connections that is left out now, 0 to 1."""
        ...

    @property
    def filtered(self) -> int:
        """Exchanges that the filters left out."""
        ...

    @property
    def opaque(self) -> int:
        """Connections that could not be read as HTTP."""
        ...

    @property
    def dropped(self) -> int:
        """Exchanges that could not be delivered and were given up."""
        ...


class Agent(Protocol):
    """The pipeline from probes to sink."""

    def start(self) -> None:
        """Attach the probes; HostError, RightsError, CaptureError or ConfigError if it cannot."""
        ...

    def run_once(self) -> None:
        """Take what is there through the pipeline; waits 100 ms at most."""
        ...

    def stop(self) -> None:
        """Detach, end what is under way, hand over what is not sent yet."""
        ...

    def under_way(self, older_than_ns: int) -> list[tuple[Exchange, Origin]]:
        """Exchanges that have been open for that long, as they are now."""
        ...

    def status(self) -> Status:
        """The counters now."""
        ...


def require_host(settings: Settings) -> None:
    """Raises HostError where this host or this user cannot tap; says which command could."""
    from otel_tap.requirements import check_host, require  # noqa: PLC0415 - quick --help

    try:
        require(check_host(loader=settings.capture.loader))
    except RightsError as error:
        if os.geteuid() == 0:
            raise  # sudo would not help: root of a user namespace, or root without capabilities
        again = f"run `sudo otel-tap {shlex.join(sys.argv[1:])}`"
        raise RightsError(error.check, error.message, remedy=again) from error


def make_agent(settings: Settings, on_exchange: OnExchange | None, report: Report) -> Agent:
    """The real agent, once this host and this user were found able to run it."""
    require_host(settings)
    module = import_module("otel_tap.agent")
    return cast("Agent", module.Agent(settings, on_exchange=on_exchange, report=report))


def run_until_stopped(agent: Agent, each_turn: Callable[[], bool]) -> int:
    """Start `agent`, run it until a signal or until `each_turn` says False, and stop it.

    Returns the exit code: SIGINT 130, else 0. A second SIGINT does not wait for the flush.
    """
    with _signals() as received:
        agent.start()
        try:
            while not received and each_turn():
                agent.run_once()
        finally:
            agent.stop()
    return EXIT_INTERRUPTED if signal.SIGINT in received else EXIT_OK


def wall_offset_ns() -> int:
    """What to add to a ktime_ns to have nanoseconds since 1970; it changes with the clock."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def reader_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def status_line(status: Status) -> str:
    """`12 exchanges, 40 events (3 lost: ring_full 3; 2.0 kB), 0 dropped, 5 filtered`.

    Losses and drops are always told, the rest where there is any.
    """
    reasons = {reason: count for reason, count in sorted(status.lost.items()) if count}
    lost = f"{sum(reasons.values())} lost"
    if reasons:
        lost += ": " + ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    lost_bytes = sum(status.lost_bytes.values())
    if lost_bytes:
        lost += f"; {size(lost_bytes)}"
    parts = [
        f"{status.exchanges} exchanges",
        f"{status.events} events ({lost})",
        f"{status.dropped} dropped",
    ]
    if status.shed_bytes or status.shed_share:
        now = f" ({status.shed_share:.0%} of connections now)" if status.shed_share else ""
        parts.append(f"{size(status.shed_bytes)} shed{now}")
    if status.filtered:
        parts.append(f"{status.filtered} filtered")
    if status.opaque:
        parts.append(f"{status.opaque} connections not HTTP")
    return ", ".join(parts)


def size(count: int) -> str:
    """Bytes in decimal units: `512 B`, `1.5 kB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


@contextmanager
def _signals() -> Iterator[set[signal.Signals]]:
    received: set[signal.Signals] = set()

    def note(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in received:
            raise KeyboardInterrupt
        received.add(signal.Signals(number))

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup stays in force
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
