"""HPACK read by a tap; the hpack library says what is true."""

from __future__ import annotations

import copy
from typing import Any

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_tap.messages import UNKNOWN_FIELD
from otel_tap.protocols.http2 import huffman
from otel_tap.protocols.http2.fields import (
    TABLE_LIMIT,
    UNKNOWN_SIZE,
    FieldDecoder,
    Malformed,
)

names = st.sampled_from([b":path", b":status", b"x-a", b"x-b", b"accept", b"server"])
values = st.binary(max_size=40).map(lambda value: value.strip(b" \t"))
some_fields = st.lists(st.tuples(names, values), max_size=6)
huffman_encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def test_the_static_table_is_that_of_the_rfc():
    decoder = FieldDecoder()
    for index, entry in enumerate(HeaderTable.STATIC_TABLE, 1):
        assert decoder.decode(bytes([0x80 | index])).fields == [entry]


@given(st.binary(max_size=300))
def test_any_octets_survive_the_huffman_code(data):
    assert huffman.decode(huffman_encoder.encode(data)) == data


@given(st.binary(max_size=12))
@settings(max_examples=500)
def test_any_bytes_are_a_huffman_string_or_none_as_for_the_library(data):
    try:
        expected = hpack.huffman_table.decode_huffman(data)
    except hpack.HPACKDecodingError:
        expected = None
    assert huffman.decode(data) == expected


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\xff", b"\x00", b"\xff\xff\xff\xfc\x07\xff"]
)
def test_a_huffman_string_with_eos_or_wrong_padding_is_none(data):
    assert huffman.decode(data) is None


@given(st.lists(st.tuples(some_fields, st.sampled_from([None, 0, 50, 200, 4096])), max_size=8))
@settings(deadline=None)
def test_what_the_library_encodes_is_what_is_decoded(sections):
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    for section, size in sections:
        if size is not None:
            encoder.header_table_size = size
        decoded = decoder.decode(encoder.encode(section))
        assert decoded.fields == section
        assert not decoded.incomplete
        assert decoder.table.total <= 4096


