"""`python -m tests.benchmarks [NAME]...`: run all scenarios or some, keep and print the figures."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from types import FrameType

from tests.benchmarks.loads import LoadError
from tests.benchmarks.report import RESULT, keep, table
from tests.benchmarks.scenarios import SCENARIOS

_PROGRAMS = ("nginx", "wrk", "h2load", "openssl", "bpftrace", "gcc", "taskset", "setpriv")


def _complaint(names: list[str]) -> str | None:
    for name in names:
        if name not in SCENARIOS:
            return f"there is no scenario {name}; there are {', '.join(SCENARIOS)}"
    if os.geteuid() != 0:
        return "probes need root: sudo make bench"
    lacking = [program for program in _PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}; make bench installs what it needs"
    return None


def _terminated(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)  # by way of every `with`, so that nothing is left behind


def main() -> int:
    """Exit code 2 for a scenario that does not exist or a machine that cannot run it, 1 when one
    failed: what was measured before is kept."""
    names = sys.argv[1:] or list(SCENARIOS)
    complaint = _complaint(names)
    if complaint is not None:
        print(complaint, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _terminated)
    results = {}
    try:
        for name in names:
            print(f"{name}: {SCENARIOS[name].__doc__}", file=sys.stderr)
            results[name] = SCENARIOS[name](lambda line: print(f"  {line}", file=sys.stderr))
            keep(results)
    except (RuntimeError, LoadError, subprocess.SubprocessError) as error:
        print(f"{name} failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if results:
            print(table(results))
            print(f"kept in {RESULT}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
