"""How much slower the agent's CPU is when it works in bursts than when it is kept busy.

An agent that waits most of the time finds its CPU slow whenever it wakes: caches are cold, the
clock is low, and a virtual CPU that slept shares its core with others until it has been moved. That
is no work of the agent's, and differs from machine to machine and hour to hour, so it is measured
beside the agent with a piece of work that never changes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.benchmarks.cpus import AGENT
from tests.benchmarks.tapping import PROGRAMS


class Clock:
    """Looks at the speed between the rounds of a scenario."""

    def __init__(self) -> None:
        self._bursts_us: list[float] = []
        self._busy_us: list[float] = []

    def look(self) -> None:
        """Takes three seconds."""
        ran = subprocess.run(
            [*AGENT, sys.executable, PROGRAMS / "bursts.py"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        bursts_us, busy_us = map(float, ran.stdout.split())
        self._bursts_us.append(bursts_us)
        self._busy_us.append(busy_us)

    @property
    def slowdown(self) -> list[float]:
        """Of each look: a burst's time as a multiple of the best that this CPU did in any look."""
        return slowdowns(self._bursts_us, self._busy_us)


def slowdowns(bursts_us: Sequence[float], busy_us: Sequence[float]) -> list[float]:
    """`bursts_us` as multiples of the least time of all."""
    best = min((*bursts_us, *busy_us))
    return [burst / best for burst in bursts_us]
