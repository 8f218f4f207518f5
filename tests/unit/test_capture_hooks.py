"""A hook is there, is not there, or it could not be told."""

from pathlib import Path

import pytest

from otel_tap.capture import hooks
from otel_tap.context.kernel import parse_kernel_version


def btf(folder: Path, *types: bytes) -> Path:
    path = folder / "vmlinux"
    path.write_bytes(b"\x9f\xeb\x01\0" + b"\0".join([b"", *types, b""]))
    return path


def test_a_tracepoint_that_the_kernel_declares_is_there(tmp_path):
    assert hooks.has_tracepoint("sock_send_length", btf(tmp_path, b"btf_trace_sock_send_length"))


def test_a_tracepoint_that_it_does_not_declare_is_not(tmp_path):
    path = btf(tmp_path, b"btf_trace_sock_send_length_of_another", b"sock_send_length")
    assert hooks.has_tracepoint("sock_send_length", path) is False


def test_without_type_information_it_cannot_be_told(tmp_path):
    assert hooks.has_tracepoint("sock_send_length", tmp_path / "absent") is None


def test_sockets_are_seen_at_system_calls_where_their_tracepoints_are_missing(monkeypatch):
    monkeypatch.setattr(hooks, "has_tracepoint", lambda name: name == "sys_exit")
    assert hooks.socket_objects() == ["socket_syscall.bpf.o"]


def test_what_could_not_be_told_is_tried_cheapest_first(monkeypatch):
    monkeypatch.setattr(hooks, "has_tracepoint", lambda name: None)
    assert hooks.socket_objects() == ["socket_length.bpf.o", "socket_syscall.bpf.o"]


@pytest.mark.parametrize(
    ("release", "name", "there"),
    [
        ("6.18.44", b"BPF_TRACE_UPROBE_MULTI", True),
        ("6.10.0", b"BPF_TRACE_UPROBE_MULTI", True),
        ("6.6.30", b"BPF_TRACE_UPROBE_MULTI", False),  # sees main threads only
        ("what", b"BPF_TRACE_UPROBE_MULTI", False),
        ("6.18.44", b"BPF_TRACE_KPROBE_MULTI", False),
    ],
)
def test_links_for_uprobes_are_used_where_they_meet_every_thread(tmp_path, release, name, there):
    assert hooks.has_uprobe_links(btf(tmp_path, name), parse_kernel_version(release)) is there


def test_without_type_information_uprobes_are_attached_by_perf(tmp_path):
    version = parse_kernel_version("6.18.44")
    assert hooks.has_uprobe_links(tmp_path / "absent", version) is False
