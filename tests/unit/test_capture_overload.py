"""Overload leaves out connections, the more the fuller the ring, and takes them back."""

from hypothesis import given
from hypothesis import strategies as st

from otel_tap.capture.control import SHED_ALL
from otel_tap.capture.overload import Overload

MILLISECOND = 1_000_000


def levels(overload: Overload, fill: float, milliseconds: int, start: int = 0) -> list[int]:
    return [
        overload.update(fill, (start + passed) * MILLISECOND)
        for passed in range(1, milliseconds + 1, 10)
    ]


def test_nothing_is_left_out_while_the_agent_keeps_up():
    assert set(levels(Overload(), 0.4, 5_000)) == {0}


def test_a_ring_that_stays_full_leaves_out_everything_within_a_second():
    assert levels(Overload(), 1.0, 1_000)[-1] == SHED_ALL


def test_a_fuller_ring_leaves_out_more():
    assert levels(Overload(), 0.6, 500)[-1] < levels(Overload(), 0.9, 500)[-1]


def test_all_connections_are_taken_back_when_the_ring_stays_empty():
    overload = Overload()
    levels(overload, 1.0, 2_000)
    taken_back = levels(overload, 0.0, 120_000, start=2_000)
    assert taken_back == sorted(taken_back, reverse=True)
    assert taken_back[-1] == 0


def test_a_ring_half_full_neither_leaves_out_nor_takes_back():
    overload = Overload()
    levels(overload, 1.0, 100)
    level = overload.level
    assert 0 < level < SHED_ALL
    assert set(levels(overload, 0.3, 5_000, start=100)) == {level}


def test_it_falls_more_slowly_than_it_rises():
    overload = Overload()
    levels(overload, 1.0, 300)
    before = overload.level
    levels(overload, 0.0, 300, start=300)
    assert before - overload.level < before / 2


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**9))))
def test_the_level_is_always_one_that_the_kernel_side_knows(steps):
    overload, now = Overload(), 0
    for fill, passed in steps:
        now += passed
        assert 0 <= overload.update(fill, now) <= SHED_ALL
