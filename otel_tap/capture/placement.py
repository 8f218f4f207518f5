"""Where in the machine code of a TLS function its probe sits: the cheapest place that is proved.

Owns the proof. A probe costs ten times less on an instruction that the kernel emulates (push, jmp,
call, jcc, nop) than on one that it single-steps, and most builds of OpenSSL have such an
instruction just behind the exported symbol, or at the entry of the one function that thin wrappers
such as SSL_read call with the same arguments.

Promises: a place other than the symbol only where a probe sees the same calls with the same
arguments and, if it has a return probe, the same return address on top of the stack; bounded work
on any bytes, and no error but `ElfRefusal`. Attaches nothing. x86-64 only.

The code is read with abstract values: an argument of the exported function as it arrived (or its
low 32 bits), a place on the stack, or nothing known. Whatever an instruction may change is unknown
after it, so a register that still holds an argument holds it on every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otel_tap.capture.instructions import (
    ARGUMENTS,
    CALL_CLOBBERED,
    RAX,
    RSP,
    AddressOf,
    Condition,
    Copy,
    Flow,
    Load,
    Step,
    ZeroTest,
)
from otel_tap.capture.listing import NO_RETURN, Listing
from otel_tap.capture.probes import Probe

_MAX_PROLOGUE = 24  # instructions looked at for a better place, or for the call of a wrapper
_MAX_EPILOGUE = 96
_MAX_DEPTH = 2  # SSL_write_ex -> SSL_write_ex2 -> the inner function
_DIRECT = (Flow.JUMP, Flow.BRANCH, Flow.CALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a probe sits and which entry program it runs there.

    `function` is where the function that carries it begins: the exported one, or one that it calls.
    """

    address: int
    function: int
    entry_program: str | None
    instruction: str
    emulated: bool
    proof: str


@dataclass(frozen=True, slots=True)
class _Argument:
    number: int  # of the exported function, from 1
    narrowed: bool = False  # only the low 32 bits are certain


@dataclass(frozen=True, slots=True)
class _Stack:
    depth: int  # of the call whose frame it is in
    offset: int  # from where the return address of that call is


_Value = _Argument | _Stack
_Registers = dict[int, _Value]


class _Unproved(Exception):  # noqa: N818 - an answer, not an error
    """There is no proof for another place; the text says what stands against it."""


