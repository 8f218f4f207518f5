"""Control groups as the engines really name them, and those that are no container."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.context.cgroup import container_from_cgroup, container_from_mountinfo
from otel_tap.origin import Container

ID = "4f2a6c1d9b8e7f605142332415061728394a5b6c7d8e9f0a1b2c3d4e5f607182"
OUTER = "a" * 64
UID = "1b5c3a6e-0f6d-4c0e-9a55-7b1de2f3a4b5"
UID_ = UID.replace("-", "_")
POD_SLICE = f"kubepods-burstable-pod{UID_}.slice"

CONTAINERS = {
    "docker, v1, cgroupfs": (f"12:pids:/docker/{ID}\n11:cpu:/docker/{ID}\n", "docker", None),
    "docker, v2, systemd": (f"0::/system.slice/docker-{ID}.scope\n", "docker", None),
    "docker, rootless": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope\n",
        "docker",
        None,
    ),
    "a service inside docker": (f"0::/docker/{ID}/system.slice/nginx.service\n", "docker", None),
    "docker in docker": (f"0::/docker/{OUTER}/docker/{ID}\n", "docker", None),
    "kind: a pod inside a docker container": (
        f"0::/system.slice/docker-{OUTER}.scope/kubelet.slice/kubelet-kubepods.slice/"
        f"kubelet-kubepods-burstable.slice/kubelet-{POD_SLICE}/cri-containerd-{ID}.scope\n",
        "containerd",
        UID,
    ),
    "kubernetes, containerd, systemd": (
        f"0::/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}/cri-containerd-{ID}.scope\n",
        "containerd",
        UID,
    ),
    "kubernetes, guaranteed": (
        f"0::/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope\n",
        "containerd",
        UID,
    ),
    "kubernetes, cgroupfs": (f"0::/kubepods/besteffort/pod{UID}/{ID}\n", None, UID),
    "kubernetes, v1, cgroupfs": (
        f"11:memory:/kubepods/burstable/pod{UID}/{ID}\n1:name=systemd:/kubepods/x\n",
        None,
        UID,
    ),
    "containerd with a systemd path it did not translate": (
        f"0::/system.slice/containerd.service/{POD_SLICE}:cri-containerd:{ID}\n",
        "containerd",
        UID,
    ),
    "kubernetes, docker": (f"1:name=systemd:/kubepods/pod{UID}/docker-{ID}\n", "docker", UID),
    "CRI-O, systemd": (
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/"
        f"crio-{ID}.scope\n",
        "cri-o",
        UID,
    ),
    "CRI-O with crun's inner group": (
        f"0::/kubepods.slice/{POD_SLICE}/crio-{ID}.scope/container\n",
        "cri-o",
        UID,
    ),
    "CRI-O, cgroupfs": (f"4:cpu:/kubepods/burstable/pod{UID}/crio-{ID}\n", "cri-o", UID),
    "podman": (f"0::/machine.slice/libpod-{ID}.scope/container\n", "podman", None),
    "podman, rootless": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n",
        "podman",
        None,
    ),
    "podman, cgroupfs": (f"7:pids:/libpod_parent/libpod-{ID}\n", "podman", None),
    "podman play kube": (
        f"0::/machine.slice/machine-libpod_pod_{OUTER}.slice/libpod-{ID}.scope\n",
        "podman",
        None,
    ),
    "nerdctl": (f"0::/system.slice/nerdctl-{ID}.scope\n", "containerd", None),
    "Amazon ECS": (f"9:perf_event:/ecs/{'0' * 32}/{ID}\n", None, None),
    "seen from another cgroup namespace": (
        f"0::/../cri-containerd-{ID}.scope\n",
        "containerd",
        None,
    ),
    "hybrid: only one hierarchy names it": (
        f"3:cpu:/\n2:pids:/docker/{ID}\n0::/\n",
        "docker",
        None,
    ),
    "static pod: its UID is only a hash": (
        f"0::/kubepods.slice/kubepods-burstable-pod{'b' * 32}.slice/cri-containerd-{ID}.scope\n",
        "containerd",
        None,
    ),
}

NO_CONTAINERS = {
    "nothing": "",
    "root": "0::/\n",
    "systemd service": "0::/system.slice/nginx.service\n",
    "login session": "1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n",
    "user service": "0::/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service\n",
    "snap": "0::/user.slice/user-1000.slice/user@1000.service/snap.code.code-1c9.scope\n",
    "virtual machine": "0::/machine.slice/machine-qemu\\x2d1\\x2ddebian.scope\n",
    "the engine itself": "0::/system.slice/docker.service\n",
    "podman's monitor, systemd": f"0::/machine.slice/libpod-conmon-{ID}.scope\n",
    "podman's monitor, cgroupfs": "0::/libpod_parent/conmon\n",
    "CRI-O's monitor": f"0::/kubepods.slice/{POD_SLICE}/crio-conmon-{ID}.scope\n",
    "a monitor inside a container's directory": f"0::/libpod_parent/libpod-{ID}/conmon\n",
    "a pod's own group": f"0::/kubepods.slice/{POD_SLICE}\n",
    "a hex directory under a session": f"0::/user.slice/user-1000.slice/{ID}\n",
    "a hex directory at the root": f"0::/{ID}\n",
    "63 digits": f"0::/docker/{ID[:63]}\n",
    "65 digits": f"0::/docker/{ID}0\n",
    "capitals": f"0::/docker/{ID.upper()}\n",
    "an unknown prefix": f"0::/system.slice/build-{ID}.scope\n",
    "a service named so": f"0::/system.slice/docker-{ID}.service\n",
    "an id among the controllers": f"1:name={ID}:/\n",
    "not the format": f"docker/{ID}\n\n::\n0:\n",
}


@pytest.mark.parametrize(("text", "runtime", "pod"), CONTAINERS.values(), ids=CONTAINERS.keys())
def test_the_container_of_a_real_control_group_is_found(text, runtime, pod):
    assert container_from_cgroup(text) == Container(ID, runtime, pod)


@pytest.mark.parametrize("text", NO_CONTAINERS.values(), ids=NO_CONTAINERS.keys())
def test_what_is_no_container_is_not_called_one(text):
    assert container_from_cgroup(text) is None
    assert container_from_cgroup(text, own_mount_namespace=False) is None


def test_a_bare_id_anywhere_is_believed_of_a_process_with_mounts_of_its_own():
    text = f"0::/actions_job/{ID}\n"
    assert container_from_cgroup(text) is None
    assert container_from_cgroup(text, own_mount_namespace=True) == Container(ID, None, None)


def mount(root: str, point: str) -> str:
    return f"510 500 8:1 {root} {point} rw,relatime master:1 - ext4 /dev/sda1 rw\n"


MOUNTED = {
    "docker": (
        mount(f"/var/lib/docker/containers/{ID}/resolv.conf", "/etc/resolv.conf")
        + mount(f"/var/lib/docker/containers/{ID}/hostname", "/etc/hostname")
        + mount(f"/var/lib/docker/containers/{ID}/hosts", "/etc/hosts"),
        "docker",
    ),
    "podman": (
        mount(
            f"/containers/storage/overlay-containers/{ID}/userdata/.containerenv",
            "/run/.containerenv",
        ),
        None,
    ),
    "nerdctl": (
        mount(f"/var/lib/nerdctl/1935db59/containers/default/{ID}/hostname", "/etc/hostname"),
        "containerd",
    ),
}


@pytest.mark.parametrize(("text", "runtime"), MOUNTED.values(), ids=MOUNTED.keys())
def test_mounted_files_of_an_engine_name_the_container(text, runtime):
    assert container_from_mountinfo(text) == Container(ID, runtime, None)


NOT_MOUNTED = {
    "host": mount("/", "/") + mount("/var/lib/docker", "/var/lib/docker"),
    "the engine's own view of its containers": mount(
        f"/var/lib/docker/containers/{ID}/mounts/shm", f"/var/lib/docker/containers/{ID}/mounts/shm"
    ),
    "a pod, whose files are its pause container's": mount(
        f"/var/lib/docker/containers/{ID}/hostname", "/etc/hostname"
    )
    + mount(f"/var/lib/kubelet/pods/{UID}/etc-hosts", "/etc/hosts"),
    "two containers' files": mount(f"/var/lib/docker/containers/{ID}/hostname", "/etc/hostname")
    + mount(f"/var/lib/docker/containers/{OUTER}/hosts", "/etc/hosts"),
    "truncated": f"510 500 8:1 /var/lib/docker/containers/{ID}/hostname",
}


@pytest.mark.parametrize("text", NOT_MOUNTED.values(), ids=NOT_MOUNTED.keys())
def test_mounts_that_prove_no_container_give_none(text):
    assert container_from_mountinfo(text) is None


@given(st.text(alphabet=st.sampled_from("0:/-.\n _acdeikoprsu") | st.characters(), max_size=300))
def test_any_text_is_answered_without_an_error(text):
    for answer in (
        container_from_cgroup(text, own_mount_namespace=True),
        container_from_mountinfo(text),
    ):
        assert answer is None or len(answer.id) == 64
