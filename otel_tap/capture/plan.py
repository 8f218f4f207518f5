"""What would be tapped, where, and why not the rest: pure reading, nothing is attached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from otel_tap.capture.elf import ElfRefusal, Image, may_define, read_image
from otel_tap.capture.installed import InstalledLibraries
from otel_tap.capture.listing import Listing
from otel_tap.capture.mapped import (
    FileKey,
    MappedFile,
    mapped_code,
    process_ids,
)
from otel_tap.capture.placement import Place, at_symbol, place
from otel_tap.capture.probes import LIBRARIES, LibraryProbes, Probe
from otel_tap.capture.self_check import CannotCheck, loadable
from otel_tap.events import TlsLibrary

Placement = Literal["auto", "symbol"]
"""`auto`: the cheapest place that is proved to see the same; `symbol`: the exported functions."""


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One place that carries a probe, for one function or several that reach it.

    `address` is virtual, `file_offset` in bytes. `place` says where it is seen from the symbol;
    `emulated` whether the kernel emulates the instruction there, or single-steps it (which costs
    ten times more); `reason` is the proof, or what there is against a cheaper place.
    """

    symbols: tuple[str, ...]
    address: int
    file_offset: int
    place: str
    instruction: str
    emulated: bool
    reason: str
    entry_program: str | None
    return_program: str | None
    moved: bool


@dataclass(frozen=True, slots=True)
class FilePlan:
    """The probe points of one file and the object whose programs they carry."""

    library: TlsLibrary
    object_name: str
    points: tuple[ProbePoint, ...]

    @property
    def moved(self) -> bool:
        """Whether a probe sits elsewhere than at the exported symbol."""
        return any(point.moved for point in self.points)


@dataclass(slots=True)
class Target:
    """A file to tap and the processes that map it now."""

    path: str
    device_inode: FileKey
    kind: TlsLibrary
    probes: list[ProbePoint]
    check: str  # how its places are checked when it is tapped; "" when there is nothing to check
    pids: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Refusal:
    """A file that looks like a TLS library and cannot be tapped."""

    path: str
    pids: list[int]
    reason: str


@dataclass(slots=True)
class Plan:
    """Everything that would be tapped on this host now."""

    targets: list[Target] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Choice:
    probe: Probe
    place: Place
    symbol_address: int

    @property
    def moved(self) -> bool:
        return self.place.address != self.symbol_address


_SYMBOLS = tuple(symbol for library in LIBRARIES for symbol in library.symbols)


def _choices(listing: Listing, probes: Sequence[Probe], placement: Placement) -> list[_Choice]:
    chosen = []
    for probe in probes:
        best = (
            place(listing, probe)
            if placement == "auto"
            else at_symbol(listing, probe, "the exported symbol, as asked for")
        )
        chosen.append(_Choice(probe, best, listing.image.functions[probe.symbol].address))
    # Different programs cannot share an address that stands for different functions.
    programs: dict[int, set[tuple[str | None, str | None]]] = {}
    for choice in chosen:
        key = (_kind(choice.place.entry_program), choice.probe.return_program)
        programs.setdefault(choice.place.address, set()).add(key)
    return [
        replace(
            choice, place=at_symbol(listing, choice.probe, "its place is another function's too")
        )
        if choice.moved and len(programs[choice.place.address]) > 1
        else choice
        for choice in chosen
    ]


def _kind(program: str | None) -> str | None:
    """What the _ex form of a read runs at the inner function differs only in what 0 means."""
    return "ssl_read_inner" if program == "ssl_read_ex" else program


def _points(image: Image, choices: Sequence[_Choice]) -> tuple[ProbePoint, ...]:
    """Functions that share an address share one probe: two would count every byte twice."""
    by_address: dict[int, list[_Choice]] = {}
    for choice in choices:
        by_address.setdefault(choice.place.address, []).append(choice)
    points = []
    for address, sharing in by_address.items():
        # Only the forms that return the number say that a result of 0 is the end.
        first = min(sharing, key=lambda choice: choice.probe.done > 0)
        reasons = [
            (f"{choice.probe.symbol}: " if len(sharing) > 1 else "") + choice.place.proof
            for choice in sharing
        ]
        points.append(
            ProbePoint(
                tuple(choice.probe.symbol for choice in sharing),
                address,
                image.file_offset(address),
                _where(sharing),
                first.place.instruction,
                first.place.emulated,
                "; ".join(reasons) + _apart(sharing, choices),
                first.place.entry_program,
                first.probe.return_program,
                any(choice.moved for choice in sharing),
            )
        )
    return tuple(points)


