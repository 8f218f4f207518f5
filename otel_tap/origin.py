"""Whose exchange it is: process, user, container, pod and host, each by evidence or None."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """The host as the agent knows it; constant for its life."""

    name: str
    id: str | None  # /etc/machine-id
    boot_id: str  # /proc/sys/kernel/random/boot_id
    arch: str  # OpenTelemetry's words: amd64, arm64
    os_type: str  # linux
    os_version: str  # kernel release


@dataclass(frozen=True, slots=True)
class Container:
    """A container, named by the cgroup of a process."""

    id: str  # 64 hex digits
    runtime: str | None  # docker, containerd, cri-o, podman
    pod_uid: str | None  # Kubernetes, with dashes


@dataclass(frozen=True, slots=True)
class Origin:
    """One observed process; equal pids of different lives differ in `start_boottime_ns`."""

    pid: int
    start_boottime_ns: int
    start_unix_ns: int  # wall-clock start, for process.creation.time
    parent_pid: int | None
    executable_name: str
    executable_path: str | None
    command: str | None  # argv[0]
    command_line: str | None  # all arguments; only when asked for: it can hold secrets
    user: str | None  # name of the effective user, or its number when it has no name
    container: Container | None
    service_name: str
    service_attributes: tuple[tuple[str, str], ...]  # from the target's OTEL_RESOURCE_ATTRIBUTES
    host: Host
