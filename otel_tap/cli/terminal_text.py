"""Text from outside made safe for a terminal, and numbers made short for a reader.

What a watched process sent can hold escape sequences that retitle, recolour or answer in the name
of the reader's terminal, and bidirectional marks that show another text than there is. Every text
that was captured passes `safe` before a person sees it.
"""

from __future__ import annotations

import sys
from contextlib import suppress


def safe(text: str) -> str:
    r"""`text` with everything that is not printable written out (`\x1b`, `\u202e`).

    Printable is what Unicode calls so: no control, format, surrogate or private character, no
    line or paragraph separator, no space but the plain one.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def safe_bytes(raw: bytes) -> str:
    r"""`raw` as UTF-8 text for a terminal; bytes that are not UTF-8 are written out (`\xff`)."""
    return safe(raw.decode("utf-8", "backslashreplace"))


def short_duration(duration_ns: int) -> str:
    """`duration_ns` with at most three digits that matter: `350 µs`, `12 ms`, `1.25 s`."""
    if duration_ns < 1_000_000:
        return f"{duration_ns // 1000} µs"
    if duration_ns < 10_000_000:
        return f"{duration_ns / 1_000_000:.1f} ms"
    if duration_ns < 1_000_000_000:
        return f"{duration_ns // 1_000_000} ms"
    return f"{duration_ns / 1_000_000_000:.2f} s"


def short_size(size: int) -> str:
    """`size` bytes in binary units: `512 B`, `1.5 KiB`."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def report(message: str) -> None:
    """Say `message` on stderr, in one line; a stderr that is gone is no reason to stop."""
    with suppress(OSError):
        print(f"otel-tap: {safe(message)}", file=sys.stderr, flush=True)


def report_error(message: str, remedy: str) -> None:
    """Say what went wrong and what to do about it, on stderr."""
    report(message)
    if remedy:
        with suppress(OSError):
            print(f"  remedy: {safe(remedy)}", file=sys.stderr, flush=True)
