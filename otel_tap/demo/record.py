"""Makes the recording that the demo ships: `python -m otel_tap.demo.record`, as root.

Runs the demo, then keeps only what belongs to its own connections, and nothing that tells where it
was made: no other process, no path, no host.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from otel_tap.capture.extract import extract
from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recording import RecordTo
from otel_tap.demo.show import RECORDING, run_demo
from otel_tap.origin import Host

_HOST = Host("demo", None, "demo", "amd64", "linux", "recorded")


def main() -> int:
    """Run, keep, report."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.otr"
        code = run_demo(sys.stdout, sys.stderr, record=raw)
        if code == 0:
            source = RecordedSource(raw)
            ports = [int(port) for port in source.notes()["ports"].split()]
            extract(source, RecordTo(RECORDING, replace=True), ports, _HOST)
            RECORDING.chmod(0o644)  # nothing in it is anybody's secret
    return code


if __name__ == "__main__":
    sys.exit(main())
