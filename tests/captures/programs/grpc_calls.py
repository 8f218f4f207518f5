"""gRPC over plain text: `server` prints its port; `client PORT` a line per call: method, status."""

import sys
from concurrent import futures

import grpc

SERVICE = "captured.Shop"


def raw(message):
    return message


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        if name == "Count":
            return grpc.unary_stream_rpc_method_handler(self.count, raw, raw)
        return grpc.unary_unary_rpc_method_handler(getattr(self, name.lower()), raw, raw)

    def order(self, request, context):
        return b"ordered " + request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    def count(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Handlers(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None).wait()


def call(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        order = channel.unary_unary(f"/{SERVICE}/Order", raw, raw)
        for number in range(5):
            assert order(b"x" * number * 100) == b"ordered " + b"x" * number * 100
            print(f"/{SERVICE}/Order", 0)
        try:
            channel.unary_unary(f"/{SERVICE}/Fail", raw, raw)(b"")
        except grpc.RpcError as error:
            print(f"/{SERVICE}/Fail", error.code().value[0])
        assert len(list(channel.unary_stream(f"/{SERVICE}/Count", raw, raw)(b"10"))) == 10
        print(f"/{SERVICE}/Count", 0)


serve() if sys.argv[1] == "server" else call(int(sys.argv[2]))
