"""Field sections as HPACK (RFC 7541) codes them, read by someone who may not have seen all of them.

Owns the decoder of one direction of one connection, and its table. A tap may come late or lose
bytes, and then lacks entries of the table. Promises that a field is given as it was sent or as
`UNKNOWN_FIELD`, never as another one:

1. Indices count from the newest entry. An index that lies within the entries inserted since the
   last loss names just that entry, whatever the size of the table, for an encoder refers to no
   entry that was evicted, and an entry too large for the table empties it.
2. Every other index is unknown after a loss, and so is everything that was known before it: how
   many entries were inserted unseen is not known.
3. The loss is over when no older entry can be left in the table: after a size of 0, or when what
   was inserted since leaves no room for one. From then on an index beyond it is an error.

A value whose name is unknown is unknown as well: nobody could tell whether it is a secret.
"""

from __future__ import annotations

from typing import NamedTuple

from otel_tap.messages import UNKNOWN_FIELD, Field
from otel_tap.protocols.http2 import huffman

BLOCK_LIMIT = 256 * 1024  # bytes of one coded field section
SECTION_LIMIT = 256 * 1024  # bytes of its fields; further ones are left out
TABLE_LIMIT = 64 * 1024  # of a larger table the oldest entries are not kept
DEFAULT_TABLE_SIZE = 4096  # RFC 9113 6.5.2

UNKNOWN_SIZE = -1

_ENTRY_OVERHEAD = 32  # RFC 7541 4.1
_INTEGER_BYTES = 5  # continuation bytes; more would be beyond any size

