"""What the agent says of itself: the same to the collector as on stderr."""

import re
import subprocess

from tests.e2e.conftest import Tap


def test_metrics_of_a_running_tap_agree_with_its_summary_and_are_no_spans(nginx):
    with Tap(environment={"OTEL_METRIC_EXPORT_INTERVAL": "500"}) as tap:
        for number in range(7):
            subprocess.run(
                ["curl", "--silent", "--insecure", "--output", "/dev/null",
                 f"https://localhost:{nginx.tls_port}/hello?{number}"],
                check=True,
            )  # fmt: skip
        tap.wait_for(lambda: len(tap.spans(nginx.tls_port)), 14)
        tap.wait_for(lambda: len({p.name for p in tap.receiver.points}), 8)
        while_it_ran = [point for point in tap.receiver.points if point.name == "otel_tap.events"]
        assert tap.stop() == 0
        points, spans = tap.receiver.points, tap.receiver.spans
        said = "".join(tap.stderr)
    assert while_it_ran
    last = {(point.name, point.attributes.get("otel_tap.reason")): point.value for point in points}
    summary = re.search(r"(\d+) exchanges, (\d+) events .* (\d+) dropped.*, (\d+) spans sent", said)
    assert summary, said
    assert (
        last["otel_tap.exchanges", None],
        last["otel_tap.events", None],
        last["otel_tap.records.dropped", None],
        last["otel_tap.spans.sent", None],
    ) == tuple(map(int, summary.groups()))
    assert last["otel_tap.exchanges", None] == len(spans) >= 14
    assert last["otel_tap.files.tapped", None] > 0
    assert last["otel_tap.payload", None] > 0
    assert not [span for span in spans if "MetricsService" in str(span.attributes)]
    assert {point.resource["service.name"] for point in points} == {"otel-tap"}
