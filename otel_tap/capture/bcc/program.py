"""Compiles and attaches the kernel side of this loader; the only module that imports BCC.

Owns the compiled program, its tables and its probes. The ring it writes has the wire format of
every other one.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from otel_tap.capture import wire
from otel_tap.capture.bcc.installed import (
    HEADERS_REMEDY,
    PACKAGE_REMEDY,
    BccPackage,
    Headers,
    compiler_flags,
    find_headers,
    find_package,
)
from otel_tap.capture.elf import ElfRefusal, Function, exported_functions
from otel_tap.capture.loader import OBJECTS
from otel_tap.capture.ring import Ring
from otel_tap.errors import CaptureError, HostError
from otel_tap.events import LossReason

SOURCE = "openssl_sockets.c"
FOLDER = OBJECTS / "bcc"
_INCLUDED = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)
_WIRE = "otel_tap.h"

# (function, program at its entry, program at its return); ends of sessions before beginnings.
_PROBES = (
    ("SSL_free", "ssl_free", None),
    ("SSL_clear", "ssl_clear", None),
    ("SSL_new", None, "ssl_new_return"),
    ("SSL_do_handshake", "ssl_do_handshake", "ssl_return"),
    ("SSL_read", "ssl_read", "ssl_return"),
    ("SSL_write", "ssl_write", "ssl_return"),
    ("SSL_read_ex", "ssl_read_ex", "ssl_return"),
    ("SSL_write_ex", "ssl_write_ex", "ssl_return"),
    ("BIO_write", "bio_write", None),
)
_SYMBOLS = tuple(symbol for symbol, _, _ in _PROBES)
_TRACEPOINTS = (("sys_enter", "on_sys_enter"), ("sys_exit", "on_sys_exit"))
# program, at return, name, file, offset in it, process (-1: all), place of a counter (0: none)
_ATTACH_UPROBE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_uint32,
    use_errno=True,
)
_KERNEL_SOURCE = "BCC_KERNEL_SOURCE"


def _import_bcc(package: BccPackage) -> Any:  # noqa: ANN401 - a module without types
    """The module `bcc`, from the system's folder, though that is on no path of ours."""
    if package.folder is None:
        if package.unrelated is not None:
            raise HostError(
                "bcc",
                f"the Python package bcc in {package.unrelated} is another project, "
                "not the BPF Compiler Collection",
                remedy=PACKAGE_REMEDY,
            )
        raise HostError(
            "bcc", "the BPF Compiler Collection is not installed", remedy=PACKAGE_REMEDY
        )
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_bcc(name)}
    sys.path.insert(0, str(package.folder))
    try:
        module = importlib.import_module("bcc")
    except (ImportError, OSError, SyntaxError, AttributeError) as error:
        sys.modules.update(before)
        raise HostError(
            "bcc", f"the bcc of {package.folder} cannot be loaded: {error}", remedy=PACKAGE_REMEDY
        ) from error
    finally:
        sys.path.remove(str(package.folder))
    return module


def _is_bcc(name: str) -> bool:
    return name == "bcc" or name.startswith("bcc.")


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """BCC takes the folder of the headers from the environment, and only from there."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def _captured_stderr(said: list[str]) -> Iterator[None]:
    """What the compiler writes on descriptor 2, which Python's streams do not see."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said.extend(file.read().decode("utf-8", "replace").splitlines())


def whole_source(folder: Path) -> str:
    """The program in one text: BCC understands its maps in one file only."""

    def content(name: str) -> str:
        text = (folder / name).read_text("utf-8")
        return f'#line 1 "{name}"\n{text}'

    main = content(SOURCE)
    (folder / _WIRE).stat()
    return _INCLUDED.sub(lambda found: found[0] if found[1] == _WIRE else content(found[1]), main)


def first_error(lines: list[str]) -> str:
    """The line of a compiler's or verifier's output that says what is wrong."""
    for line in lines:
        if "error:" in line:
            return line.strip()
    return lines[-1].strip() if lines else "no reason was given"


