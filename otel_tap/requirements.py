"""What tapping needs of a host, checked without changing anything.

Owns: the checks that `doctor` prints and that tapping requires. Promises: every check has one of
three outcomes, a one-line finding and, if it is not fulfilled, one command or step that helps;
`check_host` never raises. Must not know: how probes are loaded.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from otel_tap.capture.bcc.installed import (
    HEADERS_REMEDY,
    PACKAGE_REMEDY,
    describe,
    find_headers,
    find_package,
)
from otel_tap.capture.hooks import has_uprobe_links
from otel_tap.context.kernel import KernelVersion, read_kernel_version
from otel_tap.errors import HostError, RightsError


class Outcome(StrEnum):
    """What a check found."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "could not tell"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; `remedy` is empty when there is nothing to do."""

    name: str
    outcome: Outcome
    finding: str
    remedy: str
    needed: bool


BCC_BLIND = (
    "TCP sequence numbers, so spans of both ends are joined only by traceparent; what sendmmsg, "
    "recvmmsg and io_uring move"
)
"""What `--loader bcc` cannot see and core can."""

OBJECTS = Path(__file__).parent / "capture" / "objects"

_BCC_FILES = ("openssl_sockets.c", "otel_tap.h")  # in a folder of their own
_OLDEST_KERNEL = (5, 10)
_ARCHITECTURES = ("x86_64",)  # the ring is read in the memory order of x86-64

# Names that `require` treats by themselves.
RIGHTS = "rights"
PROCESS_RIGHTS = "rights for other users' processes"
SAFE_RETURN_PROBES = "safe return probes"

_CAP_DAC_READ_SEARCH = 2
_CAP_SYS_PTRACE = 19
_CAP_SYS_ADMIN = 21
_CAP_PERFMON = 38
_CAP_BPF = 39

# First patch level of each series in which perf wants CAP_SYS_ADMIN for uprobes (CVE-2025-38466).
_ADMIN_UPROBES = {
    (5, 10): 240,
    (5, 15): 189,
    (6, 1): 146,
    (6, 6): 99,
    (6, 12): 39,
    (6, 15): 7,
}
_ADMIN_UPROBES_SINCE = (6, 16)

# Return probes kill processes under seccomp there (CVE-2025-21834): series -> first fixed patch
# level, None: the series ended without the fix. Only x86-64 has the system call at fault.
_UNSAFE_RETURN_PROBES: dict[tuple[int, int], int | None] = {(6, 11): None, (6, 12): 14, (6, 13): 3}

# Inode numbers that the kernel gives its first namespaces (include/linux/proc_ns.h).
_INIT_PID_NAMESPACE = "pid:[4026531836]"
_INIT_USER_NAMESPACE = "user:[4026531837]"


def check_host(
    root: Path = Path("/"),
    *,
    machine: str | None = None,
    objects: Path = OBJECTS,
    load_library: Callable[[str], object] = ctypes.CDLL,
    loader: str = "auto",
    search: Iterable[str] = sys.path,
    environ: Mapping[str, str] = os.environ,
) -> list[Finding]:
    """Every check, in the order in which a person would mend them.

    What only one loader needs is needed if that one is asked for by `loader`, or if core is the
    only hope: what core lacks is then easier to mend than all that bcc wants.
    """
    machine = machine or os.uname().machine
    version = read_kernel_version(root / "proc")
    capabilities = _capabilities(root)
    core = [_check_btf(root), _check_libbpf(load_library), _check_objects(objects)]
    bcc = [
        _check_bcc_package(root, search),
        _check_headers(root, environ),
        _check_bcc_program(objects),
    ]
    wants_core = loader == "core" or (loader != "bcc" and bool(_lacking(bcc)))
    core = [replace(finding, needed=wants_core) for finding in core]
    bcc = [replace(finding, needed=loader == "bcc") for finding in bcc]
    return [
        _check_system(root),
        _check_architecture(machine),
        _check_kernel(version),
        core[0],
        _check_uprobes(root),
        _check_return_probes(version, machine),
        _check_lockdown(root),
        _check_rights(
            root,
            capabilities,
            version,
            # BCC knows perf events only.
            by_perf=loader == "bcc"
            or not has_uprobe_links(root / "sys/kernel/btf/vmlinux", version),
        ),
        _check_process_rights(capabilities),
        _check_pid_namespace(root),
        _check_tracefs(root, capabilities),
        _check_paranoia(root),
        *core[1:],
        *bcc,
        _check_loaders(loader, core, bcc),
    ]


