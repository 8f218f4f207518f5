"""Figures of several rounds as median and spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Spread = dict[str, float]
"""`median`, `min` and `max`."""


def spread(values: Sequence[float], digits: int = 1) -> Spread:
    """Of at least one value; whole numbers when `digits` is 0."""
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits or None) for name, value in figures.items()}


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Of `values` to `base`, round by round, so that a machine that drifts drifts in both."""
    return spread([value / other for value, other in zip(values, base, strict=True)], 2)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
