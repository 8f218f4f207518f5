"""Machine code is read as what it does; what the kernel emulates is known exactly."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.capture.instructions import (
    R8,
    RAX,
    RCX,
    RDI,
    RDX,
    RSP,
    AddressOf,
    Condition,
    Copy,
    Flow,
    Load,
    Step,
    ZeroTest,
    decode,
    is_emulated,
)


def step(code: str) -> Step:
    found = decode(bytes.fromhex(code), 0x1000)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "code", ["55", "54", "4154", "90", "6690", "eb05", "7405", "e800000000", "e900000000",
             "0f8400000000"],
)  # fmt: skip
def test_what_the_kernel_emulates_is_known(code):
    assert step(code).emulated


@pytest.mark.parametrize(
    "code", ["f30f1efa", "4883ec18", "4889e5", "488d4c2408", "c3", "ffd0", "ff2500000000", "0f1f00",
             "ff7508", "6a01", "4190", "f390", "660f1f440000", "48 55", "e3 05", "e2 05", "5d"],
)  # fmt: skip
def test_what_the_kernel_single_steps_is_known(code):
    assert not step(code).emulated


@pytest.mark.parametrize(
    ("code", "effect"),
    [
        ("4989c8", Copy(R8, RCX, narrowed=False)),
        ("89d2", Copy(RDX, RDX, narrowed=True)),
        ("4863d2", Copy(RDX, RDX, narrowed=True)),
        ("488d4c2408", AddressOf(RCX, RSP, 8)),
        ("4883ec18", AddressOf(RSP, RSP, -0x18)),
        ("4883c418", AddressOf(RSP, RSP, 0x18)),
        ("50", AddressOf(RSP, RSP, -8)),
        ("8b442408", Load(RAX, RSP, 8)),
        ("0f4f442408", Load(RAX, RSP, 8)),
        ("85d2", ZeroTest(RDX, 32)),
        ("4885ff", ZeroTest(RDI, 64)),
        ("83fa00", ZeroTest(RDX, 32)),
        ("83fa01", None),
        ("84d2", None),
        ("85d0", None),
        ("488d4c8408", None),
        ("83ec18", None),
        ("64488b442408", None),
    ],
)
def test_effects_are_only_those_that_can_be_argued_with(code, effect):
    assert step(code).effect == effect


@pytest.mark.parametrize(
    ("code", "register"),
    [("31c9", RCX), ("b101", RCX), ("83c418", RSP), ("58", RAX), ("0fa2", RCX)],
)
def test_whatever_may_change_counts_as_written(code, register):
    assert register in step(code).writes


@pytest.mark.parametrize(
    ("code", "flow", "target"),
    [
        ("e8fbffffff", Flow.CALL, 0x1000),
        ("ebfe", Flow.JUMP, 0x1000),
        ("7802", Flow.BRANCH, 0x1004),
        ("ff2510000000", Flow.SLOT_JUMP, 0x1016),
        ("ff1510000000", Flow.SLOT_CALL, 0x1016),
        ("ffe0", Flow.COMPUTED, 0),
        ("ff6008", Flow.POINTER_JUMP, 0),
        ("ff24c500000000", Flow.COMPUTED, 0),
        ("ffd0", Flow.COMPUTED_CALL, 0),
        ("0f05", Flow.COMPUTED_CALL, 0),
        ("c3", Flow.RETURN, 0),
        ("0f0b", Flow.STOP, 0),
    ],
)
def test_where_an_instruction_leads_is_known(code, flow, target):
    assert (step(code).flow, step(code).target) == (flow, target)


@pytest.mark.parametrize(
    ("code", "condition"),
    [
        ("7802", Condition.NEGATIVE),
        ("7902", Condition.NOT_NEGATIVE),
        ("7e02", Condition.NOT_POSITIVE),
        ("7f02", Condition.POSITIVE),
        ("7402", Condition.ZERO),
        ("7502", Condition.NOT_ZERO),
        ("7202", Condition.OTHER),
    ],
)
def test_conditions_are_those_of_a_comparison_with_zero(code, condition):
    assert step(code).condition is condition


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=20))
def test_any_bytes_are_an_instruction_within_them_or_none(content):
    found = decode(content, 0x1000)
    if found is not None:
        assert 1 <= found.length <= min(15, len(content))
        assert found.next == 0x1000 + found.length
        assert found.emulated == is_emulated(content[: found.length])
