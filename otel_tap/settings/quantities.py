"""Sizes and durations as people write them ("64KiB", "250ms"), held as whole bytes and nanoseconds.

Owns the two notations, both ways. Exact: fractions are computed in decimal, and what does not come
out as a whole byte or nanosecond is refused. A bare number is a size in bytes; it is never a
duration, because its unit would be a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

SIZE_UNITS = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
DURATION_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
SIZE_PATTERN = r"^\s*\d+(\.\d+)?\s*(([kKmMgG][iI]?)?[bB])?\s*$"
DURATION_PATTERN = r"^\s*\d+(\.\d+)?\s*(ns|us|ms|s|m|h)\s*$"
_QUANTITY = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-zA-Z]*)\s*", re.ASCII)


def parse_size(value: object) -> int:
    """Bytes of `value`: a whole number, or a number with B, KB, MB, GB, KiB, MiB or GiB."""
    accepted = "a size such as 65536 (bytes), 64KiB or 1MB"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return _parse(value, {"": 1, **SIZE_UNITS}, accepted)


def parse_duration(value: object) -> int:
    """Nanoseconds of `value`: a number with ns, us, ms, s, m or h."""
    return _parse(value, DURATION_UNITS, "a duration with its unit, such as 250ms, 30s or 5m")


def _parse(value: object, units: dict[str, int], accepted: str) -> int:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = units.get(match[2].lower()) if match is not None else None
    if match is None or unit is None:
        raise ValueError(accepted)
    exact = Decimal(match[1]) * unit
    if exact != exact.to_integral_value():
        raise ValueError(accepted)
    return int(exact)


def format_size(size: int) -> str:
    """`size` bytes in the largest binary unit that holds them exactly."""
    for name, unit in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{size}B"


def format_duration(duration_ns: int) -> str:
    """`duration_ns` in the largest unit that holds it exactly; 0 is `0s`."""
    if duration_ns == 0:
        return "0s"
    for name, unit in reversed(DURATION_UNITS.items()):
        if duration_ns % unit == 0:
            return f"{duration_ns // unit}{name}"
    raise AssertionError("every whole number of nanoseconds has the unit ns")


def _bounded(
    parse: Callable[[object], int],
    show: Callable[[int], str],
    least: int,
    most: int,
    *,
    power_of_two: bool,
) -> Callable[[object], int]:
    def check(value: object) -> int:
        amount = parse(value)
        is_power = amount & (amount - 1) == 0
        if not least <= amount <= most or (power_of_two and not is_power):
            kind = "a power of two " if power_of_two else ""
            raise ValueError(f"{kind}from {show(least)} to {show(most)}")
        return amount

    return check


def size_field(
    least: int, most: int, *, power_of_two: bool = False
) -> tuple[BeforeValidator, PlainSerializer, WithJsonSchema]:
    """What makes an `int` of a model a size in bytes between two bounds, both included."""
    return (
        BeforeValidator(_bounded(parse_size, format_size, least, most, power_of_two=power_of_two)),
        PlainSerializer(format_size, return_type=str),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": least, "maximum": most},
                    {"type": "string", "pattern": SIZE_PATTERN},
                ]
            }
        ),
    )


def duration_field(
    least_ns: int, most_ns: int
) -> tuple[BeforeValidator, PlainSerializer, WithJsonSchema]:
    """What makes an `int` of a model a duration in nanoseconds between two included bounds."""
    return (
        BeforeValidator(
            _bounded(parse_duration, format_duration, least_ns, most_ns, power_of_two=False)
        ),
        PlainSerializer(format_duration, return_type=str),
        WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
    )
