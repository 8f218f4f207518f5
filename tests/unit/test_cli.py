"""The command as scripts meet it: exit codes, streams, signals, pipes, a real pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from otel_tap import __version__
from otel_tap.agent import AgentStatus
from otel_tap.cli.run import default_output
from otel_tap.cli.session import EXIT_INTERRUPTED, EXIT_OK, run_until_stopped, status_line
from otel_tap.compiled import is_compiled

ROOT = Path(__file__).parents[2]

# The command with an agent that delivers three exchanges, then says READY on stderr and idles.
FAKE = """
import os, sys, time, types
from otel_tap.errors import HostError, RightsError
from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, Position, Role
from otel_tap.messages import Body, Request, Response
from otel_tap.origin import Host, Origin

class Status:
    events, bytes, exchanges, sent, dropped = 40, 4000, 3, 3, 0
    lost = {"ring_full": 2, "truncated": 0}
    lost_bytes = {}
    shed_bytes = shed_share = filtered = opaque = 0

class Agent:
    def __init__(self, settings, *, on_exchange, report):
        self.settings, self.on_exchange, self.report = settings, on_exchange, report
        self.turns = 0
    def start(self):
        if os.environ.get("FAKE_START") == "crash":
            raise RuntimeError("boom \\x1b[31m")
        self.report("output " + self.settings.output)
    def run_once(self):
        self.turns += 1
        if self.turns == 1 and self.on_exchange is not None:
            for number in range(3):
                self.on_exchange(exchange(number), ORIGIN)
        if self.turns == 2:
            self.report("READY")
        if self.turns > 400:
            self.report("nobody stopped this test")
            os._exit(99)
        time.sleep(0.05)
    def stop(self):
        self.report("flushed")
    def under_way(self, older_than_ns):
        assert older_than_ns == 10**9
        return [(exchange(7), ORIGIN)]
    def status(self):
        return Status()

HOST = Host("box", None, "boot", "amd64", "linux", "6.1")
ORIGIN = Origin(4242, 1, 1, 1, "cu\\x1b]0;x\\x07rl", "/usr/bin/curl", "curl", None, "root", None,
                "shop", (), HOST)
CONNECTION = Connection(1, 4242, TlsLibrary.OPENSSL, PeerEvidence.SOCKET, None,
                        Address("192.0.2.1", 443), 0, 0, True)

def exchange(number):
    request = Request(b"GET", b"/x%d" % number, "1.1", ((b"host", b"example.org"),), (),
                      Body(b"", 0, False), 50, 0, True)
    response = Response(200, b"OK", "1.1", (), (), Body(b"", 512, True), 600, 0, True)
    return Exchange(Role.CLIENT, CONNECTION, 1, request, response, 10**9, 10**9, 10**9 + 10**7,
                    10**9 + 12 * 10**6, 10**9 + 12 * 10**6, False, Position("tcp", number), None)

from otel_tap.requirements import RIGHTS, Finding, Outcome, require

def check_host(**_):
    lacking = os.environ.get("FAKE_HOST", "")
    def finding(name, outcome, finding, remedy, needed):
        return Finding(name, Outcome(outcome), finding, remedy, needed)
    btf, rights = ("no" if lacking == name else "yes" for name in ("host", "rights"))
    return [finding("kernel BTF", btf, "missing", "new kernel", True),
            finding(RIGHTS, rights, "missing", "use sudo", True),
            finding("ring", "could not tell", "not tried", "try it", False)]

for name, content in (("agent", {"Agent": Agent}),
                      ("requirements", {"check_host": check_host, "require": require}),
                      ("demo", {"run_demo": lambda out, err: out.write("seen\\n") and 0})):
    module = types.ModuleType("otel_tap." + name)
    vars(module).update(content)
    sys.modules["otel_tap." + name] = module