def require(findings: Iterable[Finding]) -> None:
    """Raise for what is needed and known to be missing.

    RightsError when nothing but rights is missing, else HostError. A check that could not tell
    does not stop anyone, except where going on could harm the programs that are watched.
    """
    missing = [finding for finding in findings if _stops(finding)]
    others = [finding for finding in missing if finding.name not in (RIGHTS, PROCESS_RIGHTS)]
    first = next(iter(others or missing), None)
    if first is None:
        return
    error = HostError if others else RightsError
    raise error(first.name, f"{first.name}: {first.finding}", remedy=first.remedy)


def _check_system(root: Path) -> Finding:
    kind = _read(root / "proc" / "sys" / "kernel" / "ostype")
    if kind is None:
        return _unknown("linux", "/proc cannot be read", "mount -t proc proc /proc")
    if kind == "Linux":
        return _yes("linux", "Linux")
    return _no("linux", f"this is {kind}", "Run otel-tap on a Linux host.")


def _check_architecture(machine: str) -> Finding:
    if machine in _ARCHITECTURES:
        return _yes("architecture", machine)
    return _no(
        "architecture",
        f"{machine} is not supported",
        f"Run otel-tap on one of: {', '.join(_ARCHITECTURES)}.",
    )


def _check_kernel(version: KernelVersion | None) -> Finding:
    remedy = "Boot a kernel of version 5.10 or later."
    if version is None:
        return _unknown("kernel", "the kernel's version cannot be read", remedy)
    if (version.major, version.minor) >= _OLDEST_KERNEL:
        return _yes("kernel", f"Linux {version}")
    return _no("kernel", f"Linux {version} is older than 5.10", remedy)


def _check_btf(root: Path) -> Finding:
    path = root / "sys" / "kernel" / "btf" / "vmlinux"
    remedy = "Boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (the distributions' own are)."
    exists = _exists(path)
    if exists is None:
        return _unknown("BTF", "/sys/kernel/btf cannot be looked into", remedy)
    if not exists and not _exists(root / "sys" / "kernel"):
        return _unknown("BTF", "/sys is not mounted", "mount -t sysfs sysfs /sys")
    if exists:
        return _yes("BTF", "the kernel describes its types")
    return _no("BTF", "the kernel has no type information (/sys/kernel/btf/vmlinux)", remedy)


def _check_uprobes(root: Path) -> Finding:
    path = root / "sys" / "bus" / "event_source" / "devices" / "uprobe" / "type"
    kind = _read(path)
    if kind is not None and kind.isdigit():
        return _yes("uprobes", "the kernel can place probes in programs")
    remedy = "Boot a kernel built with CONFIG_UPROBE_EVENTS=y (the distributions' own are)."
    if _exists(root / "sys" / "bus" / "event_source"):
        return _no("uprobes", "the kernel cannot place probes in programs", remedy)
    return _unknown("uprobes", "/sys/bus/event_source is not there to look", remedy)


def _check_return_probes(version: KernelVersion | None, machine: str) -> Finding:
    name = SAFE_RETURN_PROBES
    remedy = "Boot Linux 6.12.14, 6.13.3 or later."
    if machine != "x86_64":
        return _yes(name, f"the kernel's fault (CVE-2025-21834) is not on {machine}")
    if version is None:
        return _unknown(name, "the kernel's version cannot be read", remedy)
    series = (version.major, version.minor)
    if series not in _UNSAFE_RETURN_PROBES:
        return _yes(name, f"Linux {version} does not have the fault CVE-2025-21834")
    fixed = _UNSAFE_RETURN_PROBES[series]
    if version.patch is None:
        return _unknown(
            name,
            f"some {version} kernels kill sandboxed programs at return probes (CVE-2025-21834)",
            remedy,
        )
    if fixed is not None and version.patch >= fixed:
        return _yes(name, f"Linux {version} has the fix of CVE-2025-21834")
    return _no(
        name, f"Linux {version} kills sandboxed programs at return probes (CVE-2025-21834)", remedy
    )


