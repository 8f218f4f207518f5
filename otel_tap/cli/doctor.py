"""`otel-tap doctor`: can this host be tapped, by which means, and what to do if not.

Owns how findings are printed and the exit code; the checks are `otel_tap.requirements`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from otel_tap.cli.terminal_text import report, report_error, safe
from otel_tap.errors import HostError

if TYPE_CHECKING:
    from otel_tap.requirements import Finding

_MARKS = {"yes": "yes", "no": "NO", "unknown": "?"}
_STYLES = {"yes": "green", "no": "bold red", "unknown": "yellow"}


def doctor(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object with all findings.")
    ] = False,
) -> None:
    """Check whether this host can be tapped, and say what to do if not.

    Exit code 0: it can; 5: only rights are missing; 4: something else is.
    """
    from otel_tap.requirements import check_host, require  # noqa: PLC0415 - quick --help

    findings = check_host()
    refusal: HostError | None = None
    try:
        require(findings)
    except HostError as error:
        refusal = error
    if as_json:
        _print_json(findings, refusal)
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        for finding in findings:
            print("\t".join(_cells(finding)))
    if refusal is not None:
        report_error(refusal.message, refusal.remedy)
        raise typer.Exit(refusal.exit_code)
    report("this host can be tapped")


def _cells(finding: Finding) -> tuple[str, str, str]:
    text = safe(finding.finding)
    if finding.outcome.name.lower() != "yes" and finding.remedy:
        text += f"; {'remedy' if finding.needed else 'better'}: {safe(finding.remedy)}"
    return _MARKS[finding.outcome.name.lower()], safe(finding.name), text


def _print_json(findings: Sequence[Finding], refusal: HostError | None) -> None:
    document = {
        "capable": refusal is None,
        "missing": refusal.check if refusal is not None else None,
        "findings": [
            {
                "name": finding.name,
                "outcome": finding.outcome.name.lower(),
                "finding": finding.finding,
                "remedy": finding.remedy,
                "needed": finding.needed,
            }
            for finding in findings
        ],
    }
    print(json.dumps(document, indent=2))


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a table is seen
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("", "check", "found", box=None, pad_edge=False)
    for finding in findings:
        mark, name, text = _cells(finding)
        table.add_row(
            Text(mark, style=_STYLES[finding.outcome.name.lower()]), Text(name), Text(text)
        )
    Console().print(table)
