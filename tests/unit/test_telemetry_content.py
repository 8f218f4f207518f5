"""Bodies on log records: their coding removed, text where it is text, cut where asked."""

import gzip
import zlib

import brotli
import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_tap.exchange import ExchangeError
from otel_tap.messages import EMPTY_BODY, Body, Field
from otel_tap.privacy import Redactor
from otel_tap.telemetry import TelemetrySettings
from otel_tap.telemetry.content import content_attribute
from otel_tap.telemetry.otlp import LOG_ATTRIBUTE
from tests.unit.test_telemetry_records import exchange, read, records, request, response

TEXT = (b"content-type", b"text/plain")
PICTURE = (b"content-type", b"image/svg+png")  # nothing is searched for in it
GZIP = (b"content-encoding", b"gzip")


def whole(content: bytes) -> Body:
    return Body(content, len(content), truncated=False)


def cut_off(content: bytes) -> Body:
    return Body(content, len(content) + 1, truncated=True)


def logged(body: Body, *fields: Field, limit: int = 65536):
    """A body as an attribute, and whether it was cut."""
    readable = Redactor().readable(body, fields, limit)
    attribute = content_attribute("body", readable)
    found = read(LogRecord.FromString(LOG_ATTRIBUTE + attribute).attributes)["body"]
    return found, readable.cut


def answered(body: Body):
    """The body of an answer as its log record has it, and whether it says truncated."""
    observed = exchange(request(), response(200, TEXT, body=body))
    found = read(records(observed, TelemetrySettings(bodies=True))[1].attributes)
    return found.get("http.response.body.content"), "otel_tap.capture.truncated" in found


def raw_deflate(content: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(content) + deflate.flush()


def test_bodies_are_not_sent_unless_asked_for():
    observed = exchange(request(body=whole(b"a")), response(200, TEXT, body=whole(b"b")))
    for record in records(observed):
        assert not {name for name in read(record.attributes) if "body" in name}


def test_both_bodies_stand_on_the_log_record_only():
    sent = request(b"/", TEXT, body=whole(b"a"))
    observed = exchange(sent, response(200, TEXT, body=whole(b"b")))
    span, log = records(observed, TelemetrySettings(bodies=True))
    assert set(read(log.attributes).items()) - set(read(span.attributes).items()) == {
        ("http.request.body.content", "a"),
        ("http.response.body.content", "b"),
    }


def test_an_empty_body_is_no_attribute():
    assert answered(EMPTY_BODY) == (None, False)


@pytest.mark.parametrize(
    "media_type",
    [
        b"text/plain", b"text/html; charset=utf-8", b"application/json", b"TEXT/HTML",
        b"application/problem+json", b"application/soap+xml", b"application/x-ndjson",
        b"application/x-www-form-urlencoded", b"application/javascript", b"application/graphql",
        b"application/yaml", b"text/plain;charset=UTF-8;boundary=x", b'text/plain; charset="utf-8"',
        b"application/octet-stream; charset=utf-8",
    ],
)  # fmt: skip
def test_textual_media_types_are_strings(media_type):
    assert logged(whole("h\u00fc".encode()), (b"content-type", media_type)) == ("hü", False)


@pytest.mark.parametrize(
    "media_type",
    [
        b"application/octet-stream", b"image/png", b"application/grpc", b"", b";", b"\xff",
        b"text/plain; charset=idna", b"text/plain; charset=punycode", b"text/plain; charset=hex",
        b"text/plain; charset=", b"text/plain; charset=\xff", b"text/plain; charset=unicode_escape",
        b"text/plain; charset=rot13", b"text/plain; charset=" + b"x" * 9999, b"multipart/form-data",
    ],
)  # fmt: skip
def test_what_is_not_said_to_be_text_is_bytes(media_type):
    assert logged(whole(b"text?"), (b"content-type", media_type)) == (b"text?", False)
    assert logged(whole(b"text?")) == (b"text?", False)


@pytest.mark.parametrize(
    ("charset", "content", "text"),
    [
        (b"iso-8859-1", b"h\xfc", "hü"),
        (b"ISO-8859-1", b"h\xfc", "hü"),
        (b"windows-1252", b"\x80", "€"),
        (b"shift_jis", b"\x82\xa0", "あ"),
        (b"euc-kr", b"\xb0\xa1", "가"),
        (b"gb18030", b"\xc4\xe3", "你"),
        (b"utf-16le", b"h\x00\xfc\x00", "hü"),
        (b"utf-16", b"\xfe\xff\x00h", "h"),
        (b"us-ascii", b"h", "h"),
    ],
)
def test_a_charset_is_decoded(charset, content, text):
    kind = (b"content-type", b"text/plain; charset=" + charset)
    assert logged(whole(content), kind) == (text, False)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"\xff\xfe", b"text/plain"),
        (b"ok\xc3", b"text/plain"),
        (b"\xed\xa0\x80", b"text/plain"),
        (b"\xfc", b"text/plain; charset=us-ascii"),
        (b"\x00\xd8", b"text/plain; charset=utf-16le"),
        (b"a\x00b", b"text/plain; charset=utf-16le"),
    ],
)
def test_text_that_is_not_in_its_charset_is_bytes(content, media_type):
    assert logged(whole(content), (b"content-type", media_type)) == (content, False)


CONTENT = b"The quick brown fox. " * 50


