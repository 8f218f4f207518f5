"""`otel-tap replay` as scripts meet it: without rights, the same telemetry every time."""

import json
import subprocess
import sys
import time

import pytest

from otel_tap.receiver import Delay, OtlpReceiver
from tests.captures import FOLDER, PLANTED_SECRET
from tests.unit.recordings import END, block, data_record, frame, header, opened_record, write_file
from tests.unit.test_cli import ENVIRONMENT, otel_tap
from tests.unit.test_telemetry_har import VALIDATOR

CURL = FOLDER / "curl_nginx.otr"
COUNT = 32


def test_a_recording_becomes_lines():
    played = otel_tap("replay", str(CURL))
    assert played.returncode == 0
    lines = played.stdout.splitlines()
    assert len(lines) == COUNT
    assert any("curl[" in line and "/hello?name=world 200" in line for line in lines)
    assert played.stderr == f"otel-tap: {COUNT} exchanges, " + played.stderr.split(", ", 1)[1]
    assert PLANTED_SECRET not in played.stdout


def test_json_lines_have_the_times_of_the_recording():
    played = [otel_tap("replay", str(CURL), "--output", "json").stdout for _ in range(2)]
    assert played[0] == played[1]
    lines = [json.loads(line) for line in played[0].splitlines()]
    assert len(lines) == COUNT
    recorded = json.loads((FOLDER / "curl_nginx.json").read_text())
    assert sorted(line["pid"] for line in lines) == sorted(
        int(one["process"].split("[")[1][:-1]) for one in recorded
    )


def test_filters_hold_on_replay():
    lines = otel_tap("replay", str(CURL), "--status", "4xx", "--comm", "curl").stdout.splitlines()
    assert len(lines) == 2
    assert all("/missing 404" in line for line in lines)


def test_two_replays_give_the_same_bytes(tmp_path):
    files = []
    for number in range(2):
        path = tmp_path / f"{number}.jsonl"
        played = otel_tap("replay", str(CURL), "--bodies", "--output", f"otlp-json:{path}")
        assert played.returncode == 0
        assert f"{COUNT} spans sent" in played.stderr
        files.append(path.read_bytes())
        time.sleep(0.01)
    assert files[0] == files[1]
    assert files[0].count(b'"observedTimeUnixNano"') == COUNT
    assert PLANTED_SECRET.encode() not in files[0]


def test_spans_reach_a_collector_that_is_slow():
    with OtlpReceiver(answers=[Delay(1.0)]) as receiver:
        played = otel_tap(
            "replay", str(CURL), "--output", "otlp", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint
        )
        assert played.returncode == 0
        assert len(receiver.spans) == len(receiver.log_records) == COUNT
        ids = {span.span_id for span in receiver.spans}
    assert len(ids) == COUNT


def test_a_har_file_is_written_beside_it(tmp_path):
    path = tmp_path / "a.har"
    played = otel_tap("replay", str(CURL), "--output", "none", "--bodies", "--har", str(path))
    assert (played.returncode, played.stdout) == (0, "")
    text = path.read_text()
    document = json.loads(text)
    VALIDATOR.validate(document)
    entries = document["log"]["entries"]
    assert len(entries) == COUNT
    assert PLANTED_SECRET not in text
    report = [
        entry
        for entry in entries
        if entry["request"]["url"].endswith("/report") and entry["_otelTap"]["role"] == "client"
    ]
    assert [len(entry["response"]["content"]["text"]) for entry in report] == [20000, 20000]


def test_no_rights_are_needed():
    # The tree may lie where nobody else can look, so rights go when everything is loaded.
    script = (
        "import os, sys\nimport otel_tap.agent, otel_tap.cli.lines\n"
        "from otel_tap.cli.main import main\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]); os.setresgid(65534, 65534, 65534)\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "sys.argv = ['otel-tap', 'replay', '/dev/stdin']\nmain()\n"
    )
    with CURL.open("rb") as recording:
        played = subprocess.run(
            [sys.executable, "-c", script], stdin=recording, capture_output=True, text=True,
            env=ENVIRONMENT, timeout=60,
        )  # fmt: skip
    assert played.returncode == 0, played.stderr
    assert len(played.stdout.splitlines()) == COUNT


def test_a_recording_that_ends_early_is_played_up_to_there_and_said(tmp_path):
    records = frame(b"R", opened_record()) + frame(b"R", data_record(0, b"GET / HTTP/1.1\r\n\r\n"))
    path = write_file(tmp_path / "cut.otr", block(header() + records), block(END)[:-3])
    played = otel_tap("replay", str(path))
    assert played.returncode == 0
    assert " GET " in played.stdout
    assert "ends early" in played.stderr
    assert "2 records, the last of 1970-01-01T00:00:00.000+00:00" in played.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"otel-tap recording 2\nH", "format '2'"),
        (b"something else", "no recording of otel-tap"),
    ],
)
def test_other_files_are_one_clear_error(tmp_path, content, said):
    path = tmp_path / "x.otr"
    path.write_bytes(content)
    played = otel_tap("replay", str(path))
    assert played.returncode == 1
    assert said in played.stderr
    assert "Traceback" not in played.stderr


def test_damage_is_an_error_after_what_lies_before_it(tmp_path):
    records = frame(b"R", opened_record()) + frame(b"R", data_record(0, b"GET / HTTP/1.1\r\n\r\n"))
    path = write_file(tmp_path / "x.otr", block(header() + records), b"X" * 100)
    played = otel_tap("replay", str(path))
    assert played.returncode == 1
    assert "is damaged" in played.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a.otr", "--speed", "0"),
        ("a.otr", "--output", "kafka"),
        ("a.otr", "--loader", "bcc"),
    ],
)
def test_a_wrong_use_is_a_usage_error(arguments):
    ended = otel_tap("replay", *arguments)
    assert ended.returncode == 2
    assert "Usage:" in ended.stderr


def test_its_reader_may_leave():
    process = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} -m otel_tap replay {CURL} --speed 0.5 | head -1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    out, err = process.communicate(timeout=60)
    assert len(out.splitlines()) == 1
    assert "Traceback" not in err
