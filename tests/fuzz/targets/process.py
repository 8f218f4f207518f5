"""What processes say of themselves: any environment, cgroup file and mount table is facts or none.

1. Nothing is raised; every text that comes out is text, and bounded by what went in.
2. A container's id is 64 hexadecimal digits.
"""

from __future__ import annotations

import re

from otel_tap.context.cgroup import container_from_cgroup, container_from_mountinfo
from otel_tap.context.environment import declared_by, parse_resource_attributes

_ID = b"0123456789abcdef" * 4
SEEDS = (
    b"OTEL_SERVICE_NAME=shop\0OTEL_RESOURCE_ATTRIBUTES=a=b,c=%20d\0PATH=/bin\0",
    b"0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-" + _ID + b".scope\n",
    b"12:cpu:/docker/" + _ID + b"\n0::/\n",
    b"1 2 0:3 /var/lib/docker/containers/" + _ID + b"/hostname /etc/hostname rw - ext4 d rw\n",
)
TOKENS = (
    b"OTEL_SERVICE_NAME=",
    b"OTEL_RESOURCE_ATTRIBUTES=",
    b"%",
    b",",
    b"=",
    b"\0",
    b":",
    b"/",
    _ID,
)


def check(data: bytes) -> None:
    """Reads `data` as each of them."""
    for truncated in (False, True):
        declared = declared_by(data, truncated=truncated)
        assert len(repr(declared)) <= 16 * len(data) + 200
    parse_resource_attributes(data)
    text = data.decode("utf-8", "surrogateescape")
    for container in (container_from_cgroup(text), container_from_mountinfo(text)):
        if container is not None:
            assert re.fullmatch("[0-9a-f]{64}", container.id)
