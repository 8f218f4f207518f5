"""Real probes on real programs: what every test here stands on.

Each test runs `otel-tap run` as a user would, with a collector embedded in the test process, and
compares what arrives there with what the programs themselves counted.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from otel_tap.demo.server import Nginx
from otel_tap.errors import HostError
from otel_tap.receiver import OtlpReceiver
from otel_tap.requirements import check_host, require

PROGRAMS = Path(__file__).parent / "programs"
OTEL_TAP = [sys.executable, "-m", "otel_tap"]
# What the tests are told is not handed on: an agent refuses variables of its own that it does not
# know. How much longer than on a usual machine everything may take: more than 1 in an emulator.
PATIENCE = float(os.environ.pop("OTEL_TAP_TEST_PATIENCE", "1"))
# The same tests by the other loader: OTEL_TAP_TEST_LOADER=bcc pytest tests/e2e/test_tap.py
LOADER = os.environ.pop("OTEL_TAP_TEST_LOADER", "auto")
# And with the probes at the exported symbols: OTEL_TAP_TEST_PLACEMENT=symbol pytest tests/e2e
PLACEMENT = os.environ.pop("OTEL_TAP_TEST_PLACEMENT", "auto")
_UNJOINED = "loader bcc sees no TCP sequence numbers, which join the ends of a connection"
BCC_CANNOT = {
    "test_both_ends_of_a_curl_request_to_nginx_are_spans_of_one_trace": _UNJOINED,
    "test_connections_that_were_open_before_the_start_are_seen": _UNJOINED,
    "test_asyncio_sessions_have_their_true_peer_and_are_linked": _UNJOINED,
    "test_node_whose_openssl_is_inside_the_binary_is_tapped_at_both_ends": _UNJOINED,
    "test_a_request_out_of_a_container_names_that_container": _UNJOINED,
    "test_both_ends_of_requests_by_curl_are_spans_of_one_trace_each": _UNJOINED,
    "test_prior_knowledge_is_recognised_at_both_ends": _UNJOINED,
    "test_concurrent_streams_of_h2load_are_all_there_at_both_ends": _UNJOINED,
    "test_fifty_thousand_requests_of_h2load_are_told_to_the_byte_at_both_ends": _UNJOINED,
    "test_a_replay_says_the_same_as_the_agent_said": _UNJOINED,
    "test_a_thousand_requests_of_every_shape_are_one_span_per_end": (
        "loader bcc sees no reset that no call reports; test_bcc.py compares the rest"
    ),
    "test_vectored_and_message_calls_are_seen": (
        "loader bcc leaves out sockets that were closed before it could ask whose they were"
    ),
}


def agent_environment() -> dict[str, str]:
    """Ours, without what would set up the agent otherwise than the test does."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return ours | {"OTEL_TAP_CAPTURE__PLACEMENT": PLACEMENT}


def missing_condition() -> str | None:
    """Why this host cannot load probes, or None."""
    try:
        require(check_host())
    except HostError as error:
        return error.message
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing_condition()
    for item in items:
        if "tests/e2e/" in str(item.path):
            item.add_marker("ebpf")
            if LOADER == "bcc" and item.name in BCC_CANNOT:
                item.add_marker(pytest.mark.skip(reason=BCC_CANNOT[item.name]))
            if reason:
                item.add_marker(pytest.mark.skip(reason=f"probes cannot be loaded here: {reason}"))


