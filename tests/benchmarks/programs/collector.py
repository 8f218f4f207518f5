"""An OTLP collector that keeps what it gets, and counts it when asked (`count` on stdin).

Takes it over gRPC and over HTTP, and prints the two ports.
"""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

received: dict[str, list[bytes]] = {"traces": [], "logs": [], "metrics": []}


class Keep(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, details):
        signal = {"trace": "traces"}.get(name := details.method.split(".")[3], name)
        keep = received[signal]

        def export(request, _context):
            keep.append(request)
            return b""

        return grpc.unary_unary_rpc_method_handler(export)


class Take(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        received[self.path.rpartition("/")[2]].append(body)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is said but counts."""


def main() -> None:
    server = grpc.server(
        ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 64 << 20)]
    )
    server.add_generic_rpc_handlers((Keep(),))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(grpc_port, http.server_port, flush=True)
    for _ in sys.stdin:
        spans = sum(
            len(scope.spans)
            for request in received["traces"]
            for resource in ExportTraceServiceRequest.FromString(request).resource_spans
            for scope in resource.scope_spans
        )
        logs = sum(
            len(scope.log_records)
            for request in received["logs"]
            for resource in ExportLogsServiceRequest.FromString(request).resource_logs
            for scope in resource.scope_logs
        )
        for kept in received.values():
            kept.clear()
        print(json.dumps({"spans": spans, "logs": logs}), flush=True)


if __name__ == "__main__":
    main()
