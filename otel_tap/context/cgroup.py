"""Container and pod from the text of /proc/PID/cgroup and /proc/PID/mountinfo.

Owns: how engines name control groups. Promises: pure functions; a container or None, no guess.
Must not know: files.

What is believed, in this order:

1. A path component that names an engine and a 64-digit id (`docker-ID.scope`, `crio-ID`). The
   innermost wins, so that a container inside a container is itself.
2. A bare 64-digit component whose ancestors name an engine or Kubernetes (`/docker/ID`,
   `/kubepods/burstable/podUID/ID`).
3. A bare 64-digit component elsewhere (`--cgroup-parent`, Amazon ECS): anything may name a control
   group so, therefore only for a process that is known to have a mount namespace of its own.
4. The engine's files that are mounted into a container (mountinfo), when the cgroup is silent: it
   is where the agent looks from inside another cgroup namespace.

The monitors that stand beside a container (`libpod-conmon-ID.scope`) are not in it.
"""

from __future__ import annotations

import re

from otel_tap.origin import Container

_NAMED = re.compile(
    r"(?:(docker|cri-containerd|crio|libpod|nerdctl|containerd)-)?([0-9a-f]{64})(?:\.scope)?\Z"
)

_RUNTIMES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod_parent": "podman",
}

_ENGINE_ANCESTOR = re.compile(
    r"(?:docker|cri-containerd|containerd|crio|libpod|libpod_parent|nerdctl|kubepods\S*|ecs|ecstasks"
    r"|kubelet\S*)\Z"
)

# Kubelet writes the UID with `_` in systemd slices and `-` in plain directories. The UID of a
# static pod is a hash of its manifest there, which the API server does not know: not reported.
_POD = re.compile(
    r"(?:\A|-)pod([0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12})(?:\.slice)?\Z"
)

_SEPARATOR = re.compile(r"[/:]")

# Files that an engine keeps per container and mounts into it.
_MOUNTED_FILE = re.compile(
    r"/(containers|overlay-containers)/(?:[\w.-]+/)?([0-9a-f]{64})/(?:userdata/)?"
    r"(?:hostname|hosts|resolv\.conf|\.containerenv)\Z"
)
_MOUNT_POINTS = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv")


def container_from_cgroup(
    text: str, *, own_mount_namespace: bool | None = None
) -> Container | None:
    """The innermost container that a process's control groups name.

    `own_mount_namespace`: whether the process sees other mounts than the host; None unknown.
    """
    for line in text.splitlines():
        container = _container_of_path(_path(line), believe_bare=own_mount_namespace is True)
        if container is not None:
            return container
    return None


def container_from_mountinfo(text: str) -> Container | None:
    """The container whose engine's files are mounted into this process.

    Inside a pod these files belong to the pod's pause container, so a pod gives None. The files of
    a container that shares another's network are the other's: engines leave no better trace.
    """
    ids: set[str] = set()
    runtimes: set[str | None] = set()
    for line in text.splitlines():
        parts = line.split(" ", 5)
        if len(parts) < 6:
            continue
        root, mount_point = parts[3], parts[4]
        if "/kubelet/pods/" in root:
            return None
        if mount_point not in _MOUNT_POINTS:
            continue
        found = _MOUNTED_FILE.search(root)
        if found is None:
            continue
        ids.add(found[2])
        runtimes.add(_runtime_of_directory(root))
    if len(ids) != 1:
        return None
    return Container(ids.pop(), runtimes.pop() if len(runtimes) == 1 else None, None)


def _path(line: str) -> str:
    """`path` of `hierarchy:controllers:path`; controllers (`name=systemd`) hold no container."""
    parts = line.split(":", 2)
    return parts[2] if len(parts) == 3 else ""


def _container_of_path(path: str, *, believe_bare: bool) -> Container | None:
    names = _SEPARATOR.split(path)
    if "conmon" in names:
        return None
    for index in range(len(names) - 1, 0, -1):
        found = _NAMED.match(names[index])
        if found is None:
            continue
        engine = found[1]
        if engine is None:
            if not believe_bare and not any(_ENGINE_ANCESTOR.match(n) for n in names[:index]):
                continue
            engine = names[index - 1]
        return Container(found[2], _RUNTIMES.get(engine), _pod_uid(names[:index]))
    return None


def _pod_uid(ancestors: list[str]) -> str | None:
    for name in reversed(ancestors):
        found = _POD.search(name)
        if found is not None:
            return found[1].replace("_", "-")
    return None


def _runtime_of_directory(root: str) -> str | None:
    if "/nerdctl/" in root:
        return "containerd"
    if "/docker/" in root:
        return "docker"
    # Podman and CRI-O share their storage layout.
    return None
