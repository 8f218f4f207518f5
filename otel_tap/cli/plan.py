"""`otel-tap plan`: the processes, libraries and probe points to tap, and why not the rest.

Owns how a plan is printed; choosing is `otel_tap.capture.plan`'s. Attaches nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_tap.cli.terminal_text import report, safe
from otel_tap.errors import RightsError

_CAP_SYS_PTRACE = 1 << 19  # linux/capability.h; the kernel asks for it before it shows maps

if TYPE_CHECKING:
    from otel_tap.capture.plan import Plan, ProbePoint


def plan(
    *,
    pid: Annotated[
        list[int] | None, typer.Option(min=1, metavar="PID", help="Only of these processes.")
    ] = None,
    placement: Annotated[
        str, typer.Option(metavar="WHERE", help="auto (cheapest proved place) or symbol.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print which processes, libraries and probe points would be tapped, and why not the rest."""
    from otel_tap.capture.plan import make_plan  # noqa: PLC0415 - quick --help

    pids = pid or []
    if placement not in ("auto", "symbol"):
        raise typer.BadParameter(f'placement is "{placement}"; accepted: auto or symbol')
    _require_sight(pids)
    made = make_plan(pids, "symbol" if placement == "symbol" else "auto")
    if as_json:
        print(json.dumps(_document(made), indent=2))
    else:
        for line in _lines(made):
            print(line)
    report(f"{len(made.targets)} files to tap, {len(made.refusals)} refused")


def _require_sight(pids: list[int]) -> None:
    """Refuse to plan for processes that cannot be looked at: the answer would be a guess."""
    if not pids and not _sees_all_processes():
        raise _not_permitted("the processes of other users are not visible to this user")
    for pid in pids:
        try:
            with Path(f"/proc/{pid}/maps").open("rb") as maps:
                maps.read(1)
        except (FileNotFoundError, ProcessLookupError):
            raise typer.BadParameter(f"there is no process {pid}") from None
        except PermissionError:
            raise _not_permitted(f"process {pid} is not visible to this user") from None


def _sees_all_processes() -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & _CAP_SYS_PTRACE)


def _not_permitted(message: str) -> RightsError:
    return RightsError("process maps", message, remedy="run `sudo otel-tap plan`")


def _lines(made: Plan) -> list[str]:
    lines: list[str] = []
    for target in made.targets:
        lines.append(f"tap {safe(target.path)} ({target.kind.value}), {_pids(target.pids)}")
        for probe in target.probes:
            where = f"{probe.place} (file {probe.file_offset:#x})"
            lines.append(f"    {where}: {probe.instruction}; {_cost(probe)}")
            lines.append(f"        because {probe.reason}")
        if target.check:
            lines.append(f"    {target.check}")
    lines += [
        f"not {safe(refusal.path)}, {_pids(refusal.pids)}: {safe(refusal.reason)}"
        for refusal in made.refusals
    ]
    return lines


def _cost(probe: ProbePoint) -> str:
    return "emulated" if probe.emulated else "single-stepped: about ten times the cost"


def _pids(pids: list[int]) -> str:
    if not pids:
        return "in no process now"
    return ("process " if len(pids) == 1 else "processes ") + " ".join(map(str, pids))


def _document(made: Plan) -> dict[str, Any]:
    return {
        "targets": [
            {
                "path": target.path,
                "device_inode": list(target.device_inode),
                "kind": target.kind.value,
                "pids": target.pids,
                "self_check": target.check,
                "probes": [
                    {
                        "symbols": list(probe.symbols),
                        "place": probe.place,
                        "address": probe.address,
                        "file_offset": probe.file_offset,
                        "instruction": probe.instruction,
                        "cost": "emulated" if probe.emulated else "single-stepped",
                        "entry_program": probe.entry_program,
                        "return_program": probe.return_program,
                        "reason": probe.reason,
                    }
                    for probe in target.probes
                ],
            }
            for target in made.targets
        ],
        "refusals": [
            {"path": refusal.path, "pids": refusal.pids, "reason": refusal.reason}
            for refusal in made.refusals
        ],
    }
