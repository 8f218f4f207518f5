"""The command `otel-tap`: its subcommands, and what an error looks like from outside.

Exit codes: 0 ok, 1 runtime, 2 usage, 3 configuration, 4 host not capable, 5 not permitted,
130 interrupted. An error is two lines on stderr, what is wrong and what to do; a traceback is only
shown with OTEL_TAP_DEBUG=1.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from otel_tap import __version__
from otel_tap.cli.config import config_app
from otel_tap.cli.doctor import doctor
from otel_tap.cli.live import live
from otel_tap.cli.plan import plan
from otel_tap.cli.record import record
from otel_tap.cli.replay import replay
from otel_tap.cli.run import run
from otel_tap.cli.session import EXIT_INTERRUPTED, EXIT_OK, STDOUT, reader_left
from otel_tap.cli.terminal_text import report_error
from otel_tap.compiled import is_compiled
from otel_tap.errors import OtelTapError

# \b keeps the lines below it as they are.
_EXAMPLES = """\b
Examples:
  otel-tap doctor                       can this host be tapped?
  sudo otel-tap live                    watch the HTTP exchanges of this host
  sudo otel-tap live --comm curl --status 5xx
  sudo otel-tap live --output json | jq .url
  sudo OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 otel-tap run
  sudo otel-tap record incident.otr; otel-tap replay incident.otr
  otel-tap config example > otel-tap.yaml
\b
Exit codes: 0 ok, 1 runtime, 2 usage, 3 configuration, 4 host not capable,
5 not permitted, 130 interrupted."""

_LIVE_EXAMPLES = """\b
Examples:
  sudo otel-tap live --pid 4242
  sudo otel-tap live --host api.example.org --exclude-path /healthz
  sudo otel-tap live --bodies --body-limit 4KiB
  sudo otel-tap live --output json | head -3"""

_RUN_EXAMPLES = """\b
Examples:
  sudo OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 otel-tap run
  sudo otel-tap run --config /etc/otel-tap.yaml
  sudo otel-tap run --output otlp-json:/var/tmp/exchanges.jsonl"""

_RECORD_EXAMPLES = """\b
Examples:
  sudo otel-tap record incident.otr --duration 10m --max-size 2GiB
  sudo otel-tap record shop.otr --container 4f2a6c1d9b8e"""

_REPLAY_EXAMPLES = """\b
Examples:
  otel-tap replay incident.otr --status 5xx
  otel-tap replay incident.otr --output json | jq .url
  otel-tap replay incident.otr --output none --bodies --har incident.har
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 \\
    otel-tap replay incident.otr --output otlp"""

app = typer.Typer(
    name="otel-tap",
    help="Passive HTTP tap for Linux: plaintext exchanges as OpenTelemetry spans and logs.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command(epilog=_LIVE_EXAMPLES, short_help="Watch HTTP exchanges in the terminal.")(live)
app.command(epilog=_RUN_EXAMPLES, short_help="Send HTTP exchanges over OTLP.")(run)
app.command(epilog=_RECORD_EXAMPLES, short_help="Record raw events to a file.")(record)
app.command(epilog=_REPLAY_EXAMPLES, short_help="Play a recording; needs no root.")(replay)
app.command(short_help="Check whether this host can be tapped.")(doctor)
app.command(short_help="Print what would be tapped, and why not the rest.")(plan)
app.add_typer(config_app)


@app.command(short_help="Tap an HTTPS service of its own, for a first look.")
def demo() -> None:
    """Start a real HTTPS service and clients, tap them, and show the spans."""
    raise typer.Exit(import_module("otel_tap.demo").run_demo(sys.stdout, sys.stderr))


def _print_version(*, wanted: bool) -> None:
    if wanted:
        print(f"otel-tap {__version__}{' (compiled)' if is_compiled() else ''}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app(prog_name="otel-tap")
    except KeyboardInterrupt:
        _leave(EXIT_INTERRUPTED)
    except OtelTapError as error:
        if _debugging():
            raise
        report_error(error.message, error.remedy)
        _leave(error.exit_code)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else EXIT_OK
        # typer turns any broken pipe into exit code 1, whose pipe it ever was.
        if isinstance(leaving.__context__, BrokenPipeError):
            if reader_left():
                code = EXIT_OK  # whoever read stdout has seen enough
            else:
                _report_unforeseen(leaving.__context__)
        _leave(code)
    except Exception as error:  # the last line of defence: nobody is shown a traceback
        if _debugging():
            raise
        _report_unforeseen(error)
        _leave(OtelTapError.exit_code)


def _report_unforeseen(error: Exception) -> None:
    report_error(
        f"internal error: {type(error).__name__}: {error}",
        "run again with OTEL_TAP_DEBUG=1 and report what it prints",
    )


def _debugging() -> bool:
    return os.environ.get("OTEL_TAP_DEBUG") == "1"


def _leave(code: int) -> None:
    """Exit with `code`; what cannot be written any more must not change it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    sys.exit(code)
