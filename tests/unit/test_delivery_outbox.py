"""The queue of one signal: its bound, its pauses, its counters."""

from hypothesis import given
from hypothesis import strategies as st

from otel_tap.delivery.outbox import Outbox
from otel_tap.delivery.outcome import Accepted, Refused, RetryLater
from otel_tap.telemetry.chunk import Chunk, Signal


def chunk(size: int, records: int = 1) -> Chunk:
    return Chunk(Signal.TRACES, bytes(size), records)


def test_chunks_leave_in_the_order_they_came() -> None:
    box = Outbox(100)
    chunks = [chunk(size) for size in (3, 1, 2)]
    for each in chunks:
        assert box.put(each)
    taken = []
    while not box.is_empty:
        taken.append(box.take())
        box.settle(taken[-1], Accepted())
    assert taken == chunks


def test_a_full_queue_drops_its_oldest_chunks_for_a_new_one() -> None:
    box = Outbox(10)
    first, second, third = chunk(4, 1), chunk(4, 2), chunk(6, 4)
    assert box.put(first)
    assert box.put(second)
    assert box.put(third)
    assert box.counters.dropped == 1
    assert box.counters.queued_bytes == 10
    assert box.take() is second


def test_a_chunk_that_cannot_fit_is_dropped_itself_and_nothing_else() -> None:
    box = Outbox(10)
    box.put(chunk(4, 1))
    assert not box.put(chunk(11, 8))
    assert (box.counters.dropped, box.counters.queued_bytes) == (8, 4)


def test_a_chunk_under_way_is_never_dropped_for_another() -> None:
    box = Outbox(10)
    box.put(chunk(6, 1))
    sending = box.take()
    assert not box.put(chunk(5, 2))
    assert box.put(chunk(4, 4))
    box.settle(sending, Accepted())
    assert (box.counters.sent, box.counters.dropped, box.counters.queued_bytes) == (1, 2, 4)


def test_overflow_is_told_once() -> None:
    box = Outbox(10)
    box.put(chunk(10, 3))
    box.put(chunk(10, 4))
    assert box.take_overflowed() == 3
    assert box.take_overflowed() == 0


def test_what_is_rejected_is_not_sent() -> None:
    box = Outbox(100)
    for outcome in (Accepted(), Accepted(2), Accepted(99), Refused("no")):
        box.put(chunk(1, 5))
        box.settle(box.take(), outcome)
    assert (box.counters.sent, box.counters.rejected) == (5 + 3, 2 + 5 + 5)


def test_pauses_double_up_to_half_a_minute_with_jitter() -> None:
    box = Outbox(100)
    box.put(chunk(1))
    pauses = [box.postpone(box.take(), RetryLater("no"), 50.0, 0.0) for _ in range(40)]
    for number, pause in enumerate(pauses):
        middle = min(0.5 * 2**number, 30.0)
        assert 0.8 * middle <= pause <= 1.2 * middle
    assert len(set(pauses[10:])) > 1
    assert box.not_before == 50.0 + pauses[-1]
    assert (box.counters.retries, box.failures) == (40, 40)


def test_the_pause_that_was_asked_for_is_kept_within_an_hour() -> None:
    box = Outbox(100)
    box.put(chunk(1))
    assert box.postpone(box.take(), RetryLater("no", 17.0), 0.0, 0.0) == 17.0
    assert box.postpone(box.take(), RetryLater("no", 1e9), 0.0, 0.0) == 3600.0


def test_being_asked_for_no_pause_at_all_does_not_make_a_storm() -> None:
    box = Outbox(100)
    box.put(chunk(1))
    assert box.postpone(box.take(), RetryLater("no", 0.0), 0.0, 0.0) >= 0.4


def test_a_receiver_that_hangs_gets_a_pause_as_long_as_it_took() -> None:
    box = Outbox(100)
    box.put(chunk(1))
    assert box.postpone(box.take(), RetryLater("no"), 0.0, 10.0) == 10.0


def test_an_answer_ends_the_pauses() -> None:
    box = Outbox(100)
    box.put(chunk(1))
    box.put(chunk(1))
    for _ in range(5):
        box.postpone(box.take(), RetryLater("no"), 100.0, 0.0)
    box.settle(box.take(), Accepted())
    assert box.not_before <= 100.0
    assert 0.4 <= box.postpone(box.take(), RetryLater("no"), 200.0, 0.0) <= 0.6


def test_hurry_ends_a_pause_but_not_one_that_was_asked_for() -> None:
    box = Outbox(100)
    box.put(chunk(1))
    box.postpone(box.take(), RetryLater("no"), 100.0, 0.0)
    box.hurry(100.0)
    assert box.not_before == 100.0
    box.postpone(box.take(), RetryLater("no", 9.0), 100.0, 0.0)
    box.hurry(100.0)
    assert box.not_before == 109.0


def test_parts_take_the_place_of_their_whole() -> None:
    box = Outbox(100)
    whole, last = chunk(10, 4), chunk(1, 1)
    first, second = chunk(6, 2), chunk(6, 2)
    box.put(whole)
    box.put(last)
    box.divide(box.take(), (first, second))
    assert box.counters.queued_bytes == 13
    assert [box.take(), box.take(), box.take()] == [first, second, last]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "accept", "reject", "postpone", "give up", "divide"]),
        st.integers(0, 12),
        st.integers(0, 9),
    )
)


@given(STEPS)
def test_every_record_is_counted_exactly_once_and_the_bound_holds(
    steps: list[tuple[str, int, int]],
) -> None:
    box = Outbox(20)
    put = 0
    for step, size, records in steps:
        if step == "put":
            box.put(chunk(size, records))
            put += records
        elif not box.is_empty:
            under_way = box.take()
            if step == "accept":
                box.settle(under_way, Accepted(records))
            elif step == "reject":
                box.settle(under_way, Refused("no"))
            elif step == "postpone":
                box.postpone(under_way, RetryLater("no"), 0.0, 0.0)
            elif step == "give up":
                box.give_up(under_way)
            else:
                half = len(under_way.payload) // 2
                one = under_way.record_count // 2
                parts = (
                    chunk(half, one),
                    chunk(len(under_way.payload) - half, under_way.record_count - one),
                )
                box.divide(under_way, parts)
        assert box.counters.queued_bytes <= 20
    left = 0
    if not box.is_empty:
        box.take()  # the one under way is given up with the others
        left = box.give_up_all()
    counters = box.counters
    assert counters.queued_bytes == 0
    assert counters.sent + counters.rejected + counters.dropped == put
    assert left <= counters.dropped
