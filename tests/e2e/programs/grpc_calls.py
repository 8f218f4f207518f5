"""A gRPC server and its client in one process: prints the port, waits for a line, then calls."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc


class Greeter(grpc.GenericRpcHandler):
    """Hello answers, Count streams three messages, Slow takes longer than its caller waits."""

    def service(self, details: Any) -> Any:
        methods: dict[str, Callable[[], Any]] = {
            "/pkg.Greeter/Hello": lambda: grpc.unary_unary_rpc_method_handler(hello),
            "/pkg.Greeter/Count": lambda: grpc.unary_stream_rpc_method_handler(count),
            "/pkg.Greeter/Slow": lambda: grpc.unary_unary_rpc_method_handler(slow),
        }
        make = methods.get(details.method)
        return None if make is None else make()


def hello(asked: bytes, _: Any) -> bytes:
    return b"hello " + asked


def count(_: bytes, __: Any) -> Iterator[bytes]:
    yield from (b"1", b"22", b"333")


def slow(_: bytes, __: Any) -> bytes:
    time.sleep(0.8)
    return b""


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Greeter()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.readline()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary("/pkg.Greeter/Hello")(b"you", timeout=5)
        list(channel.unary_stream("/pkg.Greeter/Count")(b""))
        for method, seconds in (("Absent", 5.0), ("Slow", 0.3)):
            try:
                channel.unary_unary(f"/pkg.Greeter/{method}")(b"x", timeout=seconds)
            except grpc.RpcError as error:
                print(error.code().name, flush=True)
    server.stop(2).wait()


if __name__ == "__main__":
    main()
