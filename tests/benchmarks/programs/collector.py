"""An OTLP/gRPC collector that keeps what it gets, and counts it when asked (`count` on stdin)."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

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


def main() -> None:
    server = grpc.server(
        ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 64 << 20)]
    )
    server.add_generic_rpc_handlers((Keep(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
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
