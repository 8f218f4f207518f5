"""How long a fixed piece of work takes in short bursts, as the agent works, and kept up.

Prints two times of the piece in microseconds of CPU: the median of bursts that come every 250 ms,
and the shortest of many in a row. The piece is made of what the agent does: bytes that are cut,
looked up and joined.
"""

import statistics
import time

BURSTS = 8
BETWEEN_S = 0.25
ROW_S = 0.8
_HEAD = b"".join(b"X-Field-%d: a value of field %d\r\n" % (one, one * 7919) for one in range(12))
_NAMES = {b"X-Field-%d" % one: b"x-field-%d" % one for one in range(12)}


def piece() -> None:
    """A few milliseconds."""
    for _ in range(1500):
        fields = []
        for line in _HEAD.split(b"\n"):
            name, _, value = line.partition(b":")
            known = _NAMES.get(name)
            if known is not None:
                fields.append((known, value.strip(b" \r")))
        b"".join([value for _, value in fields])


def timed() -> float:
    """CPU of the piece, us."""
    began = time.thread_time_ns()
    piece()
    return (time.thread_time_ns() - began) / 1000


def main() -> None:
    piece()
    bursts = []
    for _ in range(BURSTS):
        time.sleep(BETWEEN_S)
        bursts.append(timed())
    end = time.monotonic() + ROW_S
    row = [timed()]
    while time.monotonic() < end:
        row.append(timed())
    print(statistics.median(bursts), min(row))


if __name__ == "__main__":
    main()
