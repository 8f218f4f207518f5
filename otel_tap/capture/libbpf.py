"""A thin binding to the host's libbpf.so.1: objects, maps, programs, links.

Only what the loader needs, by ctypes. Every call that fails raises `CaptureError` with the
kernel's reason and what libbpf said about it.

Uprobes are attached by perf events, or by links of the kernel's own (`use_uprobe_links`), which
libbpf knows since 1.3 only, so that these are made by the system call itself (source: `union
bpf_attr` and `BPF_LINK_CREATE` in include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from otel_tap.errors import CaptureError, HostError

_LIBRARY = "libbpf.so.1"
_DEBUG: Final = 2  # enum libbpf_print_level
_PRINT_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_LOG_LINES = 64

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_BPF_LINK_CREATE = 28
_BPF_TRACE_UPROBE_MULTI = 48
_UPROBE_MULTI_RETURN = 1
# prog_fd, target_fd, attach_type, flags; path, offsets, ref_ctr_offsets, cookies, cnt, flags, pid.
_LINK_CREATE = struct.Struct("=IIIIQQQQIII")

EVERYONE = -1
"""In place of a process id."""

_log: deque[str] = deque(maxlen=_LOG_LINES)


class _UprobeOpts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("ref_ctr_offset", ctypes.c_size_t),
        ("bpf_cookie", ctypes.c_uint64),
        ("retprobe", ctypes.c_bool),
        ("func_name", ctypes.c_char_p),
    )


_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "bpf_object__open_file": (ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_void_p]),
    "bpf_object__load": (ctypes.c_int, [ctypes.c_void_p]),
    "bpf_object__close": (None, [ctypes.c_void_p]),
    "bpf_object__next_map": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]),
    "bpf_object__next_program": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]),
    "bpf_object__find_program_by_name": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    "bpf_map__name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "bpf_map__fd": (ctypes.c_int, [ctypes.c_void_p]),
    "bpf_map__reuse_fd": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "bpf_map__set_max_entries": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_uint32]),
    "bpf_map__initial_value": (
        ctypes.c_void_p,
        [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)],
    ),
    "bpf_program__name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "bpf_program__section_name": (ctypes.c_char_p, [ctypes.c_void_p]),
    "bpf_program__fd": (ctypes.c_int, [ctypes.c_void_p]),
    "bpf_program__set_expected_attach_type": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "bpf_program__attach": (ctypes.c_void_p, [ctypes.c_void_p]),
    "bpf_program__attach_uprobe_opts": (
        ctypes.c_void_p,
        [
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.POINTER(_UprobeOpts),
        ],
    ),
    "bpf_link__destroy": (ctypes.c_int, [ctypes.c_void_p]),
    "bpf_map_lookup_elem": (ctypes.c_int, [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]),
    "bpf_map_delete_elem": (ctypes.c_int, [ctypes.c_int, ctypes.c_void_p]),
    "bpf_map_update_elem": (
        ctypes.c_int,
        [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64],
    ),
    "bpf_map_get_next_key": (
        ctypes.c_int,
        [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p],
    ),
    "libbpf_num_possible_cpus": (ctypes.c_int, []),
    "libbpf_set_print": (ctypes.c_void_p, [_PRINT_FUNCTION]),
}


def _keep_log(level: int, text: bytes | None, _arguments: int | None) -> int:
    if level >= _DEBUG:  # 1,600 lines at a start
        return 0
    line = ctypes.create_string_buffer(512)
    if text:
        ctypes.CDLL(None).vsnprintf(line, len(line), text, ctypes.c_void_p(_arguments))
        _log.extend(line.value.decode("utf-8", "replace").splitlines())
    return 0


_keep_log_function = _PRINT_FUNCTION(_keep_log)


@cache
def _libbpf() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise HostError(
            "libbpf", f"{_LIBRARY} cannot be loaded: {error}", remedy="apt-get install libbpf1"
        ) from error
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    library.libbpf_set_print(_keep_log_function)
    return library


def _failure(what: str, code: int) -> CaptureError:
    number = abs(code) or ctypes.get_errno()
    reason = os.strerror(number)
    said = next((line for line in reversed(_log) if "failed" in line or "invalid" in line), "")
    if said:
        reason += f" ({said.strip()})"
    remedy = "see otel-tap doctor"
    if number in (errno.EPERM, errno.EACCES):
        remedy = "run as root, or see otel-tap doctor for the capabilities"
    return CaptureError(f"{what}: {reason}", remedy=remedy)


class Link:
    """An attached program; `close` detaches it."""

    def __init__(self, handle: int, detach: Callable[[int], object] | None = None) -> None:
        self._handle: int | None = handle
        self._detach = detach or _libbpf().bpf_link__destroy

    def close(self) -> None:
        """Detach; a second call does nothing."""
        if self._handle is not None:
            self._detach(self._handle)
            self._handle = None


class BpfMap:
    """A map of a loaded object, by file descriptor; keys and values are raw bytes."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd

    def update(self, key: bytes, value: bytes) -> None:
        """Set `key`; raises `CaptureError` when the kernel refuses."""
        code = _libbpf().bpf_map_update_elem(self.fd, key, value, 0)
        if code:
            raise _failure(f"map {self.name} cannot be written", code)

    def delete(self, key: bytes) -> None:
        """Remove `key`, if it is there."""
        _libbpf().bpf_map_delete_elem(self.fd, key)

    def lookup(self, key: bytes, value_size: int) -> bytes | None:
        """The value of `key`, `value_size` bytes (all CPUs of a per-CPU map), or None."""
        value = ctypes.create_string_buffer(value_size)
        if _libbpf().bpf_map_lookup_elem(self.fd, key, value):
            return None
        return value.raw

    def clear(self, key_size: int, limit: int) -> None:
        """Take out what is in it, at most `limit` entries; what comes meanwhile may stay."""
        key = ctypes.create_string_buffer(key_size)
        for _ in range(limit):
            if _libbpf().bpf_map_get_next_key(self.fd, None, key):
                return
            _libbpf().bpf_map_delete_elem(self.fd, key)


