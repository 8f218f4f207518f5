"""The Resource of an observed process, encoded once per process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid5

from otel_tap._version import __version__
from otel_tap.origin import Origin
from otel_tap.telemetry import names
from otel_tap.telemetry.otlp import field, int_attribute, string_attribute

# The namespace that the semantic conventions give for service.instance.id.
_INSTANCE_NAMESPACE: Final = UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
_MAX_RESOURCES: Final = 4096
_DISTRO_NAME: Final = "otel-tap"


def instance_id(origin: Origin) -> str:
    """service.instance.id: the same for one life of one process, whoever asks."""
    host = origin.host
    life = f"{host.id or host.name} {host.boot_id} {origin.pid} {origin.start_boottime_ns}"
    return str(uuid5(_INSTANCE_NAMESPACE, life))


def _creation_time(unix_ns: int) -> str:
    moment = datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ns % 1_000_000_000 // 1_000_000:03d}Z"


def resource_attributes(origin: Origin) -> dict[str, str | int]:
    """All attributes that are known; what a process declares of itself never hides evidence."""
    host, container = origin.host, origin.container
    attributes: dict[str, str | int | None] = dict(origin.service_attributes)
    attributes |= {
        names.SERVICE_NAME: origin.service_name,
        names.SERVICE_INSTANCE_ID: instance_id(origin),
        names.PROCESS_PID: origin.pid,
        names.PROCESS_PARENT_PID: origin.parent_pid,
        names.PROCESS_CREATION_TIME: (
            _creation_time(origin.start_unix_ns) if origin.start_unix_ns else None
        ),
        names.PROCESS_EXECUTABLE_NAME: origin.executable_name,
        names.PROCESS_EXECUTABLE_PATH: origin.executable_path,
        names.PROCESS_COMMAND: origin.command,
        names.PROCESS_COMMAND_LINE: origin.command_line,
        names.PROCESS_OWNER: origin.user,
        names.HOST_NAME: host.name,
        names.HOST_ID: host.id,
        names.HOST_ARCH: host.arch,
        names.OS_TYPE: host.os_type,
        names.OS_VERSION: host.os_version,
        names.TELEMETRY_DISTRO_NAME: _DISTRO_NAME,
        names.TELEMETRY_DISTRO_VERSION: __version__,
    }
    if container is not None:
        attributes[names.CONTAINER_ID] = container.id
        attributes[names.CONTAINER_RUNTIME_NAME] = container.runtime
        # A pod may know its uid where no cgroup tells it.
        attributes[names.K8S_POD_UID] = container.pod_uid or attributes.get(names.K8S_POD_UID)
    return {name: value for name, value in attributes.items() if value is not None}


def _encode(origin: Origin) -> bytes:
    attributes = [
        int_attribute(name, value)
        if isinstance(value, int)
        else string_attribute(name, value.encode("utf-8", "replace"))
        for name, value in resource_attributes(origin).items()
    ]
    return field(b"\x0a", b"".join(b"\x0a" + attribute for attribute in attributes))


class Resources:
    """Encoded Resources by process; bounded."""

    __slots__ = ("_encoded",)

    def __init__(self) -> None:
        self._encoded: dict[int, tuple[Origin, bytes]] = {}

    def of(self, origin: Origin) -> bytes:
        """The Resource as field 1 of ResourceSpans and ResourceLogs."""
        known = self._encoded.get(origin.pid)
        if known is not None and known[0] is origin:
            return known[1]
        encoded = _encode(origin)
        if len(self._encoded) >= _MAX_RESOURCES:
            self._encoded.clear()
        self._encoded[origin.pid] = (origin, encoded)
        return encoded