def _where(sharing: Sequence[_Choice]) -> str:
    first = sharing[0]
    symbols = " and ".join(choice.probe.symbol for choice in sharing)
    inside = first.place.address - first.place.function
    plus = f"+{inside:#x}" if inside else ""
    if first.place.function != first.symbol_address:
        return f"{first.place.function:#x}{plus}, which {symbols} reach{'es' * (len(sharing) < 2)}"
    return f"{symbols}{plus}"


def _apart(sharing: Sequence[_Choice], choices: Sequence[_Choice]) -> str:
    """Other forms of the same call that keep probes of their own."""
    if not any(choice.place.function != choice.symbol_address for choice in sharing):
        return ""
    stem = sharing[0].probe.symbol.split("_ex")[0]
    others = [
        choice.probe.symbol
        for choice in choices
        if choice.probe.symbol.split("_ex")[0] == stem and choice not in sharing
    ]
    if not others:
        return ""
    return f"; {' and '.join(others)} keep their own probe, and a call below another counts once"


def plan_file(path: str, placement: Placement = "auto") -> FilePlan | None:
    """The probe points of one file, None when it has no TLS functions.

    Raises `ElfRefusal` when it has some of them but cannot be tapped, or is not readable.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below, opening has its own reasons
    except OSError as error:
        raise ElfRefusal(f"cannot be opened: {error.strerror}") from error
    with file:
        if not may_define(file, _SYMBOLS):
            return None
        image = read_image(file, _SYMBOLS)
        found: list[LibraryProbes] = []
        probes: list[Probe] = []
        for library in LIBRARIES:
            present = [probe for probe in library.probes if probe.symbol in image.functions]
            if not present:
                continue
            missing = [
                probe.symbol for probe in library.probes if probe.needed and probe not in present
            ]
            if missing:
                raise ElfRefusal(f"it has {present[0].symbol} but not {', '.join(missing)}")
            found.append(library)
            probes += present
        if not found:
            return None
        points = _points(image, _choices(Listing(image), probes, placement))
    return FilePlan(found[0].library, found[0].object_name, points)


def looks_like_tls(name: str) -> bool:
    """Whether a refused file is worth telling the user about."""
    base = name.rsplit("/", 1)[-1]
    return base.startswith(("libssl", "libboringssl"))


def _files(pids: Sequence[int]) -> Iterable[MappedFile]:
    if pids:
        for pid in pids:
            yield from mapped_code(pid)
        return
    yield from InstalledLibraries().below()
    for pid in process_ids():
        yield from mapped_code(pid)


def _check(path: str, plan: FilePlan) -> str:
    if not plan.moved:
        return ""
    try:
        loadable(path)
    except CannotCheck as cannot:
        return f"not self-checked: {cannot}; the proofs stand"
    if not any("SSL_read" in point.symbols for point in plan.points):
        return "self-checked with the library that loads it"
    return "self-checked in a process of its own when it is tapped"


def make_plan(pids: Sequence[int], placement: Placement = "auto") -> Plan:
    """The plan for `pids`; for every process and installed library of the host when empty."""
    plan = Plan()
    targets: dict[FileKey, Target | Refusal | None] = {}
    for mapped in _files(pids):
        if mapped.key not in targets:
            entry: Target | Refusal | None = None
            try:
                file_plan = plan_file(mapped.open_path, placement)
            except ElfRefusal as refusal:
                if looks_like_tls(mapped.name):
                    entry = Refusal(mapped.name, [], str(refusal))
                    plan.refusals.append(entry)
            else:
                if file_plan is not None:
                    entry = Target(
                        mapped.name,
                        mapped.key,
                        file_plan.library,
                        list(file_plan.points),
                        _check(mapped.open_path, file_plan),
                    )
                    plan.targets.append(entry)
            targets[mapped.key] = entry
        known = targets[mapped.key]
        if known is not None and mapped.pid and mapped.pid not in known.pids:
            known.pids.append(mapped.pid)
    return plan
