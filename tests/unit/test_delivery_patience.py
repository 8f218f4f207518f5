"""A replay waits for its sink as long as that gets on."""

from otel_tap.delivery.patience import Patience


class Sink:
    queued_bytes = 0


def test_it_waits_while_more_than_allowed_is_queued_and_the_queue_gets_shorter():
    sink, now = Sink(), [0.0]
    patience = Patience(sink, clock=lambda: now[0])
    assert not patience.waits(10)
    sink.queued_bytes = 100
    for _ in range(50):
        now[0] += 29
        sink.queued_bytes -= 1
        assert patience.waits(10)
    sink.queued_bytes = 10
    assert not patience.waits(10)
    assert patience.waits(0)


def test_it_gives_up_on_a_sink_that_takes_nothing():
    sink, now = Sink(), [0.0]
    sink.queued_bytes = 100
    patience = Patience(sink, clock=lambda: now[0])
    assert patience.waits(0)
    now[0] = 29.0
    assert patience.waits(0)
    now[0] = 31.0
    assert not patience.waits(0)
    sink.queued_bytes = 50  # it took some after all
    assert patience.waits(0)