def _check_lockdown(root: Path) -> Finding:
    text = _read(root / "sys" / "kernel" / "security" / "lockdown")
    found = re.search(r"\[(\w+)\]", text or "")
    if found is None:
        # Without the file there is no lockdown module, or securityfs is not mounted.
        return _unknown("lockdown", "the kernel does not say whether it is locked down", "")
    if found[1] == "confidentiality":
        return _no(
            "lockdown",
            "the kernel is locked down (confidentiality): no program may be watched",
            "Boot with lockdown=integrity on the kernel's command line.",
        )
    return _yes("lockdown", f"lockdown is {found[1]}, which allows watching")


def _check_rights(
    root: Path, capabilities: int | None, version: KernelVersion | None, *, by_perf: bool
) -> Finding:
    remedy = "Run it as root: sudo otel-tap ..."
    if capabilities is None:
        return _unknown(RIGHTS, "/proc/self/status does not say what this user may do", remedy)
    users = _link(root / "proc" / "self" / "ns" / "user")
    if users is not None and users != _INIT_USER_NAMESPACE:
        return _no(RIGHTS, "root of a user namespace is not root of the host", remedy)
    admin = _has(capabilities, _CAP_SYS_ADMIN)
    has_both = _has(capabilities, _CAP_BPF) and _has(capabilities, _CAP_PERFMON)
    if admin or (has_both and not by_perf):
        return _yes(RIGHTS, "probes may be loaded and attached")
    if not has_both:
        return _no(RIGHTS, "this user may not load probes (CAP_BPF and CAP_PERFMON)", remedy)
    add = "Add CAP_SYS_ADMIN, or run it as root: sudo otel-tap ..."
    if _surely_wants_admin(version):
        return _no(RIGHTS, f"Linux {version} wants CAP_SYS_ADMIN for probes in programs", add)
    return _unknown(RIGHTS, "this kernel may want CAP_SYS_ADMIN for probes in programs", add)


def _surely_wants_admin(version: KernelVersion | None) -> bool:
    """Whether upstream's version alone says so; distributions put the fix in older ones too."""
    if version is None:
        return False
    series = (version.major, version.minor)
    if series >= _ADMIN_UPROBES_SINCE:
        return True
    first = _ADMIN_UPROBES.get(series)
    return first is not None and version.patch is not None and version.patch >= first


def _check_process_rights(capabilities: int | None) -> Finding:
    remedy = "Add CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or run it as root: sudo otel-tap ..."
    if capabilities is None:
        return _unknown(PROCESS_RIGHTS, "/proc/self/status cannot be read", remedy, needed=False)
    if _has(capabilities, _CAP_SYS_PTRACE) and _has(capabilities, _CAP_DAC_READ_SEARCH):
        return _yes(PROCESS_RIGHTS, "processes of all users can be named", needed=False)
    return _no(
        PROCESS_RIGHTS, "only processes of this user can be fully named", remedy, needed=False
    )


def _check_pid_namespace(root: Path) -> Finding:
    name = "pid namespace"
    remedy = "Give the agent's container the host's processes: docker run --pid=host ..."
    namespace = _link(root / "proc" / "self" / "ns" / "pid")
    status = _read(root / "proc" / "self" / "status") or ""
    numbers = re.search(r"^NSpid:\s*(.*)$", status, re.MULTILINE)
    if namespace == _INIT_PID_NAMESPACE:
        return _yes(name, "the agent sees every process of the host")
    if namespace is not None or (numbers is not None and len(numbers[1].split()) > 1):
        return _no(name, "the agent sees only the processes of its own container", remedy)
    return _unknown(name, "/proc/self/ns/pid cannot be read", remedy)


def _check_tracefs(root: Path, capabilities: int | None) -> Finding:
    remedy = "mount -t tracefs nodev /sys/kernel/tracing"
    paths = (
        root / "sys" / "kernel" / "tracing" / "events",
        root / "sys" / "kernel" / "debug" / "tracing" / "events",
    )
    seen = [_exists(path) for path in paths]
    if True in seen:
        return _yes("tracefs", "tracepoints can be looked up")
    if None in seen:
        return _unknown(
            "tracefs", "only root may look into /sys/kernel/tracing", "sudo otel-tap doctor"
        )
    if capabilities is None or _has(capabilities, _CAP_SYS_ADMIN):
        return _no("tracefs", "not mounted; the agent mounts it itself", remedy, needed=False)
    # Who lacks CAP_BPF too is told about rights: as root the agent would mount it itself.
    return _no("tracefs", "not mounted", remedy, needed=_has(capabilities, _CAP_BPF))


