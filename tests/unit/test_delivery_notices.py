"""The lines that delivery says: one per change."""

from otel_tap.delivery.notices import Notices
from otel_tap.telemetry.chunk import Signal

TRACES, LOGS = Signal.TRACES, Signal.LOGS
TO = "http://collector:4317"


class Said:
    """Notices with their lines, and short forms of what happens."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notices = Notices(self.lines.append)

    def fails(self, signal: Signal, failures: int, pause_s: float = 1.0, to: str = TO) -> None:
        self.notices.postponed(
            signal, to, "refused", "check it", failures=failures, pause_s=pause_s, now=10.0
        )

    def loses(self, count: int, now: float, cause: str = "why") -> None:
        self.notices.lost(TRACES, count, cause, "it says no", "do this", now=now)


def test_a_failure_that_the_first_retry_mends_is_not_said() -> None:
    said = Said()
    said.fails(TRACES, 1)
    said.notices.answered(TRACES, TO, 11.0)
    assert said.lines == []


def test_an_outage_is_one_line_and_its_end_is_one_line() -> None:
    said = Said()
    for failures in range(1, 9):
        said.fails(TRACES, failures)
        said.fails(LOGS, failures)
    assert len(said.lines) == 1
    assert TO in said.lines[0]
    assert "refused" in said.lines[0]
    assert "check it" in said.lines[0]
    said.notices.answered(TRACES, TO, 20.0)
    assert len(said.lines) == 1
    for _ in range(3):
        said.notices.answered(LOGS, TO, 75.0)
    assert len(said.lines) == 2
    assert "answers again after 65 s" in said.lines[1]


def test_a_long_pause_is_said_at_once() -> None:
    said = Said()
    said.fails(TRACES, 1, pause_s=60.0)
    assert len(said.lines) == 1


def test_two_collectors_are_two_outages() -> None:
    said = Said()
    said.fails(TRACES, 2, to="http://a")
    said.fails(LOGS, 2, to="http://b")
    said.notices.answered(TRACES, "http://a", 11.0)
    assert len(said.lines) == 3


def test_what_an_outage_cost_is_said_at_its_end() -> None:
    said = Said()
    said.fails(TRACES, 2)
    said.notices.overflowed(TRACES, TO, 5, 11.0)
    said.notices.overflowed(TRACES, TO, 7, 12.0)
    assert len(said.lines) == 1
    said.notices.answered(TRACES, TO, 13.0)
    assert "12 records were dropped" in said.lines[1]


def test_a_full_queue_without_an_outage_is_said() -> None:
    said = Said()
    said.notices.overflowed(TRACES, TO, 5, 11.0)
    said.notices.overflowed(TRACES, TO, 5, 12.0)
    assert len(said.lines) == 1
    assert "5 spans are lost" in said.lines[0]


def test_a_loss_that_goes_on_is_said_once() -> None:
    said = Said()
    for second in range(0, 2000, 10):
        said.loses(3, float(second))
    assert said.lines == ["it says no; 3 spans are lost; do this"]


def test_a_loss_that_comes_back_is_said_again_with_what_was_untold_but_not_often() -> None:
    said = Said()
    for second in range(0, 700, 10):
        said.loses(1, float(second))
        said.notices.accepted(TRACES)
    assert [line.partition("; ")[2] for line in said.lines] == [
        "1 spans are lost; do this", "30 spans are lost; do this", "30 spans are lost; do this"
    ]  # fmt: skip


def test_another_cause_is_another_line() -> None:
    said = Said()
    said.loses(1, 0.0, "one")
    said.loses(1, 1.0, "two")
    assert len(said.lines) == 2


def test_the_end_says_what_is_left_and_nothing_when_nothing_is() -> None:
    said = Said()
    said.notices.ended({TRACES: 0, LOGS: 0})
    assert said.lines == []
    said.notices.ended({TRACES: 3, LOGS: 2})
    assert said.lines == ["3 spans and 2 log records could not be delivered in time and are lost"]


def test_a_terminal_that_is_gone_does_not_end_delivery() -> None:
    calls = []

    def broken(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    Notices(broken).ended({TRACES: 1})
    assert len(calls) == 1
