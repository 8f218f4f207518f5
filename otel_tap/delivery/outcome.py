"""What became of one attempt to hand a chunk over, and who makes such attempts.

Owns: the words between senders and the courier. Promises: a sender maps everything its protocol
can answer to exactly one of these. Must not know: queues, clocks, threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from otel_tap.telemetry.chunk import Chunk

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Accepted:
    """Taken, but for `rejected` records. Final: what was rejected must not be sent again."""

    rejected: int = 0
    message: str = ""  # what the receiver said


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Not taken now; the same chunk may be sent again."""

    reason: str
    after_s: float | None = None  # the wait that the receiver asked for


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Not taken for its size; parts of it may be."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver will never take it."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """It could not be handed over, and a retry would not help (a full disk, a defect)."""

    reason: str


Outcome = Accepted | RetryLater | TooLarge | Refused | Failed


class Sender(Protocol):
    """Hands chunks of one signal over."""

    def send(self, chunk: Chunk, at_most_s: float) -> Outcome:
        """One attempt, within the sender's own limit and `at_most_s` seconds."""
        ...

    def close(self) -> None:
        """Let go of connections and files; may be called while `send` runs in another thread."""
        ...


def shown(text: str, headers: tuple[tuple[str, str], ...] = ()) -> str:
    """Foreign text made fit for one line of a terminal, without the credentials in `headers`."""
    for _, value in headers:
        # A server may repeat a whole value, or what stands behind its scheme ("Bearer ...").
        for secret in (value, value.rpartition(" ")[2]):
            if len(secret) > 3:
                text = text.replace(secret, "REDACTED")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
