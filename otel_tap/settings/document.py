"""The settings as documents: JSON Schema for editors, and a commented file to start from.

Both are made from the models, so that they cannot fall behind them.
"""

from __future__ import annotations

import json
import textwrap
from typing import Any

from pydantic.fields import FieldInfo

from otel_tap.settings.keys import section_of
from otel_tap.settings.model import Section, Settings

_WIDTH = 96
_INTRODUCTION = """\
Settings of otel-tap. Every value below is the default; remove what you do not change.
Flags win over environment variables, these over this file. The variable of `bodies.limit` is
OTEL_TAP_BODIES__LIMIT. Endpoints and credentials of OTLP are set by the standard variables
OTEL_EXPORTER_OTLP_*, not here."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the settings file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(mode="validation"),
        "title": "otel-tap settings",
    }


def example() -> str:
    """A whole settings file in YAML: every key, its default, and its meaning as a comment."""
    lines = [f"# {line}" for line in _INTRODUCTION.splitlines()]
    defaults = Settings().model_dump(mode="json")
    lines += _section(Settings, defaults, "")
    return "\n".join(lines) + "\n"


def _section(model: type[Section], defaults: dict[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        if not indent:
            lines.append("")
        lines += _comment(field, indent)
        nested = section_of(field)
        if nested is not None:
            lines.append(f"{indent}{name}:")
            lines += _section(nested, defaults[name], indent + "  ")
        elif defaults[name] is None:
            lines.append(f"{indent}# {name}:")
        else:
            # JSON is YAML: quoting and brackets come out right for every value.
            value = defaults[name]
            written = value if isinstance(value, str) else json.dumps(value)
            lines.append(f"{indent}{name}: {written}")
    return lines


def _comment(field: FieldInfo, indent: str) -> list[str]:
    text = field.description or ""
    return [f"{indent}# {line}" for line in textwrap.wrap(text, _WIDTH - len(indent))]
