"""Runs the smoke tests on this host's kernel and on Debian's 6.1 and 6.12: `make test-kernels`.

Owns: the guests, from boot to verdict. A guest is emulated, so that it needs no rights to
virtualise; its root is this host's, read-only under a layer in its memory. Promises: a line per
kernel on stdout; each guest ends within its time; the exit code is 0 only if every kernel passed
all of its tests, and passed at least one, and 3 if none failed but one was not to be had. Must not
know: what the tests test.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.kernels.packages import Kernel, NotAvailableError, fetch, write_initramfs

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "build" / "kernels"
HOST = "host"
PACKAGES = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}

_NOT_AVAILABLE = 3  # an exit code

_GUEST = Path(__file__).with_name("guest.sh")
_RESULTS = Path("/mnt")  # where the guest mounts the folder for what it has to say
_MEMORY_MIB = 1024
_BOOT_SECONDS = 20  # to boot, and to write the report
_TEST_SECONDS = 600  # less than a kernel has, so that a test that hangs is named
# To import and to plan takes 20 to 30 times as long in a guest, and twice that where two guests
# share two busy CPUs. A wait that succeeds ends as early as ever.
_PATIENCE = 15
# An emulated processor has none of the flaws that mitigations guard against.
_KERNEL_LINE = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off nokaslr"
_PROCESSOR = "max,la57=off"  # page tables of four levels: each one is walked in software

_INIT = """\
#!/bin/busybox sh
PATH=/bin
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
for module in /modules/*; do busybox insmod $module || echo "insmod $module failed"; done
share="trans=virtio,version=9p2000.L,msize=524288"
busybox mount -t 9p -o $share,ro,cache=loose host /host
busybox mount -t tmpfs layer /layer
busybox mkdir /layer/upper /layer/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root
busybox mount -t 9p -o $share results /root{results}
busybox umount /proc
exec busybox switch_root /root /bin/sh {command}
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests of one kernel came to."""

    release: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    trouble: str = ""  # why there is no result, or none to trust
    available: bool = True

    @property
    def good(self) -> bool:
        """Whether tests ran here and all of them passed."""
        return not self.trouble and not self.failed and self.passed > 0


def _keep_bytecode() -> None:
    """Compile what a guest imports: it could keep nothing of what it compiled itself."""
    for folder in ("otel_tap", "tests"):
        compileall.compile_dir(CHECKOUT / folder, quiet=1)


def _pytest(junit: Path) -> list[str]:
    # Only the files that have smoke tests: to import one takes seconds in an emulator.
    files = [
        str(path.relative_to(CHECKOUT))
        for path in sorted((CHECKOUT / "tests" / "e2e").rglob("test_*.py"))
        if "mark.smoke" in path.read_text()
    ]
    return [
        sys.executable, "-m", "pytest", *files, "-m", "smoke", "-p", "no:cacheprovider",
        "--tb=short", "--timeout", str(_TEST_SECONDS), "--durations=0", f"--junitxml={junit}",
    ]  # fmt: skip


def _read(release: str, folder: Path, code: str) -> Verdict:
    """The counts that pytest left, unless it did not come to its end."""
    report = folder / "junit.xml"
    if not report.exists():
        return Verdict(release, trouble=f"no report of the tests ({code})")
    suite = ET.parse(report).getroot().find("testsuite")
    if suite is None:
        return Verdict(release, trouble="the report of the tests is empty")
    tests, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return Verdict(release, tests - skipped - failed, failed, skipped)


def run_here(folder: Path, seconds: float) -> Verdict:
    """The tests on the kernel of this host."""
    with (folder / "output.txt").open("w") as output:
        try:
            code = subprocess.run(
                _pytest(folder / "junit.xml"), cwd=CHECKOUT, timeout=seconds, stdout=output,
                stderr=subprocess.STDOUT,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return Verdict(os.uname().release, trouble=f"not finished after {seconds:.0f} s")
    return _read(os.uname().release, folder, f"pytest ended with {code}")


def run_guest(kernel: Kernel, folder: Path, seconds: float) -> Verdict:
    """The tests on `kernel`, booted in an emulator."""
    if shutil.which("qemu-system-x86_64") is None:
        raise NotAvailableError("qemu is missing: apt-get install qemu-system-x86")
    # pytest is interrupted first: it then still shows what failed until there.
    limited = ["timeout", "--signal=INT", str(seconds - _BOOT_SECONDS)]
    patient = ["env", f"OTEL_TAP_TEST_PATIENCE={_PATIENCE}"]
    patient += ["PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", "PYTEST_PLUGINS=pytest_timeout"]
    command = [_GUEST, CHECKOUT, _RESULTS, *patient, *limited, *_pytest(_RESULTS / "junit.xml")]
    initramfs = folder / "initramfs"
    init = _INIT.format(results=_RESULTS, command=shlex.join(map(str, command)))
    write_initramfs(kernel, init, initramfs)
    console = folder / "console.txt"
    guest = subprocess.Popen(
        [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", _PROCESSOR, "-smp", "2",
            "-m", str(_MEMORY_MIB), "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none", "-kernel", kernel.image, "-initrd", initramfs,
            "-append", _KERNEL_LINE,
            "-serial", f"file:{console}",
            "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,"
            "multidevs=remap",
            "-virtfs", f"local,path={folder},mount_tag=results,security_model=none",
        ],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, said = guest.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Verdict(kernel.release, trouble=f"not finished after {seconds:.0f} s, see {console}")
    finally:
        guest.kill()
        guest.wait()
        initramfs.unlink()
    return _read(kernel.release, folder, f"see {console}; qemu: {said.strip() or 'no message'}")


def _run(name: str, folder: Path, seconds: float) -> Verdict:
    if name == HOST:
        return run_here(folder, seconds)
    try:
        return run_guest(fetch(PACKAGES[name], FOLDER), folder, seconds)
    except NotAvailableError as error:
        return Verdict(name, trouble=str(error), available=False)


def _try(name: str, seconds: float) -> int:
    """Run the tests on one kernel, say what came of it; the exit code for that."""
    folder = FOLDER / f"results-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.monotonic()
    verdict = _run(name, folder, seconds)
    # One write: the guests run at the same time.
    sys.stdout.write(
        f"{'ok  ' if verdict.good else 'FAIL'} {name:4} {verdict.release:20} "
        f"{verdict.passed} passed, {verdict.failed} failed, {verdict.skipped} skipped, "
        f"{time.monotonic() - start:.0f} s{verdict.trouble and '; '}{verdict.trouble}\n"
    )
    sys.stdout.flush()
    output = folder / "output.txt"
    if not verdict.good and output.exists():
        sys.stderr.write(output.read_text(errors="replace"))
    if not verdict.available:
        return _NOT_AVAILABLE
    return 0 if verdict.good else 1


def main() -> int:
    """The exit code: 0 if every kernel passed."""
    names = [HOST, *PACKAGES]
    parser = argparse.ArgumentParser(description="Run the smoke tests on several kernels.")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"of: {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=900, help="at most, for each kernel")
    arguments = parser.parse_args()
    wanted = arguments.kernels or names
    unknown = set(wanted) - set(names)
    if unknown:
        parser.error(f"no such kernel: {', '.join(sorted(unknown))}")
    # This host's kernel by itself: its tests would wait for the emulators.
    codes = [_try(name, arguments.seconds) for name in wanted if name == HOST]
    guests = [name for name in wanted if name != HOST]
    if guests:
        _keep_bytecode()
    with ThreadPoolExecutor(max(1, len(guests))) as pool:
        codes += pool.map(lambda name: _try(name, arguments.seconds), guests)
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
