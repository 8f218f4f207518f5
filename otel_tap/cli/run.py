"""`otel-tap run`: the daemon. Telemetry leaves; the terminal only hears of the run itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import typer

from otel_tap.cli.options import ConfigOption, settings_from, with_capture_flags
from otel_tap.cli.session import make_agent, run_until_stopped, status_line
from otel_tap.cli.terminal_text import report

LOCAL_FILE = "otel-tap.otlp.jsonl"
_ENDPOINTS = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "LOGS_", "METRICS_")
)


@with_capture_flags
def run(
    flags: dict[str, object],
    *,
    output: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="otlp, otlp-json:PATH or none."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Send every HTTP exchange of this host as a span and a log record over OTLP.

    Endpoints, headers and certificates come from the OTEL_EXPORTER_OTLP_* variables.
    """
    loaded = settings_from(config, {**flags, "output": output})
    settings = loaded.settings
    if settings.output is None:
        settings = settings.model_copy(update={"output": default_output(os.environ)})
        if settings.output != "otlp":
            report(
                "no OTLP endpoint is configured (OTEL_EXPORTER_OTLP_ENDPOINT); "
                f"writing OTLP-JSON lines to {LOCAL_FILE}"
            )
    agent = make_agent(settings, None, report)
    code = run_until_stopped(agent, lambda: True)
    status = agent.status()
    report(f"{status_line(status)}, {status.sent} spans sent")
    raise typer.Exit(code)


def default_output(environ: Mapping[str, str]) -> str:
    """Where telemetry goes when no setting says it: to the configured endpoint, else to a file."""
    if any(environ.get(name) for name in _ENDPOINTS):
        return "otlp"
    return f"otlp-json:{LOCAL_FILE}"
