"""Whether the modules on the way of an exchange run compiled, as those of a wheel may."""

from __future__ import annotations

from importlib.util import find_spec


def is_compiled() -> bool:
    """Whether they are extension modules, which `setup.py` makes of their sources with mypyc."""
    spec = find_spec("otel_tap.events")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")
