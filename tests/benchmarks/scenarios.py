"""The scenarios: each gives its entry of the result, every timing over `ROUNDS` rounds."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.clock import Clock
from tests.benchmarks.cpus import LOAD
from tests.benchmarks.loads import pace, pace_http2, saturate
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.peers import SCRIPTS, Bpftrace
from tests.benchmarks.spread import percentile, ratios, spread
from tests.benchmarks.tapping import PROGRAMS, Collector, Tap

ROUNDS = 5
Result = dict[str, Any]
Say = Callable[[str], None]
NO_PEERS: Mapping[str, str] = {}

_WRK_S = 3.0
_PACED_RATE = 2000
# Short rounds, for a machine's speed drifts by more than what is measured: 60 s in all.
_PACED_ROUNDS = 20
_PACED_S = 3
_TORN_DOWN_S = 1.0  # after an agent's end the kernel still frees what was its
_AGENT_RATES = (2000, 10_000)  # per second; the first is the one that counts
_AGENT_WINDOW_S = 4.0
_TARGETS = 2000  # of HTTP/2 requests
_IDLE_S = 6.0
_SETTLED_S = 4.0  # after the start, when the last of the new processes was looked at


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="otel-tap-bench-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _saturated(
    say: Say,
    path: str,
    *,
    tls: bool,
    modes: Mapping[str, tuple[str, ...]],
    peers: Mapping[str, str] = NO_PEERS,
) -> Result:
    rates: dict[str, list[float]] = {mode: [] for mode in ("untapped", *modes, *peers)}
    counts: dict[str, int] = {}
    with _folder() as folder, Nginx(folder) as nginx, Collector() as collector:
        url = (nginx.tls if tls else nginx.plain) + path
        saturate(url, 1)
        for number in range(ROUNDS):
            rates["untapped"].append(saturate(url, _WRK_S).rps)
            line = f"round {number + 1}: untapped {rates['untapped'][-1]:,.0f}"
            for mode, arguments in modes.items():
                with Tap(collector, *arguments) as tap:
                    run = saturate(url, _WRK_S)
                    summary = tap.stop()
                rates[mode].append(run.rps)
                for name, count in {
                    "requests": run.requests,
                    "spans": collector.take_counts()["spans"],
                    "lost": summary.lost,
                    "shed_bytes": summary.shed_bytes,
                    "dropped": summary.dropped,
                }.items():
                    counts[f"{mode}_{name}"] = counts.get(f"{mode}_{name}", 0) + count
                line += f", {mode} {run.rps:,.0f} ({summary.text})"
            for name, script in peers.items():
                with Bpftrace(folder, script) as peer:
                    run = saturate(url, _WRK_S)
                    lost = peer.stop()
                rates[name].append(run.rps)
                counts[f"{name}_requests"] = counts.get(f"{name}_requests", 0) + run.requests
                counts[f"{name}_lost"] = counts.get(f"{name}_lost", 0) + lost
                line += f", {name} {run.rps:,.0f} ({lost} lost)"
            say(line)
    result: Result = {f"{mode}_rps": spread(values, 0) for mode, values in rates.items()}
    for mode in (*modes, *peers):
        result[f"{mode}_of_untapped"] = ratios(rates[mode], rates["untapped"])
    return result | counts


def nginx_tls_saturated(say: Say) -> Result:
    """wrk on nginx over TLS, 36-byte answers, both ends tapped; then by bpftrace."""
    modes = {"symbol": ("--placement", "symbol"), "auto": ("--placement", "auto")}
    return _saturated(say, "/", tls=True, modes=modes, peers=SCRIPTS)


def nginx_plain_saturated(say: Say) -> Result:
    """wrk on nginx without TLS, 36-byte answers, both ends tapped."""
    return _saturated(say, "/", tls=False, modes={"tapped": ()})


def nginx_tls_1k(say: Say) -> Result:
    """wrk on nginx over TLS, files of 1 KB."""
    return _saturated(say, "/1k", tls=True, modes={"tapped": ()})


def nginx_tls_100k(say: Say) -> Result:
    """wrk on nginx over TLS, files of 100 KB."""
    return _saturated(say, "/100k", tls=True, modes={"tapped": ()})


def nginx_tls_paced(say: Say) -> Result:
    """h2load at a constant rate on nginx over TLS, the server's end tapped."""
    figures: dict[str, list[float]] = {
        f"{mode}_{name}_us": [] for mode in ("untapped", "tapped") for name in ("p50", "p99")
    }
    sent = spans = lost = 0
    with _folder() as folder, Nginx(folder) as nginx, Collector() as collector:
        log = folder / "h2load.log"

        def measure(mode: str) -> int:
            run = pace(nginx.tls + "/", _PACED_RATE, _PACED_S, log)
            figures[f"{mode}_p50_us"].append(percentile(run.latencies_us, 50))
            figures[f"{mode}_p99_us"].append(percentile(run.latencies_us, 99))
            return run.sent

        def tapped() -> None:
            nonlocal sent, spans, lost
            with Tap(collector, "--pid", str(nginx.worker)) as tap:
                sent += measure("tapped")
                time.sleep(0.5)
                lost += tap.stop().lost
            spans += collector.take_counts()["spans"]
            time.sleep(_TORN_DOWN_S)

        for number in range(_PACED_ROUNDS):
            if number % 2:
                tapped()
                measure("untapped")
            else:
                measure("untapped")
                tapped()
            say(
                f"round {number + 1}: "
                + ", ".join(f"{name} {values[-1]:.0f}" for name, values in figures.items())
                + f"; sent {sent:,}, spans {spans:,}, lost {lost}"
            )
    timings = {name: spread(values, 0) for name, values in figures.items()}
    for name in ("p50", "p99"):
        pairs = zip(figures[f"tapped_{name}_us"], figures[f"untapped_{name}_us"], strict=True)
        timings[f"{name}_growth_us"] = spread([with_it - without for with_it, without in pairs], 0)
    return {"rate": _PACED_RATE, **timings, "sent": sent, "spans": spans, "lost": lost}


