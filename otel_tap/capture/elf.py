"""Exported functions of an ELF file and where their code lies in it.

Reads files that other people's processes map, so any bytes must do: whatever is wrong with a file
is an `ElfRefusal` that says so, never another error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
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


def _file_offset(elf: ELFFile, address: int) -> int:
    for segment in elf.iter_segments("PT_LOAD"):
        start = segment["p_vaddr"]
        if start <= address < start + segment["p_filesz"]:
            if not segment["p_flags"] & 1:
                raise ElfRefusal(f"code address {address:#x} is not executable")
            return int(address - start + segment["p_offset"])
    raise ElfRefusal(f"address {address:#x} is in no loaded segment")


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


def _functions(elf: ELFFile, file: IO[bytes], names: Sequence[str]) -> dict[str, Function]:
    if elf["e_machine"] not in _MACHINES or elf.elfclass != 64:
        raise ElfRefusal(f"machine {elf['e_machine']} is not supported")
    functions = {}
    for name, address in _lookup(elf, names).items():
        offset = _file_offset(elf, address)
        file.seek(offset)
        functions[name] = Function(name, address, offset, file.read(_CODE_BYTES))
    return functions


def exported_functions(file: IO[bytes], names: Sequence[str]) -> dict[str, Function]:
    """Those of `names` that the file defines; empty when it has none of them.

    Raises `ElfRefusal` for anything that is not a whole ELF file of a known machine.
    """
    try:
        return _functions(ELFFile(file), file, names)
    except _PARSE_ERRORS as error:
        raise ElfRefusal(f"not a readable ELF file ({type(error).__name__}: {error})") from error
