"""Protocol Buffers from fragments, decoded by the real ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList

from otel_tap.telemetry.otlp import (
    IntAttribute,
    StringAttribute,
    bool_attribute,
    bytes_attribute,
    fixed32,
    fixed64,
    int_attribute,
    string_attribute,
    strings_attribute,
    utf8,
    varint,
)
from tests.unit.test_telemetry_records import value_of

LENGTHS = [0, 1, 126, 127, 128, 240, 250, 255, 256, 257, 2047, 2048, 16383, 16384, 2097152]
NUMBERS = st.one_of(st.integers(0, 5000), st.integers(0, 2**63 - 1))


def attribute(encoded: bytes) -> tuple[str, object]:
    """The one attribute that stands behind its tag."""
    (pair,) = KeyValueList.FromString(b"\x0a" + encoded).values
    assert isinstance(pair, KeyValue)
    return pair.key, value_of(pair.value)


@given(NUMBERS)
def test_a_varint_is_that_of_protobuf(value):
    assert AnyValue.FromString(b"\x18" + varint(value)).int_value == value


@pytest.mark.parametrize("length", LENGTHS)
def test_strings_of_every_length(length):
    text = b"v" * length
    assert attribute(StringAttribute("some.name").of(text)) == ("some.name", text.decode())
    assert attribute(string_attribute("n", text)) == ("n", text.decode())
    assert attribute(bytes_attribute("n", text)) == ("n", text)


@pytest.mark.parametrize("length", [1, 100, 127, 128, 255, 300])
def test_names_of_every_length(length):
    name = "k" * length
    assert attribute(StringAttribute(name).of(b"v" * 130)) == (name, "v" * 130)
    assert attribute(IntAttribute(name).of(7)) == (name, 7)
    assert attribute(bool_attribute(name, value=True)) == (name, True)


@given(st.binary())
def test_any_bytes_become_a_string_as_python_replaces_them(value):
    expected = value.decode("utf-8", "replace")
    assert attribute(StringAttribute("n").of(value)) == ("n", expected)
    assert attribute(string_attribute("n", value)) == ("n", expected)
    assert utf8(value).decode() == expected


@given(st.binary())
def test_any_bytes_stay_as_they_are(value):
    assert attribute(bytes_attribute("n", value)) == ("n", value)


@given(st.lists(st.binary(), max_size=5))
def test_lists_of_strings(values):
    expected = [value.decode("utf-8", "replace") for value in values]
    assert attribute(strings_attribute("n", values)) == ("n", expected)


@given(st.lists(NUMBERS, min_size=1))
def test_numbers_are_exact_however_many_came_before(values):
    encode = IntAttribute("n")
    for value in (*values, *values):
        assert attribute(encode.of(value)) == ("n", value)
        assert attribute(int_attribute("n", value)) == ("n", value)


def test_a_memo_of_numbers_is_bounded_and_stays_right():
    encode = IntAttribute("n")
    for value in range(10_000):
        encoded = encode.of(value)
        assert len(encode._known) <= 4096
    assert attribute(encoded) == ("n", 9999)


def test_booleans_are_said_even_when_false():
    (pair,) = KeyValueList.FromString(b"\x0a" + bool_attribute("n", value=False)).values
    assert pair.value.WhichOneof("value") == "bool_value"
    assert pair.value.bool_value is False


def test_fixed_numbers_wrap_around():
    assert fixed64(2**64 + 5) == (5).to_bytes(8, "little")
    assert fixed32(2**32 + 5) == (5).to_bytes(4, "little")