def agent(say: Say) -> Result:
    """The agent itself, interpreted and compiled: CPU per exchange, memory, idle CPU, start.

    It delivers over http/protobuf; once more over gRPC, to compare.
    """
    ready = []
    for _ in range(ROUNDS):
        with Collector() as collector, Tap(collector) as tap:
            ready.append(tap.ready_s * 1000)
            tap.stop()
    say(f"ready after {spread(ready)['median']:.0f} ms")
    result: Result = {"rate": _AGENT_RATES[0]}
    clock = Clock()
    usual: dict[str, list[float]] = {}  # of each figure at the first rate, by round
    counts = {"sent": 0, "spans": 0, "lost": 0, "shed_bytes": 0}
    with _folder() as folder, _varied(folder) as http1, _varied_http2(folder) as http2:
        for figure, (pid, drive), compiled, protocol in (
            ("http1", http1, False, "http/protobuf"),
            ("http1_compiled", http1, True, "http/protobuf"),
            ("http1_compiled_grpc", http1, True, "grpc"),
            ("http2", http2, False, "http/protobuf"),
            ("http2_compiled", http2, True, "http/protobuf"),
        ):
            with (
                Collector() as collector,
                Tap(collector, "--pid", str(pid), compiled=compiled, protocol=protocol) as tap,
            ):
                time.sleep(_SETTLED_S)
                if figure == "http1":
                    result["idle_cpu_percent"] = _idle(tap)
                    say(f"idle {result['idle_cpu_percent']['median']} % of one CPU")
                made, cpu_us = _cpu_per_exchange(tap, drive, clock)
                name = f"cpu_us_per_exchange_{figure}"
                for rate, values in cpu_us.items():
                    suffix = "" if rate == _AGENT_RATES[0] else f"_at_{rate}"
                    result[name + suffix] = spread(values)
                    say(f"{name} at {rate}/s: {spread(values)['median']}")
                usual[name] = cpu_us[_AGENT_RATES[0]]
                if figure == "http1":
                    result["rss_mb"] = round(tap.rss_mb, 1)
                summary = tap.stop()
                counts["sent"] += made
                counts["spans"] += collector.take_counts()["spans"]
                counts["lost"] += summary.lost
                counts["shed_bytes"] += summary.shed_bytes
    result["ready_ms"] = spread(ready, 0)
    slowdown = clock.slowdown
    result["cpu_slowdown"] = spread(slowdown, 2)
    for number, (figure, values) in enumerate(usual.items()):
        beside = slowdown[number * ROUNDS : (number + 1) * ROUNDS]
        result[figure + "_at_full_speed"] = spread(
            [value / slow for value, slow in zip(values, beside, strict=True)]
        )
    return result | counts