class BpfObject:
    """One compiled object: open, configure, load, attach."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._uprobe_links = False
        self._handle: int | None = _libbpf().bpf_object__open_file(os.fsencode(path), None)
        if not self._handle:
            raise _failure(f"{self._name} cannot be opened", 0)

    def _map_handles(self) -> dict[str, int]:
        library = _libbpf()
        handles: dict[str, int] = {}
        handle = library.bpf_object__next_map(self._handle, None)
        while handle:
            handles[library.bpf_map__name(handle).decode()] = handle
            handle = library.bpf_object__next_map(self._handle, handle)
        return handles

    def set_constants(self, content: bytes) -> None:
        """Overwrite the beginning of the read-only data; before `load`."""
        for name, handle in self._map_handles().items():
            if name.endswith(".rodata"):
                size = ctypes.c_size_t()
                address = _libbpf().bpf_map__initial_value(handle, ctypes.byref(size))
                if not address or size.value < len(content):
                    raise CaptureError(f"{self._name} has no room for its constants")
                ctypes.memmove(address, content, len(content))

    def set_size(self, map_name: str, max_entries: int) -> None:
        """Give a map another size; before `load`. For a ring buffer in bytes."""
        code = _libbpf().bpf_map__set_max_entries(self._map_handles()[map_name], max_entries)
        if code:
            raise _failure(f"map {map_name} cannot have {max_entries} entries", code)

    def share(self, maps: dict[str, BpfMap]) -> None:
        """Use maps of the same names that another object created; before `load`."""
        for name, handle in self._map_handles().items():
            if name in maps:
                code = _libbpf().bpf_map__reuse_fd(handle, maps[name].fd)
                if code:
                    raise _failure(f"map {name} cannot be shared with {self._name}", code)

    def use_uprobe_links(self) -> None:
        """Attach uprobes by links of the kernel's own, not by perf events; before `load`.

        An event that is there for one process is switched with it, each time that the process
        begins to run and to wait: ten of them cost a server that waits between its requests 5 us
        of each. Such links cost nothing but the calls that they see.
        """
        self._uprobe_links = True
        for program in self._programs():
            if _libbpf().bpf_program__section_name(program) in (b"uprobe", b"uretprobe"):
                _libbpf().bpf_program__set_expected_attach_type(program, _BPF_TRACE_UPROBE_MULTI)

    def load(self) -> None:
        """Create maps, verify and load every program."""
        _log.clear()
        code = _libbpf().bpf_object__load(self._handle)
        if code:
            raise _failure(f"the kernel refused {self._name}", code)

    def maps(self) -> dict[str, BpfMap]:
        """All maps but the constants, by name; after `load`."""
        return {
            name: BpfMap(name, _libbpf().bpf_map__fd(handle))
            for name, handle in self._map_handles().items()
            if "." not in name
        }

    def _program(self, name: str) -> int:
        handle = _libbpf().bpf_object__find_program_by_name(self._handle, name.encode())
        if not handle:
            raise CaptureError(f"{self._name} has no program {name}")
        return int(handle)

    def _programs(self) -> Iterator[int]:
        program = _libbpf().bpf_object__next_program(self._handle, None)
        while program:
            yield program
            program = _libbpf().bpf_object__next_program(self._handle, program)

    def attach_all(self) -> list[Link]:
        """Attach every program to the place its section names."""
        links = []
        for program in self._programs():
            link = _libbpf().bpf_program__attach(program)
            if not link:
                name = _libbpf().bpf_program__name(program).decode()
                raise _failure(f"{name} cannot be attached", 0)
            links.append(Link(link))
        return links

    def attach_uprobe(
        self, program: str, path: str, file_offset: int, *, at_return: bool, pid: int = EVERYONE
    ) -> Link:
        """Attach to `file_offset` bytes into the file, for one or for every process that maps it.

        What is attached for one process is not in the memory of others: it costs them nothing.
        """
        if self._uprobe_links:
            descriptor = _uprobe_link(
                _libbpf().bpf_program__fd(self._program(program)), path, file_offset,
                flags=_UPROBE_MULTI_RETURN if at_return else 0, pid=max(pid, 0),
            )  # fmt: skip
            if descriptor < 0:
                raise _failure(f"{program} cannot be attached to {path}+{file_offset:#x}", 0)
            return Link(descriptor, os.close)
        options = _UprobeOpts(sz=ctypes.sizeof(_UprobeOpts), retprobe=at_return)
        link = _libbpf().bpf_program__attach_uprobe_opts(
            self._program(program), pid, os.fsencode(path), file_offset, ctypes.byref(options)
        )
        if not link:
            raise _failure(f"{program} cannot be attached to {path}+{file_offset:#x}", 0)
        return Link(link)

    def close(self) -> None:
        """Unload; links must be closed before."""
        if self._handle is not None:
            _libbpf().bpf_object__close(self._handle)
            self._handle = None


def _uprobe_link(program: int, path: str, file_offset: int, *, flags: int, pid: int) -> int:
    """The descriptor of a link that attaches one program at one place; -1: see errno.

    `pid` 0: in every process.
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    offsets = (ctypes.c_uint64 * 1)(file_offset)
    request = _LINK_CREATE.pack(
        program, 0, _BPF_TRACE_UPROBE_MULTI, 0,
        ctypes.addressof(name), ctypes.addressof(offsets), 0, 0, 1, flags, pid,
    )  # fmt: skip
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_BPF[os.uname().machine]
    return int(libc.syscall(number, _BPF_LINK_CREATE, request, ctypes.c_size_t(len(request))))


def possible_cpus() -> int:
    """How many CPUs the kernel may ever have: the length of a per-CPU value."""
    return int(_libbpf().libbpf_num_possible_cpus())
