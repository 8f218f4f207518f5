"""Whole exchanges: a planted secret is nowhere, and what holds none is left alone."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.compiled import is_compiled
from otel_tap.events import PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, Position, Role
from otel_tap.messages import EMPTY_BODY, Body, Field, Request, Response
from otel_tap.privacy import RedactionSettings, Redactor, bodies, redaction
from tests.unit.attributes import attribute_names

CONNECTION = Connection(1, 2, TlsLibrary.NONE, PeerEvidence.NONE, None, None, 0, 0, from_start=True)


def request(
    target: bytes = b"/",
    fields: tuple[Field, ...] = (),
    trailers: tuple[Field, ...] = (),
    body: Body = EMPTY_BODY,
) -> Request:
    return Request(b"GET", target, "1.1", fields, trailers, body, 10, 0, complete=True)


def response(
    fields: tuple[Field, ...] = (), trailers: tuple[Field, ...] = (), body: Body = EMPTY_BODY
) -> Response:
    return Response(200, b"OK", "1.1", fields, trailers, body, 10, 0, complete=True, interim=(100,))


def exchange(sent: Request | None = None, answer: Response | None = None) -> Exchange:
    return Exchange(
        Role.CLIENT, CONNECTION, 3, sent, answer, 1, 2, 3, 4, 5, False, Position("tcp", 6), None
    )


def whole(content: bytes) -> Body:
    return Body(content, len(content), truncated=False)


def redacted_request(sent: Request, settings: RedactionSettings | None = None) -> Request:
    result = Redactor(settings).redact(exchange(sent)).request
    assert result is not None
    return result


def redacted_field(name: bytes, value: bytes, settings: RedactionSettings | None = None) -> bytes:
    return redacted_request(request(fields=((name, value),)), settings).fields[0][1]


def test_an_exchange_without_a_secret_is_the_same_object():
    redactor = Redactor()
    fields = ((b"host", b"h"), (b"referer", b"https://h/a?b=1"), (b"link", b"<https://h>; rel=x"))
    body = whole(b'{"a":"b@c"}')
    clean = exchange(request(b"/a?b=%20&c=d", fields, fields, body), response(fields, (), body))
    assert redactor.redact(clean) is clean
    assert redactor.redact(exchange()) == exchange()
    assert redactor.counters.exchanges_changed == 0


def test_everything_that_is_no_secret_stays():
    secret = ((b"cookie", b"a=1"), (b"accept", b"*/*"))
    before = exchange(request(fields=secret), response(fields=secret))
    after = Redactor().redact(before)
    expected = ((b"cookie", b"REDACTED"), (b"accept", b"*/*"))
    assert after == exchange(request(fields=expected), response(fields=expected))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"authorization", b"Bearer abc", b"Bearer REDACTED"),
        (b"authorization", b"basic abc==", b"basic REDACTED"),
        (b"proxy-authorization", b"Digest username=x, response=y", b"Digest REDACTED"),
        (b"authorization", b"hunter2 hunter3", b"REDACTED"),
        (b"authorization", b"hunter2", b"REDACTED"),
        (b"authorization", b"Bearer", b"REDACTED"),
        (b"set-cookie", b"id=1; Path=/", b"REDACTED"),
        (b"x-session-id", b"1", b"REDACTED"),
        (b"x-api-key", b"", b""),
        (b"host", b"u:p@h", b"REDACTED:REDACTED@h"),
        (b"origin", b"https://u:p@h", b"https://REDACTED:REDACTED@h"),
        (b"referer", b"https://h/?token=1#x", b"https://h/?token=REDACTED"),
        (b"location", b"/cb#access_token=1&b=2", b"/cb#access_token=REDACTED&b=2"),
        (b"content-location", b"/a;jsessionid=1", b"/a;jsessionid=REDACTED"),
        (
            b"link",
            b'<https://h/?token=1>; rel="next", <https://h/?p=1>; rel=x',
            b'<https://h/?token=REDACTED>; rel="next", <https://h/?p=1>; rel=x',
        ),
        (b"link", b'<https://h/>; anchor="/?token=1"', b"REDACTED"),
        (b"refresh", b"5; url=https://h/?token=1", b"5; url=https://h/?token=REDACTED"),
        (b"refresh", b"5", b"5"),
        (b"x-original-url", b"/?token=1", b"/?token=REDACTED"),
    ],
)
def test_a_field_is_treated_by_its_name(name, value, expected):
    assert redacted_field(name, value) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/a?token=1", b"/a?token=REDACTED"),
        (b"http://u:p@h/a?x=1", b"http://REDACTED:REDACTED@h/a?x=1"),
        (b"u:p@h:443", b"REDACTED:REDACTED@h:443"),
        (b"h:443", b"h:443"),
        (b"*", b"*"),
        (b"/@scope/x", b"/@scope/x"),
    ],
)
def test_a_target_of_any_form_loses_its_secrets(target, expected):
    assert redacted_request(request(target)).target == expected


def test_a_header_that_is_kept_on_purpose_stays():
    settings = RedactionSettings(keep_headers=("Authorization",))
    assert redacted_field(b"authorization", b"Bearer abc", settings) == b"Bearer abc"
    assert redacted_field(b"cookie", b"a", settings) == b"REDACTED"


def test_added_headers_and_patterns_go_too():
    settings = RedactionSettings(headers=("X-Customer",), patterns=("iban",))
    assert redacted_field(b"x-customer", b"a", settings) == b"REDACTED"
    assert redacted_field(b"x-my-iban", b"a", settings) == b"REDACTED"


def test_a_decision_holds_however_often_a_name_is_met():
    redactor = Redactor()
    for index in range(5000):
        name = b"x-%d-token" % index
        result = redactor.redact(exchange(request(fields=((name, b"v"), (b"x-%d" % index, b"v")))))
        assert result.request is not None
        assert result.request.fields == ((name, b"REDACTED"), (b"x-%d" % index, b"v"))
    assert len(redactor._actions) <= redaction._MAX_MEMO


def test_values_are_never_remembered():
    redactor = Redactor()
    fields = (
        (b"cookie", b"hunter2"),
        (b"authorization", b"Bearer hunter2"),
        (b"accept", b"hunter2"),
    )
    redactor.redact(exchange(request(b"/hunter2?hunter2=hunter2", fields), response(fields)))
    memory = [getattr(redactor, name) for name in attribute_names(Redactor)]
    assert "hunter2" not in repr(memory)


JSON_TYPE = (b"content-type", b"application/json")


def coded(content: bytes, coding: bytes) -> tuple[tuple[Field, ...], bytes]:
    fields = (JSON_TYPE, (b"content-encoding", coding))
    if coding == b"gzip":
        return fields, gzip.compress(content)
    window = zlib.MAX_WBITS if coding == b"deflate" else -zlib.MAX_WBITS
    compressor = zlib.compressobj(6, zlib.DEFLATED, window)
    return fields, compressor.compress(content) + compressor.flush()


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_a_compressed_body_is_searched_and_stays_compressed(coding):
    fields, content = coded(b'{"token":"hunter2"}', coding)
    body = redacted_request(request(fields=fields, body=whole(content))).body
    plain = gzip.decompress(body.content) if coding == b"gzip" else zlib.decompress(body.content)
    assert plain == b'{"token":"REDACTED"}'
    assert body.size == len(content)


def test_every_member_of_a_compressed_body_is_searched():
    fields, first = coded(b'{"a":1}', b"gzip")
    content = first + gzip.compress(b'{"token":"hunter2"}')
    body = redacted_request(request(fields=fields, body=whole(content))).body
    assert gzip.decompress(body.content) == b'{"a":1}{"token":"REDACTED"}'


def test_a_compressed_body_that_is_cut_is_searched_as_far_as_it_goes():
    fields, content = coded(b'{"token":"hunter2","a":"' + bytes(range(65, 91)) * 3, b"gzip")
    body = redacted_request(
        request(fields=fields, body=Body(content[:-9], 99, truncated=True))
    ).body
    plain = zlib.decompressobj(31).decompress(body.content)
    assert plain.startswith(b'{"token":"REDACTED","a":"ABC')
    assert body.truncated


def test_a_compressed_body_without_a_secret_is_the_same_object():
    fields, content = coded(b'{"a":1}', b"gzip")
    clean = exchange(request(fields=fields, body=whole(content)))
    assert Redactor().redact(clean) is clean


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"gzip"])
def test_a_body_that_cannot_be_searched_is_dropped_and_counted(coding):
    redactor = Redactor()
    fields = (JSON_TYPE, (b"content-encoding", coding))
    result = redactor.redact(exchange(None, response(fields, (), whole(b"\x1bhunter2"))))
    assert result.response is not None
    assert result.response.body == Body(b"", 8, truncated=True)
    assert redactor.counters.bodies_dropped == 1


def test_a_coded_picture_is_let_through():
    fields = ((b"content-type", b"image/svg+xml"), (b"content-encoding", b"br"))
    picture = exchange(None, response(fields, (), whole(b"\x1b")))
    assert Redactor().redact(picture) is picture


@pytest.mark.skipif(is_compiled(), reason="calls between compiled modules cannot be replaced")
def test_what_cannot_be_redacted_is_dropped(monkeypatch):
    def broken(*_: object, **__: object) -> bytes:
        raise RuntimeError("a defect")

    monkeypatch.setattr(redaction, "redact_url", broken)
    monkeypatch.setattr(bodies, "redact_content", broken)
    redactor = Redactor()
    fields = ((b"referer", b"https://hunter2"), JSON_TYPE)
    result = redactor.redact(
        exchange(request(b"/?token=hunter2", fields, (), whole(b'{"a":"hunter2"}')))
    )
    assert "hunter2" not in repr(result)
    assert redactor.counters.failures == 3  # target, referer, body


# A secret of hex digits behind a marker that nothing else contains.
secrets = st.text("0123456789abcdef", min_size=6, max_size=24).map(lambda s: f"zq{s}zq".encode())
secret_keys = st.sampled_from(
    b"token ACCESS_TOKEN client%5fsecret api-key apikey sig Signature session_id x-amz-credential "
    b"AWSAccessKeyId user[password] %70assword".split()
)
secret_headers = st.sampled_from(
    b"authorization proxy-authorization cookie set-cookie x-api-key x-auth-token x-csrf-token "
    b"x-vault-token my-secret session x-forwarded-authorization x-amz-security-token".split()
)
url_headers = st.sampled_from(b"referer location content-location link refresh origin".split())
places = st.sampled_from(["target", "header", "url header", "trailer", "form", "json", "response"])
url_forms = st.sampled_from(
    [
        b"/p?a=1&%(k)s=%(s)s&b=2",
        b"/p?a=1;%(k)s=%(s)s",
        b"/p?%(k)s=%(s)s&%(k)s=%(s)s",
        b"/p?%(k)s=;%(s)s?%(s)s#%(s)s",
        b"/p;%(k)s=%(s)s/q",
        b"/p#%(k)s=%(s)s",
        b"/p#/q?%(k)s=%(s)s",
        b"https://u:%(s)s@h/p",
        b"https://%(s)s:%(s)s@h:1/p?x=1",
        b"//%(s)s@h",
        b"/p?next=/q?%(k)s=%(s)s",
        b"/p?next=https%%3A%%2F%%2Fu%%3A%(s)s%%40h%%2F",
        b"/p?next=%%2Fq%%3Ftoken%%3D%(s)s",
        b"/p%%3Ftoken%%3D%(s)s",
    ]
)


@given(
    st.lists(st.tuples(places, secret_keys, secret_headers, url_headers, url_forms), min_size=1),
    secrets,
)
def test_a_planted_secret_is_nowhere_in_the_redacted_exchange(plants, secret):
    target, form = b"/", b"a=1"
    fields: list[Field] = []
    trailers: list[Field] = []
    answer: list[Field] = []
    json_body = b'{"a":1'
    for place, key, header, url_header, url_form in plants:
        url = url_form % {b"k": key, b"s": secret}
        match place:
            case "target":
                target = url
            case "header":
                fields.append((header, b"Bearer " + secret))
            case "url header":
                wrapped = b"<" + url + b">; rel=x" if url_header == b"link" else url
                fields.append((url_header, wrapped))
                answer.append((url_header, b"3; url=" + url if url_header == b"refresh" else url))
            case "trailer":
                trailers.append((header, secret))
            case "form":
                form += b"&" + key + b"=" + secret
            case "json":
                json_body += b', "my_token": "' + secret + b'", "u": "' + url + b'"'
            case _:
                answer.append((header, secret + b" " + secret))
    fields.append((b"content-type", b"application/x-www-form-urlencoded"))
    answer.append(JSON_TYPE)
    result = Redactor().redact(
        exchange(
            request(target, tuple(fields), tuple(trailers), whole(form)),
            response(tuple(answer), tuple(trailers), whole(json_body + b"}")),
        )
    )
    assert secret.decode() not in repr(result)
