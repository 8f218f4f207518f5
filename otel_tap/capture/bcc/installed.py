"""What BCC needs of a host: its Python package, and headers of a kernel.

Owns where they are looked for and how the unrelated project of the same name is told from it.
Promises: only looks at names of files; nothing is imported, compiled or changed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE_REMEDY = "apt-get install -y python3-bpfcc"
HEADERS_REMEDY = "apt-get install -y linux-headers-amd64"

_SYSTEM_FOLDERS = ("usr/lib/python3/dist-packages", "usr/lib/python3*/site-packages")
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, slots=True)
class BccPackage:
    """Where Python packages called `bcc` are; None: nowhere.

    `folder` holds the BPF Compiler Collection, `unrelated` another project of that name (the one
    of the Python Package Index computes lattices).
    """

    folder: Path | None
    unrelated: Path | None


@dataclass(frozen=True, slots=True)
class Headers:
    """Kernel headers to compile with.

    `source` is None where BCC finds them by itself. `generated` is the other half, where a
    distribution splits them. `version` is that of the headers, `exact` whether it is the running
    kernel's own.
    """

    source: Path | None
    generated: Path | None
    version: str
    exact: bool


def find_package(root: Path = Path("/"), search: Iterable[str] = sys.path) -> BccPackage:
    """Look in the system's folders first: a virtual environment does not have them on its path."""
    folders = [found for pattern in _SYSTEM_FOLDERS for found in sorted(root.glob(pattern))]
    folders += [Path(entry) for entry in search if entry]
    genuine: Path | None = None
    unrelated: Path | None = None
    for folder in folders:
        package = folder / "bcc"
        if (package / "libbcc.py").is_file():
            genuine = genuine or folder
        elif (package / "__init__.py").is_file():
            unrelated = unrelated or folder
    return BccPackage(genuine, unrelated)


def _version_key(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))


def _number(name: str) -> str:
    found = _VERSION.search(name)
    return found[0] if found else name


def _is_tree(folder: Path) -> bool:
    return (folder / "include" / "linux").is_dir() and (folder / "include" / "uapi").is_dir()


def _pair(modules: Path) -> tuple[Path, Path | None] | None:
    """(source, generated) of one folder of /lib/modules, as far as its links lead somewhere."""
    build, source = modules / "build", modules / "source"
    if _is_tree(source) and (build / "include" / "generated").is_dir():
        return source.resolve(), build.resolve()
    if _is_tree(build):
        return build.resolve(), None
    return None


def find_headers(
    release: str, root: Path = Path("/"), environ: Mapping[str, str] = os.environ
) -> Headers | None:
    """The headers of the running kernel `release`, else the newest others; None without any."""
    if environ.get("BCC_KERNEL_SOURCE"):
        return Headers(None, None, environ["BCC_KERNEL_SOURCE"], exact=False)
    modules = root / "lib" / "modules"
    if _pair(modules / release) or (root / "sys" / "kernel" / "kheaders.tar.xz").exists():
        return Headers(None, None, _number(release), exact=True)
    for folder in sorted(modules.glob("*"), key=lambda path: _version_key(path.name), reverse=True):
        pair = _pair(folder)
        if pair is not None:
            return Headers(*pair, _number(folder.name), exact=False)
    trees = [*root.glob("usr/src/kernels/*"), *root.glob("usr/src/linux-headers-*")]
    for tree in sorted(trees, key=lambda path: _version_key(path.name), reverse=True):
        if _is_tree(tree) and (tree / "include" / "generated").is_dir():
            return Headers(tree.resolve(), None, _number(tree.name), exact=False)
    return None


def describe(headers: Headers, release: str) -> str:
    """Which headers they are, for people."""
    if headers.exact:
        return f"headers of this kernel, {headers.version}"
    return (
        f"headers of {headers.version} for kernel {_number(release)}: "
        "only system call arguments are used"
    )


def compiler_flags(headers: Headers, machine: str) -> list[str]:
    """Where the compiler finds the half of the headers that BCC does not look for."""
    if headers.generated is None:
        return []
    architecture = {"x86_64": "x86", "aarch64": "arm64"}.get(machine, machine)
    folders = (
        "include",
        f"arch/{architecture}/include/generated",
        f"arch/{architecture}/include/generated/uapi",
        "include/generated/uapi",
    )
    return [f"-I{headers.generated / folder}" for folder in folders]
