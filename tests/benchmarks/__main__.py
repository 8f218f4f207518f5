"""`python -m tests.benchmarks [NAME]`: run all scenarios or one, keep and print the figures."""

from __future__ import annotations

import os
import shutil
import sys

from tests.benchmarks.report import RESULT, keep, table
from tests.benchmarks.scenarios import SCENARIOS


def _complaint(names: list[str]) -> str | None:
    for name in names:
        if name not in SCENARIOS:
            return f"there is no scenario {name}; there are {', '.join(SCENARIOS)}"
    if os.geteuid() != 0:
        return "probes need root: sudo make bench"
    for program in ("nginx", "wrk", "h2load", "openssl"):
        if shutil.which(program) is None:
            return f"{program} is not installed: make bench installs it"
    return None


def main() -> int:
    """Exit code 2 for a scenario that does not exist or a machine that cannot run it."""
    names = sys.argv[1:] or list(SCENARIOS)
    complaint = _complaint(names)
    if complaint is not None:
        print(complaint, file=sys.stderr)
        return 2
    results = {}
    for name in names:
        print(f"{name}: {SCENARIOS[name].__doc__}", file=sys.stderr)
        results[name] = SCENARIOS[name](lambda line: print(f"  {line}", file=sys.stderr))
        keep(results)
    print(table(results))
    print(f"kept in {RESULT}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