class BccKernel:
    """The compiled programs, their tables and probes; `close` detaches everything.

    Raises `HostError` for what the host lacks, `CaptureError` when the kernel refuses a program.
    """

    def __init__(self, ring_bytes: int, *, package: BccPackage | None = None) -> None:
        uname = os.uname()
        module = _import_bcc(package or find_package())
        headers = find_headers(uname.release)
        if headers is None:
            raise HostError(
                "kernel headers",
                f"no kernel headers are installed to compile with, for Linux {uname.release} "
                "or another",
                remedy=HEADERS_REMEDY,
            )
        self.headers = headers
        self._closed = False
        self._programs: dict[str, int] = {}
        self._probes: list[int] = []
        self._last: list[tuple[int, int]] = []  # the accounts, once they are unloaded
        self._bpf = self._compile(module, headers, uname.machine, ring_bytes)
        self._descriptors = self._bpf["descriptors"]
        self._muted = self._bpf["muted"]
        self._unwanted = self._bpf["unwanted"]
        self._accounts = self._bpf["accounts"]
        try:
            for _, program in _TRACEPOINTS:
                self._bpf.load_func(program, module.BPF.RAW_TRACEPOINT)
            for _, *names in _PROBES:
                for name in filter(None, names):
                    self._programs[name] = self._bpf.load_func(name, module.BPF.KPROBE).fd
            self._attach_uprobe = _ATTACH_UPROBE(("bpf_attach_uprobe", module.libbcc.lib))
            self.ring = Ring(self._bpf["events"].map_fd, ring_bytes)
        except Exception as error:
            self.close()
            raise CaptureError(f"the kernel refused the program of the bcc loader ({error})") from (
                error
            )

    @staticmethod
    def _compile(module: Any, headers: Headers, machine: str, ring_bytes: int) -> Any:  # noqa: ANN401
        try:
            source = whole_source(FOLDER)
        except OSError as error:
            raise HostError(
                "objects", f"the kernel side {SOURCE} is missing", remedy="make setup"
            ) from error
        flags = [
            *compiler_flags(headers, machine),
            f"-I{FOLDER}",
            f"-DAGENT_TGID={os.getpid()}",
            f"-DRING_PAGES={ring_bytes // os.sysconf('SC_PAGE_SIZE')}",
        ]
        said: list[str] = []
        folder = None if headers.source is None else str(headers.source)
        try:
            with _environment(_KERNEL_SOURCE, folder), _captured_stderr(said):
                return module.BPF(text=source, cflags=flags)
        except Exception as error:  # BCC raises plain ones
            raise HostError(
                "bcc",
                f"BCC cannot compile or load its program with headers of {headers.version} "
                f"({first_error(said) or error})",
                remedy="install headers of the running kernel, or use --loader core",
            ) from error

    def attach_kernel(self) -> None:
        """Attach to the entry and return of system calls."""
        try:
            for tracepoint, program in _TRACEPOINTS:
                self._bpf.attach_raw_tracepoint(tracepoint, program)
        except Exception as error:  # BCC raises plain ones
            raise CaptureError(f"system calls cannot be followed ({error})") from error

    def attach_library(self, path: str) -> int:
        """Attach every probe of one library file, or none; how many functions carry one."""
        try:
            with Path(path).open("rb") as file:
                functions = exported_functions(file, _SYMBOLS)
        except OSError as error:
            raise CaptureError(f"cannot be opened: {error.strerror}") from error
        except ElfRefusal as error:
            raise CaptureError(str(error)) from error
        done: list[int] = []
        seen: set[int] = set()
        try:
            for symbol, entry, at_return in _PROBES:
                function = functions.get(symbol)
                if function is None or function.address in seen:
                    continue
                # Forms that share one address share one probe: two would count every byte twice.
                seen.add(function.address)
                # The return first: an entry without it would leave a call that never ends.
                for name, returns in ((at_return, True), (entry, False)):
                    if name is not None:
                        done.append(self._attach(path, function, name, returns=returns))
        except CaptureError:
            for descriptor in done:
                os.close(descriptor)
            raise
        self._probes += done
        return len(seen)

    def _attach(self, path: str, function: Function, program: str, *, returns: bool) -> int:
        """Not by BCC's own method: that leaves out the last argument of the C function (0.26).

        Whatever lies on the stack is then taken for the place of a counter in the traced program,
        which the kernel would write to; and other tools' probes at that place are refused.
        """
        side = "r" if returns else "p"
        name = f"{side}_otel_tap_{os.getpid()}_{function.file_offset:x}_{len(self._probes)}"
        descriptor: int = self._attach_uprobe(
            self._programs[program],
            int(returns),
            name.encode(),
            os.fsencode(path),
            function.file_offset,
            -1,
            0,
        )
        if descriptor < 0:
            reason = os.strerror(ctypes.get_errno())
            raise CaptureError(f"{program} cannot be attached to {function.name}: {reason}")
        return descriptor

    def life_of(self, tgid: int, fd: int) -> int:
        """The number of the descriptor's present life, 0 when it was closed."""
        try:
            return int(self._descriptors[self._descriptors.Key(tgid, fd)].id)
        except KeyError:
            return 0

    def mute(self, connection_id: int) -> None:
        """No more bytes of this connection are copied; they still count."""
        self._muted[ctypes.c_uint64(connection_id)] = ctypes.c_uint8(1)

    def want(self, tgid: int, *, wanted: bool) -> None:
        """Whether bytes of this process are copied; forgotten when it executes a program."""
        key = ctypes.c_uint32(tgid)
        if not wanted:
            self._unwanted[key] = ctypes.c_uint8(1)
        elif key in self._unwanted:
            del self._unwanted[key]

    def _account(self, index: int) -> tuple[int, int]:
        if self._closed:
            return self._last[index]
        per_cpu = self._accounts[ctypes.c_int(index)]
        return sum(one.events for one in per_cpu), sum(one.bytes for one in per_cpu)

    def captured(self) -> tuple[int, int]:
        """(events, bytes) put into the ring since the start, over all CPUs."""
        return self._account(0)

    def losses(self) -> dict[LossReason, tuple[int, int]]:
        """(events, bytes) that did not arrive since the start, by reason, over all CPUs."""
        return {
            reason: self._account(index) for index, reason in enumerate(wire.LOSS_REASONS, start=1)
        }

    def detach(self) -> None:
        """Detach every probe; what they wrote can still be read."""
        bpf = self._bpf
        while self._probes:
            os.close(self._probes.pop())
        for tracepoint in list(bpf.raw_tracepoint_fds):
            bpf.detach_raw_tracepoint(tracepoint)

    def close(self) -> None:
        """Detach and unload everything; safe to call twice."""
        if self._closed:
            return
        self._last = [self._account(index) for index in range(1 + len(wire.LOSS_REASONS))]
        self._closed = True
        self.detach()
        self._bpf.cleanup()
