"""The pure parts of the benchmarks: what they make of the programs' output, and of figures."""

import json
import re
from pathlib import Path

import pytest

from otel_tap.agent import AgentStatus
from otel_tap.cli.session import status_line
from tests.benchmarks import report
from tests.benchmarks.clock import slowdowns
from tests.benchmarks.loads import LoadError, read_h2load, read_wrk
from tests.benchmarks.peers import read_lost
from tests.benchmarks.scenarios import SCENARIOS
from tests.benchmarks.spread import percentile, ratios, spread
from tests.benchmarks.tapping import read_summary

WRK = """\
Running 3s test @ https://127.0.0.1:43123/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   371.20us  207.25us   7.07ms   96.56%
    Req/Sec    44.11k     2.94k   47.56k    83.87%
  135987 requests in 3.10s, 26.33MB read
Requests/sec:  43866.78
Transfer/sec:      8.49MB
"""
H2LOAD = "requests: 4 total, 4 started, 4 done, 4 succeeded, 0 failed, 0 errored, 0 timeout\n"


def test_a_spread_is_median_and_extremes_whatever_the_order():
    assert spread([5.04, 1.0, 3.0]) == {"median": 3.0, "min": 1.0, "max": 5.0}


def test_a_spread_without_digits_is_of_whole_numbers():
    assert json.dumps(spread([10.6, 20.2], 0)) == '{"median": 15, "min": 11, "max": 20}'


def test_ratios_compare_within_a_round_so_that_drift_cancels():
    assert ratios([50.0, 100.0, 200.0], [100.0, 200.0, 400.0]) == {
        "median": 0.5,
        "min": 0.5,
        "max": 0.5,
    }


def test_ratios_of_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 50), (99, 99), (99.5, 100), (0, 1), (100, 100)]
)
def test_a_percentile_is_one_of_the_values(percent, value):
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_a_slowdown_is_a_multiple_of_the_best_time_that_was_seen():
    assert slowdowns([30.0, 20.0], [10.0, 15.0]) == [3.0, 2.0]
    assert slowdowns([8.0, 20.0], [10.0, 15.0]) == [1.0, 2.5]


def test_wrk_tells_requests_and_rate():
    run = read_wrk(WRK)
    assert (run.requests, run.rps) == (135987, 43866.78)


@pytest.mark.parametrize(
    "trouble",
    ["  Non-2xx or 3xx responses: 7\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"],
)
def test_a_run_of_wrk_with_errors_is_no_measurement(trouble):
    with pytest.raises(LoadError, match=re.escape(trouble.strip())):
        read_wrk(WRK + trouble)


def test_latencies_of_the_first_second_are_left_out_in_any_order_of_the_log():
    log = "2600000\t200\t30\n1000000\t200\t10\n2000000\t200\t20\n1999999\t200\t11\n"
    run = read_h2load(H2LOAD, log)
    assert (run.sent, run.latencies_us) == (4, [30.0, 20.0])


def test_a_run_of_h2load_with_failures_is_no_measurement():
    with pytest.raises(LoadError):
        read_h2load(H2LOAD.replace("0 failed", "1 failed"), "1000000\t200\t10\n")


def test_the_summary_is_read_as_the_agent_writes_it():
    status = AgentStatus(
        events=90, exchanges=41, lost={"ring_full": 3}, lost_bytes={"ring_full": 2000},
        shed_bytes=12_300_000, shed_share=0.5, dropped=7,
    )  # fmt: skip
    summary = read_summary(["otel-tap: ready\n", f"otel-tap: {status_line(status)}\n"])
    assert (summary.exchanges, summary.lost, summary.dropped) == (41, 3, 7)
    assert summary.shed_bytes == 12_300_000


def test_nothing_shed_and_nothing_lost_are_zero():
    summary = read_summary([status_line(AgentStatus(exchanges=5, events=10))])
    assert (summary.exchanges, summary.lost, summary.shed_bytes) == (5, 0, 0)


def test_an_agent_that_died_without_counts_is_an_error_and_not_zero_losses():
    with pytest.raises(RuntimeError, match="Traceback"):
        read_summary(["otel-tap: ready\n", "Traceback (most recent call last):\n"])


def test_what_a_peer_lost_is_the_sum_of_its_own_lines_and_of_no_captured_text():
    output = b"ready\nLost 12 events\nwrk 7 9 Lost 99 events\nLost 3 events\n"
    assert read_lost(output) == 15
    assert read_lost(b"ready\n") == 0


def test_one_scenario_leaves_the_others_of_the_same_machine(tmp_path: Path):
    path = tmp_path / "build" / "bench.json"
    report.keep({"first": {"rate": 1}, "second": {"rate": 2}}, path)
    report.keep({"second": {"rate": 3}}, path)
    kept = json.loads(path.read_text())
    assert (kept["first"], kept["second"]) == ({"rate": 1}, {"rate": 3})
    assert kept["machine"] == report.machine()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_figures_of_another_machine_are_not_mixed_in(tmp_path: Path):
    path = tmp_path / "bench.json"
    report.keep({"first": {"rate": 1}}, path)
    other = json.loads(path.read_text())
    other["machine"]["kernel"] = "another"
    path.write_text(json.dumps(other))
    report.keep({"second": {"rate": 2}}, path)
    assert "first" not in json.loads(path.read_text())


def test_the_table_has_a_row_of_five_cells_for_each_figure():
    rows = report.table(
        {"paced": {"rate": 2000, "p50_us": {"median": 1500, "min": 7, "max": 9000}}}
    ).splitlines()
    assert rows[2] == "| paced | rate | 2,000 | | |"
    assert rows[3] == "| paced | p50_us | 1,500 | 7 | 9,000 |"


def test_every_scenario_says_what_it_measures():
    assert all(scenario.__doc__ for scenario in SCENARIOS.values())
