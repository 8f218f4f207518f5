"""The inputs that are kept: a text file for each target, a bytes literal on each line.

So they can be read, and a change of them is a diff.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def kept(name: str) -> list[bytes]:
    """The kept inputs of a target; none of one that is new."""
    path = CORPUS / f"{name}.txt"
    return [literal_eval(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, inputs: Iterable[bytes]) -> None:
    """Replace the kept inputs of a target."""
    lines = sorted(repr(data) for data in set(inputs))
    (CORPUS / f"{name}.txt").write_text("".join(line + "\n" for line in lines))
