"""When the agent cannot keep up, every byte is still accounted for and nothing becomes wrong.

The agent runs inside the test, so that it can be kept from reading; the programs are others.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from otel_tap.agent import Agent
from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recorder import Recorder
from otel_tap.capture.recording import RecordTo
from otel_tap.events import ConnectionClosed, ConnectionOpened, DataEvent
from otel_tap.exchange import Exchange
from otel_tap.settings import load_settings
from tests.e2e.conftest import PROGRAMS
from tests.e2e.programs.known_traffic import content

CONNECTIONS = 16


class KnownTraffic:
    """The program, and how many bytes its clients moved on all connections."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.port = int(self._line())
        self.moved = 0

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def begin(self, exchanges: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {exchanges}\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        self.moved = sum(json.loads(self._line()).values())

    def run(self, exchanges: int) -> None:
        self.begin(exchanges)
        self.finish()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("close\n")
        self._process.stdin.close()
        self._process.wait(20)


@contextmanager
def known_traffic() -> Iterator[KnownTraffic]:
    process = subprocess.Popen(
        [sys.executable, PROGRAMS / "known_traffic.py", str(CONNECTIONS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield KnownTraffic(process)
    finally:
        process.kill()
        process.wait()


@dataclass
class Seen:
    """What the agent made of it."""

    recording: Path
    exchanges: list[Exchange] = field(default_factory=list)
    slow_s: float = 0

    def take(self, exchange: Exchange, _origin: object) -> None:
        self.exchanges.append(exchange)
        if self.slow_s:
            time.sleep(self.slow_s)


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    return Seen(tmp_path / "events.otr")


@contextmanager
def running_agent(
    seen: Seen,
    body_limit: str = "1MiB",
    ring_size: str = "32MiB",
    filters: Mapping[str, list[str]] | None = None,
) -> Iterator[Agent]:
    settings = load_settings(
        None,
        {},
        {
            "capture.ring_size": ring_size,
            "bodies.enabled": True,
            "bodies.limit": body_limit,
            "output": "none",
        }
        | {f"filters.{name}": values for name, values in (filters or {}).items()},
    ).settings
    agent = Agent(
        settings,
        on_exchange=seen.take,
        report=lambda _: None,
        environ={},
        record=RecordTo(seen.recording),
    )
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def read_for(agent: Agent, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        agent.run_once()


def take_back(agent: Agent) -> None:
    """Read until no connection is left out any more."""
    deadline = time.monotonic() + 60
    read_for(agent, 0.5)
    while agent.status().shed_share > 0:
        assert time.monotonic() < deadline
        read_for(agent, 0.2)


def accounts(recording: Path, port: int) -> tuple[Counter, set[int]]:
    """Of the connections with the server at `port`: bytes by what became of them."""
    total: Counter = Counter()
    connections: set[int] = set()
    closed: dict[int, ConnectionClosed] = {}
    source = RecordedSource(recording)
    while not source.exhausted:
        for event in source.read():
            if isinstance(event, ConnectionOpened):
                ends = [end.port for end in (event.local, event.peer) if end is not None]
                if port in ends:
                    connections.add(event.connection_id)
            elif isinstance(event, DataEvent) and event.connection_id in connections:
                total["captured"] += len(event.payload)
            elif isinstance(event, ConnectionClosed) and event.socket_id in connections:
                closed[event.socket_id] = event
    source.close()
    for event in closed.values():
        total["lost"] += event.lost_bytes
        total["shed"] += event.shed_bytes
        total["filtered"] += event.filtered_bytes
    return total, connections


def wrong(exchanges: list[Exchange]) -> list[str]:
    """Exchanges that say something that did not happen."""
    found = []
    for exchange in exchanges:
        request, response = exchange.request, exchange.response
        if request is None or not request.target.startswith(b"/"):
            continue
        path = request.target.decode()
        for message, side in ((request, "q"), (response, "r")):
            if message is None:
                continue
            expected = content(path, side)
            said = message.body
            if message.complete and said.size != len(expected):
                found.append(f"{path} {side} has {said.size} bytes, not {len(expected)}")
            if not expected.startswith(said.content) and not message.lost_bytes:
                found.append(f"{path} {side} has another content")
            if message.complete and not message.lost_bytes and said.content != expected:
                found.append(f"{path} {side} is not whole")
    return found


def of_port(exchanges: list[Exchange], port: int) -> list[Exchange]:
    return [
        exchange
        for exchange in exchanges
        if (local := exchange.connection.local)
        and (peer := exchange.connection.peer)
        and port in (local.port, peer.port)
    ]


def test_an_overrun_ring_loses_bytes_that_are_counted_exactly(seen):
    with known_traffic() as traffic, running_agent(seen, ring_size="1MiB") as agent:
        traffic.run(2)
        read_for(agent, 0.5)
        traffic.run(100)  # nobody reads: about 7 MB at both ends, for a ring of 1 MiB
        take_back(agent)
        traffic.run(2)
        read_for(agent, 0.5)
        traffic.close()
        read_for(agent, 0.5)
        agent.stop()
        total, connections = accounts(seen.recording, traffic.port)
    assert len(connections) == 2 * CONNECTIONS
    assert total["lost"] > 0
    assert total["captured"] + total["shed"] + total["lost"] == 2 * traffic.moved
    exchanges = of_port(seen.exchanges, traffic.port)
    assert not wrong(exchanges)
    # Before and after the overrun everything is whole again: both ends of 3 runs of 2 exchanges.
    whole = {
        (exchange.role, exchange.request.target)
        for exchange in exchanges
        if exchange.request and exchange.response and not exchange.lost_bytes
    }
    for number in range(CONNECTIONS):
        for index in (0, 1, 103):
            for role in ("client", "server"):
                assert (role, f"/{number}/{index}".encode()) in whole


def test_overload_sheds_whole_connections_and_takes_them_back(seen):
    with known_traffic() as traffic, running_agent(seen, ring_size="1MiB") as agent:
        traffic.run(2)
        read_for(agent, 0.5)
        seen.slow_s = 0.003
        traffic.begin(400)
        deadline = time.monotonic() + 60
        highest = 0.0
        while agent.status().shed_bytes == 0 and time.monotonic() < deadline:
            read_for(agent, 0.2)
            highest = max(highest, agent.status().shed_share)
        seen.slow_s = 0
        read_for(agent, 1)
        traffic.finish()
        assert highest > 0
        take_back(agent)
        traffic.run(3)
        read_for(agent, 0.5)
        traffic.close()
        read_for(agent, 0.5)
        agent.stop()
        total, connections = accounts(seen.recording, traffic.port)
    assert len(connections) == 2 * CONNECTIONS
    assert total["shed"] > 0
    assert total["captured"] + total["lost"] + total["shed"] == 2 * traffic.moved
    exchanges = of_port(seen.exchanges, traffic.port)
    assert not wrong(exchanges)
    last = [
        exchange
        for exchange in exchanges
        if exchange.request and exchange.request.target.endswith(b"/404")
    ]
    assert len(last) == 2 * CONNECTIONS
    assert all(exchange.response and not exchange.lost_bytes for exchange in last)


def test_the_rest_of_a_long_content_is_counted_but_not_copied(seen, nginx):
    size = 64 << 20
    (nginx.folder / "content" / "report").write_bytes(b"0123456789abcdef" * (size // 16))
    with running_agent(seen, "64KiB") as agent:
        url = f"https://127.0.0.1:{nginx.tls_port}/report"
        client = subprocess.Popen(
            ["curl", "-sSk", "--limit-rate", "32M", "-o", "/dev/null",
             "-w", "%{size_download}", url],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        while client.poll() is None:
            agent.run_once()
        assert client.stdout is not None
        assert int(client.stdout.read()) == size
        read_for(agent, 0.5)
        agent.stop()
        status = agent.status()
    ends = {exchange.role: exchange for exchange in of_port(seen.exchanges, nginx.tls_port)}
    assert set(ends) == {"client", "server"}
    for exchange in ends.values():
        assert exchange.response is not None
        assert exchange.response.complete
        assert exchange.response.lost_bytes == 0
        assert exchange.response.body.size == size
        assert exchange.response.body.content == (b"0123456789abcdef" * 4096)
    # Both ends moved it; most of it was under way when the agent said that it is not needed.
    assert status.not_wanted_bytes["skipped"] > size
    assert status.lost_bytes == {}


def test_processes_that_the_filters_leave_out_are_not_copied(seen, monkeypatch):
    # A recording leaves them out; here it has what was captured before the kernel side knew.
    commit = Recorder.commit
    monkeypatch.setattr(
        Recorder,
        "commit",
        lambda recorder, events, _unwanted, origin: commit(recorder, events, (), origin),
    )
    with known_traffic() as unwanted, known_traffic() as traffic:
        with running_agent(seen, filters={"exclude.pid": [str(unwanted.pid)]}) as agent:
            for source in (unwanted, traffic):
                source.run(2)
            read_for(agent, 0.5)
            for source in (unwanted, traffic):
                source.run(100)
            read_for(agent, 0.5)
            for source in (unwanted, traffic):
                source.close()
            read_for(agent, 0.5)
            agent.stop()
        of_unwanted, _ = accounts(seen.recording, unwanted.port)
        of_wanted, _ = accounts(seen.recording, traffic.port)
    assert {exchange.connection.tgid for exchange in seen.exchanges} == {traffic.pid}
    assert of_unwanted["filtered"] > of_unwanted["captured"]
    assert of_unwanted["captured"] + of_unwanted["filtered"] == 2 * unwanted.moved
    assert of_wanted["captured"] == 2 * traffic.moved
    assert len(seen.exchanges) == 2 * CONNECTIONS * 102


def test_where_only_some_processes_are_asked_for_sockets_of_others_are_not_looked_at(seen):
    with known_traffic() as other, known_traffic() as traffic:
        with running_agent(seen, filters={"pid": [str(traffic.pid)]}) as agent:
            for source in (other, traffic):
                source.run(100)
            read_for(agent, 0.5)
            for source in (other, traffic):
                source.close()
            read_for(agent, 0.5)
            status = agent.status()
            agent.stop()
        of_other, _ = accounts(seen.recording, other.port)
        of_asked, _ = accounts(seen.recording, traffic.port)
    assert {exchange.connection.tgid for exchange in seen.exchanges} == {traffic.pid}
    assert len(seen.exchanges) == 2 * CONNECTIONS * 100
    assert of_asked["captured"] == 2 * traffic.moved
    assert not any(of_other.values())
    assert status.not_wanted_bytes == {}
