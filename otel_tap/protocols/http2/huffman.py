"""The Huffman code of HPACK (RFC 7541, 5.2 and appendix B), decoding only.

Owns the code as the lengths of its codes, from which a canonical code follows, and a machine that
takes a byte per step. Rows of the machine are made when they are first entered: what ASCII text
needs is made in a few milliseconds, all of it would take 4 MB. It knows no fields.
"""

from __future__ import annotations

from typing import Final

# Bits of the code of each octet, and of EOS at the end.
_LENGTHS: tuple[int, ...] = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)  # fmt: skip
_EOS: Final = 256
_PADDING_LIMIT: Final = 7  # bits of EOS that may fill up the last byte


class _Step:
    """What one byte leads to: the row to go on with, and the octets that are whole by then."""

    __slots__ = ("octets", "row")

    def __init__(self, row: list[_Step], octets: bytes) -> None:
        self.row = row
        self.octets = octets


# A step for each byte; empty until it is entered.
_Row = list[_Step]


def _tree() -> list[list[int]]:
    """Nodes by number, the root first: for each bit a node, or -1 - octet."""
    nodes = [[0, 0]]
    code = length = 0
    for octet in sorted(range(len(_LENGTHS)), key=lambda one: (_LENGTHS[one], one)):
        code <<= _LENGTHS[octet] - length
        length = _LENGTHS[octet]
        node = 0
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if nodes[node][bit] == 0:
                nodes.append([0, 0])
                nodes[node][bit] = len(nodes) - 1
            node = nodes[node][bit]
        nodes[node][code & 1] = -1 - octet
        code += 1
    return nodes


_NODES: Final = _tree()
_ROWS: list[_Row] = [[] for _ in _NODES]
_STATES: Final = {id(row): state for state, row in enumerate(_ROWS)}
_START: Final = _ROWS[0]
_DEAD: _Row = []  # behind EOS, which must not be sent
_DEAD.extend(_Step(_DEAD, b"") for _ in range(256))


def _endings() -> frozenset[int]:
    """Rows (by id) at which a string may end: a whole code, or padding with ones."""
    node = 0
    rows = [id(_START)]
    for _ in range(_PADDING_LIMIT):
        node = _NODES[node][1]
        rows.append(id(_ROWS[node]))
    return frozenset(rows)


_ENDINGS: Final = _endings()


def _step(state: int, byte: int) -> _Step:
    node = state
    octets = []
    for shift in range(7, -1, -1):
        node = _NODES[node][byte >> shift & 1]
        if node < 0:
            if node == -1 - _EOS:
                return _Step(_DEAD, b"")
            octets.append(-1 - node)
            node = 0
    return _Step(_ROWS[node], bytes(octets))


def decode(data: bytes) -> bytes | None:
    """What `data` stands for; None if it is no Huffman coded string."""
    row = _START
    parts: list[bytes] = []
    for byte in data:
        if not row:  # it was not entered before
            state = _STATES[id(row)]
            row.extend([_step(state, one) for one in range(256)])
        step = row[byte]
        row = step.row
        parts.append(step.octets)
    return b"".join(parts) if id(row) in _ENDINGS else None
