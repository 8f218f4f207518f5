"""x86-64 machine code in the few words that a placement is argued with.

Owns decoding: what one instruction does to registers, where it leads, and whether the kernel
emulates it under a probe. Promises an answer for any bytes, `None` for what is no instruction.
Must not know why anybody asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from iced_x86 import (
    Code,
    ConditionCode,
    Decoder,
    FlowControl,
    Formatter,
    FormatterSyntax,
    Instruction,
    InstructionInfoFactory,
    Mnemonic,
    OpAccess,
    OpKind,
    Register,
    RegisterExt,
)

if TYPE_CHECKING:
    # The constants are a module when it runs; only the stubs know their type.
    from iced_x86._iced_x86_py import Register as AnyRegister

MAX_INSTRUCTION_BYTES = 15

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
ARGUMENTS = (RDI, RSI, RDX, RCX, R8, R9)
"""Where the System V ABI passes the first six arguments."""
CALL_CLOBBERED = frozenset({RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11})


class Flow(Enum):
    """Where an instruction leads."""

    NEXT = "next"
    JUMP = "jump"  # to `target`
    BRANCH = "branch"  # to `target` or on, by `condition`
    CALL = "call"  # of `target`
    SLOT_JUMP = "slot jump"  # to where the pointer at the fixed address `target` leads
    SLOT_CALL = "slot call"
    COMPUTED = "computed"  # a jump to what only running shows, in the register `through` if any
    POINTER_JUMP = "pointer jump"  # to the function whose pointer lies at a fixed offset
    COMPUTED_CALL = "computed call"
    RETURN = "return"
    STOP = "stop"  # traps, or leaves the process


class Condition(Enum):
    """What must hold for a branch, after a test of a value against zero."""

    NEGATIVE = "negative"
    NOT_NEGATIVE = "not negative"
    ZERO = "zero"
    NOT_ZERO = "not zero"
    POSITIVE = "positive"
    NOT_POSITIVE = "not positive"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Copy:
    """One register becomes another; `narrowed` when only the low 32 bits are kept as they are."""

    to: int
    source: int
    narrowed: bool


@dataclass(frozen=True, slots=True)
class AddressOf:
    """A register becomes another plus a constant; both may be the stack pointer."""

    to: int
    base: int
    displacement: int


@dataclass(frozen=True, slots=True)
class Load:
    """A register may become 32 or 64 bits of memory at another plus a constant."""

    to: int
    base: int
    displacement: int


@dataclass(frozen=True, slots=True)
class ZeroTest:
    """The flags become those of a register compared with zero; 32 or 64 bits wide."""

    register: int
    bits: int


Effect = Copy | AddressOf | Load | ZeroTest


@dataclass(frozen=True, slots=True)
class Step:
    """One decoded instruction.

    `writes`: general registers that it may change besides what `effect` says; `emulated`: whether
    the kernel emulates it under a probe instead of single-stepping it; `fetches`: the register
    that gets 64 bits from a fixed offset, which is no table look-up; -1 none.
    """

    address: int
    length: int
    text: str
    emulated: bool
    marker: bool  # endbr64: does nothing
    flow: Flow
    target: int
    condition: Condition
    writes: frozenset[int]
    changes_flags: bool
    effect: Effect | None
    fetches: int = -1
    through: int = -1

    @property
    def next(self) -> int:
        """The address behind it."""
        return self.address + self.length


_CONDITIONS = {
    ConditionCode.S: Condition.NEGATIVE,
    ConditionCode.L: Condition.NEGATIVE,  # a comparison with zero never overflows
    ConditionCode.NS: Condition.NOT_NEGATIVE,
    ConditionCode.GE: Condition.NOT_NEGATIVE,
    ConditionCode.E: Condition.ZERO,
    ConditionCode.NE: Condition.NOT_ZERO,
    ConditionCode.G: Condition.POSITIVE,
    ConditionCode.LE: Condition.NOT_POSITIVE,
}
_FLOWS = {
    FlowControl.NEXT: Flow.NEXT,
    FlowControl.UNCONDITIONAL_BRANCH: Flow.JUMP,
    FlowControl.CONDITIONAL_BRANCH: Flow.BRANCH,
    FlowControl.CALL: Flow.CALL,
    FlowControl.INDIRECT_BRANCH: Flow.COMPUTED,
    FlowControl.INDIRECT_CALL: Flow.COMPUTED_CALL,
    FlowControl.RETURN: Flow.RETURN,
    FlowControl.INTERRUPT: Flow.COMPUTED_CALL,
    FlowControl.XBEGIN_XABORT_XEND: Flow.COMPUTED,
}
_SLOT_FLOWS = {Flow.COMPUTED: Flow.SLOT_JUMP, Flow.COMPUTED_CALL: Flow.SLOT_CALL}
_WRITING = frozenset(
    {
        OpAccess.WRITE,
        OpAccess.COND_WRITE,
        OpAccess.READ_WRITE,
        OpAccess.READ_COND_WRITE,
    }
)
_NEAR_TARGETS = frozenset({OpKind.NEAR_BRANCH64})

_NO_REGISTER: int = Register.NONE

_INFO = InstructionInfoFactory()
_FORMATTER = Formatter(FormatterSyntax.GAS)
_FORMATTER.branch_leading_zeros = False
_FORMATTER.uppercase_hex = False


def is_emulated(code: bytes) -> bool:
    """Whether the kernel emulates the instruction that `code` is (arch/x86/kernel/uprobes.c).

    Since 4.16; what later kernels emulate besides (longer nops) is not counted on.
    """
    match code:
        case b"\x90" | b"\x66\x90":  # nop
            return True
        case bytes() if len(code) == 1 and 0x50 <= code[0] <= 0x57:  # push
            return True
        case bytes() if len(code) == 2 and code[0] == 0x41 and 0x50 <= code[1] <= 0x57:
            return True
        case bytes() if len(code) == 2 and (code[0] == 0xEB or 0x70 <= code[0] <= 0x7F):
            return True
        case bytes() if len(code) == 5 and code[0] in (0xE8, 0xE9):
            return True
        case bytes() if len(code) == 6 and code[0] == 0x0F and 0x80 <= code[1] <= 0x8F:
            return True
    return False


def decode(code: bytes, address: int) -> Step | None:
    """The first instruction of `code`, which lies at `address`; None when there is none."""
    instruction = Decoder(64, code[:MAX_INSTRUCTION_BYTES], ip=address).decode()
    if instruction.is_invalid:
        return None
    flow = _FLOWS.get(instruction.flow_control, Flow.STOP)
    target = 0
    if flow == Flow.CALL and instruction.op_count == 0:
        flow = Flow.COMPUTED_CALL  # syscall and its like
    elif flow in (Flow.JUMP, Flow.BRANCH, Flow.CALL):
        if instruction.op0_kind not in _NEAR_TARGETS:
            return None  # far or 16 bits wide: in no program
        target = instruction.near_branch_target
    elif flow in _SLOT_FLOWS and instruction.is_ip_rel_memory_operand:
        flow = _SLOT_FLOWS[flow]
        target = instruction.ip_rel_memory_address
    elif (
        flow is Flow.COMPUTED
        and instruction.op0_kind == OpKind.MEMORY
        and instruction.memory_index == _NO_REGISTER
    ):
        flow = Flow.POINTER_JUMP
    effect = _effect(instruction)
    return Step(
        address=address,
        length=instruction.len,
        text=" ".join(_FORMATTER.format(instruction).split()),
        emulated=is_emulated(code[: instruction.len]),
        marker=instruction.code == Code.ENDBR64,
        flow=flow,
        target=target,
        condition=_CONDITIONS.get(instruction.condition_code, Condition.OTHER),
        writes=frozenset() if isinstance(effect, Copy | AddressOf) else _written(instruction),
        changes_flags=bool(instruction.rflags_modified),
        effect=effect,
        fetches=_fetched(instruction),
        through=_register(instruction) if flow is Flow.COMPUTED else -1,
    )


def _register(instruction: Instruction) -> int:
    """The general register that is the first operand; -1 when it is something else."""
    if instruction.op_count == 0 or instruction.op0_kind != OpKind.REGISTER:
        return -1
    number = _general(instruction.op0_register)
    return -1 if number is None else number


def _fetched(instruction: Instruction) -> int:
    plain = (
        instruction.mnemonic == Mnemonic.MOV
        and instruction.op1_kind == OpKind.MEMORY
        and instruction.memory_index == _NO_REGISTER
        and _bits(instruction.op0_register) == 64
    )
    return _register(instruction) if plain else -1


def _general(register: AnyRegister) -> int | None:
    """The number of the general register that `register` is or is part of."""
    full = RegisterExt.full_register(register)
    number = full - Register.RAX
    return number if 0 <= number < 16 else None


def _written(instruction: Instruction) -> frozenset[int]:
    numbers = set()
    for used in _INFO.info(instruction).used_registers():
        number = _general(used.register)
        if number is not None and used.access in _WRITING:
            numbers.add(number)
    return frozenset(numbers)


def _bits(register: AnyRegister) -> int:
    return RegisterExt.size(register) * 8


def _effect(instruction: Instruction) -> Effect | None:
    mnemonic = instruction.mnemonic
    if mnemonic == Mnemonic.PUSH:
        return AddressOf(RSP, RSP, -8) if instruction.stack_pointer_increment == -8 else None
    if instruction.op_count != 2 or instruction.op0_kind != OpKind.REGISTER:
        return None
    to = _general(instruction.op0_register)
    if to is None or _bits(instruction.op0_register) < 32:
        return None
    bits = _bits(instruction.op0_register)
    if instruction.op1_kind == OpKind.REGISTER:
        source = _general(instruction.op1_register)
        if source is None:
            return None
        if mnemonic == Mnemonic.MOV:
            return Copy(to, source, narrowed=bits == 32)
        if mnemonic == Mnemonic.MOVSXD and bits == 64:
            return Copy(to, source, narrowed=True)
        if mnemonic == Mnemonic.TEST and instruction.op0_register == instruction.op1_register:
            return ZeroTest(to, bits)
        return None
    if instruction.op1_kind == OpKind.MEMORY:
        return _memory_effect(instruction, to, bits)
    if mnemonic in (Mnemonic.ADD, Mnemonic.SUB, Mnemonic.CMP):
        value = instruction.immediate(1)
        value -= (value >> 63) << 64
        if mnemonic == Mnemonic.CMP:
            return ZeroTest(to, bits) if value == 0 else None
        if bits == 64:
            return AddressOf(to, to, value if mnemonic == Mnemonic.ADD else -value)
    return None


def _memory_effect(instruction: Instruction, to: int, bits: int) -> Effect | None:
    if instruction.memory_index != _NO_REGISTER or instruction.segment_prefix != _NO_REGISTER:
        return None
    base = _general(instruction.memory_base)
    if base is None or _bits(instruction.memory_base) != 64:
        return None
    displacement = instruction.memory_displacement
    displacement -= (displacement >> 63) << 64
    if instruction.mnemonic == Mnemonic.LEA and bits == 64:
        return AddressOf(to, base, displacement)
    if instruction.mnemonic in (Mnemonic.MOV, Mnemonic.CMOVG):
        return Load(to, base, displacement)
    return None