Drive = Callable[[int], int]
"""Makes so many exchanges per second for a while; how many there were."""


def _idle(tap: Tap) -> dict[str, float]:
    idle = []
    for _ in range(ROUNDS):
        before = tap.cpu_s
        time.sleep(_IDLE_S)
        idle.append((tap.cpu_s - before) / _IDLE_S * 100)
    return spread(idle, 2)


def _cpu_per_exchange(tap: Tap, drive: Drive, clock: Clock) -> tuple[int, dict[int, list[float]]]:
    """How many exchanges, and by rate the CPU per exchange of each round, with a look at the clock
    in each."""
    cpu_us: dict[int, list[float]] = {rate: [] for rate in _AGENT_RATES}
    sent = 0
    for _ in range(ROUNDS):
        for rate, values in cpu_us.items():
            before = tap.cpu_s
            made = drive(rate)
            time.sleep(1.5)  # what is under way is delivered
            sent += made
            values.append((tap.cpu_s - before) / made * 1e6)
        clock.look()
    return sent, cpu_us


@contextmanager
def _varied(folder: Path) -> Iterator[tuple[int, Drive]]:
    """Whom to tap, and what drives it over HTTP/1.1: programs/varied.c."""
    varied = _compiled(folder, "varied")
    server = subprocess.Popen([*LOAD, varied, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()

        def drive(rate: int) -> int:
            ran = subprocess.run(
                [*LOAD, varied, port, str(rate), str(_AGENT_WINDOW_S)],
                capture_output=True, text=True, check=True, timeout=_AGENT_WINDOW_S * 5 + 30,
            )  # fmt: skip
            return int(ran.stdout)

        yield server.pid, drive
    finally:
        server.kill()
        server.wait()


@contextmanager
def _varied_http2(folder: Path) -> Iterator[tuple[int, Drive]]:
    """The same over HTTP/2: nginx, and h2load with targets that differ."""
    chosen = random.Random(1)
    uris = folder / "uris"
    uris.write_text(
        "".join(
            f"/shop/{chosen.choice(('items', 'users', 'carts'))}/{chosen.randrange(10**6)}"
            f"?page={chosen.randrange(100)}&sort=name\n"
            for _ in range(_TARGETS)
        )
    )
    with Nginx(folder) as nginx:
        yield nginx.worker, lambda rate: pace_http2(nginx.http2, rate, _AGENT_WINDOW_S, uris)


def _compiled(folder: Path, name: str) -> Path:
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc is not installed: make bench installs it")
    subprocess.run(["gcc", "-O2", "-o", folder / name, PROGRAMS / f"{name}.c"], check=True)
    return folder / name


def bystander(say: Say) -> Result:
    """A program that is not tapped: its system calls per second on a pipe and a file."""
    untapped: list[float] = []
    tapped: list[float] = []
    with _folder() as folder:
        program = _compiled(folder, "bystander")

        def rate() -> float:
            ran = subprocess.run([*LOAD, program, "3"], capture_output=True, text=True, check=True)
            return int(ran.stdout) / 3

        for number in range(ROUNDS):
            untapped.append(rate())
            with Tap(None, "--output", "none") as tap:
                tapped.append(rate())
                tap.stop()
            say(f"round {number + 1}: untapped {untapped[-1]:,.0f}, tapped {tapped[-1]:,.0f}")
    return {
        "untapped_ops": spread(untapped, 0),
        "tapped_ops": spread(tapped, 0),
        "tapped_of_untapped": ratios(tapped, untapped),
    }


SCENARIOS: dict[str, Callable[[Say], Result]] = {
    scenario.__name__: scenario
    for scenario in (
        nginx_tls_saturated,
        nginx_plain_saturated,
        nginx_tls_paced,
        agent,
        bystander,
        nginx_tls_1k,
        nginx_tls_100k,
    )
}
