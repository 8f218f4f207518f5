"""A HAR file is whole JSON after every write, is continued, and is its owner's alone."""

import errno
import json
import os
import stat

import pytest

from otel_tap.delivery import har_file
from otel_tap.delivery.har_file import HarFile
from otel_tap.errors import ExportError
from tests.unit.recordings import origin_of
from tests.unit.test_telemetry_har import OFFSET, VALIDATOR, exchange, request

SECOND = 10**9


def opened(path, said=None):
    return HarFile(str(path), body_limit=1000, report=([] if said is None else said).append)


def add(archive, number=0):
    archive.add(exchange(request=request(target=b"/%d" % number)), origin_of(7), OFFSET)


def targets(path):
    document = json.loads(path.read_text())
    VALIDATOR.validate(document)
    return [entry["request"]["url"].rsplit("/", 1)[1] for entry in document["log"]["entries"]]


def test_it_is_whole_json_after_every_write(tmp_path):
    path = tmp_path / "a.har"
    archive = opened(path)
    assert targets(path) == []
    for number in range(3):
        add(archive, number)
        archive.turn((number + 1) * SECOND)
        assert targets(path) == [str(n) for n in range(number + 1)]
    archive.close()
    assert archive.written == 3


def test_entries_wait_a_second_at_most_and_within_a_bound(tmp_path, monkeypatch):
    path = tmp_path / "a.har"
    archive = opened(path)
    add(archive)
    archive.turn(10 * SECOND)
    add(archive)
    archive.turn(10 * SECOND + 1)
    assert len(targets(path)) == 1
    archive.turn(11 * SECOND)
    assert len(targets(path)) == 2
    monkeypatch.setattr(har_file, "_MAX_WAITING", 100)
    add(archive)
    assert len(targets(path)) == 3
    archive.close()


def test_one_that_is_there_is_continued(tmp_path):
    path = tmp_path / "a.har"
    for number in range(3):
        archive = opened(path)
        if number != 1:  # one that adds nothing leaves it whole, too
            add(archive, number)
        archive.close()
    assert targets(path) == ["0", "2"]


def test_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "a.har"
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["mine", '{"log":{"version":"1.2"}}', "{" * 5000])
def test_another_file_is_left_alone(tmp_path, content):
    path = tmp_path / "a.har"
    path.write_text(content)
    with pytest.raises(ExportError, match="no whole HAR file"):
        opened(path)
    assert path.read_text() == content


def test_links_pipes_and_missing_folders_are_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "none/a.har", "."):
        with pytest.raises(ExportError):
            opened(tmp_path / name)
    assert not (tmp_path / "target").exists()


def test_a_full_disk_is_said_once_counted_and_leaves_the_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.har"
    said: list[str] = []
    archive = opened(path, said)
    add(archive, 1)
    archive.turn(SECOND)
    before = path.read_bytes()
    write = os.pwrite

    def full(fd, content, at):
        room = len(before) + 100 - at  # some of it fits
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, content[:room], at)

    monkeypatch.setattr("otel_tap.delivery.har_file.os.pwrite", full)
    for number in range(3):
        add(archive, number)
        archive.turn((5 + number) * SECOND)
        assert path.read_bytes() == before
    assert archive.dropped == 3
    assert len(said) == 1
    assert "No space left" in said[0]
    monkeypatch.setattr("otel_tap.delivery.har_file.os.pwrite", write)
    add(archive, 9)
    archive.close()
    assert targets(path) == ["1", "9"]


def test_what_cannot_be_described_is_counted_and_stops_nothing(tmp_path, monkeypatch):
    archive = opened(tmp_path / "a.har")
    monkeypatch.setattr(har_file, "har_entry", lambda *_: 1 / 0)
    add(archive)
    monkeypatch.undo()
    add(archive, 5)
    archive.close()
    assert archive.dropped == 1
    assert targets(tmp_path / "a.har") == ["5"]
