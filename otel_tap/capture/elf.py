"""Exported functions of an ELF file, where their code lies in it, and what it calls elsewhere.

Reads files that other people's processes map, so any bytes must do: whatever is wrong with a file
is an `ElfRefusal` that says so, never another error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.hash import GNUHashSection
from elftools.elf.sections import SymbolTableSection

_MACHINES = {"EM_X86_64", "EM_AARCH64"}
_MAX_SYMBOLS = 1_000_000
_CODE_BYTES = 16
_MAX_RELOCATIONS = 1_000_000
_RELOCATION = struct.Struct("=QQq")  # Elf64_Rela
_SYMBOL_BYTES = 24  # Elf64_Sym, which begins with the offset of its name
_GLOB_DAT, _JUMP_SLOT = 6, 7  # R_X86_64_*


# What a first look needs of an ELF file of 64 bits, little-endian.
_LITTLE_64 = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<6s26xQQ6xHHHH2x")  # Elf64_Ehdr: where the two tables are, and how large
_SEGMENT = struct.Struct("<I4xQQ8xQ16x")  # Elf64_Phdr: kind, offset, address, size in the file
_SECTION = struct.Struct("<4xI56x")
_DYNAMIC = struct.Struct("<qQ")
_MAX_ENTRIES = 65_536
_PT_LOAD, _PT_DYNAMIC, _SHT_SYMTAB = 1, 2, 2
_DT_STRTAB, _DT_STRSZ = 5, 10


class ElfRefusal(Exception):  # noqa: N818 - a verdict on a file, not an error of the program
    """This file cannot be tapped; the text says why."""


@dataclass(frozen=True, slots=True)
class Function:
    """An exported function: its address, where that is in the file, and how its code begins."""

    name: str
    address: int
    file_offset: int
    code: bytes


# What pyelftools lets through on truncated and hostile files, found by feeding it such.
_PARSE_ERRORS = (
    ELFError,
    ConstructError,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    RecursionError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class _Segment:
    address: int
    size: int
    file_offset: int
    executable: bool


class Image:
    """One ELF file as the loader maps it; reads from the open file when asked.

    `functions`: those of the wanted names that it defines. Methods raise `ElfRefusal` only.
    """

    def __init__(self, elf: ELFFile, file: IO[bytes], names: Sequence[str]) -> None:
        if elf["e_machine"] not in _MACHINES or elf.elfclass != 64:
            raise ElfRefusal(f"machine {elf['e_machine']} is not supported")
        self.machine = str(elf["e_machine"]).removeprefix("EM_").lower()
        self._elf = elf
        self._file = file
        self._segments = [
            _Segment(s["p_vaddr"], s["p_filesz"], s["p_offset"], bool(s["p_flags"] & 1))
            for s in elf.iter_segments("PT_LOAD")
        ]
        self._imports: dict[int, str] | None = None
        self.functions: dict[str, Function] = {}
        for name, address in _lookup(elf, names).items():
            offset = self.file_offset(address)
            self.functions[name] = Function(name, address, offset, self._read(offset, _CODE_BYTES))

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def _segment(self, address: int) -> _Segment | None:
        for segment in self._segments:
            if segment.address <= address < segment.address + segment.size:
                return segment
        return None

    def file_offset(self, address: int) -> int:
        """Where in the file the code at a virtual address is."""
        segment = self._segment(address)
        if segment is None:
            raise ElfRefusal(f"address {address:#x} is in no loaded segment")
        if not segment.executable:
            raise ElfRefusal(f"code address {address:#x} is not executable")
        return address - segment.address + segment.file_offset

    def code(self, address: int, size: int) -> bytes:
        """At most `size` bytes of code at `address`; none where no code is."""
        segment = self._segment(address)
        if segment is None or not segment.executable:
            return b""
        with _reading():
            begin = address - segment.address
            return self._read(segment.file_offset + begin, min(size, segment.size - begin))

    def imported(self, slot: int) -> str | None:
        """The name of the function whose address the linker puts at `slot`; x86-64 only."""
        if self._imports is None:
            with _reading():
                self._imports = self._read_imports()
        return self._imports.get(slot)

    def _read_imports(self) -> dict[int, str]:
        symbols = self._elf.get_section_by_name(".dynsym")
        if self.machine != "x86_64" or not isinstance(symbols, SymbolTableSection):
            return {}
        table, strings = symbols.data(), symbols.stringtable.data()
        found: dict[int, str] = {}
        for section_name in (".rela.plt", ".rela.dyn"):
            section = self._elf.get_section_by_name(section_name)
            if section is None or section["sh_size"] > _MAX_RELOCATIONS * _RELOCATION.size:
                continue
            content = section.data()
            whole = len(content) - len(content) % _RELOCATION.size
            for slot, info, _ in _RELOCATION.iter_unpack(content[:whole]):
                if info & 0xFFFFFFFF not in (_GLOB_DAT, _JUMP_SLOT):
                    continue
                at = (info >> 32) * _SYMBOL_BYTES
                if at + _SYMBOL_BYTES > len(table):
                    continue
                (name,) = struct.unpack_from("=I", table, at)
                end = strings.find(b"\0", name)
                if end > name:
                    found[slot] = strings[name:end].decode("utf-8", "replace")
        return found


def _lookup(elf: ELFFile, names: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    wanted = set(names)
    hashes = elf.get_section_by_name(".gnu.hash")
    if isinstance(hashes, GNUHashSection):
        for name in names:
            symbol = hashes.get_symbol(name)
            if symbol is not None and symbol["st_info"]["type"] == "STT_FUNC":
                found[name] = symbol["st_value"]
        if found:
            return {name: address for name, address in found.items() if address}
    for section_name in (".dynsym", ".symtab"):
        section = elf.get_section_by_name(section_name)
        if not isinstance(section, SymbolTableSection) or section.num_symbols() > _MAX_SYMBOLS:
            continue
        if section_name == ".dynsym" and hashes is not None:
            continue
        strings = section.stringtable.data()
        if not any(b"\0" + name.encode() + b"\0" in strings for name in wanted):
            continue
        for symbol in section.iter_symbols():
            if symbol.name in wanted and symbol["st_info"]["type"] == "STT_FUNC":
                found[symbol.name] = symbol["st_value"]
        if found:
            break
    return {name: address for name, address in found.items() if address}


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except _PARSE_ERRORS as error:
        raise ElfRefusal(f"not a readable ELF file ({type(error).__name__}: {error})") from error


def may_define(file: IO[bytes], names: Sequence[str]) -> bool:
    """False only where none of `names` can be found in the file; costs a tenth of reading it.

    Looks for them among the names of the dynamic linker. Whatever has other tables of symbols, or
    is odd in any way, is to be read.
    """
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return True
    magic, segments_at, sections_at, *sizes = _HEADER.unpack(header)
    if magic != _LITTLE_64 or sizes[::2] != [_SEGMENT.size, _SECTION.size]:
        return True
    sections = _table(file, sections_at, sizes[3], _SECTION)
    mapped = _table(file, segments_at, sizes[1], _SEGMENT)
    if sections is None or mapped is None or (_SHT_SYMTAB,) in sections:
        return True
    for kind, offset, _, size in mapped:
        if kind == _PT_DYNAMIC:
            entries = _table(file, offset, size // _DYNAMIC.size, _DYNAMIC)
            dynamic = {entry[0]: entry[1] for entry in entries or ()}
            return _is_named(file, dynamic, mapped, names)
    return True


def _table(
    file: IO[bytes], offset: int, count: int, entry: struct.Struct
) -> list[tuple[int, ...]] | None:
    if not 0 < count <= _MAX_ENTRIES:
        return None
    with _reading():
        file.seek(offset)
        content = file.read(count * entry.size)
    return list(entry.iter_unpack(content)) if len(content) == count * entry.size else None


def _is_named(
    file: IO[bytes],
    dynamic: Mapping[int, int],
    mapped: Sequence[tuple[int, ...]],
    names: Sequence[str],
) -> bool:
    address, size = dynamic.get(_DT_STRTAB, 0), dynamic.get(_DT_STRSZ, 0)
    for kind, offset, begin, length in mapped:
        if kind == _PT_LOAD and begin <= address and address + size <= begin + length:
            with _reading():
                file.seek(offset + address - begin)
                strings = file.read(size)
            return any(b"\0" + name.encode() + b"\0" in strings for name in names)
    return True


def read_image(file: IO[bytes], names: Sequence[str]) -> Image:
    """The file and those of `names` that it defines; `file` has to stay open.

    Raises `ElfRefusal` for anything that is not a whole ELF file of a known machine.
    """
    with _reading():
        return Image(ELFFile(file), file, names)


def exported_functions(file: IO[bytes], names: Sequence[str]) -> dict[str, Function]:
    """Those of `names` that the file defines; raises what `read_image` raises."""
    return read_image(file, names).functions