@dataclass(frozen=True, slots=True)
class _Search:
    """One probe of one function."""

    listing: Listing
    probe: Probe

    def step(self, address: int) -> Step:
        step = self.listing.step(address)
        if step is None:
            raise _Unproved(f"there is no instruction at {address:#x}")
        return step

    def program(self, registers: Mapping[int, _Value], depth: int) -> tuple[bool, str | None]:
        """Whether all that a program takes is in its place, and the name of that program."""
        probe = self.probe
        if depth == 0 and all(_holds(registers, number) for number in probe.reads):
            return True, probe.entry_program
        if not (_holds(registers, 1) and _holds(registers, 2)):
            return False, None
        for number, program in probe.inner:
            if _is_done(registers.get(ARGUMENTS[number - 1]), probe):
                return True, program
        return False, None

    def seek(self, function: int, registers: _Registers, depth: int) -> Place:
        """The best place in this function, or in the one it hands its arguments to."""
        own = self._ahead(function, dict(registers), depth)
        if own is not None and own.address == function:
            return own
        if own is not None and self.step(function).marker and own.address == function + 4:
            if obstacle := self._entering(function, own.address, strict=False):
                raise _Unproved(obstacle)
            return own
        try:
            return self._follow(function, dict(registers), depth)
        except _Unproved as unproved:
            if own is None:
                raise
            if obstacle := self._entering(function, own.address, strict=True):
                raise _Unproved(f"{unproved}; {obstacle}") from unproved
            return own

    def _ahead(self, function: int, registers: _Registers, depth: int) -> Place | None:
        """The first emulated instruction of the unconditional beginning, arguments in place."""
        address = function
        skipped: list[Step] = []
        for _ in range(_MAX_PROLOGUE):
            step = self.step(address)
            fits, program = self.program(registers, depth)
            at_entry = registers.get(RSP) == _Stack(depth, 0)
            if step.emulated and fits and (at_entry or self.probe.return_program is None):
                return Place(
                    address, function, program, step.text, True, _ahead_proof(skipped, self.probe)
                )
            if step.flow is not Flow.NEXT:
                return None
            skipped.append(step)
            _apply(step, registers)
            address = step.next
        return None

    def _entering(self, function: int, place: int, *, strict: bool) -> str:
        """What jumps into (function, place] from the function's own code; "" when nothing does.

        `strict`: a jump that cannot be followed may lead there too.
        """
        body = self.listing.body(function)
        for step in body.steps:
            if step.flow in _DIRECT and function < step.target <= place:
                return f"`{step.text}` at {step.address:#x} leads behind its entry"
            if strict and step.flow is Flow.COMPUTED:
                return f"where `{step.text}` at {step.address:#x} leads is not known"
        if strict and not body.whole:
            return "it is too long to be sure that nothing jumps behind its entry"
        return ""

    def _follow(self, function: int, registers: _Registers, depth: int) -> Place:
        """The place in the one function that this thin wrapper calls."""
        if not self.probe.inner or depth >= _MAX_DEPTH:
            raise _Unproved("its first instructions are single-stepped")
        address = function
        tested: tuple[_Value, int] | None = None
        for _ in range(_MAX_PROLOGUE):
            step = self.step(address)
            match step.flow:
                case Flow.NEXT:
                    tested = _tested(step, registers, tested)
                    _apply(step, registers)
                    address = step.next
                case Flow.BRANCH:
                    address = _good_way(step, tested)
                case Flow.CALL | Flow.JUMP:
                    return self._enter(step, registers, depth)
                case _:
                    raise _Unproved(f"`{step.text}` comes before any call")
        raise _Unproved("it is no thin wrapper")

    def _enter(self, step: Step, registers: _Registers, depth: int) -> Place:
        name = self.listing.imported(step)
        if name is not None:
            raise _Unproved(f"`{step.text}` leaves the file ({name})")
        if step.flow is Flow.JUMP and registers.get(RSP) != _Stack(depth, 0):
            raise _Unproved(f"`{step.text}` is not a call")
        if step.flow is Flow.JUMP and self.probe.done == 0:
            raise _Unproved(f"`{step.text}` does not come back with a number of bytes")
        length = registers.get(ARGUMENTS[2])
        if not (isinstance(length, _Argument) and length.number == 3):
            raise _Unproved(f"`{step.text}` is given another length")
        pointers = [
            ARGUMENTS.index(register) + 1
            for register in ARGUMENTS[3:]
            if _is_done(registers.get(register), self.probe)
        ]
        fits, _ = self.program(registers, depth + 1)
        if len(pointers) != 1 or not fits:
            raise _Unproved(f"`{step.text}` is not given the same arguments")
        (pointer,) = pointers
        slot = registers[ARGUMENTS[pointer - 1]]
        if step.flow is Flow.CALL:
            self._check_return(step, dict(registers), slot)
        inside: _Registers = dict(registers)
        inside[RSP] = _Stack(depth + 1, 0)
        try:
            place = self.seek(step.target, inside, depth + 1)
        except _Unproved as unproved:
            raise _Unproved(f"the function that it calls at {step.target:#x}: {unproved}") from None
        passed = "its pointer" if self.probe.done else "a place on its stack"
        how = "calls" if step.flow is Flow.CALL else "jumps to"
        outcome = "" if self.probe.done else ", and returns the number found there"
        return Place(
            place.address,
            place.function,
            place.entry_program,
            place.instruction,
            place.emulated,
            f"it only {how} {step.target:#x}, with its session, buffer and length, and {passed} as "
            f"argument {pointer}{outcome}; it reads or writes nothing without that; {place.proof}",
        )

    def _check_return(self, call: Step, registers: _Registers, slot: _Value) -> None:
        """After the call nothing else is called, and its result is what the callee wrote."""
        for register in CALL_CLOBBERED:
            registers.pop(register, None)
        waiting = [(call.next, registers)]
        seen: set[int] = set()
        taken = self.probe.done > 0
        while waiting:
            address, known = waiting.pop()
            while address not in seen:
                if len(seen) >= _MAX_EPILOGUE:
                    raise _Unproved("it is no thin wrapper: much follows the call")
                seen.add(address)
                step = self.step(address)
                if step.flow is Flow.RETURN:
                    break
                if step.flow in (Flow.CALL, Flow.SLOT_CALL):
                    if self.listing.imported(step) in NO_RETURN:
                        break
                    raise _Unproved(f"it calls more than one function (`{step.text}`)")
                if step.flow is Flow.BRANCH:
                    waiting.append((step.target, dict(known)))
                elif step.flow is Flow.JUMP and self.listing.imported(step) is None:
                    address = step.target
                    continue
                elif step.flow is not Flow.NEXT:
                    raise _Unproved(f"`{step.text}` follows the call")
                if isinstance(step.effect, Load) and step.effect.to == RAX:
                    base = known.get(step.effect.base)
                    if isinstance(base, _Stack) and slot == _Stack(
                        base.depth, base.offset + step.effect.displacement
                    ):
                        taken = True
                _apply(step, known)
                address = step.next
        if not taken:
            raise _Unproved("it does not return the number that the function it calls has written")


