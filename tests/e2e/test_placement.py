"""Placed probes on real libraries: they deliver what moved, and a wrong place is noticed."""

import shutil
import site
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_tap.capture import self_check
from otel_tap.capture.elf import read_image
from otel_tap.capture.live import LiveSource
from otel_tap.capture.plan import FilePlan, plan_file
from otel_tap.capture.self_check import CannotCheck, difference, loadable, unbound
from otel_tap.events import DataEvent, Event

pytestmark = pytest.mark.ebpf

LIBRARIES = [
    *Path("/usr/lib").glob("*-linux-gnu/libssl.so.3"),
    *(p for f in site.getsitepackages() for p in sorted(Path(f).glob("*.libs/libssl*"))),
]


@pytest.fixture
def library(world_readable: Path) -> Path:
    """A copy of the system's libssl that is loaded by nobody else."""
    (original,) = Path("/usr/lib").glob("*-linux-gnu/libssl.so.3")
    copy = world_readable / "libssl.so.3"
    shutil.copy(original, copy)
    copy.chmod(0o755)
    return copy


def _drain(source: LiveSource) -> None:
    for _ in source.read():
        pass


def run_child(source: LiveSource, path: Path) -> tuple[self_check.Outcome, list[Event]]:
    """The self-check's session through a library, and the events that are its."""
    checks = source._checks
    session = checks.start(loadable(str(path)))
    deadline = time.monotonic() + 10
    while not (session.exited and session.process.poll() is not None):
        assert time.monotonic() < deadline
        for event in source.read():
            assert getattr(event, "tgid", 0) != session.process.pid
    return checks.finish(session), session.events


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: path.name)
def test_placed_probes_deliver_what_the_calls_moved(path):
    source = LiveSource(1 << 22, print)
    try:
        plan = plan_file(str(path))
        assert plan is not None
        assert plan.moved
        if str(path).startswith(tuple(site.getsitepackages())):
            for file in (path, *path.parent.glob("libcrypto*")):
                placed = plan_file(str(file))
                assert placed is not None
                source._kernel.attach_library(str(file), placed)
        outcome, events = run_child(source, path)
        assert difference(outcome.moved, events) == ""
        assert not unbound(events)
    finally:
        source.close()


def test_the_libraries_of_this_host_pass_their_self_check_and_nobody_sees_it():
    said: list[str] = []
    source = LiveSource(1 << 22, said.append)
    try:
        verdicts = {tapped.verdict for tapped in source.taps.placed.values()}
        assert "self-checked" in verdicts
        assert said == []
        events = [event for _ in range(5) for event in source.read()]
        assert not [e for e in events if type(e) is DataEvent and b"self-check" in e.payload]
    finally:
        source.close()


@pytest.mark.parametrize("mistake", ["wrong program", "wrong direction", "wrong function"])
def test_a_wrong_place_is_noticed_and_the_library_is_tapped_at_its_symbols(library, mistake):
    right = plan_file(str(library))
    assert right is not None
    with library.open("rb") as file:
        other = read_image(file, ["SSL_get_error"]).functions["SSL_get_error"]
    changes: dict[str, dict[str, Any]] = {
        "wrong program": {"entry_program": "ssl_write_inner5"},
        "wrong direction": {"entry_program": "ssl_read_inner"},
        "wrong function": {"address": other.address, "file_offset": other.file_offset},
    }
    points = [
        replace(point, **changes[mistake]) if "SSL_write" in point.symbols else point
        for point in right.points
    ]
    wrong = FilePlan(right.library, right.object_name, tuple(points))
    said: list[str] = []
    source = LiveSource(1 << 22, said.append)
    try:
        source.taps.attach(str(library), wrong)
        source.taps.check(lambda: _drain(source))
        assert len(said) == 1, said
        assert str(library) in said[0]
        assert "self-check" in said[0]
        assert "exported symbols" in said[0]
        # And there it is right, once the agent has recovered from what the mistake made it copy.
        deadline = time.monotonic() + 60
        while source.shed_share and time.monotonic() < deadline:
            _drain(source)
        outcome, events = run_child(source, library)
        assert difference(outcome.moved, events) == ""
    finally:
        source.close()


def test_a_library_that_others_could_change_is_not_loaded(library):
    library.chmod(0o777)
    with pytest.raises(CannotCheck, match="others than root can change"):
        loadable(str(library))
