"""HPACK: any block gives fields or `Malformed`, and never a field that was not sent.

1. Sizes stay within their limits, whatever is inserted, evicted and lost.
2. What a decoder that lost nothing reads, hpack reads too (where it reads it at all), but for names
   in upper case and white space around values, which an observer takes away.
3. After a loss, a field is one that a decoder without the loss reads, or unknown.
"""

from __future__ import annotations

import hpack

from otel_tap.messages import UNKNOWN
from otel_tap.protocols.http2.fields import SECTION_LIMIT, FieldDecoder, Malformed
from otel_tap.protocols.http2.section import Section

SEEDS = (
    b"\x82\x84\x87\x41\x01h",
    b"\x40\x01a\x01b\xbe\xff\x20\xbe",
    b"\x3f\xe1\x1f\x40\x0acustom-key\x0dcustom-header\xff\x82\xbe\xff\xbe",
    b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\xbe\x88",
)
TOKENS = (b"\xff", b"\x20", b"\x3f\xe1\x1f", b"\xbe", b"\xbf", b"\x40\x01a\x01b", b"\x88")

_END = b"\xff\x00"  # between the blocks of an input


def _decode(decoder: FieldDecoder, block: bytes) -> Section | None:
    try:
        section = decoder.decode(block)
    except Malformed:
        return None
    assert sum(len(name) + len(value) for name, value in section.fields) <= SECTION_LIMIT
    return section


def check(data: bytes) -> None:
    """Decodes the blocks of `data` in order; one decoder misses the first."""
    blocks = data.split(_END)
    whole, late = FieldDecoder(), FieldDecoder()
    late.table.lose()
    oracle = hpack.Decoder(max_header_list_size=1 << 20)
    believes = True
    for number, block in enumerate(blocks):
        section = _decode(whole, block)
        if section is None:
            return
        if believes:
            try:
                read = oracle.decode(block, raw=True)
                fields = [(bytes(n).lower(), bytes(v).strip(b" \t")) for n, v in read]
            except Exception:  # noqa: BLE001 - it is stricter, and fails in many ways
                believes = False
            else:
                assert fields == section.fields or section.incomplete
        if number:
            seen = _decode(late, block)
            if seen is None:
                return
            assert len(seen.fields) == len(section.fields) or section.incomplete
            for field, true in zip(seen.fields, section.fields, strict=False):
                assert field[0] in (UNKNOWN, true[0])
                assert field[1] in (UNKNOWN, true[1])