def _ahead_proof(skipped: list[Step], probe: Probe) -> str:
    if not skipped:
        return "the entry itself is emulated"
    if len(skipped) == 1 and skipped[0].marker:
        return "only endbr64, which does nothing, comes before it"
    stack = " and the stack" if probe.return_program else ""
    before = " ".join(f"`{skip.text}`" for skip in skipped)
    return (
        f"{before} before it always run and leave the arguments{stack} as they are, and "
        "no jump enters between them"
    )


def _holds(registers: Mapping[int, _Value], number: int) -> bool:
    value = registers.get(ARGUMENTS[number - 1])
    # A program that takes the length takes its low 32 bits.
    return (
        isinstance(value, _Argument)
        and value.number == number
        and (not value.narrowed or number == 3)
    )


def _is_done(value: _Value | None, probe: Probe) -> bool:
    if probe.done:
        return value == _Argument(probe.done)
    return isinstance(value, _Stack) and value.offset < 0


def _apply(step: Step, registers: _Registers) -> None:
    """What is known of the registers after an instruction."""
    value: _Value | None = None
    match step.effect:
        case Copy(_, source, narrowed):
            value = registers.get(source)
            if narrowed:
                value = (
                    _Argument(value.number, narrowed=True) if isinstance(value, _Argument) else None
                )
        case AddressOf(_, base, displacement):
            known = registers.get(base)
            if isinstance(known, _Stack):
                value = _Stack(known.depth, known.offset + displacement)
    for register in step.writes:
        registers.pop(register, None)
    if isinstance(step.effect, Copy | AddressOf):
        if value is None:
            registers.pop(step.effect.to, None)
        else:
            registers[step.effect.to] = value


def _tested(
    step: Step, registers: Mapping[int, _Value], before: tuple[_Value, int] | None
) -> tuple[_Value, int] | None:
    """What the flags say after an instruction: a value compared with zero, and its width."""
    if isinstance(step.effect, ZeroTest):
        value = registers.get(step.effect.register)
        return None if value is None else (value, step.effect.bits)
    return None if step.changes_flags else before


def _good_way(step: Step, tested: tuple[_Value, int] | None) -> int:
    """Where a branch leads that only refuses a negative length, an empty one or no session."""
    value, bits = tested or (None, 0)
    if value == _Argument(1) and bits == 64:
        ways = {Condition.ZERO: step.next, Condition.NOT_ZERO: step.target}
    elif isinstance(value, _Argument) and value.number == 3 and bits == 32:
        ways = {
            Condition.NEGATIVE: step.next,
            Condition.NOT_POSITIVE: step.next,
            Condition.ZERO: step.next,
            Condition.NOT_NEGATIVE: step.target,
            Condition.POSITIVE: step.target,
            Condition.NOT_ZERO: step.target,
        }
    else:
        ways = {}
    if step.condition not in ways:
        raise _Unproved(f"`{step.text}` decides on more than the length")
    return ways[step.condition]


def at_symbol(listing: Listing, probe: Probe, reason: str) -> Place:
    """The exported symbol itself, for a reason."""
    function = listing.image.functions[probe.symbol]
    step = listing.step(function.address)
    return Place(
        function.address,
        function.address,
        probe.entry_program,
        function.code[:4].hex(" ") if step is None else step.text,
        step is not None and step.emulated,
        reason,
    )


def place(listing: Listing, probe: Probe) -> Place:
    """The best place for a probe of a function that the image has."""
    machine = listing.image.machine
    if machine != "x86_64":
        return at_symbol(listing, probe, f"no better place is looked for on {machine}")
    function = listing.image.functions[probe.symbol].address
    registers: _Registers = {
        register: _Argument(number) for number, register in enumerate(ARGUMENTS, start=1)
    }
    registers[RSP] = _Stack(0, 0)
    try:
        return _Search(listing, probe).seek(function, registers, 0)
    except _Unproved as unproved:
        return at_symbol(listing, probe, str(unproved))
