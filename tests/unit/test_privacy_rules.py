"""What counts as secret by its name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.errors import ConfigError
from otel_tap.privacy.rules import RedactionSettings, SecretNames, decoded

NAMES = SecretNames(RedactionSettings())
DOCUMENTED = re.compile(rb"(?i)(token|secret|passw|api[-_]?key|session|credential|signature)")
LISTED = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
]


@pytest.mark.parametrize(
    "name",
    [
        "cookie",
        "set-cookie",
        "x-api-key",
        "x-auth-token",
        "x-amz-security-token",
        "x-csrf-token",
        "X-Session-Id",
        "x-my-secret",
        "db-password",
        "apikey",
        "x-signature",
    ],
)
def test_the_documented_headers_are_secret(name):
    assert NAMES.is_secret_header(name.encode())


@pytest.mark.parametrize(
    "name", ["authorization", "Proxy-Authorization", "x-forwarded-authorization"]
)
def test_credentials_may_be_forwarded_under_other_names(name):
    assert NAMES.is_authorization(name.encode())


@pytest.mark.parametrize(
    "name", ["host", "accept", "user-agent", "x-request-id", "traceparent", "design"]
)
def test_ordinary_headers_are_not_secret(name):
    assert not NAMES.is_secret_header(name.encode())


@pytest.mark.parametrize("key", LISTED)
def test_the_listed_query_keys_are_secret_in_any_case(key):
    for form in (key, key.lower(), key.upper()):
        assert NAMES.is_secret_key(form.encode())
        assert NAMES.may_be_secret(form.encode())


@given(
    st.lists(
        st.sampled_from(
            ["token", "secret", "passw", "api", "key", "-", "_", "session", "sig", "nature", "x"]
        )
    )
)
def test_the_defaults_are_the_documented_pattern_and_the_quick_look_misses_none(parts):
    key = "".join(parts).encode()
    secret = DOCUMENTED.search(key) is not None or key == b"sig"
    assert NAMES.is_secret_key(key) == secret
    assert NAMES.may_be_secret(key) or not secret


def test_a_header_is_kept_only_when_named():
    names = SecretNames(RedactionSettings(keep_headers=("X-Session-Kind",)))
    assert names.is_kept_header(b"x-session-kind")
    assert not names.is_kept_header(b"x-session-id")


def test_a_broken_pattern_is_a_configuration_error():
    with pytest.raises(ConfigError, match="not a regular expression"):
        SecretNames(RedactionSettings(patterns=("(",)))


def test_encoding_is_removed_as_often_as_it_was_applied():
    assert decoded(b"%2574oken") == b"token"
    assert decoded(b"100%") == b"100%"
