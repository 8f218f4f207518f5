"""The agent's own metrics, as a collector gets them."""

import subprocess
import sys
import time

import pytest

from otel_tap.agent import AgentStatus
from otel_tap.delivery.otlp_settings import OtlpSettings
from otel_tap.errors import ConfigError
from otel_tap.own_metrics import OwnMetrics, interval_ms
from otel_tap.receiver import OtlpReceiver

STATUS = AgentStatus(
    events=40,
    bytes=5000,
    exchanges=7,
    sent=6,
    lost={"ring_full": 3, "truncated": 1},
    lost_bytes={"ring_full": 300},
    shed_bytes=77,
    shed_share=0.25,
    ring_fill=0.5,
    not_wanted_bytes={"muted": 9},
    dropped=2,
    filtered=4,
    opaque_reasons={"tunnel": 1},
    websocket_sessions=8,
    websocket_messages=90,
    websocket_malformed=3,
    http2_blocks=60,
    http2_blocks_incomplete=11,
    files_tapped=5,
)


def exporter(endpoint, **variables):
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **variables}
    settings = OtlpSettings.from_environment(environ).metrics
    assert settings is not None
    return settings


def test_the_last_snapshot_arrives_whole_when_the_agent_stops():
    said: list[str] = []
    with OtlpReceiver() as receiver:
        own = OwnMetrics(
            exporter(receiver.endpoint), interval=3_600_000, resource={"host.name": "here"},
            report=said.append,
        )  # fmt: skip
        own.update(AgentStatus(events=1))
        own.update(STATUS)
        own.close(20)
        points = receiver.points
    seen = {
        (point.name, point.unit, point.attributes.get("otel_tap.reason")): point.value
        for point in points
        if point.name.startswith("otel_tap.")
    }
    assert seen == {
        ("otel_tap.events", "{event}", None): 40,
        ("otel_tap.payload", "By", None): 5000,
        ("otel_tap.exchanges", "{exchange}", None): 7,
        ("otel_tap.exchanges.filtered", "{exchange}", None): 4,
        ("otel_tap.events.lost", "{event}", "ring_full"): 3,
        ("otel_tap.events.lost", "{event}", "truncated"): 1,
        ("otel_tap.payload.lost", "By", "ring_full"): 300,
        ("otel_tap.payload.shed", "By", None): 77,
        ("otel_tap.payload.unwanted", "By", "muted"): 9,
        ("otel_tap.connections.opaque", "{connection}", "tunnel"): 1,
        ("otel_tap.websocket.sessions", "{session}", None): 8,
        ("otel_tap.websocket.messages", "{message}", None): 90,
        ("otel_tap.websocket.malformed", "{session}", None): 3,
        ("otel_tap.http2.header_blocks", "{block}", None): 60,
        ("otel_tap.http2.header_blocks.incomplete", "{block}", None): 11,
        ("otel_tap.spans.sent", "{span}", None): 6,
        ("otel_tap.records.dropped", "{record}", None): 2,
        ("otel_tap.shed.share", "1", None): 0.25,
        ("otel_tap.ring.fill", "1", None): 0.5,
        ("otel_tap.files.tapped", "{file}", None): 5,
    }
    others = {point.name: point.value for point in points if point.name.startswith("process.")}
    assert others["process.cpu.time"] > 0
    assert others["process.memory.usage"] > 1_000_000
    assert {point.resource["service.name"] for point in points} == {"otel-tap"}
    assert {point.resource["host.name"] for point in points} == {"here"}
    assert said == []


def test_a_dead_collector_is_said_once_and_holds_nobody_up(capfd):
    with OtlpReceiver() as receiver:
        endpoint = receiver.endpoint
    said: list[str] = []
    own = OwnMetrics(exporter(endpoint), interval=100, resource={}, report=said.append)
    own.update(STATUS)
    own._starting.join()
    deadline = time.monotonic() + 60
    while not said and time.monotonic() < deadline:
        time.sleep(0.05)
    own.close(1)
    assert 1 <= len(said) <= 2
    assert all("own" in line for line in said)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_metrics_have_variables_of_their_own_and_can_be_turned_off():
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:4317",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://metrics:4318/here",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
    }
    settings = OtlpSettings.from_environment(environ)
    assert settings.metrics is not None
    assert settings.traces is not None
    assert settings.metrics.endpoint == "http://metrics:4318/here"
    assert settings.traces.endpoint == "all:4317"
    off = OtlpSettings.from_environment(environ | {"OTEL_METRICS_EXPORTER": "none"})
    assert off.metrics is None


@pytest.mark.parametrize("text", ["0", "-1", "soon", "1.5"])
def test_an_interval_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        interval_ms({"OTEL_METRIC_EXPORT_INTERVAL": text})


def test_the_interval_is_a_minute_unless_it_is_set():
    assert interval_ms({}) == 60_000
    assert interval_ms({"OTEL_METRIC_EXPORT_INTERVAL": " 250 "}) == 250


def test_the_sdk_is_not_loaded_with_the_agent():
    code = "import sys, otel_tap.agent; print('opentelemetry.sdk.metrics' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n"
