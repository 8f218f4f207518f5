"""Which life of a pid is meant, and what stays when /proc has nothing left to say."""

import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_tap.context.origins import Clocks, Origins, ServiceRule
from otel_tap.events import ProcessStarted
from otel_tap.origin import Host

HOST = Host("node", None, "boot", "amd64", "linux", "6.1")
TICK = 10_000_000
SECOND = 1_000_000_000
CLOCKS = Clocks(boot_unix_ns=1_700_000_000 * SECOND, suspended_ns=0)
LATER = 1000 * SECOND


def live(
    proc: Path, pid: int, *, start: int, exe: str = "/opt/server", environ: bytes = b""
) -> None:
    """Let `pid` be a process that started at `start` ticks."""
    gone(proc, pid)
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    stat = f"{pid} ({exe.rsplit('/', 1)[-1][:15]}) S 1 " + " ".join(["0"] * 17) + f" {start} 0\n"
    (directory / "stat").write_text(stat)
    (directory / "exe").symlink_to(exe)
    (directory / "cmdline").write_bytes(exe.encode() + b"\0secret\0")
    (directory / "environ").write_bytes(environ)
    (directory / "cgroup").write_text(f"0::/docker/{'e' * 64}\n")
    (directory / "status").write_text("Name:\tx\nUid:\t5\t6\t7\t8\n")


def gone(proc: Path, pid: int) -> None:
    shutil.rmtree(proc / str(pid), ignore_errors=True)


def started(pid: int, *, start: int, filename: str = "/usr/bin/curl", comm: str = "curl"):
    return ProcessStarted(start * TICK, pid, 1, 1000, start * TICK + 1234, comm, filename)


@pytest.fixture
def proc(tmp_path):
    path = tmp_path / "proc"
    path.mkdir()
    return path


@pytest.fixture
def origins(proc):
    return Origins(HOST, proc_root=proc, clocks=lambda: CLOCKS, max_entries=8, max_exited=3)


def test_a_met_process_is_described_after_it_is_gone(proc, origins):
    live(proc, 5, start=100)
    origins.met(5, LATER)
    gone(proc, 5)
    origin = origins.origin(5)
    assert (origin.pid, origin.executable_name, origin.executable_path) == (
        5,
        "server",
        "/opt/server",
    )
    assert (origin.user, origin.parent_pid, origin.command_line) == ("6", 1, None)
    assert origin.container is not None
    assert origin.start_boottime_ns == 100 * TICK
    assert origin.start_unix_ns == CLOCKS.boot_unix_ns + SECOND
    assert origin.host is HOST
    assert origins.counters.processes_read == 1


def test_a_process_that_left_before_it_was_met_is_described_by_the_kernel_alone(origins):
    origins.process_started(started(5, start=100))
    origin = origins.met(5, LATER)
    assert (origin.executable_name, origin.executable_path, origin.container) == (
        "curl",
        None,
        None,
    )
    assert (origin.user, origin.parent_pid) == ("1000", 1)
    assert origin.service_name == "unknown_service:curl"
    assert origin.start_boottime_ns == 100 * TICK
    assert origins.counters.gone_before_read == 1


def test_the_kernel_and_proc_give_one_process_the_same_identity(proc, origins):
    origins.process_started(started(5, start=100))
    from_kernel = origins.origin(5)
    live(proc, 5, start=100)
    other = Origins(HOST, proc_root=proc, clocks=lambda: CLOCKS)
    from_proc = other.met(5, LATER)
    assert from_kernel.start_boottime_ns == from_proc.start_boottime_ns
    assert from_kernel.start_unix_ns == from_proc.start_unix_ns


@pytest.mark.parametrize(
    ("filename", "comm", "name"),
    [
        ("", "nginx", "nginx"),
        ("/dev/fd/9", "runc:[2:INIT]", "runc:[2:INIT]"),
        ("./tool", "tool", "tool"),
        ("", "", "unknown"),
    ],
)
def test_the_name_falls_back_to_what_the_kernel_knows(origins, filename, comm, name):
    origins.process_started(started(5, start=100, filename=filename, comm=comm))
    assert origins.origin(5).executable_name == name


def test_a_process_nobody_heard_of_is_unknown_and_not_an_error(origins):
    origin = origins.origin(99)
    assert (origin.pid, origin.executable_name, origin.user) == (99, "unknown", None)
    assert (origin.start_boottime_ns, origin.start_unix_ns, origin.parent_pid) == (0, 0, None)
    assert origin.service_name == "unknown_service"


def test_a_process_born_after_the_event_is_not_its_origin(proc, origins):
    live(proc, 5, start=100)
    origin = origins.met(5, 50 * TICK)
    assert origin.executable_name == "unknown"
    assert origins.counters.pid_reuse_detected == 1


