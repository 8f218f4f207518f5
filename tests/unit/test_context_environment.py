"""Two variables are read; everything else of an environment stays unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.context.environment import (
    NOTHING_DECLARED,
    Declared,
    declared_by,
    parse_resource_attributes,
)


def test_an_environment_without_the_variables_declares_nothing():
    assert declared_by(b"PATH=/bin\0AWS_SECRET_ACCESS_KEY=hunter2\0") is NOTHING_DECLARED


def test_only_the_two_variables_are_kept():
    environ = (
        b"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20hunter2\0OTEL_SERVICE_NAME=shop\0"
        b"DB_PASSWORD=hunter2\0OTEL_RESOURCE_ATTRIBUTES=service.version=2,team=a%2Cb\0"
    )
    declared = declared_by(environ)
    assert declared == Declared(
        "shop", (("service.version", "2"), ("team", "a,b")), malformed=False
    )
    assert "hunter2" not in repr(declared)


def test_the_service_name_variable_wins_over_the_attribute():
    environ = b"OTEL_RESOURCE_ATTRIBUTES=service.name=old,a=b\0OTEL_SERVICE_NAME=new\0"
    assert declared_by(environ) == Declared("new", (("a", "b"),), malformed=False)


def test_the_attribute_names_the_service_when_the_variable_is_empty():
    environ = b"OTEL_SERVICE_NAME=\0OTEL_RESOURCE_ATTRIBUTES=service.name=shop\0"
    assert declared_by(environ) == Declared("shop", (), malformed=False)


def test_the_first_of_two_equal_variables_counts():
    assert declared_by(b"OTEL_SERVICE_NAME=a\0OTEL_SERVICE_NAME=b\0").service_name == "a"


def test_a_variable_that_only_ends_like_one_of_them_is_another():
    assert declared_by(b"X_OTEL_SERVICE_NAME=evil\0A=OTEL_SERVICE_NAME=evil\0").service_name is None


def test_the_cut_off_last_variable_is_left_out():
    environ = b"A=1\0OTEL_SERVICE_NAME=sho"
    assert declared_by(environ).service_name == "sho"
    assert declared_by(environ, truncated=True).service_name is None


def test_a_malformed_variable_is_discarded_as_a_whole_and_said():
    environ = b"OTEL_SERVICE_NAME=shop\0OTEL_RESOURCE_ATTRIBUTES=a=b,broken\0"
    assert declared_by(environ) == Declared("shop", (), malformed=True)
    assert declared_by(b"OTEL_SERVICE_NAME=\xff\0") == Declared(None, (), malformed=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a=b", {"a": "b"}),
        (b" a = b , c=d,", {"a": "b", "c": "d"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"a=", {"a": ""}),
        (b"a=1,a=2", {"a": "2"}),
        (b"k%3D=%C3%A9", {"k=": "é"}),
        (b"a=50%", None),
        (b"a=%zz", None),
        (b"a=%ff", None),
        (b"=b", None),
        (b"a=b,c", None),
        (b"a=" + b"x" * 20000, None),
        (b",".join(b"k%d=v" % i for i in range(129)), None),
    ],
)
def test_resource_attributes_follow_the_specification(value, expected):
    assert parse_resource_attributes(value) == expected


@given(st.binary(max_size=200).map(lambda junk: b"OTEL_RESOURCE_ATTRIBUTES=" + junk))
def test_any_bytes_are_answered_without_an_error(environ):
    declared = declared_by(environ)
    assert not (declared.malformed and declared.attributes)