def _with_loader(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return arguments if "--loader" in arguments else ("--loader", LOADER, *arguments)


class Tap:
    """`otel-tap run` with its telemetry going to `receiver`."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.receiver = OtlpReceiver()
        self.stderr: list[str] = []
        self._arguments = arguments
        self._environment = environment or {}

    def __enter__(self) -> Self:
        self.receiver.__enter__()
        environment = agent_environment() | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            # What is asserted here is not how soon a busy machine lets the agent run.
            "OTEL_TAP_CAPTURE__RING_SIZE": "64MiB",
        }
        self.process = subprocess.Popen(
            [*OTEL_TAP, "run", *_with_loader(self._arguments)],
            env=environment | self._environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + 30 * PATIENCE
        while not any("ready" in line for line in self.stderr):
            assert self.process.poll() is None, "".join(self.stderr)
            assert time.monotonic() < deadline, "".join(self.stderr)
            time.sleep(0.02)
        return self

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.stderr.append(line)

    def wait_for(self, count: Callable[[], int], expected: int, seconds: float = 20) -> None:
        """Until `count()` reaches `expected` or time is over; the test then compares itself."""
        deadline = time.monotonic() + seconds * PATIENCE
        while count() < expected and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)  # what comes too much would come now

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20 * PATIENCE)
        self._reader.join(5)
        return code

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.receiver.__exit__(None, None, None)

    def spans(self, port: int, kind: int | None = None) -> list:
        """Spans of exchanges with the server at `port`; kind 2 server end, 3 client end."""
        return [
            span
            for span in self.receiver.spans
            if span.attributes.get("server.port") == port and kind in (None, span.kind)
        ]


def losses(tap: Tap) -> dict[tuple[str, str | None], float]:
    """Whatever the agent says, in its last metrics, to have lost, shed, dropped or given up."""
    wanted = ("lost", "shed", "dropped", "opaque")
    return {
        (point.name, str(point.attributes.get("otel_tap.reason"))): point.value
        for point in tap.receiver.points
        if any(word in point.name for word in wanted)
    }


@pytest.fixture
def world_readable() -> Iterator[Path]:
    """A folder that a server which gave up its rights can read."""
    with tempfile.TemporaryDirectory(prefix="otel-tap-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def nginx(world_readable: Path) -> Iterator[Nginx]:
    with Nginx(world_readable) as server:
        yield server


class ShapesServer:
    """tests/e2e/programs/shapes_server.py in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        self._log = folder / "shapes.log"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", folder / "key.pem", "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, PROGRAMS / "shapes_server.py", self.certificate, folder / "key.pem",
             self._log],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.tls_port, self.plain_port = map(int, self.process.stdout.readline().split())

    def logged(self) -> list[list]:
        """[scheme, method, target, status, request body bytes, response body bytes] a request."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def shapes_server(tmp_path: Path) -> Iterator[ShapesServer]:
    server = ShapesServer(tmp_path)
    yield server
    server.close()


def _bind(source: str, destination: str | None = None) -> dict[str, object]:
    return {
        "destination": destination or source,
        "type": "bind",
        "source": source,
        "options": ["rbind", "ro"],
    }


@pytest.fixture
def container(tmp_path: Path) -> Callable[..., str]:
    """Runs a program in a real container of runc and returns the container's id.

    It shares the host's network and programs; with `own_libraries` it has copies of OpenSSL.
    """
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed")

    def run(*arguments: str, own_libraries: bool = False) -> str:
        container_id = secrets.token_hex(32)
        bundle = tmp_path / container_id
        (bundle / "rootfs").mkdir(parents=True)
        mounts = [_bind(folder) for folder in ("/usr", "/lib", "/lib64", "/bin", "/etc")]
        if own_libraries:
            for name in ("libssl.so.3", "libcrypto.so.3"):
                (library,) = Path("/usr/lib").glob(f"*-linux-gnu/{name}")
                shutil.copy(library, bundle / name)
                folders = (str(library.parent), str(library.parent).removeprefix("/usr"))
                mounts += [_bind(str(bundle / name), f"{folder}/{name}") for folder in folders]
        configuration = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": arguments,
                "env": ["PATH=/usr/bin:/bin"],
                "cwd": "/",
                "rlimits": [],
            },
            "root": {"path": "rootfs", "readonly": False},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *mounts],
            "linux": {
                "cgroupsPath": f"/docker/{container_id}",
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "uts", "ipc")],
            },
        }
        (bundle / "config.json").write_text(json.dumps(configuration))
        result = subprocess.run(
            ["runc", "run", "--bundle", bundle, container_id[:16]],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return container_id

    return run


@contextmanager
def running_node() -> Iterator[None]:
    """A node that was met before the one that is looked at, as on any host that runs node.

    The agent looks for OpenSSL inside an executable when it first meets it, which takes longer than
    the first connection of a process.
    """
    idle = subprocess.Popen(["node", "-e", "setTimeout(() => {}, 60000)"])
    try:
        time.sleep(3 * PATIENCE)
        yield
    finally:
        idle.kill()
        idle.wait()
