"""Golden recordings of real programs give the exchanges that they had, without root."""

import json
from collections import Counter

import pytest

from otel_tap.capture.recorded import RecordedSource
from tests.captures import FOLDER, PLANTED_SECRET, exchanges_of, replay
from tests.captures.scenarios import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_golden_recording_gives_its_exchanges(name):
    recording = FOLDER / f"{name}.otr"
    expected = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert exchanges_of(recording) == expected
    # Every request of a client on this host was seen at its server, too.
    ends = {
        role: Counter(
            (one["method"], one["target"], one["version"], one["status"])
            for one in expected
            if one["role"] == role
        )
        for role in ("client", "server")
    }
    assert ends["client"] == ends["server"]
    assert len(expected) >= 10


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_golden_recording_is_small_and_tells_nothing_of_where_it_was_made(name):
    recording = FOLDER / f"{name}.otr"
    assert recording.stat().st_size < 100_000
    source = RecordedSource(recording)
    content = b"".join(bytes(content) for _, content in source.frames())
    assert b"HTTP" in content or b"grpc" in content
    for word in (b"/root", b"/home", b"/tmp", b"/work", b"pyenv", b".venv"):
        assert word not in content
    assert source.header.host.name == "captured"


def test_the_secrets_in_a_recording_do_not_leave_its_replay():
    recording = FOLDER / "curl_nginx.otr"
    content = b"".join(bytes(content) for _, content in RecordedSource(recording).frames())
    assert content.count(PLANTED_SECRET.encode()) >= 12  # 3 places, 2 requests, 2 ends
    shown: list[str] = []
    replay(recording, lambda exchange, origin: shown.append(repr((exchange, origin))))
    assert len(shown) == 32
    assert PLANTED_SECRET not in "".join(shown)
