"""Secrets in bodies: what is found, and that a cut body gives nothing away."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.privacy.content import redact_content, redact_json
from otel_tap.privacy.rules import RedactionSettings, SecretNames

NAMES = SecretNames(RedactionSettings())

JSON = {
    "a string": (b'{"token": "S", "a": 1}', b'{"token": "REDACTED", "a": 1}'),
    "any case, nested": (b'{"a":{"apiKey":"S"}}', b'{"a":{"apiKey":"REDACTED"}}'),
    "an escaped key": (b'{"pass\\u0077ord":"S"}', b'{"pass\\u0077ord":"REDACTED"}'),
    "an escaped quote in a secret": (b'{"token":"S\\"S","b":2}', b'{"token":"REDACTED","b":2}'),
    "a number": (b'{"secret_pin":1234}', b'{"secret_pin":"REDACTED"}'),
    "an object": (
        b'{"credentials":{"u":"S","x":["}"]},"b":2}',
        b'{"credentials":"REDACTED","b":2}',
    ),
    "an array": (b'{"tokens":["S","]"] ,"b":2}', b'{"tokens":"REDACTED" ,"b":2}'),
    "cut in a secret": (b'{"a":1,"token":"S', b'{"a":1,"token":"REDACTED"'),
    "cut in an object": (b'{"session":{"id":"S', b'{"session":"REDACTED"'),
    "one object a line": (
        b'{"token":"S"}\n{"token":"S"}\n',
        b'{"token":"REDACTED"}\n{"token":"REDACTED"}\n',
    ),
    "a URL in a string": (
        b'{"next":"https://h/?token=S&p=2"}',
        b'{"next":"https://h/?token=REDACTED&p=2"}',
    ),
    "user information in a string": (
        b'{"git":"https://u:S@h/r"}',
        b'{"git":"https://REDACTED:REDACTED@h/r"}',
    ),
    "a path in a string": (b'{"u":"/p;token=S/q"}', b'{"u":"/p;token=REDACTED"}'),
    "JSON in a string": (b'{"body":"{\\"token\\":\\"S\\"}"}', b'{"body":"REDACTED"}'),
}


@pytest.mark.parametrize(("text", "expected"), JSON.values(), ids=JSON.keys())
def test_json_loses_the_values_of_secret_keys(text, expected):
    assert redact_content(text, b"application/json; charset=utf-8", NAMES) == expected
    assert redact_content(expected, b"application/json", NAMES) is expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":"token"}',
        b'{"a":"\\"token\\": 1"}',
        b'{"token":null,"secret":true}',
        b'{"mail":"bob@example.com"}',
        b'["token","x"]',
        b"{}",
        b'{"token"',
        b'{"token":',
    ],
)
def test_json_without_a_secret_is_the_same_object(text):
    assert redact_json(text, NAMES) is text


def test_json_is_known_by_its_beginning_whatever_the_type_says():
    assert b"S" not in redact_content(b' {"token":"SSS"}', b"text/plain", NAMES).replace(
        b"REDACTED", b""
    )
    assert b"SSS" not in redact_content(b'[{"token":"SSS"}]', b"", NAMES)


def test_a_form_is_known_by_its_type():
    form = b"user=bob&password=S"
    kind = b"Application/X-WWW-Form-Urlencoded; charset=UTF-8"
    assert redact_content(form, kind, NAMES) == b"user=bob&password=REDACTED"
    assert redact_content(form, b"text/plain", NAMES) is form


def test_parts_with_a_secret_name_lose_their_content():
    def body(secret: bytes) -> bytes:
        return (
            b'--b\r\nContent-Disposition: form-data; name="user"\r\n\r\nbob\r\n'
            b'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n'
            + secret
            + b"\r\n--b--\r\n"
        )

    kind = b'multipart/form-data; boundary="b"'
    assert redact_content(body(b"SSS"), kind, NAMES) == body(b"REDACTED")
    clean = body(b"x").replace(b"password", b"nickname")
    assert redact_content(clean, kind, NAMES) is clean


keys = st.sampled_from(["token", "a", "my_secret", "b c", 'quo"te', "Session", "designer", "päss"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("https://h/?x=1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def planted(value: object, secret: str) -> object:
    """The document with the secret under every secret key."""
    if isinstance(value, dict):
        return {
            k: secret if k in ("token", "my_secret", "Session") else planted(v, secret)
            for k, v in value.items()
        }
    return [planted(v, secret) for v in value] if isinstance(value, list) else value


@given(documents, st.booleans(), st.booleans())
def test_json_stays_json_and_only_secrets_differ(document, ascii_only, indented):
    def text(secret: str) -> bytes:
        value = planted(document, secret)
        return json.dumps(value, ensure_ascii=ascii_only, indent=1 if indented else None).encode()

    redacted = redact_content(text("hunter2" * 3), b"application/json", NAMES)
    assert json.loads(redacted) == planted(document, "REDACTED")


@given(documents, st.integers(0, 400))
def test_json_that_is_cut_anywhere_gives_no_secret_away(document, length):
    secret = "hunter2" * 3
    text = json.dumps(planted({"a": document, "token": 1}, secret)).encode()[:length]
    redacted = redact_content(text, b"application/json", NAMES)
    assert b"hun" not in redacted


@given(st.lists(st.sampled_from('{}[]":,\\ token1//?=@u0041'), max_size=60).map("".join))
def test_any_text_is_answered(text):
    assert isinstance(redact_json(text.encode(), NAMES), bytes)
    assert isinstance(redact_content(text.encode(), b"multipart/x; boundary=t", NAMES), bytes)
