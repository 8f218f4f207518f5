"""Redaction of URLs, forms, fields and bodies: any bytes pass, and a known secret does not.

1. Nothing is raised, and what comes out is not much longer than what went in.
2. A form or a multipart body stays as it is when it is redacted again. (A URL need not: without
   a secret, what is left may read as another form of target.)
3. A secret that stands alone behind a secret key, whatever stands around it, is gone.
"""

from __future__ import annotations

import gzip

from otel_tap.messages import Body
from otel_tap.privacy import Redactor
from otel_tap.privacy.rules import RedactionSettings, SecretNames
from otel_tap.privacy.urls import redact_authority, redact_form, redact_url

_SECRET = b"hunter2hunter2"
SEEDS = (
    b"/a?token=" + _SECRET + b"&b=c#access_token=d",
    b"https://user:pass@host/p?next=%2Fx%3Fpassword%3D1",
    b'{"password":"' + _SECRET + b'","a":[{"api_key":{"b":1}}],"u":"http://h/?sig=1"}',
    b'{"a":"{\\"secret\\":\\"x\\"}","\\u0070assword":1',
    b'--B\r\nContent-Disposition: form-data; name="password"\r\n\r\nx\r\n--B--\r\n',
    b"a=b&password=1;c=d",
)
TOKENS = (
    b"password", b"token=", b"%3D", b"%25", b"&", b"?", b"#", b"://", b"@", b'":"', b"\\u00",
    b'\\"', b"--B\r\n", b'name="', _SECRET,
)  # fmt: skip

_NAMES = SecretNames(RedactionSettings())
_REDACTOR = Redactor()
_MEDIA = (
    b"application/json",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=B",
    b"text/plain",
)
_WITH_URLS = (_MEDIA[0], _MEDIA[3])


def _check_length(before: bytes, after: bytes) -> None:
    # Every value of one byte may become REDACTED.
    assert len(after) <= 16 * len(before) + 64, (before, after)


def check(data: bytes) -> None:
    """Redacts `data` as each of the things that a peer may send."""
    for redact in (
        _REDACTOR.target,
        lambda text: redact_url(text, _NAMES),
        redact_authority,
        lambda text: _REDACTOR.field(b"referer", text),
        lambda text: _REDACTOR.field(b"authorization", text),
        lambda text: _REDACTOR.field(b"x-any", text),
    ):
        _check_length(data, redact(data))
    for media in _MEDIA:
        once = _REDACTOR.redact_content(data, media)
        _check_length(data, once)
        again = _REDACTOR.redact_content(once, media)
        assert again == once or media in _WITH_URLS, (media, data, once, again)
    for coding in (b"gzip", b"deflate", b"br", b"zstd"):
        fields = ((b"content-type", _MEDIA[0]), (b"content-encoding", coding))
        content = gzip.compress(data, 1) if coding == b"gzip" else data
        body = _REDACTOR.body(Body(content, len(content), truncated=False), fields)
        assert len(body.content) <= 16 * len(content) + 1024
    assert _REDACTOR.counters.failures == 0  # what failed would have been taken out as a whole
    if _SECRET not in data:
        url = b"/x?" + data.replace(b"#", b"_") + b"&password=" + _SECRET
        assert _SECRET not in redact_url(url, _NAMES)
        form = data + b"&password=" + _SECRET
        assert _SECRET not in redact_form(form, _NAMES)
        clean = data.replace(b'"', b"_").replace(b"\\", b"_")
        text = b'{"a":"' + clean + b'","password":"' + _SECRET + b'"}'
        assert _SECRET not in _REDACTOR.redact_content(text, _MEDIA[0])
