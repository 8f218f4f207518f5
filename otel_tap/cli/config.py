"""`otel-tap config`: check, show, describe the settings. Needs no rights and starts nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from otel_tap.cli.options import ConfigOption, settings_from, with_capture_flags
from otel_tap.cli.terminal_text import report_error, safe
from otel_tap.errors import ConfigError

config_app = typer.Typer(
    name="config",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="Check, show and describe the settings.",
)


@config_app.command()
def validate(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Settings file; as --config.")
    ] = None,
    *,
    config: ConfigOption = None,
) -> None:
    """Check the settings file, OTEL_TAP_* and OTEL_EXPORTER_OTLP_*; every problem is named."""
    from otel_tap.delivery import OtlpSettings  # noqa: PLC0415 - quick --help
    from otel_tap.settings import check_settings  # noqa: PLC0415 - quick --help

    path = file if file is not None else config
    _, problems = check_settings(path, os.environ, {})
    try:
        OtlpSettings.from_environment(os.environ)
    except ConfigError as error:
        problems.append(error)
    for problem in problems:
        report_error(problem.message, problem.remedy)
    if problems:
        raise typer.Exit(ConfigError.exit_code)
    print(f"{safe(str(path))}: valid" if path is not None else "environment: valid")


@config_app.command()
@with_capture_flags
def show(
    flags: dict[str, object],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="A list of JSON objects.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print every setting with its value and where the value comes from."""
    rows = settings_from(config, flags).values()
    if as_json:
        entries = [{"key": key, "value": value, "source": source} for key, value, source in rows]
        print(json.dumps(entries, indent=2))
        return
    for key, value, source in rows:
        print(f"{key} = {json.dumps(value)}  # {safe(source)}")


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    from otel_tap.settings.document import json_schema  # noqa: PLC0415 - quick --help

    print(json.dumps(json_schema(), indent=2))


@config_app.command()
def example() -> None:
    """Print a settings file with every key, its default and its meaning."""
    from otel_tap.settings.document import example as text  # noqa: PLC0415 - quick --help

    print(text(), end="")
