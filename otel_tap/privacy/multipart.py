"""Secrets in `multipart/*` bodies (RFC 2046 5.1, RFC 7578): parts by their names.

Owns where parts begin and end. Promises: the same object when nothing was found; linear time; cut
anywhere. A part with a secret name loses its content, any other is searched by its own media type.
Parts in a transfer encoding (base64) are not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from otel_tap.privacy.rules import REDACTED, SecretNames

_BOUNDARY: Final = re.compile(rb'(?i)(?:\A|;)\s*boundary\s*=\s*(?:"([^"]{1,70})|([^";\s]{1,70}))')
_FIRST_LINE: Final = re.compile(rb"\s*--([^\s]{1,70})[ \t]*\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
_NAME: Final = re.compile(
    rb"""(?i);\s*name\*?\s*=\s*(?:"([^"\\\r\n]*+(?:\\.[^"\\\r\n]*+)*)|([^"\r\n;]*+))""", re.DOTALL
)
_TYPE: Final = re.compile(rb"(?i)(?:\A|\n)content-type[ \t]*:[ \t]*([^\r\n]*)")

Redact = Callable[[bytes, bytes], bytes]
"""Takes a content and its media type; returns it without secrets."""


def redact_multipart(
    content: bytes, parameters: bytes, names: SecretNames, redact: Redact
) -> bytes:
    """Content without secrets; `parameters` are those of its media type."""
    found = _BOUNDARY.search(parameters)
    boundary = (found[1] or found[2]) if found is not None else b""
    if not boundary:
        # Without one in the type, the first line of the content shows it.
        first = _FIRST_LINE.match(content)
        if first is None:
            return content
        boundary = first[1]
    delimiter = b"--" + boundary
    parts = content.split(delimiter)
    changed = False
    for index, part in enumerate(parts):
        end = _HEAD_END.search(part)
        if end is None:
            continue
        head, body = part[: end.start()], part[end.end() :]
        if not body.strip():
            continue
        if _is_secret(head, names):
            if body.rstrip(b"\r\n") == REDACTED:
                continue
            parts[index] = part[: end.end()] + REDACTED + b"\r\n"
            changed = True
            continue
        kind = _TYPE.search(head)
        redacted = redact(body, b"" if kind is None else kind[1])
        if redacted is not body:
            parts[index] = part[: end.end()] + redacted
            changed = True
    return delimiter.join(parts) if changed else content


def _is_secret(head: bytes, names: SecretNames) -> bool:
    for line in _FOLD.sub(b" ", head).split(b"\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() != b"content-disposition":
            continue
        for found in _NAME.finditer(value):
            if names.is_secret_key(found[1] or found[2] or b""):
                return True
    return False
