"""Compiles what every exchange goes through when a wheel is built; the rest is in pyproject.toml.

mypyc makes extension modules of the same typed sources that run interpreted everywhere else: in
editable installs, where it or a C compiler is missing, and with OTEL_TAP_PURE=1.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# What runs for every event or exchange.
COMPILED = (
    "otel_tap/capture/ring.py",
    "otel_tap/capture/wire.py",
    "otel_tap/connections.py",
    "otel_tap/events.py",
    "otel_tap/exchange.py",
    "otel_tap/filters.py",
    "otel_tap/genai/*.py",
    "otel_tap/messages.py",
    "otel_tap/pipeline.py",
    "otel_tap/privacy/bodies.py",
    "otel_tap/privacy/content.py",
    "otel_tap/privacy/multipart.py",
    "otel_tap/privacy/redaction.py",
    "otel_tap/privacy/rules.py",
    "otel_tap/privacy/urls.py",
    "otel_tap/protocols/*.py",
    "otel_tap/protocols/http1/*.py",
    "otel_tap/protocols/http2/*.py",
    "otel_tap/protocols/websocket/*.py",
    "otel_tap/telemetry/*.py",
    "otel_tap/turn.py",
)
BUILD = "build/wheel"


def compiled() -> list[Extension]:
    """The extension modules; none where they are not wanted or cannot be built."""
    if "bdist_wheel" not in sys.argv or os.environ.get("OTEL_TAP_PURE", "") not in ("", "0"):
        return []
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    lacking = []
    if shutil.which(compiler.split()[0]) is None:
        lacking.append(f"the C compiler {compiler}")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        lacking.append("Python.h (on Debian: python3-dev)")
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - only a compiled wheel needs it
    except ImportError:
        lacking.append("mypyc (it comes with mypy)")
    if lacking:
        print("building a pure wheel; to compile it lacks", ", ".join(lacking), file=sys.stderr)
        return []
    paths = [str(path) for pattern in COMPILED for path in sorted(Path().glob(pattern))]
    # A C file per module takes half the time and a third of the memory of one for all.
    extensions = mypycify(paths, opt_level="3", multi_file=True, target_dir=BUILD)
    for extension in extensions:
        # A call between functions that nobody else can replace needs no table, and can be inlined
        # across files: 4 % less CPU for half a minute more.
        extension.extra_compile_args += ["-fvisibility=hidden", "-fno-plt", "-flto"]
        extension.extra_link_args += ["-flto=auto"]
    return extensions


class ParallelBuild(build_ext):
    """Compiles the files of an extension on all CPUs; setuptools does so for extensions only."""

    def build_extensions(self) -> None:
        """Build them."""
        one_by_one = self.compiler.compile

        def at_once(sources: Sequence[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                made = pool.map(lambda source: one_by_one([source], **options), sources)
                return [name for names in made for name in names]

        self.compiler.compile = at_once
        super().build_extensions()


# Not build/ itself, where the Makefile keeps its stamps.
setup(
    ext_modules=compiled(),
    cmdclass={"build_ext": ParallelBuild},
    options={"build": {"build_base": BUILD}},
)
