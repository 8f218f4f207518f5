"""Secrets inside URLs: user information, query, fragment and path parameters.

Owns: where a URL can hold a secret. Promises: pure; the same object when nothing was found; any
bytes are answered in time linear in their length. Must not know: fields, exchanges.

Read loosely on purpose, since the other side may be loose too: parameters begin behind `?`, `&`,
`;` and `#`, and in a path also behind `/`. A secret value ends at `&`, or where another
`key=` begins, so that an odd character in a secret does not save its rest. When the value of a
harmless key is itself a URL or query that holds a secret, the whole value goes.
"""

from __future__ import annotations

import re
from typing import Final

from otel_tap.privacy.rules import REDACTED, SecretNames, decoded

USERINFO: Final = b"REDACTED:REDACTED@"

_MAX_NESTING: Final = 4

_AT, _PERCENT = b"@%"  # a number is found in bytes in an eighth of the time of bytes

# A key begins behind a delimiter only: else a long text without `=` costs the square of its length.
# Only single characters repeat possessively: of groups, CPython before 3.11.5 matches that wrongly.
_PARAMETER: Final = re.compile(
    rb"(?:\A|(?<=[?&;#/]))([^=&;#?/]++)=([^&;#?]*+(?:[;#?](?![\w.%\[\]~$-]++=)[^&;#?]*+)*)"
)
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*+:[/\\]{0,3}|[/\\]{2}")
_EMBEDDED_AUTHORITY: Final = re.compile(rb"(?<=//)[^/?#\s<>\"'\\]*@")
_AUTHORITY_END: Final = re.compile(rb"[/?#\\]")
_PORT: Final = re.compile(rb":\d*\Z|\][^\]]*\Z")


def redact_url(url: bytes, names: SecretNames, *, depth: int = 0) -> bytes:
    """`url`, or text that holds URLs, without its secrets; the same object if it has none."""
    has_at = _AT in url
    coded = _PERCENT in url
    equals = url.find(b"=")
    if equals < 0 and not has_at and not coded:
        return url
    # Where the first key can begin: what comes before, most often a path, need not be looked at.
    mark = url.find(b"?")
    start = mark if 0 <= mark < equals else 0
    plain = decoded(url) if coded else url
    if not coded:
        if not has_at and not names.may_be_secret(url[start:]):
            return url
    elif not has_at and b"@" not in plain and not names.may_be_secret(plain):
        return url
    if depth >= _MAX_NESTING:
        return REDACTED
    if has_at:
        result = _without_userinfo(url)
        start = 0
    else:
        result = url
    if equals >= 0:
        result = _without_secret_values(result, names, depth, start)
    if plain is not url and _holds_secret(result, names, depth):
        # Delimiters that are themselves encoded: no telling what ends where.
        return REDACTED
    return url if result == url else result


def redact_form(form: bytes, names: SecretNames) -> bytes:
    """The same for application/x-www-form-urlencoded, where `&` alone separates."""
    if b"=" not in form or not names.may_be_secret(decoded(form)):
        return form
    pairs = form.split(b"&")
    changed = False
    for index, pair in enumerate(pairs):
        key, _, value = pair.partition(b"=")
        if value in (b"", REDACTED):
            continue
        if names.is_secret_key(key) or _holds_secret(value, names, 0):
            pairs[index] = key + b"=" + REDACTED
            changed = True
    return b"&".join(pairs) if changed else form


def redact_authority(authority: bytes) -> bytes:
    """`user:password@host` without its user information."""
    at = authority.rfind(b"@")
    if at < 0 or authority[: at + 1] == USERINFO:
        return authority
    return USERINFO + authority[at + 1 :]


def _without_userinfo(url: bytes) -> bytes:
    scheme = _SCHEME.match(url)
    result = url
    if scheme is not None and not url[:7].lower().startswith(b"mailto:"):
        start = scheme.end()
        found = _AUTHORITY_END.search(url, start)
        end = found.start() if found else len(url)
        authority = url[start:end]
        at = url.rfind(b"@", start, end)
        if at < 0 and b":" in authority and _PORT.search(authority) is None:
            # No port is spelled so: a password with a bare `/`, `?` or `#` in it.
            at = url.rfind(b"@", start)
        if at >= 0 and url[start : at + 1] != USERINFO:
            result = url[:start] + USERINFO + url[at + 1 :]
    if b"//" not in result:
        return result
    return _EMBEDDED_AUTHORITY.sub(USERINFO, result)


def _without_secret_values(text: bytes, names: SecretNames, depth: int, start: int) -> bytes:
    """`text` with the values of its secret keys replaced; no key begins before `start`."""
    pieces: list[bytes] = []
    done = 0
    for found in _PARAMETER.finditer(text, start):
        key, value = found.groups()
        if not value or value == REDACTED:
            continue
        if names.is_secret_key(key) or _holds_secret(value, names, depth):
            value_start, end = found.span(2)
            pieces.append(text[done:value_start])
            pieces.append(REDACTED)
            done = end
    if not pieces:
        return text
    pieces.append(text[done:])
    return b"".join(pieces)


def _holds_secret(value: bytes, names: SecretNames, depth: int) -> bool:
    """Whether a value is a URL or query with a secret of its own."""
    if b"=" not in value and b"@" not in value and b"%" not in value:
        return False
    plain = decoded(value)
    if b"=" not in plain and b"//" not in plain:
        return False
    return redact_url(plain, names, depth=depth + 1) != plain
