"""One process, from fake trees that lie, end early or are not there, and from the real /proc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_tap.context.process import ProcessReader
from otel_tap.context.users import Users
from otel_tap.origin import Container

ID = "c" * 64
Content = bytes | str | None


def stat_line(pid: int, comm: str = "server", ppid: int = 7, start: int = 500) -> str:
    return f"{pid} ({comm}) S {ppid} " + " ".join(["0"] * 17) + f" {start} 0 0\n"


def fake_process(proc: Path, pid: int = 42, **files: Content) -> Path:
    """A process directory; None leaves a file out."""
    directory = proc / str(pid)
    directory.mkdir(parents=True)
    contents: dict[str, Content] = {
        "stat": stat_line(pid),
        "status": "Name:\tserver\nUid:\t1000\t1001\t1000\t1000\n",
        "cmdline": b"/opt/server\0--password\0hunter2\0",
        "environ": b"OTEL_SERVICE_NAME=shop\0SECRET=hunter2\0",
        "cgroup": f"0::/docker/{ID}\n",
        "mountinfo": "",
        "exe": "/opt/server",
    }
    contents.update(files)
    for name, content in contents.items():
        if content is None:
            continue
        if name == "exe":
            (directory / name).symlink_to(
                content if isinstance(content, str) else os.fsdecode(content)
            )
        elif isinstance(content, bytes):
            (directory / name).write_bytes(content)
        else:
            (directory / name).write_text(content)
    return directory


def reader(proc: Path, *, include_command_line: bool = False) -> ProcessReader:
    return ProcessReader(proc, Users(None), include_command_line=include_command_line)


def read(proc: Path, **files: Content):
    fake_process(proc, 42, **files)
    record = reader(proc).read(42)
    assert record is not None
    return record


def test_a_whole_process_is_read(tmp_path):
    record = read(tmp_path)
    assert (record.start_ticks, record.parent_pid, record.comm) == (500, 7, "server")
    assert (record.executable_path, record.command, record.user) == (
        "/opt/server",
        "/opt/server",
        "1001",
    )
    assert record.container == Container(ID, "docker", None)
    assert record.declared.service_name == "shop"


def test_arguments_and_environment_are_not_kept(tmp_path):
    assert "hunter2" not in repr(read(tmp_path))


def test_the_command_line_is_kept_when_asked_for(tmp_path):
    fake_process(tmp_path)
    record = reader(tmp_path, include_command_line=True).read(42)
    assert record is not None
    assert record.command_line == "/opt/server --password hunter2"


def test_a_rewritten_title_is_withheld_like_arguments(tmp_path):
    assert read(tmp_path, cmdline=b"server: user bob token hunter2\0\0\0").command is None


def test_a_path_with_spaces_is_no_title(tmp_path):
    record = read(tmp_path, exe="/opt/my server", cmdline=b"/opt/my server\0-x\0")
    assert record.command == "/opt/my server"


def test_a_command_name_may_look_like_fields(tmp_path):
    record = read(tmp_path, stat=stat_line(42, comm="a) R 1 (b c"))
    assert (record.comm, record.parent_pid, record.start_ticks) == ("a) R 1 (b c", 7, 500)


def test_a_deleted_executable_keeps_its_path(tmp_path):
    assert read(tmp_path, exe="/opt/server (deleted)").executable_path == "/opt/server"


def test_an_executable_that_is_called_deleted_keeps_its_name(tmp_path):
    program = tmp_path / "tool (deleted)"
    program.write_text("")
    assert read(tmp_path, exe=str(program)).executable_path == str(program)


@pytest.mark.parametrize(
    ("name", "field", "unknown"),
    [
        ("exe", "executable_path", None),
        ("status", "user", None),
        ("cmdline", "command", None),
        ("cgroup", "container", None),
    ],
)
def test_a_file_that_is_missing_leaves_only_its_fact_unknown(tmp_path, name, field, unknown):
    record = read(tmp_path, **{name: None})
    assert getattr(record, field) == unknown
    assert record.declared.service_name == "shop"


def test_a_directory_in_the_place_of_a_file_is_unknown(tmp_path):
    directory = fake_process(tmp_path, cgroup=None, environ=None)
    (directory / "cgroup").mkdir()
    (directory / "environ").mkdir()
    record = reader(tmp_path).read(42)
    assert record is not None
    assert record.container is None
    assert record.declared.service_name is None


@pytest.mark.parametrize("stat", [None, "", "42", "42 (x) S", stat_line(42).replace("500", "-5")])
def test_a_process_without_a_start_time_is_gone(tmp_path, stat):
    fake_process(tmp_path, stat=stat)
    assert reader(tmp_path).read(42) is None
    assert reader(tmp_path).start_ticks(42) is None


def test_a_process_that_is_not_there_is_gone(tmp_path):
    assert reader(tmp_path).read(42) is None
    assert reader(tmp_path / "nowhere").read(42) is None


def test_mountinfo_answers_where_the_control_group_is_silent(tmp_path):
    mounted = (
        f"5 4 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/x rw\n"
    )
    record = read(tmp_path, cgroup="0::/\n", mountinfo=mounted)
    assert record.container == Container(ID, "docker", None)


def test_a_process_with_the_hosts_mounts_is_in_no_container_by_mountinfo_or_a_bare_id(tmp_path):
    mounted = (
        f"5 4 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/x rw\n"
    )
    for pid, namespace in ((1, "mnt:[1]"), (42, "mnt:[1]"), (43, "mnt:[2]")):
        directory = fake_process(tmp_path, pid, cgroup=f"0::/builds/{ID}\n", mountinfo=mounted)
        (directory / "ns").mkdir()
        (directory / "ns" / "mnt").symlink_to(namespace)
    on_host, contained = reader(tmp_path).read(42), reader(tmp_path).read(43)
    assert on_host is not None
    assert contained is not None
    assert on_host.container is None
    assert contained.container == Container(ID, None, None)


def test_an_endless_environment_is_read_up_to_a_bound(tmp_path):
    environ = b"A=" + b"x" * (2 << 20) + b"\0OTEL_SERVICE_NAME=late\0"
    assert read(tmp_path, environ=environ).declared.service_name is None


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.fixed_dictionaries(
        {
            n: st.binary(max_size=120)
            for n in ("status", "cmdline", "environ", "cgroup", "mountinfo")
        }
    ),
    st.binary(max_size=60),
)
def test_hostile_bytes_are_read_without_an_error(tmp_path_factory, files, comm):
    proc = tmp_path_factory.mktemp("proc")
    line = stat_line(42, comm="@").encode().replace(b"@", comm)
    fake_process(proc, stat=line, **files)
    record = reader(proc, include_command_line=True).read(42)
    if record is not None:
        repr(record).encode("utf-8")  # every text must be able to leave as UTF-8
        assert record.start_ticks >= 0


def test_a_real_child_is_read(tmp_path):
    environment = os.environ | {"OTEL_SERVICE_NAME": "child", "SECRET": "hunter2"}
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "hunter2"], stdin=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdin is not None
        etc = Path("/etc")
        record = ProcessReader(Path("/proc"), Users(etc), include_command_line=False).read(
            child.pid
        )
        child.communicate(b"\n")
    assert record is not None
    assert record.parent_pid == os.getpid()
    assert record.executable_path == str(Path(sys.executable).resolve())
    assert record.command == sys.executable
    assert record.declared.service_name == "child"
    assert "hunter2" not in repr(record)
