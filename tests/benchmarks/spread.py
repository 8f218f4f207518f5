"""Figures of several rounds as median and spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Spread = dict[str, float]
"""`median`, `min` and `max`."""


def spread(values: Sequence[float], digits: int = 1) -> Spread:
    """Of at least one value."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
