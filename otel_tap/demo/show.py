"""The demo itself: set up, tap, show, count, compare."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from otel_tap.agent import Agent
from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recording import RecordTo
from otel_tap.demo.clients import (
    BEFORE,
    PLANTED_SECRET,
    KeepAliveClient,
    Sent,
    send_everything,
)
from otel_tap.demo.server import Nginx, require_programs
from otel_tap.errors import HostError, OtelTapError
from otel_tap.receiver import OtlpReceiver, ReceivedLogRecord, ReceivedSpan
from otel_tap.requirements import check_host, require
from otel_tap.settings import Settings

RECORDING = Path(__file__).with_name("demo.otr")
_RUN_S = 45.0  # a bound on the whole demo; it takes a few seconds
_SETTLE_S = 1.5  # after the last client: reads, time-outs and delivery end

_KIND_CLIENT = 3
_ARROWS = {"server": "<-", "client": "->"}


@dataclass(frozen=True, slots=True)
class _Seen:
    """One received span in the words of the demo's output."""

    end: str
    process: str
    pid: int
    where: str
    method: str
    url: str
    status: int | None
    duration_ms: float

    def line(self) -> str:
        status = "-" if self.status is None else str(self.status)
        return (
            f"{self.process + f'[{self.pid}]':<18} {self.where:<14.14} {_ARROWS[self.end]} "
            f"{self.method:<6} {self.url} {status} {self.duration_ms:.1f} ms"
        )


def _seen(span: ReceivedSpan) -> _Seen:
    attributes, resource = span.attributes, span.resource
    end = "client" if span.kind == _KIND_CLIENT else "server"
    url = str(attributes.get("url.full", ""))
    if not url:
        query = attributes.get("url.query")
        url = (
            f"{attributes.get('url.scheme')}://{attributes.get('server.address')}"
            f":{attributes.get('server.port')}{attributes.get('url.path')}"
            + (f"?{query}" if query else "")
        )
    container = str(resource.get("container.id", ""))
    status = attributes.get("http.response.status_code")
    return _Seen(
        end,
        str(resource.get("process.executable.name", "?")),
        int(str(resource.get("process.pid", 0))),
        container[:12] or str(resource.get("host.name", "?")),
        str(attributes.get("http.request.method", "?")),
        url,
        int(str(status)) if status is not None else None,
        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
    )


class _Show:
    """Prints every span of the demo's server as it arrives at the collector, and counts them."""

    def __init__(self, out: TextIO, ports: tuple[int, ...]) -> None:
        self._out = out
        self._ports = ports
        self.counts: Counter[tuple[str, str]] = Counter()  # (end, process)
        self.linked = 0
        self._client_ids: set[tuple[str, str]] = set()
        self._parents: list[tuple[str, str]] = []
        self.first_after_s: float | None = None
        self._started = time.monotonic()

    def take(self, span: ReceivedSpan) -> None:
        if span.attributes.get("server.port") not in self._ports:
            return
        seen = _seen(span)
        if self.first_after_s is None:
            self.first_after_s = time.monotonic() - self._started
        self.counts[(seen.end, seen.process)] += 1
        if seen.end == "client":
            self._client_ids.add((span.trace_id, span.span_id))
        else:
            self._parents.append((span.trace_id, span.parent_span_id))
        print(seen.line(), file=self._out, flush=True)

    def total(self, end: str) -> int:
        """Spans of that end."""
        return sum(count for (at, _), count in self.counts.items() if at == end)

    def of(self, end: str, process: str) -> int:
        """Spans of that end by one program, whatever version its name carries."""
        return sum(
            count
            for (at, name), count in self.counts.items()
            if at == end and name.startswith(process)
        )

    @property
    def linked_pairs(self) -> int:
        """Server spans whose parent is a client span that was received."""
        return sum(parent in self._client_ids for parent in self._parents)


def _leaks(spans: list[ReceivedSpan], logs: list[ReceivedLogRecord]) -> bool:
    return PLANTED_SECRET in repr(spans) or PLANTED_SECRET in repr(logs)


def run_demo(out: TextIO, err: TextIO, *, record: Path | None = None) -> int:
    """Run the demo; returns its exit code.

    0 only when every request that the clients counted was captured. Replays the shipped recording
    where this host or this user cannot load probes. `record`: also keep what was captured.
    """
    try:
        require(check_host())
    except HostError as error:
        if record is not None:
            raise
        return _replay(out, err, error)
    require_programs("nginx", "openssl", "curl", "wget")
    with tempfile.TemporaryDirectory(prefix="otel-tap-demo-") as folder:
        return _live(Path(folder), out, err, record)


def _environment(receiver: OtlpReceiver) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
    }


