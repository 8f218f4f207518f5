"""The Resource of a process: what is known of it, and what it may not say of itself."""

from dataclasses import replace
from uuid import UUID, uuid5

import pytest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from otel_tap import __version__
from otel_tap.origin import Container
from otel_tap.telemetry.names import RESOURCE_ATTRIBUTES
from otel_tap.telemetry.resource import Resources
from tests.unit.test_telemetry_records import HOST, ORIGIN, read

CONTAINER = Container("a" * 64, "docker", "11111111-2222-3333-4444-555555555555")


def attributes_of(origin, resources=None):
    encoded = (resources or Resources()).of(origin)
    resource: Resource = ResourceSpans.FromString(encoded).resource
    return read(resource.attributes)


MINIMAL = {
    "service.name": "unknown_service:curl",
    "service.instance.id": str(
        uuid5(UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320"), "0123456789abcdef boot-id 100 77")
    ),
    "process.pid": 100,
    "process.executable.name": "curl",
    "host.name": "web-1",
    "host.arch": "amd64",
    "os.type": "linux",
    "os.version": "6.12.0",
    "telemetry.distro.name": "otel-tap",
    "telemetry.distro.version": __version__,
}


def test_a_process_of_which_all_is_known():
    origin = replace(ORIGIN, container=CONTAINER, command_line="curl -s http://h")
    assert attributes_of(origin) == MINIMAL | {
        "process.parent_pid": 1,
        "process.creation.time": "2023-11-14T22:13:20.123Z",
        "process.executable.path": "/usr/bin/curl",
        "process.command": "curl",
        "process.command_line": "curl -s http://h",
        "process.owner": "alice",
        "container.id": "a" * 64,
        "container.runtime.name": "docker",
        "k8s.pod.uid": "11111111-2222-3333-4444-555555555555",
        "host.id": "0123456789abcdef",
    }
    assert set(attributes_of(origin)) == RESOURCE_ATTRIBUTES


def test_what_is_not_known_is_not_said():
    origin = replace(
        ORIGIN, start_unix_ns=0, parent_pid=None, executable_path=None, command=None, user=None,
        host=replace(HOST, id=None),
    )  # fmt: skip
    life = uuid5(UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320"), "web-1 boot-id 100 77")
    assert attributes_of(origin) == MINIMAL | {"service.instance.id": str(life)}


def test_a_container_without_runtime_and_pod():
    found = attributes_of(replace(ORIGIN, container=Container("b" * 64, None, None)))
    assert found["container.id"] == "b" * 64
    assert "container.runtime.name" not in found
    assert "k8s.pod.uid" not in found


def test_what_a_process_declares_stands_beside_the_evidence():
    declared = (
        ("service.namespace", "shop"),
        ("service.version", "1.2"),
        ("deployment.environment.name", "prod"),
        ("k8s.pod.name", "web-0"),
        ("empty", ""),
    )
    found = attributes_of(replace(ORIGIN, service_attributes=declared))
    assert dict(declared).items() <= found.items()


def test_what_a_process_declares_never_hides_evidence():
    evidence = attributes_of(replace(ORIGIN, container=CONTAINER))
    declared = tuple((name, "declared") for name in sorted(RESOURCE_ATTRIBUTES))
    found = attributes_of(replace(ORIGIN, container=CONTAINER, service_attributes=declared))
    assert found == evidence


def test_a_declared_pod_counts_where_no_cgroup_tells_it():
    origin = replace(
        ORIGIN,
        container=Container("c" * 64, None, None),
        service_attributes=(("k8s.pod.uid", "declared"),),
    )
    assert attributes_of(origin)["k8s.pod.uid"] == "declared"


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 101},
        {"start_boottime_ns": 78},
        {"host": replace(HOST, boot_id="next")},
        {"host": replace(HOST, id="other")},
    ],
)
def test_every_life_of_a_process_is_an_instance_of_its_own(change):
    other = attributes_of(replace(ORIGIN, **change))["service.instance.id"]
    assert other != attributes_of(ORIGIN)["service.instance.id"]
    assert UUID(other).version == 5


def test_an_instance_is_the_same_whatever_else_is_learned_of_it():
    learned = replace(ORIGIN, service_name="x", user=None, container=CONTAINER)
    assert (
        attributes_of(learned)["service.instance.id"]
        == attributes_of(ORIGIN)["service.instance.id"]
    )


def test_more_that_becomes_known_of_a_process_is_said_from_then_on():
    resources = Resources()
    assert attributes_of(ORIGIN, resources)["service.name"] == "unknown_service:curl"
    renamed = replace(ORIGIN, service_name="shop")
    assert attributes_of(renamed, resources)["service.name"] == "shop"
    assert resources.of(renamed) is resources.of(renamed)


def test_names_that_are_not_utf8_are_no_error():
    origin = replace(
        ORIGIN, executable_name="a\udcff", service_attributes=(("k\u00fc", "v\udcff"),)
    )
    found = attributes_of(origin)
    assert found["process.executable.name"] == "a?"
    assert found["kü"] == "v?"