from otel_tap.cli.main import main
main()
"""

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("OTEL_", "FAKE_", "PYTHONDEV"))
} | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"}


def otel_tap(*arguments, cwd=None, **environ):
    return subprocess.run(
        [sys.executable, "-m", "otel_tap", *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | environ,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def start_fake(*arguments, cwd=None, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **environ):
    return subprocess.Popen(
        [sys.executable, "-c", FAKE, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | environ,
        cwd=cwd,
        # Under nohup we ignore it, and a child that inherits that goes on doing so.
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
    )


def fake(*arguments, **options):
    process = start_fake(*arguments, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until_ready(process):
    said = []
    for line in process.stderr:
        said.append(line)
        if "READY" in line:
            break
    return said


def test_help_version_and_no_command_at_all():
    shown = otel_tap("--help")
    assert shown.returncode == 0
    assert "sudo otel-tap live" in shown.stdout
    assert shown.stderr == ""
    compiled = " (compiled)" if is_compiled() else ""
    assert otel_tap("--version").stdout == f"otel-tap {__version__}{compiled}\n"
    assert otel_tap().returncode == 2


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom otel_tap.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'pydantic', 'rich', 'yaml', 'grpc', 'opentelemetry', 'elftools'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert "Usage: otel-tap" in shown.stdout
    assert shown.stderr == "[]\n"


@pytest.mark.parametrize("command", ["live", "run", "replay"])
def test_the_filters_are_the_same_on_every_command(command):
    shown = otel_tap(command, "--help").stdout
    names = ["pid", "comm", "exe", "user", "container", "pod", "host", "method", "path", "status"]
    for name in names:
        assert f"--{name} " in shown
        assert f"--exclude-{name} " in shown
    assert "--body-limit" in shown
    assert "Examples:" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("live", "--nonsense"),
        ("live", "--pid", "x"),
        ("live", "--exclude-status", "9"),
        ("live", "--output", "xml"),
        ("run", "--output", "kafka"),
        ("plan", "--pid", "0"),
    ],
)
def test_a_wrong_flag_is_a_usage_error(arguments):
    ended = otel_tap(*arguments)
    assert ended.returncode == 2
    assert "Usage:" in ended.stderr
    assert ended.stdout == ""


def test_a_wrong_file_is_a_configuration_error_in_two_lines(tmp_path):
    (tmp_path / "t.yaml").write_text("\nbodies:\n  limt: 5\n", encoding="utf-8")
    for command in (("live", "--config", "t.yaml"), ("config", "validate", "t.yaml")):
        ended = otel_tap(*command, cwd=tmp_path)
        assert ended.returncode == 3
        first, second = ended.stderr.splitlines()
        assert first == (
            'otel-tap: t.yaml:3: unknown key "bodies.limt"; did you mean "bodies.limit"?'
        )
        assert second.startswith("  remedy: ")


def test_the_settings_file_can_be_named_by_a_variable(tmp_path):
    (tmp_path / "t.yaml").write_text("bodies:\n  enabled: true\n", encoding="utf-8")
    shown = otel_tap(
        "config", "show", "--comm", "curl", cwd=tmp_path,
        OTEL_TAP_CONFIG="t.yaml", OTEL_TAP_BODIES__LIMIT="1KiB",
    ).stdout.splitlines()  # fmt: skip
    assert "bodies.enabled = true  # t.yaml:2" in shown
    assert 'bodies.limit = "1KiB"  # env OTEL_TAP_BODIES__LIMIT' in shown
    assert 'filters.comm = ["curl"]  # flag --comm' in shown
    assert 'capture.ring_size = "8MiB"  # default' in shown


def test_validate_names_every_problem(tmp_path):
    (tmp_path / "t.yaml").write_text("a: 1\nb: 2\n", encoding="utf-8")
    ended = otel_tap("config", "validate", "t.yaml", cwd=tmp_path, OTEL_TAP_OUTPUT="x")
    assert ended.returncode == 3
    assert ended.stderr.count("otel-tap: ") == 3


def test_the_example_is_valid_and_the_schema_is_json(tmp_path):
    (tmp_path / "t.yaml").write_text(otel_tap("config", "example").stdout, encoding="utf-8")
    valid = otel_tap("config", "validate", "t.yaml", cwd=tmp_path)
    assert (valid.returncode, valid.stdout) == (0, "t.yaml: valid\n")
    assert json.loads(otel_tap("config", "schema").stdout)["title"] == "otel-tap settings"
    assert len(json.loads(otel_tap("config", "show", "--json").stdout)) > 30


def test_plan_without_rights_says_so_and_exits_5():
    command = [sys.executable, "-m", "otel_tap", "plan"]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("giving up a capability needs setpriv of util-linux")
        command = [setpriv, "--bounding-set=-sys_ptrace", *command]
    ended = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert ended.returncode == 5
    assert ended.stderr.splitlines() == [
        "otel-tap: the processes of other users are not visible to this user",
        "  remedy: run `sudo otel-tap plan`",
    ]


@pytest.mark.parametrize(("lacking", "code"), [("", 0), ("rights", 5), ("host", 4)])
def test_doctor_tells_by_its_exit_code_what_is_missing(lacking, code):
    ended, out, err = fake("doctor", FAKE_HOST=lacking)
    assert ended == code
    assert "yes" in out
    assert "?\tring\tnot tried; better: try it" in out
    assert ("remedy" in err) == bool(lacking)
    ended, out, _ = fake("doctor", "--json", FAKE_HOST=lacking)
    assert ended == code
    assert json.loads(out)["capable"] == (not lacking)


@pytest.mark.parametrize("command", ["live", "run"])
@pytest.mark.parametrize(("lacking", "code"), [("rights", 5), ("host", 4)])
def test_nothing_is_started_where_it_cannot_work(command, lacking, code):
    ended, out, err = fake(command, FAKE_HOST=lacking)
    assert (ended, out) == (code, "")
    assert "missing\n  remedy: " in err
    assert "flushed" not in err


def test_an_unforeseen_error_is_no_traceback_unless_asked_for():
    ended, _, err = fake("live", FAKE_START="crash")
    assert ended == 1
    assert "otel-tap: internal error: RuntimeError: boom \\x1b[31m" in err
    assert "Traceback" not in err
    ended, _, err = fake("live", FAKE_START="crash", OTEL_TAP_DEBUG="1")
    assert ended == 1
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)]
)
@pytest.mark.parametrize("command", ["live", "run"])
def test_a_signal_flushes_and_gives_its_exit_code(command, number, code, tmp_path):
    process = start_fake(command, cwd=tmp_path)
    until_ready(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "flushed" in err
    assert "3 exchanges, 40 events (2 lost: ring_full 2), 0 dropped" in err
    assert len(out.splitlines()) == (3 if command == "live" else 0)


def test_lines_carry_the_exchange_and_no_escape_sequence(tmp_path):
    process = start_fake("live")
    until_ready(process)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    first = out.splitlines()[0].split(" ", 1)[1]
    assert first == (
        r"cu\x1b]0;x\x07rl[4242] -> GET https://example.org/x0 200 12 ms 512 B peer=192.0.2.1:443"
    )


def test_json_output_is_one_object_a_line_and_nothing_else():
    process = start_fake("live", "--output", "json")
    until_ready(process)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert [json.loads(line)["url"] for line in out.splitlines()] == [
        f"https://example.org/x{n}" for n in range(3)
    ]


def test_live_ends_quietly_when_its_reader_leaves():
    process = start_fake("live", "--output", "json")
    assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert "flushed" in err


@pytest.mark.parametrize("arguments", [("config", "example"), ("config", "schema")])
def test_other_commands_end_quietly_too_when_their_reader_leaves(arguments):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        process = subprocess.run(
            [sys.executable, "-m", "otel_tap", *arguments],
            stdout=closed, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
    assert process.stderr == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "output"),
    [
        ((), {}, "otlp-json:otel-tap.otlp.jsonl"),
        ((), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}, "otlp"),
        (("--output", "otlp-json:/tmp/x"), {}, "otlp-json:/tmp/x"),
        ((), {"OTEL_TAP_OUTPUT": "none"}, "none"),
    ],
)
def test_run_says_where_telemetry_goes_when_nobody_did(arguments, environ, output):
    process = start_fake("run", *arguments, **environ)
    said = "".join(until_ready(process))
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert f"otel-tap: output {output}\n" in said
    assert ("no OTLP endpoint is configured" in said) == (not arguments and not environ)
    assert "3 spans sent" in err


def test_an_empty_endpoint_is_none():
    assert default_output({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}).startswith("otlp-json:")
    assert default_output({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://x"}) == "otlp"


def test_demo_returns_its_own_code():
    assert fake("demo")[:2] == (0, "seen\n")


def read_until(terminal, wanted):
    seen = b""
    while wanted not in seen:
        seen += os.read(terminal, 65536)
    return seen


@pytest.mark.parametrize("ending", ["key", "signal", "crash"])
def test_the_screen_gives_the_terminal_back_as_it_was(ending):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    before = termios.tcgetattr(theirs)
    environ = {"TERM": "xterm", "FAKE_START": "crash" if ending == "crash" else ""}
    process = start_fake("live", stdin=theirs, stdout=theirs, **environ)
    if ending == "key":
        assert b"12 ms+" in read_until(ours, b"example.org/x7")  # it runs, and is the last row
        assert not termios.tcgetattr(theirs)[3] & termios.ECHO
        os.write(ours, b"\r")
        assert b"\x1b]0;x" not in read_until(ours, b"/usr/bin/curl")
        os.write(ours, b"q")
    elif ending == "signal":
        read_until(ours, b"example.org/x2")
        process.send_signal(signal.SIGINT)
    code = process.wait(timeout=60)
    err = process.stderr.read()
    assert code == {"key": 0, "signal": 130, "crash": 1}[ending]
    assert "Traceback" not in err
    assert termios.tcgetattr(theirs) == before
    left = os.read(ours, 1 << 20)
    assert b"\x1b[?1049l" in left  # the screen that was there before
    os.close(ours)
    os.close(theirs)


class CountedAgent:
    calls: list[str]
    stop: Callable[[], None]

    def __init__(self, act):
        self.calls, self.act = [], act
        self.stop = lambda: self.calls.append("stop")

    def start(self):
        self.calls.append("start")

    def run_once(self):
        self.calls.append("turn")
        self.act()

    def under_way(self, older_than_ns):
        raise AssertionError("nobody asks")

    def status(self):
        raise AssertionError("nobody asks")


def test_the_agent_is_stopped_also_when_a_turn_fails():
    def fail():
        raise OSError("gone")

    agent = CountedAgent(fail)
    with pytest.raises(OSError, match="gone"):
        run_until_stopped(agent, lambda: True)
    assert agent.calls == ["start", "turn", "stop"]


def test_signals_end_the_run_and_the_handlers_before_come_back():
    before = signal.getsignal(signal.SIGINT)
    agent = CountedAgent(lambda: signal.raise_signal(signal.SIGINT))
    assert run_until_stopped(agent, lambda: True) == EXIT_INTERRUPTED
    assert agent.calls == ["start", "turn", "stop"]
    assert signal.getsignal(signal.SIGINT) is before
    assert run_until_stopped(CountedAgent(lambda: None), lambda: False) == EXIT_OK


def test_a_second_interrupt_does_not_wait_for_the_flush():
    agent = CountedAgent(lambda: signal.raise_signal(signal.SIGINT))
    agent.stop = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_until_stopped(agent, lambda: True)


def test_the_status_line_names_only_reasons_that_happened():
    class Status:
        events, bytes, exchanges, sent, dropped = 5, 0, 1, 0, 2
        lost = {"b": 0, "a": 0}  # noqa: RUF012 - read only
        lost_bytes = {"b": 0}  # noqa: RUF012 - read only
        shed_bytes = shed_share = filtered = opaque = 0

    assert status_line(Status()) == "1 exchanges, 5 events (0 lost), 2 dropped"


def test_the_status_line_says_what_was_lost_shed_and_left_out():
    status = AgentStatus(
        events=9,
        exchanges=2,
        lost={"truncated": 1, "ring_full": 2},
        lost_bytes={"truncated": 1000, "ring_full": 500},
        shed_bytes=2_500_000,
        shed_share=0.125,
        filtered=4,
        opaque=3,
    )
    assert status_line(status) == (
        "2 exchanges, 9 events (3 lost: ring_full 2, truncated 1; 1.5 kB), 0 dropped, "
        "2.5 MB shed (12% of connections now), 4 filtered, 3 connections not HTTP"
    )
