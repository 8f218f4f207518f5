"""The thread between the queues and the senders, with scripted senders."""

import threading
from collections.abc import Callable

from otel_tap.delivery.courier import Courier, Route
from otel_tap.delivery.outcome import (
    Accepted,
    Failed,
    Outcome,
    Refused,
    RetryLater,
    Sender,
    TooLarge,
)
from otel_tap.telemetry.chunk import Chunk, Signal
from tests.unit.otlp_requests import log_chunk, trace_chunk, wait_until

TRACES, LOGS = Signal.TRACES, Signal.LOGS


class Scripted:
    """Gives outcomes in order, then accepts; can be made to wait."""

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Chunk] = []
        self.closed = False
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def send(self, chunk: Chunk, at_most_s: float) -> Outcome:
        self.entered.set()
        self.open.wait(60)
        self.sent.append(chunk)
        outcome = self.outcomes.pop(0) if self.outcomes else Accepted()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        self.closed = True


def courier(
    traces: Sender | None = None,
    logs: Sender | None = None,
    *,
    report: Callable[[str], None] = lambda line: None,
    max_queued_bytes: int = 1 << 20,
) -> Courier:
    routes = [
        Route(signal, sender, f"http://{signal}", "check it")
        for signal, sender in ((TRACES, traces), (LOGS, logs))
        if sender is not None
    ]
    return Courier(routes, report=report, max_queued_bytes=max_queued_bytes)


def test_what_is_offered_is_sent_and_counted() -> None:
    traces, logs = Scripted(), Scripted()
    both = courier(traces, logs)
    assert both.offer(trace_chunk(3))
    assert both.offer(trace_chunk(4))
    assert both.offer(log_chunk(5))
    both.close(30)
    assert traces.sent == [trace_chunk(3), trace_chunk(4)]
    assert logs.sent == [log_chunk(5)]
    assert (both.counters[TRACES].sent, both.counters[LOGS].sent) == (7, 5)
    assert (both.sent_spans, both.dropped_records) == (7, 0)
    assert traces.closed
    assert logs.closed


def test_offer_does_not_wait_for_a_sender_that_hangs() -> None:
    traces = Scripted()
    traces.open.clear()
    one = courier(traces, max_queued_bytes=20_000)
    for _ in range(200):  # returns at all: that is the test
        one.offer(trace_chunk(3))
    assert one.counters[TRACES].dropped > 0
    traces.open.set()
    one.close(30)
    counters = one.counters[TRACES]
    assert counters.sent + counters.dropped == 600


def test_a_signal_without_a_route_is_neither_kept_nor_counted() -> None:
    one = courier(Scripted())
    assert one.offer(log_chunk(5))
    one.close(30)
    assert LOGS not in one.counters
    assert one.dropped_records == 0


def test_without_any_route_there_is_nothing_to_do() -> None:
    none = courier()
    assert none.offer(trace_chunk(1))
    none.close(30)
    assert none.counters == {}


def test_a_chunk_is_sent_again_until_it_is_accepted() -> None:
    traces = Scripted(RetryLater("no"), RetryLater("no", 0.01))
    one = courier(traces)
    one.offer(trace_chunk(3))
    wait_until(lambda: one.sent_spans == 3)
    one.close(30)
    assert traces.sent == [trace_chunk(3)] * 3
    assert one.counters[TRACES].retries == 2


def test_a_signal_that_pauses_does_not_hold_up_the_other() -> None:
    traces, logs = Scripted(*[RetryLater("no", 3600.0)] * 99), Scripted()
    both = courier(traces, logs)
    for _ in range(50):
        both.offer(trace_chunk(1))
        both.offer(log_chunk(1))
    wait_until(lambda: both.counters[LOGS].sent == 50)
    assert len(traces.sent) == 1
    both.close(0)


def test_signals_take_turns() -> None:
    order: list[Signal] = []

    class Noting(Scripted):
        def send(self, chunk: Chunk, at_most_s: float) -> Outcome:
            outcome = super().send(chunk, at_most_s)
            order.append(chunk.signal)
            return outcome

    traces, logs = Noting(), Noting()
    traces.open.clear()
    both = courier(traces, logs)
    both.offer(trace_chunk(1))
    traces.entered.wait(30)
    for _ in range(3):
        both.offer(trace_chunk(1))
        both.offer(log_chunk(1))
    traces.open.set()
    both.close(30)
    assert order == [TRACES, LOGS, TRACES, LOGS, TRACES, LOGS, TRACES]


def test_one_signal_cannot_fill_the_room_of_the_other() -> None:
    traces, logs = Scripted(), Scripted()
    traces.open.clear()
    both = courier(traces, logs, max_queued_bytes=40_000)
    both.offer(trace_chunk(1))
    traces.entered.wait(30)
    for _ in range(500):
        both.offer(trace_chunk(3))
    assert both.offer(log_chunk(1))
    traces.open.set()
    both.close(30)
    assert both.counters[LOGS].sent == 1
    assert both.counters[TRACES].dropped > 0


