"""TLS libraries that lie at the usual places, mapped by nobody yet perhaps.

Tapping them beforehand is what lets a process be seen that lives for milliseconds. Every process
that starts is a reason to look, so a look must cost little: a folder is listed again only when it
has changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from otel_tap.capture.mapped import MappedFile, stat_key

_FOLDERS = ("usr/lib64", "usr/lib", "lib64", "lib", "usr/local/lib", "usr/local/lib64")
_MULTIARCH = "-linux-gnu"  # how the folder of an architecture ends, below some of those
_NAMES = ("libssl.so", "libcrypto.so")  # and a version, most often

# A time stamp of a file system is as coarse as a tick of the clock: what changed just now may
# change again and keep it.
_COARSE_NS = 2_000_000_000
_MAX_LISTINGS = 4096

_Listing = tuple[tuple[str, ...], tuple[str, ...]]
"""Names in a folder: of libraries, and of folders of architectures."""


class InstalledLibraries:
    """Finds them below any root. One serves one thread at a time."""

    def __init__(self) -> None:
        self._listings: dict[tuple[int, int, int], _Listing] = {}

    def below(self, root: str = "/") -> Iterator[MappedFile]:
        """The libraries at the usual places below `root`; a link as the file that it leads to."""
        for folder in _FOLDERS:
            names, architectures = self._listing(os.path.join(root, folder))  # noqa: PTH118 - hot
            yield from _found(root, folder, names)
            for architecture in architectures:
                below = f"{folder}/{architecture}"
                names, _ = self._listing(os.path.join(root, below))  # noqa: PTH118 - hot
                yield from _found(root, below, names)

    def _listing(self, folder: str) -> _Listing:
        try:
            status = os.stat(folder)  # noqa: PTH116 - hot
        except OSError:
            return (), ()
        key = (status.st_dev, status.st_ino, status.st_mtime_ns)
        known = self._listings.get(key)
        if known is not None:
            return known
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - hot
        except OSError:
            return (), ()
        listing = (
            tuple(name for name in names if name.startswith(_NAMES)),
            tuple(name for name in names if name.endswith(_MULTIARCH)),
        )
        if time.time_ns() - status.st_mtime_ns > _COARSE_NS:
            if len(self._listings) >= _MAX_LISTINGS:
                self._listings.clear()
            self._listings[key] = listing
        return listing


def _found(root: str, folder: str, names: tuple[str, ...]) -> Iterator[MappedFile]:
    for name in names:
        path = os.path.join(root, folder, name)  # noqa: PTH118 - hot
        key = stat_key(path)
        if key is not None:
            yield MappedFile(0, f"/{folder}/{name}", path, key)
