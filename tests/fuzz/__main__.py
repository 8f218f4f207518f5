"""Runs targets one after another and reports what each did.

`python -m tests.fuzz [--seconds N] [--merge] [NAME...]`. Exit code 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from hashlib import sha1
from pathlib import Path

from tests.fuzz.kept import keep, kept
from tests.fuzz.targets import NAMES, load

WORK = Path("build/fuzz")
_LONGEST = 4096  # bytes of an input
_COUNTERS = {
    "slowest": re.compile(r"stat::slowest_unit_time_sec:\s+(\d+)"),
    "executions": re.compile(r"stat::number_of_executed_units:\s+(\d+)"),
    "features": re.compile(r" ft: (\d+) "),
    "rss": re.compile(r"stat::peak_rss_mb:\s+(\d+)"),
}


def main() -> int:
    """Fuzz, or with --merge take what was found into the corpus that is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--merge", action="store_true", help="rewrite the corpus that is kept")
    parser.add_argument("names", nargs="*", metavar="NAME")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(NAMES)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    bad = 0
    for name in asked.names or NAMES:
        _prepare(name)
        if asked.merge:
            _merge(name)
        else:
            bad += _fuzz(name, asked.seconds)
    return 1 if bad else 0


def _prepare(name: str) -> None:
    target = load(name)
    grown = WORK / name / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    for seed in (*target.SEEDS, *kept(name)):
        (grown / sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in target.TOKENS)
    (WORK / name / "tokens").write_text("".join(f'"{token}"\n' for token in quoted))


def _fuzz(name: str, seconds: int) -> int:
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST}",
        "-timeout=10",  # seconds of one input: all readers are linear
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        f"-artifact_prefix={WORK / name}/",
    ]
    if load(name).TOKENS:
        options.append(f"-dict={WORK / name}/tokens")
    done = _run(name, *options, str(WORK / name / "corpus"))
    said = {
        what: (pattern.findall(done.stderr) or ["?"])[-1] for what, pattern in _COUNTERS.items()
    }
    verdict = "nothing found" if done.returncode == 0 else "FOUND"
    print(
        f"{name:<18} {said['executions']:>9} executions in {seconds} s, {said['features']} features"
        f", {said['rss']} MB, slowest {said['slowest']} s: {verdict}",
        flush=True,
    )
    if done.returncode:
        print(done.stdout[-3000:] + done.stderr[-3000:], file=sys.stderr)
    return int(done.returncode != 0)


def _merge(name: str) -> None:
    """As few and as small inputs as reach the same code."""
    fresh = WORK / name / "merged"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    done = _run(name, "-set_cover_merge=1", str(fresh), str(WORK / name / "corpus"))
    inputs = [path.read_bytes() for path in fresh.iterdir()]
    if done.returncode or not inputs:
        sys.exit(f"merging {name} failed:\n{done.stderr[-3000:]}")
    keep(name, inputs)
    print(f"{name:<18} {len(inputs)} inputs kept", flush=True)


def _run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    program = (WORK / name / "run").resolve()
    command = shlex.join([sys.executable, "-m", "tests.fuzz.one", name, str(program)])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return subprocess.run(
        [program, *options], capture_output=True, text=True, errors="replace", check=False
    )


if __name__ == "__main__":
    sys.exit(main())