def limited(most_records: int) -> Sender:
    class Limited(Scripted):
        def send(self, chunk: Chunk, at_most_s: float) -> Outcome:
            if chunk.record_count > most_records:
                return TooLarge("too large")
            return super().send(chunk, at_most_s)

    return Limited()


def test_a_chunk_that_is_too_large_arrives_in_parts() -> None:
    one = courier(traces=limited(3))
    one.offer(trace_chunk(50))
    one.close(30)
    assert one.counters[TRACES].sent == 50


def test_single_records_that_are_too_large_are_dropped_and_said_once() -> None:
    lines: list[str] = []
    one = courier(traces=limited(0), report=lines.append)
    one.offer(trace_chunk(50))
    one.close(30)
    assert one.counters[TRACES].dropped == 50
    assert one.counters[TRACES].queued_bytes == 0
    assert len(lines) == 1
    assert "size" in lines[0]


def test_what_is_refused_is_counted_said_once_and_not_sent_again() -> None:
    lines: list[str] = []
    traces = Scripted(*[Refused("UNAUTHENTICATED: who", "check HEADERS")] * 3)
    one = courier(traces, report=lines.append)
    for _ in range(3):
        one.offer(trace_chunk(2))
    one.close(30)
    assert len(traces.sent) == 3
    assert one.counters[TRACES].rejected == 6
    assert one.dropped_records == 6
    assert len(lines) == 1
    assert "UNAUTHENTICATED: who" in lines[0]
    assert "check HEADERS" in lines[0]


def test_partial_success_is_final_counted_and_said() -> None:
    lines: list[str] = []
    traces = Scripted(Accepted(2, "too old"))
    one = courier(traces, report=lines.append)
    one.offer(trace_chunk(5))
    one.close(30)
    assert len(traces.sent) == 1
    assert (one.counters[TRACES].sent, one.counters[TRACES].rejected) == (3, 2)
    assert len(lines) == 1
    assert "too old" in lines[0]
    assert "2 spans" in lines[0]


def test_a_defect_of_a_sender_costs_one_chunk_and_is_said() -> None:
    lines: list[str] = []
    one = courier(Scripted(ValueError("odd")), report=lines.append)
    one.offer(trace_chunk(2))
    one.offer(trace_chunk(3))
    one.close(30)
    assert (one.counters[TRACES].dropped, one.counters[TRACES].sent) == (2, 3)
    assert "ValueError: odd" in lines[0]


def test_what_cannot_be_written_is_dropped_not_rejected() -> None:
    one = courier(Scripted(Failed("No space left on device")))
    one.offer(trace_chunk(2))
    one.close(30)
    assert (one.counters[TRACES].dropped, one.counters[TRACES].rejected) == (2, 0)


def test_close_ends_in_time_though_a_sender_hangs_and_counts_what_is_left() -> None:
    lines: list[str] = []
    traces, logs = Scripted(), Scripted()
    traces.open.clear()
    both = courier(traces, logs, report=lines.append)
    both.offer(trace_chunk(2))
    traces.entered.wait(30)
    both.offer(trace_chunk(3))
    both.offer(log_chunk(4))
    both.close(0.1)
    assert (both.counters[TRACES].dropped, both.counters[LOGS].dropped) == (5, 4)
    assert lines == ["5 spans and 4 log records could not be delivered in time and are lost"]
    traces.open.set()
    wait_until(lambda: not both._thread.is_alive())
    assert both.counters[TRACES].sent == 0  # what was counted as dropped is not counted again
    assert logs.sent == []


def test_close_does_not_wait_for_a_pause_that_ends_too_late() -> None:
    one = courier(Scripted(RetryLater("no", 3600.0)))
    one.offer(trace_chunk(2))
    wait_until(lambda: one.counters[TRACES].retries == 1)
    one.close(600)  # returns at all: that is the test
    assert one.counters[TRACES].dropped == 2


def test_close_tries_at_once_what_pauses_for_its_own_reasons() -> None:
    traces = Scripted(*[RetryLater("no")] * 3)
    one = courier(traces)
    one.offer(trace_chunk(2))
    wait_until(lambda: one.counters[TRACES].retries == 3)  # the next pause is at least 1.6 s
    one.close(1)
    assert one.sent_spans == 2


def test_after_close_chunks_are_dropped_and_counted() -> None:
    one = courier(Scripted())
    one.close(30)
    one.close(30)
    assert not one.offer(trace_chunk(3))
    assert one.counters[TRACES].dropped == 3


def test_many_threads_may_offer() -> None:
    traces = Scripted()
    one = courier(traces, max_queued_bytes=1 << 30)
    chunk = trace_chunk(2)

    def offer() -> None:
        for _ in range(200):
            one.offer(chunk)

    threads = [threading.Thread(target=offer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.close(30)
    assert one.sent_spans == 4 * 200 * 2