@pytest.mark.parametrize(
    ("coding", "coded"),
    [
        (b"gzip", gzip.compress(CONTENT)),
        (b"x-gzip", gzip.compress(CONTENT)),
        (b"GZip ", gzip.compress(CONTENT)),
        (b"deflate", zlib.compress(CONTENT)),
        (b"deflate", raw_deflate(CONTENT)),
        (b"identity", CONTENT),
        (b"", CONTENT),
        (b"gzip", gzip.compress(CONTENT[:100]) + gzip.compress(CONTENT[100:])),
        (b"gzip", gzip.compress(CONTENT) + b"\x00" * 20),
        (b"gzip", gzip.compress(CONTENT) + b"trailing"),
    ],
)
def test_content_codings_are_removed(coding, coded):
    fields = (TEXT, (b"content-encoding", coding))
    assert logged(whole(coded), *fields) == (CONTENT.decode(), False)


@pytest.mark.parametrize(
    ("coding", "content"),
    [
        (b"br", gzip.compress(CONTENT)),
        (b"zstd", gzip.compress(CONTENT)),
        (b"gzip, br", gzip.compress(CONTENT)),
        (b"compress", CONTENT),
        (b"gzip, " * 5, CONTENT),
        (b"gzip", b"plain text after all"),
        (b"gzip", b"KLLLL"),
        (b"gzip", raw_deflate(CONTENT)),
        (b"gzip", gzip.compress(CONTENT)[:10] + b"\xff" * 20),
        (b"deflate", b"\xff\xff\xff"),
        (b"\xff", b"x"),
    ],
)
def test_a_coding_that_is_not_known_or_not_kept_to_leaves_the_bytes(coding, content):
    assert logged(whole(content), PICTURE, (b"content-encoding", coding)) == (content, False)


def test_codings_of_several_fields_are_all_removed():
    coded = brotli.compress(gzip.compress(CONTENT))
    text = (CONTENT.decode(), False)
    assert logged(whole(coded), TEXT, GZIP, (b"content-encoding", b"br")) == text


def test_a_truncated_coded_body_is_decoded_as_far_as_it_goes():
    coded = gzip.compress(bytes(range(256)) * 100, compresslevel=1)
    content, truncated = logged(cut_off(coded[:200]), GZIP)
    assert truncated
    assert content
    assert (bytes(range(256)) * 100).startswith(content)


def test_a_bomb_is_cut_at_the_limit():
    bomb = gzip.compress(b"\x00" * 50_000_000)
    content, truncated = logged(whole(bomb), GZIP, limit=1000)
    assert (content, truncated) == (b"\x00" * 1000, True)


def test_a_bomb_of_empty_members_ends():
    bomb = gzip.compress(b"") * 3000
    assert logged(whole(bomb), PICTURE, GZIP, limit=100) == (bomb[:100], True)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7])
def test_text_is_cut_before_a_character_that_does_not_fit(limit):
    content = "aé€\U0001f600".encode()
    expected = content[:limit].decode("utf-8", "ignore")
    assert logged(whole(content), TEXT, limit=limit) == (expected, True)


def test_a_body_that_just_fits_is_whole():
    content = "aé€\U0001f600".encode()
    assert logged(whole(content), TEXT, limit=10) == (content.decode(), False)
    assert logged(whole(gzip.compress(content)), TEXT, GZIP, limit=10) == (content.decode(), False)


def test_bytes_are_cut_at_the_limit():
    assert logged(whole(b"\xff" * 10), limit=4) == (b"\xff" * 4, True)
    unknown = (b"content-encoding", b"compress")
    assert logged(whole(b"\xff" * 10), PICTURE, unknown, limit=4) == (b"\xff" * 4, True)


def test_a_character_that_the_capture_cut_is_left_out():
    assert logged(cut_off("aé".encode()[:-1]), TEXT) == ("a", True)
    half = (b"content-type", b"text/plain; charset=utf-16le")
    assert logged(cut_off(b"a\x00b"), half) == ("a", True)


def test_truncated_is_said_once():
    answer = response(200, TEXT, body=cut_off(b"a"), lost_bytes=4)
    settings = TelemetrySettings(bodies=True)
    for error in (None, ExchangeError.TRUNCATED):
        span, log = records(exchange(request(), answer, error=error), settings)
        for record in (span, log):
            assert [one.key for one in record.attributes].count("otel_tap.capture.truncated") == 1


def test_a_body_is_redacted_inside_its_coding():
    secret = b'{"user":"bob","password":"hunter2"}'
    answer = response(
        200, (b"content-type", b"application/json"), GZIP, body=whole(gzip.compress(secret))
    )
    _, log = records(exchange(request(), answer), TelemetrySettings(bodies=True))
    found = read(log.attributes)["http.response.body.content"]
    assert found == secret.decode().replace("hunter2", "REDACTED")


def test_a_body_that_was_not_captured_at_all_is_truncated():
    assert answered(Body(b"", 5, truncated=True)) == (None, True)


def test_the_largest_bodies_fit_into_one_request():
    kind = (b"content-type", b"text/plain; charset=windows-1252")
    huge = whole(b"\x80" * 4_000_000)
    observed = exchange(request(b"/", kind, body=huge), response(200, kind, body=huge))
    _, log = records(observed, TelemetrySettings(bodies=True, body_limit=2**40))
    assert log.ByteSize() < 3_500_000
    assert set(read(log.attributes)["http.response.body.content"]) == {"€"}