def _check_paranoia(root: Path) -> Finding:
    name = "perf_event_paranoid"
    level = _read(root / "proc" / "sys" / "kernel" / "perf_event_paranoid")
    if level is None:
        return _no(
            name,
            "the kernel has no performance events (CONFIG_PERF_EVENTS)",
            "Boot a kernel built with CONFIG_PERF_EVENTS=y (the distributions' own are).",
        )
    return _yes(name, f"{level}; does not matter to root and CAP_PERFMON", needed=False)


def _check_libbpf(load_library: Callable[[str], object]) -> Finding:
    try:
        load_library("libbpf.so.1")
    except OSError:
        return _no("libbpf", "libbpf.so.1 cannot be loaded", "apt-get install -y libbpf1")
    return _yes("libbpf", "libbpf.so.1 is there")


def _check_objects(objects: Path) -> Finding:
    try:
        names = sorted(path.name for path in objects.glob("*.bpf.o"))
    except OSError:
        names = []
    if names:
        return _yes("probe object", ", ".join(names))
    return _no("probe object", "the probes are not compiled", "make setup")


def _check_bcc_package(root: Path, search: Iterable[str]) -> Finding:
    name = "bcc package"
    package = find_package(root, search)
    if package.folder is not None:
        return _yes(name, f"BCC for Python is in {package.folder}")
    if package.unrelated is not None:
        finding = f"the bcc in {package.unrelated} is an unrelated project of that name"
        return _no(name, finding, PACKAGE_REMEDY)
    return _no(name, "BCC for Python is not installed", PACKAGE_REMEDY)


def _check_headers(root: Path, environ: Mapping[str, str]) -> Finding:
    name = "kernel headers"
    release = _read(root / "proc" / "sys" / "kernel" / "osrelease")
    headers = find_headers(release or "unknown", root, environ)
    if headers is not None:
        return _yes(name, describe(headers, release or "of unknown version"))
    return _no(name, "no headers of this or another kernel to compile with", HEADERS_REMEDY)


def _check_bcc_program(objects: Path) -> Finding:
    name = "bcc program"
    missing = [file for file in _BCC_FILES if not (objects / "bcc" / file).is_file()]
    if missing:
        return _no(name, f"{' and '.join(missing)} not there", "make setup")
    return _yes(name, _BCC_FILES[0])


def _lacking(needs: Iterable[Finding]) -> list[Finding]:
    return [need for need in needs if need.outcome is Outcome.NO]


def _check_loaders(loader: str, core: list[Finding], bcc: list[Finding]) -> Finding:
    """Which ways to load probes could be used, and what each will not see."""
    lacking = {"core": _lacking(core), "bcc": _lacking(bcc)}
    blind = {"core": "", "bcc": f" (does not see {BCC_BLIND})"}
    usable = [name + blind[name] for name, missing in lacking.items() if not missing]
    reasons = [
        f"{name} lacks {', '.join(need.name for need in missing)}"
        for name, missing in lacking.items()
        if missing
    ]
    text = "; ".join([*(usable or ["none"]), *reasons])
    wanted = lacking[loader] if loader in lacking else min(lacking.values(), key=len)
    if not wanted:
        return _yes("loaders", text)
    remedies = wanted if loader in lacking else lacking["core"]
    return _no("loaders", text, remedies[0].remedy)


def _stops(finding: Finding) -> bool:
    if not finding.needed:
        return False
    if finding.outcome is Outcome.NO:
        return True
    return finding.outcome is Outcome.UNKNOWN and finding.name == SAFE_RETURN_PROBES


def _capabilities(root: Path) -> int | None:
    status = _read(root / "proc" / "self" / "status") or ""
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
    return None if found is None else int(found[1], 16)


def _has(capabilities: int, number: int) -> bool:
    return bool(capabilities >> number & 1)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "backslashreplace").strip()
    except OSError:
        return None


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _exists(path: Path) -> bool | None:
    """None: forbidden to look."""
    try:
        path.stat()
    except PermissionError:
        return None
    except OSError:
        return False
    return True


def _yes(name: str, finding: str, *, needed: bool = True) -> Finding:
    return Finding(name, Outcome.YES, finding, "", needed)


def _no(name: str, finding: str, remedy: str, *, needed: bool = True) -> Finding:
    return Finding(name, Outcome.NO, finding, remedy, needed)


def _unknown(name: str, finding: str, remedy: str, *, needed: bool = True) -> Finding:
    return Finding(name, Outcome.UNKNOWN, finding, remedy, needed)
