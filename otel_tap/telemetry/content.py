"""Body content as an attribute: text where it is text, else bytes."""

from __future__ import annotations

from typing import NamedTuple

from otel_tap.content_coding import codings_of, decoded
from otel_tap.media_type import charset_of, media_type_of, text_of
from otel_tap.messages import Body, Field
from otel_tap.privacy.bodies import Readable
from otel_tap.telemetry.otlp import bytes_attribute, string_attribute


class Content(NamedTuple):
    """What is shown of a body: UTF-8 if `is_text`; the content coding is removed if `decoded`."""

    shown: bytes
    is_text: bool
    decoded: bool
    cut: bool


def content_of(body: Body, fields: tuple[Field, ...], limit: int) -> Content:
    """At most `limit` bytes of a redacted body, without its coding where that can be removed."""
    plain = decoded(body.content, codings_of(fields), limit)
    if plain is None:
        cut = body.truncated or len(body.content) > limit
        return Content(body.content[:limit], is_text=False, decoded=False, cut=cut)
    cut = body.truncated or not plain.complete
    charset = charset_of(media_type_of(fields))
    text = None if charset is None else text_of(plain.content, charset, cut=cut)
    if text is None:
        return Content(plain.content, is_text=False, decoded=True, cut=cut)
    return Content(text, is_text=True, decoded=True, cut=cut)


def content_attribute(name: str, body: Readable) -> bytes:
    """The encoded attribute `name`."""
    if body.text:
        return string_attribute(name, body.content)
    return bytes_attribute(name, body.content)
