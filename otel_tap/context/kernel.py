"""The running kernel's upstream version, as exactly as it says.

Owns: where distributions hide it. Promises: no patch level that is not upstream's. Debian's
release `6.1.0-18-amd64` is really 6.1.76, which its build string says; Ubuntu says it in
/proc/version_signature. Of others only the series may be known: they add fixes as they choose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from otel_tap.context.files import read_text


@dataclass(frozen=True, slots=True)
class KernelVersion:
    """Upstream version; `patch` is None when only a distribution's own number is known."""

    major: int
    minor: int
    patch: int | None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + ("" if self.patch is None else f".{self.patch}")


def read_kernel_version(proc_root: Path = Path("/proc")) -> KernelVersion | None:
    """The upstream version of the running kernel, as exactly as it says."""
    kernel = proc_root / "sys" / "kernel"
    signature = read_text(proc_root / "version_signature") or ""
    build = read_text(kernel / "version") or ""
    release = read_text(kernel / "osrelease") or ""
    return parse_kernel_version(release, build, signature)


def parse_kernel_version(
    release: str, build: str = "", signature: str = ""
) -> KernelVersion | None:
    """Version from `uname -r`, `uname -v` and Ubuntu's /proc/version_signature; None: not one."""
    # Ubuntu: "Ubuntu 6.8.0-31.31-generic 6.8.1": the last word is upstream's.
    for text, pattern in (
        (signature, r"\s(\d+)\.(\d+)\.(\d+)\s*\Z"),
        (build, r"\bDebian (\d+)\.(\d+)\.(\d+)"),
    ):
        found = re.search(pattern, text)
        if found is not None:
            return KernelVersion(int(found[1]), int(found[2]), int(found[3]))
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(.*)", release, re.DOTALL)
    if found is None:
        return None
    patch: int | None = int(found[3] or 0)
    # "5.14.0-427.el9", "6.8.0-31-generic": a distribution's number, with fixes of its own choice.
    # A patch level of its own before the dash ("6.6.30-gentoo") is upstream's.
    if patch == 0 and re.match(r"-\d", found[4]):
        patch = None
    return KernelVersion(int(found[1]), int(found[2]), patch)
