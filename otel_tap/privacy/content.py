"""Secrets inside captured bodies: forms and JSON.

Owns: which bodies can be searched and how. Promises: pure; the same object when nothing was found;
linear time; works on the captured beginning of a body, cut anywhere. Must not know: exchanges.

What is done, and what is not:

- `application/x-www-form-urlencoded`: values by key, as in a query.
- JSON, by media type or because the content begins with `{` or `[`: the value of a secret key
  goes, be it a string, a number, an object or an array; so do URLs' secrets inside strings, and
  strings that are JSON themselves and hold a secret key. It is read as a sequence of tokens, not
  parsed, so cut, concatenated (NDJSON) and slightly wrong JSON are read too. `true`, `false` and
  `null` stay.
- `text/event-stream`: the JSON in it, likewise.
- `multipart/*`: the content of parts whose name is secret, and of the others what their type says.
- Nothing is known of secrets in other texts (XML, plain text, binary formats): a body is asked
  for at the operator's own risk.
"""

from __future__ import annotations

import json
import re
from typing import Final

from otel_tap.privacy.multipart import redact_multipart
from otel_tap.privacy.rules import REDACTED, SecretNames
from otel_tap.privacy.urls import redact_form, redact_url

_QUOTED: Final = b'"' + REDACTED + b'"'
_MAX_NESTING: Final = 3

# A string, closed or cut off at the end, and whether it is a key.
_STRING: Final = re.compile(
    rb'"(?P<text>[^"\\]*+(?:\\.[^"\\]*+)*)(?P<closed>"?)(?P<colon>\s*+:\s*+)?', re.DOTALL
)
_SCALAR: Final = re.compile(rb"[^\s,}\]\"{\[]++")
_STRUCTURE: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"?|[{\[]|[}\]]', re.DOTALL)
# What stays though its key is secret: words that give nothing away, and what was replaced.
_HARMLESS: Final = frozenset((b"true", b"false", b"null", _QUOTED))

_MAX_PARTS_IN_PARTS: Final = 3
_BEFORE_JSON: Final = b" \t\r\n\v\f\xef\xbb\xbf"  # white space and a byte order mark


def redact_content(
    content: bytes, media_type: bytes, names: SecretNames, *, depth: int = 0
) -> bytes:
    """Content (content coding removed) without the secrets that can be found in it.

    `media_type` is the value of Content-Type, b"" when there was none.
    """
    if not content:
        return content
    kind, _, parameters = media_type.partition(b";")
    kind = kind.strip().lower()
    if kind == b"application/x-www-form-urlencoded":
        return redact_form(content, names)
    if kind.startswith(b"multipart/"):
        if depth >= _MAX_PARTS_IN_PARTS:
            return REDACTED
        return redact_multipart(
            content,
            parameters,
            names,
            lambda part, part_type: redact_content(part, part_type, names, depth=depth + 1),
        )
    if b"json" in kind or kind == b"text/event-stream" or looks_like_json(content):
        return redact_json(content, names)
    return content


def looks_like_json(content: bytes) -> bool:
    """Whether a content begins as JSON does, whatever its type says."""
    return content.lstrip(_BEFORE_JSON)[:1] in (b"{", b"[")


def redact_json(content: bytes, names: SecretNames, *, depth: int = 0) -> bytes:
    """JSON text without the values of secret keys."""
    if b"\\u" not in content and not names.may_be_secret(content) and b"@" not in content:
        return content
    pieces: list[bytes] = []
    done = 0
    position = 0
    while True:
        found = _STRING.search(content, position)
        if found is None:
            break
        position = found.end()
        if found["colon"] is None:
            replacement = _string_without_secrets(found["text"], names, depth)
            if replacement is not None:
                pieces.append(content[done : found.start("text")])
                pieces.append(replacement)
                done = found.end("text")
            continue
        if not names.is_secret_key(_unescaped(found["text"])):
            continue
        end = _end_of_value(content, position)
        if end > position and content[position:end] not in _HARMLESS:
            pieces.append(content[done:position])
            pieces.append(_QUOTED)
            done = end
        position = end
    if not pieces:
        return content
    pieces.append(content[done:])
    return b"".join(pieces)


def _end_of_value(content: bytes, start: int) -> int:
    """Where the value that begins at `start` ends; the end of the content when it was cut."""
    first = content[start : start + 1]
    if first == b'"':
        string = _STRING.match(content, start)
        if string is None:
            return len(content)
        return string.end("closed")
    if first not in (b"{", b"["):
        scalar = _SCALAR.match(content, start)
        return start if scalar is None else scalar.end()
    open_count = 0
    for token in _STRUCTURE.finditer(content, start):
        kind = token[0][:1]
        if kind in (b"{", b"["):
            open_count += 1
        elif kind != b'"':
            open_count -= 1
            if open_count == 0:
                return token.end()
    return len(content)


def _string_without_secrets(text: bytes, names: SecretNames, depth: int) -> bytes | None:
    """What a string value becomes; None: it stays."""
    plain = _unescaped(text) if b"\\" in text else text
    if plain.lstrip()[:1] in (b"{", b"["):
        if depth >= _MAX_NESTING:
            return REDACTED
        return None if redact_json(plain, names, depth=depth + 1) == plain else REDACTED
    redacted = redact_url(plain, names)
    if redacted == plain:
        return None
    # Escapes are not put back: what needed them is replaced as a whole.
    return redacted if plain is text else REDACTED


def _unescaped(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    try:
        value = json.loads(b'"' + text + b'"', strict=False)
    except ValueError:
        # Cut off inside an escape, or not UTF-8: the simple escapes are enough to find a key.
        return re.sub(rb"\\(.)", rb"\1", text, flags=re.DOTALL)
    return str(value).encode("utf-8", "surrogatepass")
