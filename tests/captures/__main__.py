"""Records the golden recordings again: `python -m tests.captures [NAME ...]`, as root."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from otel_tap.capture.extract import extract
from otel_tap.capture.recorded import RecordedSource
from otel_tap.capture.recording import RecordTo
from otel_tap.origin import Host
from tests.captures import FOLDER, PLANTED_SECRET, exchanges_of
from tests.captures.scenarios import SCENARIOS, Ran, missing

_HOST = Host("captured", None, "captured", "amd64", "linux", "recorded")
_SETTLE_S = 1.5
_MAX_BYTES = 100_000


def _recorded(name: str, folder: Path, raw: Path) -> Ran:
    """Run the scenario beside `otel-tap record`."""
    recorder = subprocess.Popen(
        [sys.executable, "-m", "otel_tap", "record", str(raw), "--bodies"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert recorder.stderr is not None
    for line in recorder.stderr:
        if "ready" in line:
            break
    else:
        sys.exit("otel-tap record did not start")
    try:
        ran = SCENARIOS[name][0](folder)
        time.sleep(_SETTLE_S)
    finally:
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(20)
    return ran


def _wrong(ran: Ran, exchanges: list[dict[str, object]]) -> str:
    """How what was captured at the servers differs from what the programs counted."""
    counted: Counter[tuple[str, str, object]] = Counter(
        (method, target.replace(PLANTED_SECRET, "REDACTED"), status)
        for method, target, status in ran.counted
    )
    seen = Counter(
        (str(one.get("method")), str(one.get("target")), one.get("status"))
        for one in exchanges
        if one["role"] == "server"
    )
    if counted != seen:
        return f"not seen {counted - seen}, seen too often {seen - counted}"
    if PLANTED_SECRET in repr(exchanges):
        return "a secret was not redacted"
    return ""


def main() -> int:
    """Record what is named, or everything; returns the exit code."""
    code = 0
    for name in sys.argv[1:] or SCENARIOS:
        lacking = missing(name)
        if lacking:
            print(f"{name}: not recorded, without {', '.join(lacking)}")
            code = 1
            continue
        with tempfile.TemporaryDirectory(prefix="otel-tap-capture-") as folder:
            Path(folder).chmod(0o755)
            raw, part = Path(folder, "raw.otr"), Path(folder, "part.otr")
            ran = _recorded(name, Path(folder), raw)
            extract(RecordedSource(raw), RecordTo(part), ran.ports, _HOST)
            exchanges = exchanges_of(part)
            wrong = _wrong(ran, exchanges)
            size = part.stat().st_size
            if not wrong and size > _MAX_BYTES:
                wrong = f"{size} bytes are too many"
            if wrong:
                print(f"{name}: not written: {wrong}")
                code = 1
                continue
            (FOLDER / f"{name}.otr").write_bytes(part.read_bytes())
            text = json.dumps(exchanges, indent=1) + "\n"
            (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
            print(f"{name}: {len(exchanges)} exchanges, {size} bytes")
    return code


if __name__ == "__main__":
    sys.exit(main())
