"""What would be tapped, where, and why not the rest: pure reading, nothing is attached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from otel_tap.capture.elf import ElfRefusal, Function, exported_functions
from otel_tap.capture.mapped import (
    FileKey,
    MappedFile,
    installed_libraries,
    mapped_code,
    process_ids,
)
from otel_tap.capture.probes import LIBRARIES, LibraryProbes, Probe
from otel_tap.events import TlsLibrary


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One function that carries a probe. `address` is virtual, `file_offset` in bytes."""

    symbol: str
    address: int
    file_offset: int
    instruction: str  # the code bytes under the breakpoint, in hexadecimal
    reason: str
    probe: Probe


@dataclass(frozen=True, slots=True)
class FilePlan:
    """The probe points of one file and the object whose programs they carry."""

    library: TlsLibrary
    object_name: str
    points: tuple[ProbePoint, ...]


@dataclass(slots=True)
class Target:
    """A file to tap and the processes that map it now."""

    path: str
    device_inode: FileKey
    kind: TlsLibrary
    probes: list[ProbePoint]
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


def _point(probe: Probe, function: Function) -> ProbePoint:
    places = [
        place
        for place, program in (
            ("entry", probe.entry_program),
            ("return", probe.return_program),
        )
        if program
    ]
    return ProbePoint(
        probe.symbol,
        function.address,
        function.file_offset,
        function.code[:8].hex(" "),
        f"{' and '.join(places)} of the exported symbol",
        probe,
    )


def plan_file(path: str) -> FilePlan | None:
    """The probe points of one file, None when it has no TLS functions.

    Raises `ElfRefusal` when it has some of them but cannot be tapped, or is not readable.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below, opening has its own reasons
    except OSError as error:
        raise ElfRefusal(f"cannot be opened: {error.strerror}") from error
    with file:
        functions = exported_functions(
            file, [symbol for library in LIBRARIES for symbol in library.symbols]
        )
    # Forms that share one address share one probe: two would count every byte twice.
    points: dict[int, ProbePoint] = {}
    found: list[LibraryProbes] = []
    for library in LIBRARIES:
        present = [probe for probe in library.probes if probe.symbol in functions]
        if not present:
            continue
        missing = [
            probe.symbol for probe in library.probes if probe.needed and probe not in present
        ]
        if missing:
            raise ElfRefusal(f"it has {present[0].symbol} but not {', '.join(missing)}")
        found.append(library)
        for probe in present:
            function = functions[probe.symbol]
            points.setdefault(function.address, _point(probe, function))
    if not found:
        return None
    return FilePlan(found[0].library, found[0].object_name, tuple(points.values()))


def looks_like_tls(name: str) -> bool:
    """Whether a refused file is worth telling the user about."""
    base = name.rsplit("/", 1)[-1]
    return base.startswith(("libssl", "libboringssl"))


def _files(pids: Sequence[int]) -> Iterable[MappedFile]:
    if pids:
        for pid in pids:
            yield from mapped_code(pid)
        return
    yield from installed_libraries()
    for pid in process_ids():
        yield from mapped_code(pid)


def make_plan(pids: Sequence[int]) -> Plan:
    """The plan for `pids`; for every process and installed library of the host when empty."""
    plan = Plan()
    targets: dict[FileKey, Target | Refusal | None] = {}
    for mapped in _files(pids):
        if mapped.key not in targets:
            entry: Target | Refusal | None = None
            try:
                file_plan = plan_file(mapped.open_path)
            except ElfRefusal as refusal:
                if looks_like_tls(mapped.name):
                    entry = Refusal(mapped.name, [], str(refusal))
                    plan.refusals.append(entry)
            else:
                if file_plan is not None:
                    entry = Target(
                        mapped.name, mapped.key, file_plan.library, list(file_plan.points)
                    )
                    plan.targets.append(entry)
            targets[mapped.key] = entry
        known = targets[mapped.key]
        if known is not None and mapped.pid and mapped.pid not in known.pids:
            known.pids.append(mapped.pid)
    return plan
