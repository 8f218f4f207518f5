"""`otel-tap record`: its flags, its progress, what it says in the end; e2e/ has the rest."""

import io
from types import SimpleNamespace

import pytest

from otel_tap.agent import AgentStatus
from otel_tap.cli import record as command
from otel_tap.errors import CaptureError
from tests.unit.test_cli import otel_tap


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a.otr", "--max-size", "many"),
        ("a.otr", "--max-size", "1KiB"),
        ("a.otr", "--duration", "soon"),
        ("a.otr", "--duration", "0s"),
        ("a.otr", "--status", "404"),
        ("a.otr", "--exclude-path", "/x"),
        ("a.otr", "--har", "a.har"),
        ("a.otr", "--output", "otlp"),
    ],
)
def test_a_wrong_use_is_a_usage_error(arguments):
    ended = otel_tap("record", *arguments)
    assert ended.returncode == 2
    assert "Usage:" in ended.stderr


def test_process_filters_are_there():
    shown = otel_tap("record", "--help").stdout
    for name in ("pid", "comm", "exe", "user", "container", "pod"):
        assert f"--{name} " in shown
        assert f"--exclude-{name} " in shown
    for name in ("force", "max-size", "duration", "loader", "placement", "bodies"):
        assert f"--{name}" in shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


def recording(**facts):
    known = {"written_bytes": 1500, "unrecorded": 0, "ended": False, "full": False, "failure": ""}
    status = AgentStatus(events=40, bytes=2_500_000, exchanges=9, lost={"ring_full": 2})
    return SimpleNamespace(recording=SimpleNamespace(**(known | facts)), status=lambda: status)


def progress_of(agent, duration_s, tmp_path):
    return command._Progress(agent, tmp_path / "a\x1b.otr", duration_s)


def test_the_progress_is_one_line_that_renews_itself(monkeypatch, tmp_path):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    agent = recording(unrecorded=3)
    progress = progress_of(agent, None, tmp_path)
    assert progress.each_turn()
    assert progress.each_turn()  # too soon to be shown again
    agent.recording.ended = True
    assert not progress.each_turn()
    shown = "\r\x1b[Ka\\x1b.otr: 40 events, 2.5 MB (1.5 kB on disk), 5 lost"
    assert terminal.getvalue() == shown + shown + "\n"


def test_without_a_terminal_there_is_no_progress_and_time_still_ends_it(monkeypatch, tmp_path):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = progress_of(recording(), 5.0, tmp_path)
    assert progress.each_turn()
    now[0] = 104.9
    assert progress.each_turn()
    now[0] = 105.0
    assert not progress.each_turn()
    assert stream.getvalue() == ""


def test_the_end_says_what_is_missing(capsys, tmp_path):
    path = tmp_path / "a.otr"
    assert command._conclude(recording(unrecorded=3, full=True), path) == 0
    said = capsys.readouterr().err
    assert "1.5 kB, 9 exchanges" in said
    assert "3 events not recorded" in said
    assert "ended at --max-size" in said
    with pytest.raises(CaptureError, match="No space left") as raised:
        command._conclude(recording(failure="No space left on device"), path)
    assert "can be replayed" in raised.value.remedy
