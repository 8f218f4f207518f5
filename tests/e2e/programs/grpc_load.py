"""Ten thousand gRPC calls of every kind and outcome, and what each end counted of them.

`serve` prints its port and, when its input ends, its account; `call PORT RATE` makes all `SHARES`,
`RATE` a second, and prints its own. An account is JSON: rows of method, status, messages of the
request, messages of the response, calls. The server has no status (null) for a call that its caller
left: it told none.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import grpc

PACKAGE = "/load.Calls/"
MESSAGE = b"m" * 100
CHANNELS = 8
THREADS = 48  # of the client; the server has more, so that no call waits for another
# The server has long seen the call by then. Those above a second are sent rounded to 10 ms.
DEADLINE_S = 0.8
LONG_DEADLINE_S = 2.347
PATIENCE_S = 30.0
STATUSES = tuple(one.name for one in grpc.StatusCode if one is not grpc.StatusCode.OK)
SHARES = {
    "Unary": 3300, "Down": 2000, "Up": 1500, "Both": 1200,
    "Fail": 800, "FailLate": 250, "FailEarly": 150, "Raise": 50, "Absent": 200,
    "Slow": 150, "SlowDown": 100, "SlowUp": 50,
    "Leave": 100, "LeaveDown": 100, "LeaveBoth": 50,
}  # fmt: skip


class Account:
    """Rows, and how often each was."""

    def __init__(self) -> None:
        self._rows: Counter[tuple[str, str | None, int, int]] = Counter()
        self._lock = threading.Lock()

    def add(self, method: str, status: str | None, asked: int, answered: int) -> None:
        with self._lock:
            self._rows[method, status, asked, answered] += 1

    def print(self) -> None:
        print(json.dumps([[*row, count] for row, count in self._rows.items()]), flush=True)


class Calls(grpc.GenericRpcHandler):
    """The server's methods; each says what it did."""

    def __init__(self) -> None:
        self.account = Account()
        kinds = (
            (grpc.unary_unary_rpc_method_handler,
             {"Unary": self.unary, "Fail": self.fail, "Raise": self.fall, "Slow": self.hang,
              "Leave": self.hang}),
            (grpc.unary_stream_rpc_method_handler,
             {"Down": self.down, "FailLate": self.fail_late, "SlowDown": self.hang_down,
              "LeaveDown": self.hang_down}),
            (grpc.stream_unary_rpc_method_handler, {"Up": self.up, "SlowUp": self.hang_up}),
            (grpc.stream_stream_rpc_method_handler,
             {"Both": self.both, "FailEarly": self.fail_early, "LeaveBoth": self.hang_both}),
        )  # fmt: skip
        self._handlers = {
            PACKAGE + name: make(behavior)
            for make, behaviors in kinds
            for name, behavior in behaviors.items()
        }

    def service(self, details: Any) -> Any:
        handler = self._handlers.get(details.method)
        if handler is None:
            self.account.add(details.method.removeprefix(PACKAGE), "UNIMPLEMENTED", 1, 0)
        return handler

    def unary(self, asked: bytes, _: Any) -> bytes:
        self.account.add("Unary", "OK", 1, 1)
        return asked

    def down(self, asked: bytes, _: Any) -> Iterator[bytes]:
        yield from [MESSAGE] * int(asked)
        self.account.add("Down", "OK", 1, int(asked))

    def up(self, asked: Iterator[bytes], _: Any) -> bytes:
        got = sum(1 for _ in asked)
        self.account.add("Up", "OK", got, 1)
        return str(got).encode()

    def both(self, asked: Iterator[bytes], _: Any) -> Iterator[bytes]:
        got = 0
        for message in asked:
            got += 1
            yield message
        self.account.add("Both", "OK", got, got)

    def fail(self, asked: bytes, context: Any) -> bytes:
        status = asked.decode()
        self.account.add("Fail", status, 1, 0)
        context.abort(grpc.StatusCode[status], "as asked")
        return b""

    def fail_late(self, _: bytes, context: Any) -> Iterator[bytes]:
        yield from (MESSAGE, MESSAGE)
        self.account.add("FailLate", "ABORTED", 1, 2)
        context.abort(grpc.StatusCode.ABORTED, "after two")

    def fail_early(self, asked: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield next(asked)
        self.account.add("FailEarly", "FAILED_PRECONDITION", 1, 1)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "more might have come")

    def fall(self, _: bytes, __: Any) -> bytes:
        self.account.add("Raise", "UNKNOWN", 1, 0)
        raise ValueError

    def hang(self, name: bytes, context: Any) -> bytes:
        self.account.add(name.decode(), None, 1, 0)
        if name == b"Leave":
            context.send_initial_metadata(())  # the caller leaves when it has that
        _until_left(context)
        return b""

    def hang_down(self, name: bytes, context: Any) -> Iterator[bytes]:
        yield MESSAGE
        self.account.add(name.decode(), None, 1, 2)  # what is left is not resumed behind a yield
        yield MESSAGE
        _until_left(context)

    def hang_up(self, asked: Iterator[bytes], context: Any) -> bytes:
        next(asked)
        next(asked)
        self.account.add("SlowUp", None, 2, 0)
        _until_left(context)
        return b""

    def hang_both(self, asked: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield next(asked)
        answer = next(asked)
        self.account.add("LeaveBoth", None, 2, 2)
        yield answer
        _until_left(context)


def _until_left(context: Any) -> None:
    left = threading.Event()
    if context.add_callback(left.set) and not left.wait(PATIENCE_S):
        raise TimeoutError


def serve() -> None:
    calls = Calls()
    server = grpc.server(futures.ThreadPoolExecutor(2 * THREADS), handlers=[calls])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(5).wait()
    calls.account.print()


class Caller:
    """Makes calls on one channel, and counts them."""

    def __init__(self, port: int, account: Account) -> None:
        # A connection of its own, which others with the same target would share.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._account = account

    def call(self, name: str, number: int) -> None:
        match name:
            case "Unary":
                self._one(name, MESSAGE * (number % 40))
            case "Down":
                self._many(name, b"%d" % (number % 6))
            case "Up":
                self._one(name, [MESSAGE] * (number % 5))
            case "Both":
                self._many(name, [MESSAGE] * (number % 4))
            case "Fail":
                self._one(name, STATUSES[number % len(STATUSES)].encode())
            case "FailLate":
                self._many(name, b"")
            case "FailEarly":
                self._many(name, [MESSAGE], open_ended=True)
            case "Raise" | "Absent":
                self._one(name, b"")
            case "Slow":
                self._one(name, name.encode(), seconds=DEADLINE_S)
            case "SlowDown":
                self._many(name, name.encode(), seconds=LONG_DEADLINE_S)
            case "SlowUp":
                self._one(name, [MESSAGE, MESSAGE], seconds=DEADLINE_S, open_ended=True)
            case "Leave":
                # As a stream of answers: grpcio shows the head of a single one only with it.
                self._many(name, name.encode(), leave_after=0)
            case "LeaveDown":
                self._many(name, name.encode(), leave_after=2)
            case "LeaveBoth":
                self._many(name, [MESSAGE, MESSAGE], leave_after=2, open_ended=True)

    def _one(
        self, name: str, asked: bytes | list[bytes], *, seconds: float = PATIENCE_S,
        open_ended: bool = False,
    ) -> None:  # fmt: skip
        """One answer."""
        over = threading.Event()
        if isinstance(asked, bytes):
            call = self.channel.unary_unary(PACKAGE + name).future(asked, timeout=seconds)
        else:
            messages = _until(over, asked) if open_ended else iter(asked)
            call = self.channel.stream_unary(PACKAGE + name).future(messages, timeout=seconds)
        status = call.code().name
        over.set()
        self._account.add(
            name, status, 1 if isinstance(asked, bytes) else len(asked), int(status == "OK")
        )

    def _many(
        self, name: str, asked: bytes | list[bytes], *, seconds: float = PATIENCE_S,
        leave_after: int | None = None, open_ended: bool = False,
    ) -> None:  # fmt: skip
        """A stream of answers."""
        over = threading.Event()
        if isinstance(asked, bytes):
            call = self.channel.unary_stream(PACKAGE + name)(asked, timeout=seconds)
        else:
            messages = _until(over, asked) if open_ended else iter(asked)
            call = self.channel.stream_stream(PACKAGE + name)(messages, timeout=seconds)
        answers = 0
        try:
            if leave_after == 0:
                call.initial_metadata()
                call.cancel()
            for _ in call:
                answers += 1
                if answers == leave_after:
                    call.cancel()
                    break
        except grpc.RpcError:
            pass  # its status is asked for now, as that of the others
        self._account.add(
            name, call.code().name, 1 if isinstance(asked, bytes) else len(asked), answers
        )
        over.set()


def _until(over: threading.Event, messages: Iterable[bytes]) -> Iterator[bytes]:
    """These messages; then no end before the call is over."""
    yield from messages
    over.wait(PATIENCE_S)


def call(port: int, rate: float) -> None:
    account = Account()
    callers = [Caller(port, account) for _ in range(CHANNELS)]
    names = [name for name, count in SHARES.items() for _ in range(count)]
    random.Random(1).shuffle(names)
    begin = time.monotonic()

    def one(number: int) -> None:
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        callers[number % CHANNELS].call(names[number], number)

    with futures.ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(one, range(len(names))):  # raises what a call raised
            pass
    for caller in callers:
        caller.channel.close()
    account.print()


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else call(int(sys.argv[2]), float(sys.argv[3]))
