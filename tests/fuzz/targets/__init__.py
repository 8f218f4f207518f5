"""The targets, by the names of their modules."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol


class Target(Protocol):
    """What the module of a target has."""

    SEEDS: tuple[bytes, ...]
    TOKENS: tuple[bytes, ...]

    def check(self, data: bytes) -> None:
        """Raises where the invariant does not hold."""
        ...


NAMES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")
)


def load(name: str) -> Target:
    """The target of that name."""
    target: Target = import_module(f"{__name__}.{name}")
    return target
