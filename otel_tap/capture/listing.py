"""The machine code of one file, read instruction by instruction and function by function.

Owns what is found by following direct jumps: the steps at an address, the body of a function, the
functions of other files that are called. Nothing is decoded twice. Bounded on any bytes. Must not
know what is looked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from otel_tap.capture.elf import Image
from otel_tap.capture.instructions import (
    CALL_CLOBBERED,
    MAX_INSTRUCTION_BYTES,
    AddressOf,
    Copy,
    Flow,
    Step,
    decode,
)

NO_RETURN = frozenset({"__stack_chk_fail", "abort", "OPENSSL_die"})
"""Functions of other files that no call comes back from."""

_MAX_BODY = 6000
_MAX_STEPS = 60_000
_CALLS = (Flow.CALL, Flow.SLOT_CALL, Flow.COMPUTED_CALL)
_ENDS = frozenset(
    {Flow.JUMP, Flow.COMPUTED, Flow.SLOT_JUMP, Flow.POINTER_JUMP, Flow.RETURN, Flow.STOP}
)


@dataclass(frozen=True, slots=True)
class Body:
    """The instructions that direct jumps reach from a function's entry; not `whole` if too many."""

    steps: tuple[Step, ...]
    whole: bool


class Listing:
    """What an image's code says; x86-64 only, elsewhere there are no steps."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._steps: dict[int, Step | None] = {}
        self._bodies: dict[int, Body] = {}

    def step(self, address: int) -> Step | None:
        """The instruction at an address; None when none is there."""
        if self.image.machine != "x86_64":
            return None
        if address not in self._steps:
            if len(self._steps) >= _MAX_STEPS:
                self._steps.clear()
            self._steps[address] = decode(self.image.code(address, MAX_INSTRUCTION_BYTES), address)
        return self._steps[address]

    def imported(self, step: Step) -> str | None:
        """The name of the function of another file that a call or jump leads to; None when none."""
        if step.flow in (Flow.SLOT_CALL, Flow.SLOT_JUMP):
            return self.image.imported(step.target) or "an unknown function"
        if step.flow not in (Flow.CALL, Flow.JUMP):
            return None
        stub = self.step(step.target)
        if stub is not None and stub.marker:
            stub = self.step(stub.next)
        if stub is None or stub.flow is not Flow.SLOT_JUMP:
            return None
        return self.image.imported(stub.target) or "an unknown function"

    def body(self, function: int) -> Body:
        """All of a function, with its parts elsewhere and the functions that it jumps to."""
        if function not in self._bodies:
            self._bodies[function] = self._read_body(function)
        return self._bodies[function]

    def _read_body(self, function: int) -> Body:
        waiting = [function]
        seen: dict[int, Step] = {}
        while waiting:
            address = waiting.pop()
            pointers: set[int] = set()  # registers with a function's address
            while address not in seen:
                if len(seen) >= _MAX_BODY:
                    return Body(tuple(seen.values()), whole=False)
                step = self.step(address)
                if step is None:
                    break
                if step.through in pointers:
                    # Stored as it is, so a function's; places of a jump table are computed.
                    step = replace(step, flow=Flow.POINTER_JUMP)
                seen[address] = step
                pointers -= step.writes
                if isinstance(step.effect, Copy | AddressOf):
                    pointers.discard(step.effect.to)
                if step.fetches >= 0:
                    pointers.add(step.fetches)
                if step.flow in _CALLS:
                    pointers -= CALL_CLOBBERED
                if step.flow in (Flow.JUMP, Flow.BRANCH):
                    waiting.append(step.target)
                if step.flow in _ENDS:
                    break
                if step.flow is Flow.CALL and self.imported(step) in NO_RETURN:
                    break
                address = step.next
        return Body(tuple(seen.values()), whole=True)
