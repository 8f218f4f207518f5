"""The host, from fake trees and from the machine that runs the tests."""

import os
from pathlib import Path

from otel_tap.context.host import host_etc, read_host

MACHINE_ID = "3d1219c7c4c5404aaa1f6d2a48adfda4"


def tree(root: Path, *, arch: str | None = "aarch64") -> tuple[Path, Path]:
    proc, etc = root / "proc", root / "etc"
    kernel = proc / "sys" / "kernel"
    (kernel / "random").mkdir(parents=True)
    etc.mkdir()
    (kernel / "hostname").write_text("node-1\n")
    (kernel / "osrelease").write_text("6.1.0-18-arm64\n")
    (kernel / "random" / "boot_id").write_text("49efcb71-5905-48f1-b39e-6c7802fe111c\n")
    if arch:
        (kernel / "arch").write_text(arch + "\n")
    (etc / "machine-id").write_text(MACHINE_ID + "\n")
    return proc, etc


def namespaces(proc: Path, own: str, init: str) -> None:
    for pid, name in (("self", own), ("1", init)):
        (proc / pid / "ns").mkdir(parents=True)
        (proc / pid / "ns" / "mnt").symlink_to(name)


def test_the_host_is_described_in_the_words_of_the_conventions(tmp_path):
    proc, etc = tree(tmp_path)
    host = read_host(proc_root=proc, etc_root=etc)
    assert (host.name, host.id, host.arch) == ("node-1", MACHINE_ID, "arm64")
    assert (host.os_type, host.os_version) == ("linux", "6.1.0-18-arm64")
    assert host.boot_id == "49efcb71-5905-48f1-b39e-6c7802fe111c"


def test_what_the_tree_does_not_say_stays_unknown(tmp_path):
    host = read_host(proc_root=tmp_path / "none", etc_root=tmp_path)
    assert (host.name, host.id, host.boot_id, host.os_version) == ("unknown", None, "", "")


def test_a_machine_id_that_is_none_is_not_reported(tmp_path):
    proc, etc = tree(tmp_path)
    (etc / "machine-id").write_text("uninitialized\n")
    assert read_host(proc_root=proc, etc_root=etc).id is None


def test_an_agent_in_a_container_reads_the_hosts_files_through_process_1(tmp_path):
    proc, etc = tree(tmp_path)
    namespaces(proc, "mnt:[2]", "mnt:[1]")
    behind = proc / "1" / "root" / "etc"
    assert host_etc(proc, etc) is None
    assert read_host(proc_root=proc, etc_root=etc).id is None
    behind.mkdir(parents=True)
    (behind / "machine-id").write_text("f" * 32)
    assert host_etc(proc, etc) == behind
    assert read_host(proc_root=proc, etc_root=etc).id == "f" * 32


def test_an_agent_on_the_host_reads_its_own_files(tmp_path):
    proc, etc = tree(tmp_path)
    namespaces(proc, "mnt:[1]", "mnt:[1]")
    assert host_etc(proc, etc) == etc


def test_this_machine_has_a_name_and_a_boot():
    host = read_host()
    assert host.name == os.uname().nodename
    assert host.os_version == os.uname().release
    assert len(host.boot_id) == 36
