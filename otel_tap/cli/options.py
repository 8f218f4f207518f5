"""The flags that several commands share, and the settings that come of them.

Filters are the same everywhere, so they are made once from the settings they set and joined to
each command's own flags.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", envvar="OTEL_TAP_CONFIG", help="Settings file (YAML)."
    ),
]

# name of the filter -> (metavar, what it selects)
_FILTERS = {
    "pid": ("PID", "process id"),
    "comm": ("GLOB", "process name, such as python*"),
    "exe": ("GLOB", "path of the executable"),
    "user": ("USER", "user name or number"),
    "container": ("ID", "container id or its beginning"),
    "pod": ("POD", "Kubernetes pod"),
    "host": ("GLOB", "host that the request names"),
    "method": ("METHOD", "request method"),
    "path": ("GLOB", "path of the request, such as /api/*"),
    "status": ("STATUS", "status: 404, 5xx or 500-504"),
}


# Flags that a command has no use for: nothing is captured in a replay, a recording is raw.
CAPTURE = frozenset({"loader", "placement"})
OF_EXCHANGES = frozenset({"host", "method", "path", "status"})
HAR = frozenset({"har"})


def with_capture_flags(command: Callable[..., None]) -> Callable[..., None]:
    """`command(flags, **own)` as a typer command that has all shared flags besides its own.

    `flags` arrives as a mapping of dotted settings keys, as `load_settings` wants it.
    """
    return _with_flags(command, frozenset())


def with_shared_flags(
    without: frozenset[str],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same but for some flags; of a filter, its `--exclude` twin goes with it."""
    return lambda command: _with_flags(command, without)


def _with_flags(command: Callable[..., None], without: frozenset[str]) -> Callable[..., None]:
    shared, key_of = _shared_flags()
    left_out = without | {f"exclude_{name}" for name in without}
    shared = [parameter for parameter in shared if parameter.name not in left_out]
    key_of = {name: key for name, key in key_of.items() if name not in left_out}
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(command, include_extras=True)

    @wraps(command)
    def parsed(**values: Any) -> None:  # noqa: ANN401 - typer fills in what the flags declare
        flags = {key: values.pop(name) for name, key in key_of.items()}
        command(flags, **values)

    parameters = [p.replace(annotation=hints[p.name]) for p in own] + shared
    vars(parsed)["__signature__"] = inspect.Signature(parameters)
    parsed.__annotations__ = {p.name: p.annotation for p in parameters}
    return parsed


def settings_from(
    config: Path | None, flags: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> Any:  # noqa: ANN401 - a Loaded; its module is imported only when a command needs it
    """The `Loaded` settings; a flag's bad value is a usage error, any other a ConfigError."""
    from otel_tap.settings import check_settings, load_settings  # noqa: PLC0415 - quick --help

    _, problems = check_settings(None, {}, flags)
    if problems:
        raise typer.BadParameter(problems[0].message)
    return load_settings(config, os.environ if environ is None else environ, flags)


def _shared_flags() -> tuple[list[inspect.Parameter], dict[str, str]]:
    parameters = [
        _parameter(
            "bodies",
            Annotated[
                bool | None,
                typer.Option("--bodies/--no-bodies", help="Keep bodies; off by default."),
            ],
        ),
        _parameter(
            "body_limit",
            Annotated[
                str | None,
                typer.Option(metavar="SIZE", help="What is kept of one body, such as 64KiB."),
            ],
        ),
        _parameter(
            "genai",
            Annotated[
                bool | None,
                typer.Option(
                    "--genai/--no-genai",
                    help="Read models and tokens of calls of generative models.",
                ),
            ],
        ),
        _parameter(
            "loader",
            Annotated[
                str | None,
                typer.Option(metavar="NAME", help="Who loads the probes: core, bcc or auto."),
            ],
        ),
        _parameter(
            "placement",
            Annotated[
                str | None,
                typer.Option(
                    metavar="WHERE",
                    help="Where probes sit: auto (the cheapest) or symbol.",
                ),
            ],
        ),
    ]
    parameters.append(
        _parameter(
            "har",
            Annotated[
                str | None,
                typer.Option(metavar="FILE", help="Also write a HAR 1.2 file, for browsers."),
            ],
        )
    )
    key_of = {
        "har": "har",
        "bodies": "bodies.enabled",
        "body_limit": "bodies.limit",
        "genai": "telemetry.genai",
        "loader": "capture.loader",
        "placement": "capture.placement",
    }
    for verb, prefix, group in (("Only", "", "filters"), ("Not", "exclude_", "filters.exclude")):
        for name, (metavar, what) in _FILTERS.items():
            option = typer.Option(metavar=metavar, help=f"{verb}: {what}.")
            kind: Any = Annotated[list[str] | None, option]
            parameters.append(_parameter(prefix + name, kind))
            key_of[prefix + name] = f"{group}.{name}"
    return parameters, key_of


def _parameter(name: str, kind: Any) -> inspect.Parameter:  # noqa: ANN401 - any annotation
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
