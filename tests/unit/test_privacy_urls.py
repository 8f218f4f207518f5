"""Where a URL can hold a secret, and what stays of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.privacy.rules import RedactionSettings, SecretNames
from otel_tap.privacy.urls import redact_authority, redact_form, redact_url

NAMES = SecretNames(RedactionSettings())

CASES = {
    "a key of the pattern": (b"/a?access_token=S&b=1", b"/a?access_token=REDACTED&b=1"),
    "any case": (b"/a?Access_TOKEN=S", b"/a?Access_TOKEN=REDACTED"),
    "an encoded key": (b"/a?acc%65ss%5Ftoken=S", b"/a?acc%65ss%5Ftoken=REDACTED"),
    "a key encoded twice": (b"/a?%2574oken=S", b"/a?%2574oken=REDACTED"),
    "a repeated key": (b"/a?token=S&token=S", b"/a?token=REDACTED&token=REDACTED"),
    "a key in brackets": (b"/a?user[password]=S", b"/a?user[password]=REDACTED"),
    "semicolons": (b"/a?x=1;sig=S;y=2", b"/a?x=1;sig=REDACTED;y=2"),
    "odd characters in a secret": (b"/a?token=S;S?S#S/S=S&b=1", b"/a?token=REDACTED&b=1"),
    "an empty value": (b"/a?token=&b=1", b"/a?token=&b=1"),
    "a key without a value": (b"/a?token&b=1", b"/a?token&b=1"),
    "a signed Amazon URL": (
        b"/o?X-Amz-Credential=S%2F2026&X-Amz-Date=1&X-Amz-Security-Token=S&X-Amz-Signature=S",
        b"/o?X-Amz-Credential=REDACTED&X-Amz-Date=1&X-Amz-Security-Token=REDACTED"
        b"&X-Amz-Signature=REDACTED",
    ),
    "an old signed Amazon URL": (
        b"/o?AWSAccessKeyId=S&Expires=1&Signature=S",
        b"/o?AWSAccessKeyId=REDACTED&Expires=1&Signature=REDACTED",
    ),
    "a signed Azure URL": (b"/o?sv=1&sig=S%3D", b"/o?sv=1&sig=REDACTED"),
    "a signed Google URL": (b"/o?X-Goog-Signature=S", b"/o?X-Goog-Signature=REDACTED"),
    "a fragment": (
        b"https://h/cb#access_token=S&state=1",
        b"https://h/cb#access_token=REDACTED&state=1",
    ),
    "a query in a fragment": (b"/#/route?token=S", b"/#/route?token=REDACTED"),
    "a path parameter": (b"/a;jsessionid=S?b=1", b"/a;jsessionid=REDACTED?b=1"),
    "user information": (b"http://u:S@h/p", b"http://REDACTED:REDACTED@h/p"),
    "a user without a password": (b"https://S@h:8080", b"https://REDACTED:REDACTED@h:8080"),
    "an at sign in a password": (b"https://u:S@S@h/p", b"https://REDACTED:REDACTED@h/p"),
    "a slash in a password": (b"https://u:S/S@h/p", b"https://REDACTED:REDACTED@h/p"),
    "no scheme": (b"//u:S@h/p", b"//REDACTED:REDACTED@h/p"),
    "too few slashes": (b"https:u:S@h/p", b"https:REDACTED:REDACTED@h/p"),
    "a URL in a path": (b"/fetch/https://u:S@h/p", b"/fetch/https://REDACTED:REDACTED@h/p"),
    "an encoded URL in a value": (
        b"/go?to=https%3A%2F%2Fh%2F%3Ftoken%3DS&b=1",
        b"/go?to=REDACTED&b=1",
    ),
    "a bare URL in a value": (b"/go?to=/cb?token=S&b=1", b"/go?to=/cb?token=REDACTED&b=1"),
    "parameters behind a slash in a value": (b"/go?to=/token=S&b=1", b"/go?to=REDACTED&b=1"),
    "encoded user information in a value": (b"/go?to=https%3A%2F%2Fu%3AS%40h", b"/go?to=REDACTED"),
    "everything encoded": (b"/login%3Ftoken%3DS", b"REDACTED"),
}

CLEAN = [
    b"/",
    b"*",
    b"/a/b?page=2&q=hello%20world",
    b"/@scope/package?x=1",
    b"/a?mail=bob%40example.com",
    b"https://h:443/@user/p?x=1",
    b"/design?designer=1",
    b"/a?x=%zz%",
    b"mailto:bob@example.com",
    b"https://[::1]:8080/@x",
    b"/a?b==&=&&c=%3D",
    b"http://REDACTED:REDACTED@h/?token=REDACTED",
]


@pytest.mark.parametrize(("url", "expected"), CASES.values(), ids=CASES.keys())
def test_a_secret_leaves_and_its_place_stays(url, expected):
    assert redact_url(url, NAMES) == expected


@pytest.mark.parametrize(("url", "expected"), CASES.values(), ids=CASES.keys())
def test_what_is_redacted_is_not_redacted_again(url, expected):
    assert redact_url(expected, NAMES) is expected


@pytest.mark.parametrize("url", CLEAN)
def test_a_url_without_a_secret_is_the_same_object(url):
    assert redact_url(url, NAMES) is url


def test_user_information_leaves_an_authority():
    assert redact_authority(b"u:S@h:443") == b"REDACTED:REDACTED@h:443"
    assert redact_authority(b"h:443") == b"h:443"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (b"user=bob&Password=S%20S&x=1", b"user=bob&Password=REDACTED&x=1"),
        (b"pass%77ord=S;S=S", b"pass%77ord=REDACTED"),
        (b"next=/a?token=S", b"next=REDACTED"),
        (b"a=1;token=S", b"a=REDACTED"),
    ],
)
def test_a_form_loses_the_values_of_secret_keys(form, expected):
    assert redact_form(form, NAMES) == expected


def test_a_form_without_a_secret_is_the_same_object():
    form = b"user=bob&designer=x&y"
    assert redact_form(form, NAMES) is form


def test_added_keys_and_patterns_count_too():
    names = SecretNames(RedactionSettings(query_keys=("Code",), patterns=("^otp",)))
    url = b"/a?code=S&OTP_value=S&mode=1&decode=2"
    assert redact_url(url, names) == b"/a?code=REDACTED&OTP_value=REDACTED&mode=1&decode=2"


@given(st.lists(st.sampled_from(b"?&;#/=@%:.a5token25\\ []".decode()), max_size=60).map("".join))
def test_any_text_is_answered_and_the_answer_is_stable(text):
    once = redact_url(text.encode(), NAMES)
    assert redact_url(once, NAMES) == once


@given(st.binary(max_size=120))
def test_any_bytes_are_answered(url):
    assert isinstance(redact_url(url, NAMES), bytes)
    assert isinstance(redact_form(url, NAMES), bytes)
