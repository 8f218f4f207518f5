"""Bodies without their secrets: what is looked into, and in which form it comes out.

Owns the way from captured bytes to content that can be searched: content codings and wide charsets
are removed first, for a secret in them is as readable to who gets the body. Promises: what comes
out was searched, or is of a type in which nothing is searched for; what should have been searched
and could not be is dropped; cost is bounded by the limit, not by what the bytes unpack to.
Must not know exchanges. What is searched for stands in `content`.
"""

from __future__ import annotations

from dataclasses import dataclass

from otel_tap.content_coding import codings_of, decoded, encoded
from otel_tap.media_type import (
    charset_of,
    essence_of,
    is_wide,
    media_type_of,
    text_of,
    wide_charset_of,
)
from otel_tap.messages import Body, Field
from otel_tap.privacy.content import looks_like_json, redact_content
from otel_tap.privacy.rules import SecretNames


@dataclass(slots=True)
class RedactionCounters:
    """What redaction did; a body that was dropped could not be searched."""

    exchanges_changed: int = 0
    bodies_dropped: int = 0
    failures: int = 0


@dataclass(slots=True)
class Readable:
    """A body as it is read: content coding and secrets removed."""

    content: bytes  # UTF-8 if `text`
    text: bool
    cut: bool  # there was more


class BodyRedactor:
    """Takes secrets out of bodies. One instance serves one thread."""

    __slots__ = ("_counters", "_limit", "_names")

    def __init__(self, names: SecretNames, counters: RedactionCounters, limit: int) -> None:
        self._names = names
        self._counters = counters
        self._limit = limit  # bytes that a body may have that is passed on in its coding

    def content(self, content: bytes, media_type: bytes) -> bytes:
        """Content in a charset like ASCII without the secrets that can be found in it."""
        try:
            return redact_content(content, media_type, self._names)
        except Exception:  # noqa: BLE001 -- whatever failed, the content must not pass
            self._counters.failures += 1
            return b""

    def readable(self, body: Body, fields: tuple[Field, ...], limit: int) -> Readable:
        """At most `limit` bytes of a body to be read. Content that cannot be opened stays as it is.

        The limit is that of the captured bytes, too, where these are what stays.
        """
        media_type = media_type_of(fields)
        plain = decoded(body.content, codings_of(fields), limit)
        if plain is None or (not plain.content and not plain.complete):
            if is_searched(media_type):
                return self._dropped()
            return Readable(
                body.content[:limit], text=False, cut=body.truncated or len(body.content) > limit
            )
        cut = body.truncated or not plain.complete
        content = plain.content
        charset = charset_of(media_type)
        wide = _wide_charset(content, charset)
        searched = content
        if wide is not None:
            text = text_of(content, wide, cut=cut)
            searched = content.decode(wide, "replace").encode() if text is None else text
            redacted = self.content(searched, media_type)
            # Of a charset that was not said, nobody would read it as text: bytes stay bytes.
            if (text and charset is not None) or redacted is not searched:
                content = redacted
                is_text, charset = charset is not None, "utf-8"
            else:
                is_text = False
        else:
            content = self.content(content, media_type)
            is_text = charset is not None
        if searched and not content:
            return self._dropped()
        if len(content) > limit:  # by what stands for secrets, or by UTF-8
            content, cut = content[:limit], True
        if is_text and charset is not None:
            text = text_of(content, charset, cut=cut)
            if text is not None:
                return Readable(text, text=True, cut=cut)
        return Readable(content, text=False, cut=cut)

    def body(self, body: Body, fields: tuple[Field, ...]) -> Body:
        """A captured body without its secrets, still in its content coding and charset."""
        if not body.content:
            return body
        media_type = media_type_of(fields)
        codings = codings_of(fields)
        plain = decoded(body.content, codings, self._limit) if codings else None
        if plain is None:
            if codings:
                # Nothing here can look into it, and who can decode it would see all.
                return self._dropped_body(body) if is_searched(media_type) else body
            content = body.content
            seen_all = True
        else:
            content = plain.content
            # What a decoder holds back can stand there in plain: raw blocks, bytes behind the end.
            seen_all = plain.exact
        redacted = self._in_charset(content, media_type)
        if redacted is content and (seen_all or not is_searched(media_type, content)):
            return body
        if not redacted:
            return self._dropped_body(body)
        return Body(encoded(redacted, codings), body.size, truncated=body.truncated or not seen_all)

    def _in_charset(self, content: bytes, media_type: bytes) -> bytes:
        """Content without secrets, in its charset; the same object when it has none."""
        wide = _wide_charset(content, charset_of(media_type))
        if wide is None:
            return self.content(content, media_type)
        text = content.decode(wide, "replace").encode()
        redacted = self.content(text, media_type)
        if redacted is text:
            return content
        return redacted.decode("utf-8", "replace").encode(wide)

    def _dropped(self) -> Readable:
        self._counters.bodies_dropped += 1
        return Readable(b"", text=False, cut=True)

    def _dropped_body(self, body: Body) -> Body:
        self._counters.bodies_dropped += 1
        return Body(b"", body.size, truncated=True)


def _wide_charset(content: bytes, charset: str | None) -> str | None:
    """The charset of a content in which ASCII is not ASCII, None for any other."""
    if charset is not None and is_wide(charset):
        return charset
    return wide_charset_of(content) if b"\0" in content[:4] or content[:1] >= b"\xfe" else None


def is_searched(media_type: bytes, beginning: bytes = b"") -> bool:
    """Whether secrets would be looked for in a body of this type, were it readable."""
    kind = essence_of(media_type)
    return (
        looks_like_json(beginning)
        or kind in (b"", b"text/plain", b"text/event-stream")
        or b"json" in kind
        or b"form" in kind
        or kind.startswith(b"multipart/")
    )
