"""Content codings: what is decoded, and what decoding may cost."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from functools import reduce

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.content_coding import Decoder, Undecodable, codings_of, decoded, encoded

MIB = 1 << 20


def raw_deflate(content: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(content) + deflate.flush()


CODERS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"gzip", gzip.compress),
    (b"x-gzip", gzip.compress),
    (b"deflate", zlib.compress),
    (b"deflate", raw_deflate),
    (b"br", brotli.compress),
    (b"zstd", zstandard.compress),
]
coders = st.sampled_from(CODERS)
contents = st.binary(max_size=300) | st.builds(
    lambda unit, count: unit * count, st.binary(min_size=1, max_size=20), st.integers(0, 20_000)
)


def coded(content: bytes, stack: list[tuple[bytes, Callable[[bytes], bytes]]]) -> bytes:
    return reduce(lambda data, coder: coder[1](data), stack, content)


def names(stack: list[tuple[bytes, Callable[[bytes], bytes]]]) -> tuple[bytes, ...]:
    return tuple(name for name, _ in stack)


@given(contents, st.lists(coders, min_size=1, max_size=4))
def test_what_was_coded_comes_out_whole(content, stack):
    found = decoded(coded(content, stack), names(stack), len(content))
    assert found is not None
    assert found == (content, True, True)


@given(contents, st.lists(coders, max_size=4), st.data())
def test_the_limit_is_kept_and_told(content, stack, data):
    limit = data.draw(st.integers(0, len(content)))
    found = decoded(coded(content, stack), names(stack), limit)
    assert found is not None
    assert found.content == content[:limit]
    assert found.complete == (limit == len(content))


@given(contents, st.lists(coders, min_size=1, max_size=2), st.data())
def test_a_cut_content_gives_a_beginning_and_is_not_exact(content, stack, data):
    whole = coded(content, stack)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    found = decoded(cut, names(stack), len(content) + 1)
    if found is not None:
        assert content.startswith(found.content)
        assert not found.exact


@pytest.mark.parametrize(("name", "coder"), CODERS)
def test_a_flushed_beginning_is_given_to_the_last_byte(name, coder):
    if name == b"br":
        compressor = brotli.Compressor()
        beginning = compressor.process(b"data: one\n\n") + compressor.flush()
    elif name == b"zstd":
        frame = zstandard.ZstdCompressor().compressobj()
        beginning = frame.compress(b"data: one\n\n")
        beginning += frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    else:
        bits = {gzip.compress: 31, zlib.compress: 15, raw_deflate: -15}[coder]
        deflate = zlib.compressobj(wbits=bits)
        beginning = deflate.compress(b"data: one\n\n") + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert decoded(beginning, (name,), 100) == (b"data: one\n\n", False, False)


@given(contents, st.lists(coders, min_size=1, max_size=3), st.data())
def test_pieces_of_any_size_give_the_same(content, stack, data):
    whole = coded(content, stack)
    decoder = Decoder(names(stack), between=MIB)
    out = b""
    at = 0
    while at < len(whole):
        size = data.draw(st.integers(1, max(1, len(whole) // 3)))
        out += b"".join(decoder.feed(whole[at : at + size]))
        at += size
    assert out == content
    assert decoder.ended
    assert not decoder.has_surplus


@given(
    st.binary(max_size=400),
    st.lists(st.sampled_from([b"gzip", b"deflate", b"br", b"zstd", b"x"]), min_size=1, max_size=6),
    st.integers(0, 1000),
)
def test_any_bytes_are_answered_within_the_limit(content, codings, limit):
    found = decoded(content, tuple(codings), limit)
    assert found is None or len(found.content) <= limit


@given(contents, coders, st.integers(0, 300), st.integers(0, 255))
def test_a_broken_content_gives_nothing_or_a_beginning(content, coder, at, byte):
    name, code = coder
    whole = bytearray(code(content))
    whole[at % len(whole)] = byte
    found = decoded(bytes(whole), (name,), len(content) + 50)
    assert found is None or len(found.content) <= len(content) + 50


@pytest.mark.parametrize(
    ("surplus", "name", "coder"),
    [
        (surplus, *coder)
        for coder in CODERS
        for surplus in (b"\0" * 20, b"hunter2" * 3)
        if coder[0] not in (b"br", b"zstd")
    ],
)
def test_bytes_behind_the_end_are_told(surplus, name, coder):
    content = decoded(coder(b"text") + surplus, (name,), 100)
    assert content == (b"text", True, False)


def test_all_members_and_frames_are_read():
    for name, coder in CODERS:
        if name in (b"gzip", b"zstd"):
            found = decoded(coder(b"one") + coder(b"two"), (name,), 100)
            assert found == (b"onetwo", True, True)


@pytest.mark.parametrize(
    ("codings", "content"),
    [
        ((b"compress",), b"x"),
        ((b"gzip",), b"KLLLL"),
        ((b"gzip",), b"plain text after all"),
        ((b"br",), b"\xff" * 10),
        ((b"zstd",), b"plain text after all"),
        ((b"gzip",) * 5, gzip.compress(b"x")),
    ],
)
def test_what_is_no_coding_or_not_kept_to_is_none(codings, content):
    assert decoded(content, codings, 100) is None


def test_codings_are_those_of_all_fields_in_their_order():
    fields = ((b"content-encoding", b" GZip, identity"), (b"x", b"y"), (b"content-encoding", b"br"))
    assert codings_of(fields) == (b"gzip", b"br")
    assert codings_of(()) == ()


@given(contents, st.lists(st.sampled_from([b"gzip", b"deflate", b"br", b"zstd"]), max_size=4))
def test_what_is_put_back_can_be_removed(content, codings):
    found = decoded(encoded(content, tuple(codings)), tuple(codings), len(content))
    assert found == (content, True, True)


def zeros(name: bytes, size: int) -> bytes:
    """`size` zero bytes in a coding, made without having them at once."""
    block = bytes(MIB)
    if name == b"br":
        compressor = brotli.Compressor(quality=1)
        parts = [compressor.process(block) for _ in range(size // MIB)]
        return bytes(b"".join(parts) + compressor.finish())
    if name == b"zstd":
        frame = zstandard.ZstdCompressor(level=1).compressobj()
        parts = [frame.compress(block) for _ in range(size // MIB)]
        return b"".join(parts) + frame.flush()
    deflate = zlib.compressobj(9, wbits=31 if name == b"gzip" else 15)
    parts = [deflate.compress(block) for _ in range(size // MIB)]
    return b"".join(parts) + deflate.flush()


@pytest.fixture(scope="module")
def bombs() -> dict[bytes, bytes]:
    return {name: zeros(name, 1024 * MIB) for name in (b"gzip", b"deflate", b"br", b"zstd")}


@pytest.mark.parametrize("name", [b"gzip", b"deflate", b"br", b"zstd"])
def test_a_bomb_of_a_gigabyte_costs_its_limit(bombs, name):
    bomb = bombs[name]
    taken = 0
    for part in Decoder((name,), between=0).feed(bomb):
        taken += len(part)
        assert len(part) <= 8 * MIB  # one step
        if taken > MIB:
            break
    assert taken < 10 * MIB
    tracemalloc.start()
    found = decoded(bomb, (name,), MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None
    assert found.content == bytes(MIB)
    assert not found.complete
    assert peak < 12 * MIB


def test_a_bomb_inside_a_bomb_costs_what_may_lie_between():
    inner = b"\0\0\0\xff\xff" * (4 * MIB)  # 20 MiB of empty blocks of raw deflate: no output
    bomb = zstandard.compress(inner)
    fed = 0

    class Counting(Decoder):
        def _feed(self, data: bytes, stage: int):
            nonlocal fed
            if stage == 1:
                fed += len(data)
            return super()._feed(data, stage)

    decoder = Counting((b"deflate", b"zstd"), between=MIB)
    with pytest.raises(Undecodable):
        list(decoder.feed(bomb))
    assert fed <= MIB


def test_a_window_beyond_eight_mebibytes_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = frame.compress(b"x" * 1000) + frame.flush()
    assert decoded(content, (b"zstd",), 100) is None
