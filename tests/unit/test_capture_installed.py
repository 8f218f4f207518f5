"""TLS libraries that are there for nobody yet: found, and found again after every change."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from otel_tap.capture.installed import InstalledLibraries

LONG_AGO_NS = time.time_ns() - 60_000_000_000


def placed(root: Path, name: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def settled(root: Path) -> None:
    """As if nothing had been changed for a while."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, ns=(LONG_AGO_NS, LONG_AGO_NS))


def names(libraries: InstalledLibraries, root: Path) -> list[str]:
    return [mapped.name for mapped in libraries.below(str(root))]


@pytest.mark.parametrize(
    "name",
    [
        "usr/lib/x86_64-linux-gnu/libssl.so.3",
        "usr/lib/aarch64-linux-gnu/libcrypto.so",
        "usr/lib64/libssl.so.1.1",
        "lib/libcrypto.so.3",
        "usr/local/lib/x86_64-linux-gnu/libssl.so.3",
    ],
)
def test_a_library_at_a_usual_place_is_found_with_the_file_that_it_is(tmp_path, name):
    path = placed(tmp_path, name)
    placed(tmp_path, "usr/lib/libz.so.1")
    (found,) = InstalledLibraries().below(str(tmp_path))
    status = path.stat()
    assert (found.name, found.key) == ("/" + name, (status.st_dev, status.st_ino))
    assert path.samefile(found.open_path)


def test_a_link_is_the_file_that_it_leads_to_and_one_to_nowhere_is_nothing(tmp_path):
    real = placed(tmp_path, "opt/ssl/real")
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/libssl.so").symlink_to(real)
    (tmp_path / "usr/lib/libcrypto.so").symlink_to(tmp_path / "nowhere")
    (found,) = InstalledLibraries().below(str(tmp_path))
    assert found.key == (real.stat().st_dev, real.stat().st_ino)


def test_what_is_replaced_added_or_removed_is_seen_at_the_next_look(tmp_path):
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    first = placed(folder, "libssl.so.3")
    settled(tmp_path)
    libraries = InstalledLibraries()
    (found,) = libraries.below(str(tmp_path))
    assert list(libraries.below(str(tmp_path))) == [found]
    placed(folder, "new").replace(first)
    (replaced,) = libraries.below(str(tmp_path))
    assert replaced.key == (first.stat().st_dev, first.stat().st_ino) != found.key
    placed(folder, "libcrypto.so.3")
    placed(tmp_path, "usr/lib/riscv64-linux-gnu/libssl.so.3")
    assert len(names(libraries, tmp_path)) == 3
    first.unlink()
    assert names(libraries, tmp_path) == [
        "/usr/lib/riscv64-linux-gnu/libssl.so.3",
        "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    ]


def test_a_second_change_within_one_tick_of_the_clock_is_seen(tmp_path):
    folder = tmp_path / "usr/lib"
    placed(folder, "libssl.so.3")
    libraries = InstalledLibraries()
    assert len(names(libraries, tmp_path)) == 1
    stamp = folder.stat().st_mtime_ns
    placed(folder, "libcrypto.so.3")
    os.utime(folder, ns=(stamp, stamp))  # as a coarse clock leaves it
    assert len(names(libraries, tmp_path)) == 2


def test_a_folder_that_has_not_changed_is_not_listed_again(tmp_path, monkeypatch):
    placed(tmp_path, "usr/lib/libssl.so.3")
    settled(tmp_path)
    libraries = InstalledLibraries()
    before = names(libraries, tmp_path)
    monkeypatch.setattr(os, "listdir", lambda _: pytest.fail("listed"))
    assert names(libraries, tmp_path) == before == ["/usr/lib/libssl.so.3"]


def test_roots_that_hold_the_same_names_do_not_mix(tmp_path):
    libraries = InstalledLibraries()
    for name in ("a", "b"):
        placed(tmp_path / name, "usr/lib/libssl.so.3")
        settled(tmp_path / name)
    keys = {
        name: [mapped.key for mapped in libraries.below(str(tmp_path / name))]
        for name in ("a", "b")
    }
    assert keys["a"] != keys["b"]
    assert not names(libraries, tmp_path / "missing")
