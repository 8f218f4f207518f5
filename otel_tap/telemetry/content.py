"""Body content as an attribute: text where it is text, else bytes."""

from __future__ import annotations

from otel_tap.privacy.bodies import Readable
from otel_tap.telemetry.otlp import bytes_attribute, string_attribute


def content_attribute(name: str, body: Readable) -> bytes:
    """The encoded attribute `name`."""
    if body.text:
        return string_attribute(name, body.content)
    return bytes_attribute(name, body.content)
