"""The result as a file and as a table."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT = Path("build/bench.json")
_NOTES = {
    "peers": "bpftrace: its own sslsnoop.bt, which times calls, and programs/contents.bt, which "
    "reads the first 200 bytes of each; no exchanges, no delivery. BCC's sslsniff 0.26 does not "
    "compile on Linux 6.18 with Debian 12's headers ('cannot call non-static helper function')",
    "cpu_slowdown": "how many times as long a fixed piece of work takes this CPU in bursts 250 ms "
    "apart as at its best, measured beside each round; *_at_full_speed is divided by it",
    "paced": "the filter leaves out the client, but its TLS calls meet the probes as well",
}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "placement": "load and server on the first CPU, agent and collector on the last",
        "model": found.group(1).strip() if found else "unknown",
    }


def keep(results: dict[str, Any], path: Path = RESULT) -> None:
    """Write the results; entries of other scenarios stay if they are of this machine."""
    before: dict[str, Any] = {}
    if path.exists():
        before = json.loads(path.read_text())
    here = machine()
    if before.get("machine") != here:
        before = {}
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(
        json.dumps(before | results | {"machine": here, "notes": _NOTES}, indent=2) + "\n"
    )
    fresh.replace(path)


def table(results: dict[str, Any]) -> str:
    """Markdown: a line per figure."""
    lines = ["| scenario | figure | median | min | max |", "|---|---|---|---|---|"]
    lines += [
        f"| {scenario} | {name} | {_row(value)} |" for scenario, name, value in _figures(results)
    ]
    return "\n".join(lines)


def _figures(results: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for scenario, figures in results.items():
        for name, value in figures.items():
            yield scenario, name, value


def _row(value: Any) -> str:
    if isinstance(value, dict):
        return " | ".join(f"{value[name]:,}" for name in ("median", "min", "max"))
    return f"{value:,} | |" if isinstance(value, (int, float)) else f"{value} | |"
