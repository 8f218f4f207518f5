"""Processes of a recording: what its recorder knew of them, no look at this host.

Owns: nothing but the look-up. Must not know: /proc.
"""

from __future__ import annotations

from collections.abc import Callable

from otel_tap.context.origins import Clocks, Origins, ServiceRule
from otel_tap.events import ProcessStarted
from otel_tap.origin import Host, Origin


class RecordedOrigins:
    """Origins as `recorded` gives them; from the recorded kernel events where it has none."""

    def __init__(
        self,
        host: Host,
        recorded: Callable[[int], Origin | None],
        *,
        service_rules: tuple[ServiceRule, ...] = (),
    ) -> None:
        self._recorded = recorded
        self._from_events = Origins(
            host, proc_root=None, service_rules=service_rules, clocks=lambda: Clocks(0, 0)
        )

    def process_started(self, event: ProcessStarted) -> None:
        """Remember what the kernel said."""
        self._from_events.process_started(event)

    def met(self, tgid: int, ktime_ns: int) -> Origin:  # noqa: ARG002 - nothing to look at
        """Nothing is read: the recorder did."""
        return self.origin(tgid)

    def origin(self, tgid: int) -> Origin:
        """What the recorder knew, else what the kernel said."""
        return self._recorded(tgid) or self._from_events.origin(tgid)

    def process_exited(self, tgid: int) -> None:
        """It may be forgotten some time."""
        self._from_events.process_exited(tgid)