def _live(folder: Path, out: TextIO, err: TextIO, record: Path | None) -> int:
    def report(message: str) -> None:
        print(f"otel-tap: {message}", file=err)

    print("starting nginx (TLS and plain) and two connections that are open beforehand", file=err)
    with Nginx(folder) as server, OtlpReceiver() as receiver:
        kept_open = KeepAliveClient(server)
        try:
            kept_open.wait_until_open()
            show = _Show(out, (server.tls_port, server.plain_port))
            agent = Agent(
                Settings(output="otlp"),
                on_exchange=None,
                report=report,
                environ=_environment(receiver),
                record=None if record is None else RecordTo(record),
            )
            agent.start()
            print("probes are attached; curl, wget and python send requests now", file=err)
            try:
                sent = _run_clients(
                    lambda: send_everything(server, kept_open), agent, receiver, show.take
                )
                agent.note(
                    {
                        "sent": str(sent.total),
                        "ports": f"{server.tls_port} {server.plain_port}",
                    }
                )
            finally:
                agent.stop()
        finally:
            kept_open.close()
        receiver.drain(show.take)
        logged = [entry for entry in server.logged() if entry[2] != BEFORE]
        return _compare(sent, len(logged), show, receiver, out)


def _run_clients(
    send: Callable[[], Sent],
    agent: Agent,
    receiver: OtlpReceiver,
    take: Callable[[ReceivedSpan], None],
) -> Sent:
    """Run the clients beside the agent, until their last byte has had time to arrive."""
    outcome: list[Sent | BaseException] = []

    def clients() -> None:
        try:
            outcome.append(send())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=clients, name="clients", daemon=True)
    thread.start()
    deadline = time.monotonic() + _RUN_S
    settled = None
    while time.monotonic() < (settled or deadline):
        agent.run_once()
        receiver.drain(take)
        if outcome and settled is None:
            settled = time.monotonic() + _SETTLE_S
    if not outcome:
        raise OtelTapError(f"the demo's clients did not end within {_RUN_S:.0f} s")
    if isinstance(outcome[0], BaseException):
        raise OtelTapError(f"a client of the demo failed: {outcome[0]}") from outcome[0]
    return outcome[0]


def _compare(sent: Sent, logged: int, show: _Show, receiver: OtlpReceiver, out: TextIO) -> int:
    captured = show.total("server")
    problems = []
    if logged != sent.total:
        problems.append(f"nginx logged {logged} requests")
    if captured != sent.total:
        problems.append(f"{captured} server spans arrived")
    untapped = []
    for program, count in sorted(sent.by_program.items()):
        client_spans = show.of("client", program)
        if client_spans == count:
            continue
        # Debian's wget uses GnuTLS: its TLS half is only seen by the server.
        if program == "wget" and client_spans == count // 2:
            untapped.append(f"{count - client_spans} of wget, whose GnuTLS is not tapped")
        else:
            problems.append(f"{program} counted {count}, {client_spans} client spans arrived")
    if _leaks(receiver.spans, receiver.log_records):
        problems.append("a planted secret was not redacted")
    logs = len(receiver.log_records)
    if logs != len(receiver.spans):
        problems.append(f"{len(receiver.spans)} spans but {logs} log records arrived")
    print(
        f"sent {sent.total}, captured {captured}"
        f" (server log {logged}; {show.total('client')} client spans"
        + (f", without {' and '.join(untapped)}" if untapped else "")
        + f"; {show.linked_pairs} pairs in one trace; first span after {show.first_after_s:.1f} s)",
        file=out,
    )
    for problem in problems:
        print(f"does not agree: {problem}", file=out)
    return 1 if problems else 0


def _replay(out: TextIO, err: TextIO, error: HostError) -> int:
    remedy = f" ({error.remedy})" if error.remedy else ""
    print(f"REPLAY of a recorded demo: cannot load probes here: {error.message}{remedy}", file=out)
    source = RecordedSource(RECORDING)
    notes = source.notes()
    source.close()
    ports = tuple(int(port) for port in notes["ports"].split())
    sent = int(notes["sent"])
    with OtlpReceiver() as receiver:
        show = _Show(out, ports)
        agent = Agent(
            Settings(output="otlp"),
            on_exchange=None,
            report=lambda message: print(f"otel-tap: {message}", file=err),
            environ=_environment(receiver),
            replay=RECORDING,
        )
        agent.start()
        while not agent.finished:
            agent.run_once()
        agent.stop()
        receiver.drain(show.take)
        captured = show.total("server")
        leaked = _leaks(receiver.spans, receiver.log_records)
    print(f"REPLAY: sent {sent}, captured {captured}", file=out)
    return 0 if captured == sent and not leaked else 1
