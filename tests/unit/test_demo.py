"""The demo where probes cannot be loaded: the shipped recording takes the same way, and says so."""

import io

from otel_tap.agent import Agent
from otel_tap.capture.recorded import RecordedSource
from otel_tap.demo import show
from otel_tap.demo.clients import PLANTED_SECRET
from otel_tap.errors import HostError
from otel_tap.settings import Settings


def test_without_probes_the_recording_is_replayed_and_labelled(monkeypatch):
    def refuse(_findings: object) -> None:
        raise HostError("BTF", "the kernel has no BTF", remedy="boot a kernel with BTF")

    monkeypatch.setattr(show, "require", refuse)
    out, err = io.StringIO(), io.StringIO()
    assert show.run_demo(out, err) == 0
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("REPLAY")
    assert "no BTF" in lines[0]
    assert "boot a kernel with BTF" in lines[0]
    sent = int(RecordedSource(show.RECORDING).notes()["sent"])
    assert lines[-1] == f"REPLAY: sent {sent}, captured {sent}"
    assert sum(" <- " in line for line in lines) == sent
    assert any("curl" in line and "access_token=REDACTED" in line for line in lines)
    assert PLANTED_SECRET not in out.getvalue() + err.getvalue()


def replayed() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    agent = Agent(
        Settings(output="none"),
        on_exchange=lambda exchange, origin: rows.append((exchange, origin)),
        report=print,
        replay=show.RECORDING,
    )
    agent.start()
    while not agent.finished:
        agent.run_once()
    agent.stop()
    return rows


def test_a_replay_gives_the_same_exchanges_every_time():
    first, second = replayed(), replayed()
    assert first == second
    assert len(first) > 60


def test_the_recording_tells_nothing_of_where_it_was_made():
    content = b"".join(bytes(frame) for _, frame in RecordedSource(show.RECORDING).frames())
    assert b"nginx" in content
    for word in (b"/root", b"/home", b"/tmp", b"/work", b"pyenv", b".venv"):
        assert word not in content
