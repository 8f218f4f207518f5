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

from typing import Final

from otel_tap.messages import UNKNOWN_FIELD, Field
from otel_tap.protocols.http2 import huffman
from otel_tap.protocols.http2.section import Section

BLOCK_LIMIT: Final = 256 * 1024  # bytes of one coded field section
SECTION_LIMIT: Final = 256 * 1024  # bytes of its fields; further ones are left out
TABLE_LIMIT: Final = 64 * 1024  # of a larger table the oldest entries are not kept
DEFAULT_TABLE_SIZE: Final = 4096  # RFC 9113 6.5.2

UNKNOWN_SIZE: Final = -1

_ENTRY_OVERHEAD: Final = 32  # RFC 7541 4.1
_INTEGER_BYTES: Final = 5  # continuation bytes; more would be beyond any size

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
_FIRST_DYNAMIC: Final = len(_STATIC)
_STATIC_SIZES: Final = tuple(len(name) + len(value) + _ENTRY_OVERHEAD for name, value in _STATIC)

# Of one connection and direction: coded pieces and strings that are remembered with what they
# stand for. Most connections say few things again and again.
_MEMO_LIMIT: Final = 32
_MEMO_BLOCK: Final = 512  # bytes
_MEMO_PAUSE: Final = 64  # sections, where none comes again
_REST_MIN: Final = 2  # bytes
_STRINGS_LIMIT: Final = 128
_STRING_LIMIT: Final = 64  # bytes, coded
_ANY: Final = -1


class Malformed(Exception):  # noqa: N818 - a verdict on bytes, not an error of the program
    """These bytes are not HPACK; never leaves the protocol."""


class _Known:
    """What a coded section, or the rest of one, stands for."""

    __slots__ = ("added", "added_sizes", "added_total", "section", "size", "version")

    def __init__(
        self, section: Section, added: list[Field], added_sizes: list[int], version: int
    ) -> None:
        self.section = section
        self.size = sum(len(name) + len(value) + _ENTRY_OVERHEAD for name, value in section.fields)
        self.added = added  # to the table
        self.added_sizes = added_sizes
        self.added_total = sum(added_sizes)
        self.version = version  # of the table that it refers to; _ANY if it refers to none


