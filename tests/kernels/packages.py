"""Debian's packaged kernels, unpacked beside the checkout and never installed.

Owns: the download and the initial RAM file system. Promises: what was fetched once is used again;
the host's own packages do not change. Must not know: how a guest is run.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The host's root as the guest's, read-only under a writable layer, needs just these.
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_FOLDERS = ("drivers/virtio", "net/9p", "fs/9p", "fs/netfs", "fs/fscache", "fs/overlayfs")
_BUSYBOX = Path("/bin/busybox")


class NotAvailableError(Exception):
    """A kernel or a program that the run needs is not to be had; says which and what to do."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted: its release, its image, and its modules in order of loading."""

    release: str
    image: Path
    modules: tuple[Path, ...]


def fetch(meta_package: str, folder: Path) -> Kernel:
    """The newest kernel that `meta_package` stands for, unpacked below `folder`."""
    package = _concrete(meta_package)
    unpacked = folder / package
    if not (unpacked / "complete").exists():
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(parents=True)
        _run("apt-get", "download", "-qq", package, folder=unpacked)
        (archive,) = unpacked.glob("*.deb")
        _unpack(archive, unpacked)
        archive.unlink()
        (unpacked / "complete").touch()
    (image,) = unpacked.glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    return Kernel(release, image, tuple(_in_order(unpacked / "lib" / "modules" / release)))


def _concrete(meta_package: str) -> str:
    """What the meta package depends on; a package of that very kernel."""
    said = _run("apt-cache", "depends", "--important", meta_package)
    found = re.findall(r"Depends: (linux-image-[0-9]\S+)", said)
    if not found:
        raise NotAvailableError(f"apt knows no package {meta_package}: apt-get update")
    return str(found[0])


def _unpack(archive: Path, folder: Path) -> None:
    """The image and the few modules of a kernel's package."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE
    ) as unpacking:
        assert unpacking.stdout is not None
        with tarfile.open(fileobj=unpacking.stdout, mode="r|") as files:
            for member in files:
                name = member.name.removeprefix("./")
                inside = re.fullmatch(r"(?:usr/)?(lib/modules/[^/]+)/(.+)", name)
                if re.fullmatch(r"boot/vmlinuz-[^/]+", name):
                    target = folder / Path(name).name
                elif inside and _wanted(inside[2]):
                    target = folder / inside[1] / inside[2].removesuffix(".xz")
                else:
                    continue
                data = files.extractfile(member)
                if data is None:  # a folder
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                content = data.read()
                target.write_bytes(lzma.decompress(content) if name.endswith(".xz") else content)
    for modules in (folder / "lib" / "modules").iterdir():
        _run("depmod", "-b", str(folder), modules.name)


def _wanted(path: str) -> bool:
    if path.startswith("modules."):
        return True
    return any(path.startswith(f"kernel/{folder}/") for folder in _FOLDERS)


def _in_order(folder: Path) -> Iterator[Path]:
    """The modules that are needed, each behind what it needs."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        module, _, rest = line.partition(":")
        needs[Path(module).name.removesuffix(".ko")] = (module, rest.split())
    given: set[str] = set()
    for name in _MODULES:
        if name not in needs:
            continue  # built in
        module, others = needs[name]
        for path in (*reversed(others), module):
            if path not in given:
                given.add(path)
                yield folder / path


def write_initramfs(kernel: Kernel, init: str, target: Path) -> None:
    """An initial RAM file system of busybox, the modules and `init`."""
    if not _BUSYBOX.exists():
        raise NotAvailableError("busybox is missing: apt-get install busybox-static")
    root = target.with_suffix(".root")
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("bin", "modules", "dev", "proc", "host", "layer", "root"):
        (root / folder).mkdir(parents=True)
    shutil.copy(_BUSYBOX, root / "bin" / "busybox")
    for place, module in enumerate(kernel.modules):
        shutil.copy(module, root / "modules" / f"{place:02}-{module.name}")
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)
    names = "\0".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with target.open("wb") as archive:
        subprocess.run(
            ["cpio", "--quiet", "--null", "--create", "--format=newc", "--owner=0:0"],
            input=names.encode(), cwd=root, stdout=archive, check=True,
        )  # fmt: skip
    shutil.rmtree(root)


def _run(*command: str, folder: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise NotAvailableError(f"{command[0]} is missing: the kernels are packages of Debian")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise NotAvailableError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