_STATIC: tuple[Field, ...] = (
    (b"", b""),  # index 0 is not used
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
_FIRST_DYNAMIC = len(_STATIC)


class Malformed(Exception):  # noqa: N818 - a verdict on bytes, not an error of the program
    """These bytes are not HPACK; never leaves the protocol."""


class Section(NamedTuple):
    """One field section, pseudo-header fields among its fields."""

    fields: list[Field]
    incomplete: bool  # a field is unknown, or was left out


class FieldTable:
    """The dynamic table, newest entry last.

    `size` is its maximum size, `bound` what that cannot exceed by the settings of the other side;
    `UNKNOWN_SIZE` when updates, or settings, may have passed unseen.
    `complete` says that no entry older than those kept can be in it.
    """

    __slots__ = ("bound", "complete", "entries", "size", "sizes", "total")

    def __init__(self) -> None:
        self.entries: list[Field] = []
        self.sizes: list[int] = []
        self.total = 0
        self.size = DEFAULT_TABLE_SIZE
        self.bound = DEFAULT_TABLE_SIZE
        self.complete = True

    def add(self, entry: Field, size: int) -> None:
        """An entry was inserted; `size` as RFC 7541 4.1 counts it."""
        limit = self.limit
        if limit != UNKNOWN_SIZE and size > limit:
            self._evict(0)
            self.complete = True  # it emptied the table
            return
        self.entries.append(entry)
        self.sizes.append(size)
        self.total += size
        if self.total > (TABLE_LIMIT if limit == UNKNOWN_SIZE else min(limit, TABLE_LIMIT)) or (
            not self.complete
        ):
            self._fit()

    def resize(self, size: int) -> None:
        """The encoder chose another maximum size."""
        self.size = size
        if self.bound != UNKNOWN_SIZE and size > self.bound:
            self.bound = size
        self._fit()

    def lose(self) -> None:
        """Entries may have been inserted, and the size changed, unseen."""
        self._evict(0)
        self.size = UNKNOWN_SIZE
        self.complete = False

    @property
    def limit(self) -> int:
        """The least size that is known to hold: nothing beyond it is in the table."""
        return self.size if self.size != UNKNOWN_SIZE else self.bound

    def _fit(self) -> None:
        limit = self.limit
        # Once a known entry had to go, all older ones have gone; or else there may be no room left
        # for one, were it empty.
        if limit != UNKNOWN_SIZE and (self._evict(limit) or self.total + _ENTRY_OVERHEAD > limit):
            self.complete = True
        if self.total > TABLE_LIMIT and len(self.entries) > 1:
            self._evict(TABLE_LIMIT)
            self.complete = False

    def _evict(self, limit: int) -> int:
        total = self.total
        count = 0
        for size in self.sizes:
            if total <= limit:
                break
            total -= size
            count += 1
        if count:
            del self.entries[:count]
            del self.sizes[:count]
            self.total = total
        return count


class FieldDecoder:
    """Decodes the field sections of one direction, in their order."""

    __slots__ = ("_block", "table")

    def __init__(self) -> None:
        self.table = FieldTable()
        self._block = b""

    def decode(self, block: bytes, *, torn: bool = False) -> Section:
        """The fields of one section; raises `Malformed`.

        `torn`: only the beginning of the section is known. All that it says is given, and the
        table is lost.
        """
        self._block = block
        fields: list[Field] = []
        try:
            incomplete = self._read(fields)
        except IndexError:
            if not torn:
                raise Malformed from None
            incomplete = True
        finally:
            self._block = b""
        if torn:
            self.table.lose()
            return Section(fields, True)
        return Section(fields, incomplete)

    def _read(self, fields: list[Field]) -> bool:
        block = self._block
        table = self.table
        entries = table.entries
        room = SECTION_LIMIT
        incomplete = False
        at = 0
        size = len(block)
        while at < size:
            byte = block[at]
            at += 1
            if byte & 0x80:
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = self._integer(index, at)
                if 0 < index < _FIRST_DYNAMIC:
                    field = _STATIC[index]
                else:
                    place = index - _FIRST_DYNAMIC
                    if 0 <= place < len(entries):
                        field = entries[-1 - place]
                    elif place < 0 or table.complete:
                        raise Malformed
                    else:
                        field = UNKNOWN_FIELD
                    # The entry, or only the name it was given. By value: compiled, a pair has no
                    # identity.
                    if field == UNKNOWN_FIELD:
                        incomplete = True
                room -= len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
            elif byte & 0xE0 == 0x20:
                limit = byte & 0x1F
                if limit == 0x1F:
                    limit, at = self._integer(limit, at)
                if fields:
                    raise Malformed  # RFC 7541 4.2: only before the first field
                table.resize(limit)
                continue
            else:
                mask = 0x3F if byte & 0x40 else 0x0F
                index = byte & mask
                if index == mask:
                    index, at = self._integer(index, at)
                name, at = self._name(index, at)
                value, at = self._string(at)
                length = len(name) + len(value) + _ENTRY_OVERHEAD
                room -= length
                if name == UNKNOWN_FIELD[0]:
                    field = UNKNOWN_FIELD
                    incomplete = True
                else:
                    field = (name, value.strip(b" \t"))
                if byte & 0x40:
                    table.add(field, length)
            if room >= 0:
                fields.append(field)
            else:
                incomplete = True
        return incomplete

    def _name(self, index: int, at: int) -> tuple[bytes, int]:
        """The name at `index`, or the literal one at `at`."""
        if index == 0:
            name, at = self._string(at)
            return name.lower(), at  # upper case is malformed; redaction decides by lower case
        if index < _FIRST_DYNAMIC:
            return _STATIC[index][0], at
        table = self.table
        place = index - _FIRST_DYNAMIC
        if place < len(table.entries):
            return table.entries[-1 - place][0], at
        if table.complete:
            raise Malformed
        return UNKNOWN_FIELD[0], at

    def _string(self, at: int) -> tuple[bytes, int]:
        block = self._block
        byte = block[at]
        at += 1
        length = byte & 0x7F
        if length == 0x7F:
            length, at = self._integer(length, at)
        end = at + length
        if end > len(block):
            raise IndexError
        if byte & 0x80:
            value = huffman.decode(block[at:end])
            if value is None:
                raise Malformed
            return value, end
        return block[at:end], end

    def _integer(self, prefix: int, at: int) -> tuple[int, int]:
        """The rest of an integer whose prefix is all ones (RFC 7541 5.1)."""
        block = self._block
        value = prefix
        for shift in range(0, 7 * _INTEGER_BYTES, 7):
            byte = block[at]
            at += 1
            value += (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise Malformed
