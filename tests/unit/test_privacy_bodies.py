"""Secrets do not leave in bodies, whatever coding, charset or part they are in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.content_coding import codings_of, decoded, encoded
from otel_tap.messages import Body, Field
from otel_tap.privacy import Redactor
from otel_tap.privacy.content import redact_content
from otel_tap.privacy.rules import RedactionSettings, SecretNames
from otel_tap.telemetry import TelemetrySettings
from tests.unit.test_telemetry_records import exchange, read, records, request, response

NAMES = SecretNames(RedactionSettings())
SECRET = "hunter2hunter2"
TEXT = json.dumps({"user": "bob", "password": SECRET, "note": "x" * 300})
CLEAN = json.dumps({"user": "bob", "note": "x" * 300})
CODINGS = [b"gzip", b"deflate", b"br", b"zstd", b"gzip, br", b"zstd, gzip", b"br, deflate, zstd"]


def whole(content: bytes) -> Body:
    return Body(content, len(content), truncated=False)


def fields_of(coding: bytes, media_type: bytes = b"application/json") -> tuple[Field, ...]:
    return ((b"content-type", media_type), (b"content-encoding", coding))


def redacted(body: Body, fields: tuple[Field, ...]) -> tuple[Body, bytes]:
    """The body after redaction, and its content without codings."""
    result = Redactor().body(body, fields)
    found = decoded(result.content, codings_of(fields), 1 << 20)
    return result, b"" if found is None else found.content


@pytest.mark.parametrize("coding", CODINGS)
def test_a_secret_in_a_coded_body_does_not_leave(coding):
    fields = fields_of(coding)
    body = whole(encoded(TEXT.encode(), codings_of(fields)))
    result, plain = redacted(body, fields)
    assert plain == TEXT.replace(SECRET, "REDACTED").encode()
    assert not result.truncated
    _, log = records(
        exchange(request(), response(200, *fields, body=body)), TelemetrySettings(bodies=True)
    )
    attributes = read(log.attributes)
    assert attributes["http.response.body.content"] == TEXT.replace(SECRET, "REDACTED")
    assert SECRET.encode() not in log.SerializeToString()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_coded_body_without_a_secret_is_the_same_object(coding):
    fields = fields_of(coding)
    body = whole(encoded(CLEAN.encode(), codings_of(fields)))
    assert Redactor().body(body, fields) is body


@given(st.sampled_from(CODINGS), st.data())
def test_a_coded_body_that_was_cut_anywhere_gives_no_secret_away(coding, data):
    fields = fields_of(coding)
    content = encoded(TEXT.encode(), codings_of(fields))
    cut = content[: data.draw(st.integers(1, len(content) - 1))]
    result, plain = redacted(Body(cut, len(content), truncated=True), fields)
    assert SECRET[:4].encode() not in result.content + plain
    assert result.truncated
    readable = Redactor().readable(Body(cut, len(content), truncated=True), fields, 65536)
    assert SECRET[:4].encode() not in readable.content
    assert readable.cut


def test_bytes_behind_the_end_of_a_coded_body_do_not_leave():
    fields = fields_of(b"gzip")
    body = whole(encoded(CLEAN.encode(), (b"gzip",)) + TEXT.encode())
    result, plain = redacted(body, fields)
    assert plain == CLEAN.encode()
    assert SECRET.encode() not in result.content
    assert result.truncated


def test_of_a_body_that_unpacks_to_more_than_the_limit_the_rest_does_not_leave():
    content = CLEAN.encode() + b" " * 2_000_000 + TEXT.encode()
    fields = fields_of(b"zstd")
    redactor = Redactor(body_limit=1000)
    result = redactor.body(whole(encoded(content, (b"zstd",))), fields)
    found = decoded(result.content, (b"zstd",), 1 << 24)
    assert found is not None
    assert found.content == content[:1000]
    assert result.truncated


@pytest.mark.parametrize("charset", ["utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le"])
@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("coding", [b"identity", b"br"])
def test_a_secret_in_a_wide_charset_does_not_leave(charset, said, coding):
    kind = b"application/json"
    fields = fields_of(coding, kind + b"; charset=" + charset.encode() if said else kind)
    body = whole(encoded(TEXT.encode(charset), codings_of(fields)))
    redactor = Redactor()
    readable = redactor.readable(body, fields, 65536)
    _, plain = redacted(body, fields)
    for content in (readable.content, plain):
        assert SECRET[:4] not in content.replace(b"\0", b"").decode("utf-8", "replace")
    if charset.startswith("utf-16") or not said:
        assert readable.text
        assert readable.content.decode() == TEXT.replace(SECRET, "REDACTED")


def test_a_wide_text_that_is_broken_is_searched_all_the_same():
    content = TEXT.encode("utf-16le") + b"\x00\xd8"
    fields = ((b"content-type", b"application/json; charset=utf-16le"),)
    readable = Redactor().readable(whole(content), fields, 65536)
    assert SECRET[:4].encode() not in readable.content.replace(b"\0", b"")
    _, plain = redacted(whole(content), fields)
    assert SECRET[:4].encode() not in plain.replace(b"\0", b"")


@pytest.mark.parametrize("limit", range(1, 12))
@pytest.mark.parametrize(
    ("charset", "text"),
    [("utf-8", "aé€😀"), ("utf-16le", "aé😀"), ("shift_jis", "a日本"), ("gb18030", "a😀你"),
     ("iso-2022-jp", "a日本"), ("euc-kr", "가a나"), ("big5", "a你好")],
)  # fmt: skip
def test_text_of_any_charset_is_cut_between_characters(charset, text, limit):
    kind = (b"content-type", b"text/plain; charset=" + charset.encode())
    content = text.encode(charset)
    cut = Body(content[:limit], len(content), truncated=len(content) > limit)
    readable = Redactor().readable(cut, (kind,), 65536)
    assert readable.text or limit == 1  # which is no character of UTF-16
    assert text.startswith(readable.content.decode())
    if limit >= len(content):
        assert readable.content.decode() == text


def part(name: str, content: bytes, *more: bytes, end: bytes = b"\r\n") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'.encode()
    return b"--b" + end + end.join((disposition, *more)) + end + end + content + end


FORM = b"multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (part("a", b"1") + part("password", b"S") + b"--b--\r\n",
         part("a", b"1") + part("password", b"REDACTED") + b"--b--\r\n"),
        (part("token", b"S", end=b"\n"), part("token", b"REDACTED\r", end=b"\n")),
        (b"--b\r\ncontent-disposition:form-data;\r\n name=api_key\r\n\r\nS",
         b"--b\r\ncontent-disposition:form-data;\r\n name=api_key\r\n\r\nREDACTED\r\n"),
        (b"--b\r\nContent-Disposition: form-data; filename=\"x\"; name*=UTF-8''pass%77ord\r\n\r\nS",
         b"--b\r\nContent-Disposition: form-data; filename=\"x\"; name*=UTF-8''pass%77ord\r\n\r\n"
         b"REDACTED\r\n"),
        (part("d", b'{"token":"S"}', b"Content-Type: application/json"),
         part("d", b'{"token":"REDACTED"}', b"Content-Type: application/json")),
        (part("d", b"a=1&token=S", b"content-type: application/x-www-form-urlencoded") + b"--b--",
         None),
    ],
)  # fmt: skip
def test_parts_of_multipart_bodies_lose_their_secrets(content, expected):
    result = redact_content(content, FORM, NAMES)
    assert b"S" not in result.replace(b"REDACTED", b"").replace(b"UTF-8", b"")
    if expected is not None:
        assert result == expected
    assert redact_content(content, b"multipart/form-data", NAMES) == result
    again = redact_content(result, FORM, NAMES)
    assert again == result


def test_parts_without_a_secret_are_the_same_object():
    content = part("a", b"1") + part("session_note_", b"") + part("filename", b"x") + b"--b--\r\n"
    assert redact_content(content, FORM, NAMES) is content


def test_parts_in_parts_are_searched_to_a_bound():
    content = part("token", b"S")
    kind = FORM
    for depth in range(6):
        inner = b"Content-Type: " + kind.replace(b"=b", b"=b%d" % depth)
        content = part("x", content.replace(b"--b", b"--b%d" % depth), inner)
    assert b"\r\nS\r\n" not in redact_content(content, FORM, NAMES)


def test_the_json_of_event_streams_is_searched():
    content = b'event: x\ndata: {"token":"S","a":1}\n\ndata: [DONE]\n\n'
    result = redact_content(content, b"text/event-stream", NAMES)
    assert result == content.replace(b'"S"', b'"REDACTED"')


@given(
    st.binary(max_size=300),
    st.sampled_from([FORM, b"multipart/x", b"text/plain; charset=utf-16", b"", b"image/png"]),
    st.sampled_from([b"", *CODINGS]),
    st.integers(0, 300),
)
def test_any_body_is_answered_within_its_limit(content, media_type, coding, limit):
    fields = fields_of(coding, media_type)
    redactor = Redactor()
    readable: Any = redactor.readable(whole(content), fields, limit)
    assert len(readable.content) <= 3 * limit + 16  # UTF-16 to UTF-8 at worst
    redactor.body(whole(content), fields)
    assert redactor.counters.failures == 0


def test_bytes_that_only_look_like_a_wide_charset_stay_as_they_are():
    content = b"\xff\xfe\x01\x00"
    readable = Redactor().readable(Body(content, len(content), truncated=False), (), 100)
    assert (readable.content, readable.text) == (content, False)