def test_time_asleep_does_not_make_a_process_too_young(proc):
    clocks = Clocks(boot_unix_ns=0, suspended_ns=60 * SECOND)
    origins = Origins(HOST, proc_root=proc, clocks=lambda: clocks)
    live(proc, 5, start=6050)
    assert origins.met(5, SECOND).executable_name == "server"
    assert origins.counters.pid_reuse_detected == 0


def test_another_process_with_the_number_does_not_lend_its_facts(proc, origins):
    origins.process_started(started(5, start=100))
    live(proc, 5, start=300, exe="/opt/other")
    assert origins.origin(5).executable_name == "curl"
    assert origins.counters.pid_reuse_detected == 1


def test_a_reused_number_is_noticed_though_the_exit_was_lost(proc, origins):
    live(proc, 5, start=100)
    origins.met(5, 2 * SECOND)
    live(proc, 5, start=400, exe="/opt/other")
    assert origins.met(5, 5 * SECOND).executable_name == "other"
    assert origins.origin(5).start_boottime_ns == 400 * TICK


def test_a_forked_process_with_the_number_of_one_that_exited_is_new(proc, origins):
    live(proc, 5, start=100)
    origins.met(5, 2 * SECOND)
    origins.process_exited(5)
    live(proc, 5, start=210, exe="/opt/other")
    assert origins.met(5, 2 * SECOND + 500 * 1000 * 1000).executable_name == "other"


def test_a_late_event_of_a_process_that_exited_is_still_its_own(proc, origins):
    live(proc, 5, start=100)
    origins.met(5, 2 * SECOND)
    origins.process_exited(5)
    live(proc, 5, start=400, exe="/opt/other")
    assert origins.met(5, 3 * SECOND).executable_name == "server"


def test_an_exec_makes_a_new_program_of_the_same_process(proc, origins):
    live(proc, 5, start=100, exe="/bin/sh")
    origins.met(5, 2 * SECOND)
    live(proc, 5, start=100, exe="/usr/bin/curl")
    origins.process_started(started(5, start=100))
    origin = origins.origin(5)
    assert (origin.executable_name, origin.start_boottime_ns) == ("curl", 100 * TICK)
    assert origins.counters.pid_reuse_detected == 0


def test_a_process_that_was_met_is_not_read_again_at_every_connection(proc, origins):
    live(proc, 5, start=100)
    for second in range(10):
        origins.met(5, LATER + second * SECOND)
        origins.origin(5)
    assert origins.counters.processes_read == 1


def test_the_memory_of_what_exited_is_bounded(origins):
    for pid in range(10, 15):
        origins.process_started(started(pid, start=100))
        origins.process_exited(pid)
        origins.process_exited(pid)
    assert len(origins) == 3
    assert origins.origin(14).executable_name == "curl"
    assert origins.origin(10).executable_name == "unknown"


def test_the_table_is_bounded_and_lets_the_exited_go_first(origins):
    for pid in range(10, 18):
        origins.process_started(started(pid, start=100))
    origins.process_exited(13)
    origins.process_started(started(50, start=100))
    assert len(origins) == 8
    assert origins.origin(10).executable_name == "curl"
    origins.process_started(started(51, start=100))
    assert len(origins) == 8
    assert origins.counters.evicted == 2


def test_any_order_of_events_keeps_the_table_bounded(origins):
    for step in range(500):
        pid = step * 7 % 23
        match step % 5:
            case 0 | 1:
                origins.process_started(started(pid, start=100 + step))
            case 2:
                origins.process_exited(pid)
            case 3:
                origins.met(pid, LATER)
            case _:
                assert origins.origin(pid).pid == pid
        assert len(origins) <= 8


def named(proc, environ: bytes = b"", rules=(), exe: str = "/opt/server") -> str:
    live(proc, 5, start=100, exe=exe, environ=environ)
    origins = Origins(HOST, proc_root=proc, clocks=lambda: CLOCKS, service_rules=rules)
    return origins.met(5, LATER).service_name


def test_a_service_is_named_by_its_own_word_then_by_rules_then_unknown(proc):
    rule = ServiceRule("ruled", executable="/opt/*")
    attributes = b"OTEL_RESOURCE_ATTRIBUTES=service.name=attribute\0"
    assert named(proc, attributes + b"OTEL_SERVICE_NAME=variable\0", [rule]) == "variable"
    assert named(proc, attributes, [rule]) == "attribute"
    assert named(proc, b"", [rule]) == "ruled"
    assert named(proc) == "unknown_service:server"


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (ServiceRule("r", comm="serv*"), True),
        (ServiceRule("r", comm="Server"), False),
        (ServiceRule("r", container="eee"), True),
        (ServiceRule("r", container="f"), False),
        (ServiceRule("r", executable="/opt/*", container="f"), False),
        (ServiceRule("r"), False),
    ],
)
def test_a_rule_names_what_meets_all_of_its_conditions(proc, rule, matches):
    assert (named(proc, rules=[rule]) == "r") is matches


