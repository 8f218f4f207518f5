"""One target in a process of its own: `python -m tests.fuzz.one NAME AGAIN [options]`.

AGAIN is a program that does the same: libFuzzer runs itself again to merge. The options are its.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.targets import load


def main() -> None:
    """Fuzz until time, a finding or a signal ends it; libFuzzer does not return."""
    name, again, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["otel_tap"]):
        target = load(name)
    atheris.Setup([again, *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
