"""Messages that two readers may read differently: what request smuggling is made of.

Owns the words for it and which reading is taken here. A word is a fact about the bytes, not a
verdict: it says where the peers of a connection may have disagreed. It must not know how bytes
are read; `head` and `reader` find these things where they leave their short way anyway.

The reading is that of RFC 9112 where it has one. Where it asks for the message to be refused, the
exchange is malformed, and the response shows what the peer made of it, if there was one.

==================================== ==========================================================
word                                 what is read
==================================== ==========================================================
content_length_and_transfer_encoding the coding, the length counts for nothing (6.3)
repeated_content_length              equal numbers are that number (RFC 9110 8.6)
conflicting_content_length           refused (6.3)
bad_content_length                   not a plain number: refused (6.3)
repeated_transfer_encoding           one list (RFC 9110 5.3)
bad_transfer_encoding                empty or `identity`: as if it were not there; chunked twice,
                                     or a request whose last coding is not chunked: refused; a
                                     response then lasts until the connection ends (6.3)
transfer_encoding_in_http_1_0        the coding (6.1 calls such framing faulty)
framing_in_trailers                  a field like any other (6.5.1)
obs_fold                             one line, a space between (5.2); of a framing field: refused
space_before_field                   white space before the first field: refused (2.2)
space_before_colon                   not part of the name; of a framing field: refused (5.1)
bad_field_line                       no colon, or no name: refused
repeated_host                        all of them; the first is where the request went (3.2)
space_in_target                      part of the target, but for those around it (3)
bare_lf                              the end of a line (2.2)
bare_cr                              part of the line, but for those at its end (2.2)
space_in_chunk_size                  not part of the number (7.1.1 bears it before an extension)
bad_chunk                            a size or an end of a chunk that is none: refused (7.1)
==================================== ==========================================================
"""

from __future__ import annotations

from typing import Final

from otel_tap.exchange import Exchange
from otel_tap.messages import Request

LENGTH_AND_CODING: Final = "content_length_and_transfer_encoding"
REPEATED_LENGTH: Final = "repeated_content_length"
CONFLICTING_LENGTH: Final = "conflicting_content_length"
BAD_LENGTH: Final = "bad_content_length"
REPEATED_CODING: Final = "repeated_transfer_encoding"
BAD_CODING: Final = "bad_transfer_encoding"
CODING_IN_1_0: Final = "transfer_encoding_in_http_1_0"
FRAMING_IN_TRAILERS: Final = "framing_in_trailers"
OBS_FOLD: Final = "obs_fold"
SPACE_BEFORE_FIELD: Final = "space_before_field"
SPACE_BEFORE_COLON: Final = "space_before_colon"
BAD_FIELD_LINE: Final = "bad_field_line"
REPEATED_HOST: Final = "repeated_host"
SPACE_IN_TARGET: Final = "space_in_target"
BARE_LF: Final = "bare_lf"
BARE_CR: Final = "bare_cr"
SPACE_IN_CHUNK_SIZE: Final = "space_in_chunk_size"
BAD_CHUNK: Final = "bad_chunk"

Words = tuple[str, ...]

NO_WORDS: Words = ()


def with_word(words: Words, word: str) -> Words:
    """`words` and `word`, each once."""
    return words if word in words else (*words, word)


def repeats_host(request: Request) -> bool:
    """Whether a request names its host more than once."""
    return sum(1 for name, _ in request.fields if name == b"host") > 1


def ambiguity_of(exchange: Exchange) -> Words:
    """The words of both messages, the request's first, each once; nearly always none."""
    request, response = exchange.request, exchange.response
    words = NO_WORDS
    if request is not None:
        words = request.ambiguity
        if repeats_host(request):
            words = with_word(words, REPEATED_HOST)
    if response is not None:
        for word in response.ambiguity:
            words = with_word(words, word)
    return words