@given(
    st.lists(
        st.tuples(some_fields, st.sampled_from([None] * 6 + [0, 50, 200]), st.integers(0, 5)),
        max_size=12,
    ),
    st.sampled_from([4096, 100, 0]),
)
@settings(deadline=None, max_examples=300)
def test_after_losses_a_field_is_right_or_unknown(sections, first_size):
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    encoder.header_table_size = first_size
    decoder.table.lose()
    for section, size, fate in sections:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(section)
        if fate == 0:
            decoder.table.lose()
            continue
        decoded = decoder.decode(block)
        assert len(decoded.fields) == len(section)
        for known, true in zip(decoded.fields, section, strict=True):
            assert known in (true, UNKNOWN_FIELD)
        assert decoded.incomplete == (UNKNOWN_FIELD in decoded.fields)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),  # which of the talk's requests comes again
            st.binary(max_size=3),  # what varies in it
            st.sampled_from([None] * 8 + [0, 90, 200]),
            st.booleans(),
        ),
        min_size=4,
        max_size=40,
    )
)
@settings(deadline=None, max_examples=300)
def test_sections_that_come_again_are_read_as_those_that_do_not(talk):
    encoder, remembering = hpack.Encoder(), FieldDecoder()
    for number, value, size, lost in talk:
        section = [
            hpack.NeverIndexedHeaderTuple(b":path", b"/%b" % value),
            (b":method", b"GET"),
            (b"x-kind", b"%d" % (number % 2)),
            *[(b"x-more", b"more of it")] * (number // 2),
        ]
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(section)
        if lost:
            remembering.table.lose()
        fresh = FieldDecoder()
        fresh.table = copy.deepcopy(remembering.table)
        expected, known = fresh.decode(block), remembering.decode(block)
        assert (known.fields, known.incomplete) == (expected.fields, expected.incomplete)
        assert remembering.table.entries == fresh.table.entries
        assert remembering.table.sizes == fresh.table.sizes
        assert remembering.table.total == fresh.table.total == sum(fresh.table.sizes)
        assert remembering.table.complete == fresh.table.complete


@given(st.lists(some_fields, max_size=6), st.data())
@settings(deadline=None)
def test_the_beginning_of_a_section_gives_the_fields_that_are_whole_in_it(sections, data):
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    for section in sections:
        assert decoder.decode(encoder.encode(section)).fields == section
    section = data.draw(some_fields)
    block = encoder.encode(section)
    torn = decoder.decode(block[: data.draw(st.integers(0, len(block)))], torn=True)
    assert torn.incomplete
    assert torn.fields == section[: len(torn.fields)]
    assert not decoder.table.entries


@given(st.binary(max_size=40), st.booleans())
@settings(max_examples=1000)
def test_any_bytes_are_fields_or_malformed(data, lost):
    decoder = FieldDecoder()
    if lost:
        decoder.table.lose()
    try:
        decoder.decode(data)
    except Malformed:
        pass
    else:
        assert decoder.table.total <= TABLE_LIMIT


def test_entries_inserted_since_the_loss_are_known_at_once_and_older_ones_are_not():
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    encoder.encode([(b"x-old", b"1")])
    decoder.table.lose()
    both = [(b"x-new", b"2"), (b"x-old", b"1")]
    assert decoder.decode(encoder.encode(both)).fields == [(b"x-new", b"2"), UNKNOWN_FIELD]
    section = decoder.decode(encoder.encode(both))
    assert section.fields == [(b"x-new", b"2"), UNKNOWN_FIELD]
    assert section.incomplete


def test_a_value_under_an_unknown_name_is_unknown_as_well():
    decoder = FieldDecoder()
    decoder.table.lose()
    section = decoder.decode(b"\x7e\x06secret")  # literal, indexed, with the name of entry 62
    assert section.fields == [UNKNOWN_FIELD]
    assert b"secret" not in repr(decoder.table.entries).encode()


def recovered(decoder: Any) -> bool:
    """Whether what lies beyond the known entries is an error, rather than unknown."""
    try:
        decoder.decode(b"\xff\x40")  # entry 191 - 62
    except Malformed:
        return True
    return False


def test_the_loss_is_over_after_a_table_size_of_zero():
    decoder = FieldDecoder()
    decoder.table.lose()
    assert not recovered(decoder)
    decoder.decode(b"\x20\x3f\xe1\x1f")  # to 0, and back to 4096
    assert recovered(decoder)


def test_the_loss_is_over_when_insertions_have_turned_the_table_over():
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    decoder.table.lose()
    for number in range(4096 // (32 + 6 + 40)):
        decoder.decode(encoder.encode([(b"x-name", b"%040d" % number)]))
        assert not recovered(decoder)
    decoder.decode(encoder.encode([(b"x-name", b"%040d" % 99)]))
    assert recovered(decoder)


def test_where_the_table_may_be_larger_it_takes_more_to_turn_it_over():
    encoder, decoder = hpack.Encoder(), FieldDecoder()
    decoder.table.lose()
    decoder.table.bound = UNKNOWN_SIZE
    for number in range(400):
        decoder.decode(encoder.encode([(b"x-name", b"%040d" % number)]))
    assert not recovered(decoder)


def test_a_large_table_is_kept_in_part_and_what_is_not_kept_is_unknown():
    decoder = FieldDecoder()
    decoder.decode(b"\x3f\xe1\xff\x3f")  # about 1 MB
    field = b"\x40\x01a\x7f\xe9\x06" + b"v" * 1000
    for _ in range(500):
        decoder.decode(field)
    assert decoder.table.total <= TABLE_LIMIT
    assert decoder.decode(b"\xff\xa0\x02").fields == [UNKNOWN_FIELD]


def test_a_section_that_unfolds_without_end_is_cut():
    decoder = FieldDecoder()
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000)
    section = decoder.decode(b"\xbe" * 200_000)
    assert section.incomplete
    assert sum(len(value) for _, value in section.fields) <= 256 * 1024


def test_upper_case_names_are_lowered_so_that_redaction_knows_them():
    assert FieldDecoder().decode(b"\x00\x06Cookie\x01v").fields == [(b"cookie", b"v")]