class FieldTable:
    """The dynamic table, newest entry last.

    `size` is its maximum size, `bound` what that cannot exceed by the settings of the other side;
    `UNKNOWN_SIZE` when updates, or settings, may have passed unseen.
    `complete` says that no entry older than those kept can be in it.
    """

    __slots__ = ("bound", "complete", "entries", "size", "sizes", "total", "version")

    def __init__(self) -> None:
        self.entries: list[Field] = []
        self.sizes: list[int] = []
        self.total = 0
        self.size = DEFAULT_TABLE_SIZE
        self.bound = DEFAULT_TABLE_SIZE
        self.complete = True
        self.version = 0  # changes with it

    def entry(self, place: int) -> Field:
        """The entry inserted `place` entries before the newest one; raises `Malformed`.

        `UNKNOWN_FIELD` where a loss hides it.
        """
        if 0 <= place < len(self.entries):
            return self.entries[-1 - place]
        if place < 0 or self.complete:
            raise Malformed
        return UNKNOWN_FIELD

    def add(self, entry: Field, size: int) -> None:
        """An entry was inserted; `size` as RFC 7541 4.1 counts it."""
        self.version += 1
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

    def add_all(self, entries: list[Field], sizes: list[int], total: int) -> None:
        """Entries were inserted one after another; `total` of their sizes."""
        limit = min(self.limit, TABLE_LIMIT)
        if not self.complete or limit == UNKNOWN_SIZE or total > limit:
            for entry, size in zip(entries, sizes, strict=True):
                self.add(entry, size)
            return
        self.version += 1
        self.entries += entries
        self.sizes += sizes
        self.total += total
        if self.total > limit:
            self._fit()

    def resize(self, size: int) -> None:
        """The encoder chose another maximum size."""
        self.version += 1
        self.size = size
        if self.bound != UNKNOWN_SIZE and size > self.bound:
            self.bound = size
        self._fit()

    def lose(self) -> None:
        """Entries may have been inserted, and the size changed, unseen."""
        self.version += 1
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

    __slots__ = (
        "_added",
        "_added_sizes",
        "_block",
        "_memo",
        "_refers",
        "_rest",
        "_rest_fields",
        "_room",
        "_strings",
        "table",
    )

    def __init__(self) -> None:
        self.table = FieldTable()
        self._block = b""
        self._memo: dict[bytes, _Known] = {}
        self._room = _MEMO_LIMIT  # pieces that may be remembered before one must come again
        self._strings: dict[bytes, bytes] = {}
        # Of the section at hand: what it inserted, and whether it refers to the table.
        self._added: list[Field] = []
        self._added_sizes: list[int] = []
        self._refers = False
        self._rest = 0  # where the part begins that may come again, if not at the beginning
        self._rest_fields = 0  # how many fields stand before it

    def decode(self, block: bytes, *, torn: bool = False) -> Section:
        """The fields of one section; raises `Malformed`.

        `torn`: only the beginning of the section is known. All that it says is given, and the
        table is lost.
        """
        table = self.table
        known = self._memo.get(block)
        if known is not None and not torn and known.version in (_ANY, table.version):
            self._room = _MEMO_LIMIT
            if known.added:
                table.add_all(known.added, known.added_sizes, known.added_total)
            return known.section
        version = table.version
        self._block = block
        self._refers = False
        self._rest = 0
        fields: list[Field] = []
        try:
            incomplete = self._read(fields)
        except IndexError:
            if not torn:
                raise Malformed from None
            incomplete = True
        finally:
            self._block = b""
            added, added_sizes = self._added, self._added_sizes
            self._added = []
            self._added_sizes = []
        if torn:
            table.lose()
            return Section(fields, incomplete=True)
        section = Section(fields, incomplete=incomplete)
        if incomplete or self._rest < 0:
            return section
        if self._rest:
            if version == table.version:
                rest = Section(fields[self._rest_fields :], incomplete=False)
                self._remember(block[self._rest :], rest, added, added_sizes, version)
        elif version + len(added) == table.version:
            # What changes the table in any other way than by insertions is not remembered.
            self._remember(block, section, added, added_sizes, version)
        return section

    def _remember(
        self,
        block: bytes,
        section: Section,
        added: list[Field],
        added_sizes: list[int],
        version: int,
    ) -> None:
        if not self._refers:
            version = _ANY
        elif added:
            return  # what it refers to has moved on
        self._room -= 1
        if len(block) > _MEMO_BLOCK or -_MEMO_PAUSE < self._room < 0:
            return
        if len(self._memo) >= _MEMO_LIMIT:
            self._memo.clear()
        self._memo[block] = _Known(section, added, added_sizes, version)
        if self._room < 0:
            self._room = 0

    def _read(self, fields: list[Field]) -> bool:
        """Appends the fields of the block; whether one is unknown, or was left out."""
        block = self._block
        table = self.table
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
                    room -= _STATIC_SIZES[index]
                else:
                    self._refers = True
                    field = table.entry(index - _FIRST_DYNAMIC)
                    room -= len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
                    # The entry, or only the name it was given. By value: compiled, a pair has no
                    # identity.
                    if field == UNKNOWN_FIELD:
                        incomplete = True
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
                    self._added.append(field)
                    self._added_sizes.append(length)
                elif self._rest == 0 and not self._added and size - at >= _REST_MIN and room >= 0:
                    # A value that its sender does not expect again: what is behind it may be known.
                    fields.append(field)
                    if self._take_rest(fields, at, room):
                        return incomplete
                    continue
            if room >= 0:
                fields.append(field)
            else:
                incomplete = True
        return incomplete

    def _take_rest(self, fields: list[Field], at: int, room: int) -> bool:
        """Appends what stands behind `at`, if that is known; or else it may be from now on."""
        known = self._memo.get(self._block[at:])
        if (
            known is None
            or known.added
            or known.version not in (_ANY, self.table.version)
            or known.size > room
        ):
            self._rest = at
            self._rest_fields = len(fields)
            self._refers = False
            return False
        self._room = _MEMO_LIMIT
        self._rest = -1
        fields += known.section.fields
        return True

    def _name(self, index: int, at: int) -> tuple[bytes, int]:
        """The name at `index`, or the literal one at `at`."""
        if index == 0:
            name, at = self._string(at)
            return name.lower(), at  # upper case is malformed; redaction decides by lower case
        if index < _FIRST_DYNAMIC:
            return _STATIC[index][0], at
        self._refers = True
        return self.table.entry(index - _FIRST_DYNAMIC)[0], at

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
        coded = block[at:end]
        if byte & 0x80 == 0:
            return coded, end
        strings = self._strings
        value = strings.get(coded)
        if value is None:
            value = huffman.decode(coded)
            if value is None:
                raise Malformed
            if length <= _STRING_LIMIT:
                if len(strings) >= _STRINGS_LIMIT:
                    strings.clear()
                strings[coded] = value
        return value, end

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