def test_a_rule_without_evidence_names_nothing(origins, proc):
    ruled = Origins(
        HOST,
        proc_root=proc,
        clocks=lambda: CLOCKS,
        service_rules=[ServiceRule("a", container="e"), ServiceRule("b", comm="curl")],
    )
    ruled.process_started(started(5, start=100))
    assert ruled.origin(5).service_name == "b"


def test_declared_attributes_are_kept_and_a_malformed_variable_is_counted(proc, origins):
    live(proc, 5, start=100, environ=b"OTEL_RESOURCE_ATTRIBUTES=team=a\0")
    assert origins.met(5, LATER).service_attributes == (("team", "a"),)
    live(proc, 6, start=100, environ=b"OTEL_RESOURCE_ATTRIBUTES=team\0")
    assert origins.met(6, LATER).service_attributes == ()
    assert origins.counters.environment_malformed == 1


def test_a_recording_of_another_host_is_never_looked_up_here():
    origins = Origins(HOST, proc_root=None, clocks=lambda: CLOCKS)
    origin = origins.met(os.getpid(), 10**18)
    assert origin.executable_name == "unknown"
    assert origins.counters.gone_before_read == 0


def test_a_real_child_is_met_and_remembered():
    origins = Origins(HOST)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        origins.met(child.pid, 0)
        child.communicate(b"\n")
    origins.process_exited(child.pid)
    origin = origins.origin(child.pid)
    assert origin.executable_path == str(Path(sys.executable).resolve())
    assert origin.parent_pid == os.getpid()


def test_a_process_that_is_gone_has_the_path_it_executed_if_it_saw_the_hosts_files(tmp_path):
    mounts = Path("/proc/1/ns/mnt")
    try:
        mounts.stat()
    except OSError:
        mounts = Path("/proc/self/ns/mnt")
    origins = Origins(HOST)
    gone = 2**22 - 1  # above any number that is in use
    program = tmp_path / "program"
    program.touch()
    link = tmp_path / "link"
    link.symlink_to(program)
    for namespace, path in ((mounts.stat().st_ino, str(program)), (7, None), (0, None)):
        origins.process_started(
            ProcessStarted(5, gone, 1, 0, 1_000_000_000, "link", str(link), namespace)
        )
        origin = origins.origin(gone)
        assert origin.executable_path == path
        assert origin.executable_name == ("program" if path else "link")
        assert origin.user == ("root" if path else "0")


def test_a_process_that_is_ending_keeps_the_path_it_executed_and_its_users_name():
    """A zombie still has a status in /proc, but neither an executable nor files."""
    mounts = Path("/proc/1/ns/mnt")
    try:
        mounts.stat()
    except OSError:
        mounts = Path("/proc/self/ns/mnt")
    program = shutil.which("true")
    assert program is not None
    origins = Origins(HOST)
    with subprocess.Popen([program]) as child:
        deadline = time.monotonic() + 10
        while "\nState:\tZ" not in Path(f"/proc/{child.pid}/status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        started_ns = int(fields[19]) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
        namespace = mounts.stat().st_ino
        origins.process_started(
            ProcessStarted(5, child.pid, 1, os.getuid(), started_ns, "true", program, namespace)
        )
        origin = origins.met(child.pid, 0)
    assert origin.executable_path == str(Path(program).resolve())
    assert origin.user == pwd.getpwuid(os.getuid()).pw_name


def test_a_process_that_went_amid_the_reading_has_the_user_that_its_exec_had(proc, origins):
    origins.process_started(started(5, start=100))
    live(proc, 5, start=100)
    (proc / "5" / "status").unlink()
    assert origins.met(5, LATER).user == "1000"


def test_a_process_that_lost_its_root_amid_the_reading_keeps_its_users_name(tmp_path):
    """Its executable and its status were still there; an exit came between."""
    proc, etc = tmp_path / "proc", tmp_path / "etc"
    mounts = proc / "1" / "ns" / "mnt"
    mounts.parent.mkdir(parents=True)
    mounts.touch()
    etc.mkdir()
    (etc / "passwd").write_text("exec:x:1000:1000::/:/bin/sh\nann:x:6:6::/:/bin/sh\n")
    (proc / "1" / "root").symlink_to(tmp_path)
    live(proc, 5, start=100)
    live(proc, 6, start=100)
    origins = Origins(HOST, proc_root=proc, etc_root=etc)
    event = started(5, start=100)._replace(mount_namespace=mounts.stat().st_ino)
    origins.process_started(event)
    assert origins.met(5, LATER).user == "ann"
    assert origins.met(6, LATER).user == "6"  # nothing but a number is known of that one
