"""One attempt over gRPC, against a real server."""

import socket
import subprocess
import threading
from pathlib import Path

import grpc
import pytest

from otel_tap.delivery.otlp_grpc import OtlpGrpcSender
from otel_tap.delivery.otlp_settings import OtlpSettings
from otel_tap.delivery.outcome import Accepted, Outcome, Refused, RetryLater, TooLarge
from otel_tap.receiver import Answer, Delay, OtlpReceiver, PartialSuccess, Refusal
from otel_tap.telemetry.chunk import Chunk, Signal
from tests.unit.otlp_requests import log_chunk, trace_chunk


def sender(endpoint: str, signal: Signal = Signal.TRACES, **short: str) -> OtlpGrpcSender:
    environ = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in short.items()}
    environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    settings = OtlpSettings.from_environment(environ)
    exporter = settings.traces if signal is Signal.TRACES else settings.logs
    assert exporter is not None
    return OtlpGrpcSender(exporter)


def send(endpoint: str, chunk: Chunk, at_most_s: float = 30, /, **short: str) -> Outcome:
    to = sender(endpoint, chunk.signal, **short)
    try:
        return to.send(chunk, at_most_s)
    finally:
        to.close()


def outcome_of(answer: Answer) -> Outcome:
    with OtlpReceiver(answers=[answer]) as receiver:
        return send(receiver.endpoint, trace_chunk(3))


def test_spans_and_log_records_arrive_as_they_were_sent() -> None:
    with OtlpReceiver() as receiver:
        assert send(receiver.endpoint, trace_chunk(7)) == Accepted()
        assert send(receiver.endpoint, log_chunk(5)) == Accepted()
        assert [span.name for span in receiver.spans] == [str(number) for number in range(7)]
        assert len(receiver.log_records) == 5


def test_headers_go_with_every_export() -> None:
    with OtlpReceiver() as receiver:
        send(receiver.endpoint, trace_chunk(1), HEADERS="X-Key=a%20b,authorization=Bearer%20t")
        (metadata,) = receiver.metadata
    assert (metadata["x-key"], metadata["authorization"]) == ("a b", "Bearer t")
    assert metadata["user-agent"].startswith("otel-tap/")


@pytest.mark.parametrize(
    "code",
    ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"],
)  # fmt: skip
def test_statuses_that_the_specification_calls_retryable_are_retried(code: str) -> None:
    assert outcome_of(Refusal(code, "why")) == RetryLater(f"{code}: why", None)


@pytest.mark.parametrize(
    "code",
    ["UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
     "UNAUTHENTICATED", "FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL", "RESOURCE_EXHAUSTED"],
)  # fmt: skip
def test_every_other_status_is_final(code: str) -> None:
    outcome = outcome_of(Refusal(code, "why"))
    assert isinstance(outcome, Refused)
    assert outcome.reason == f"{code}: why"


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_the_delay_that_a_collector_asks_for_is_taken(code: str) -> None:
    assert outcome_of(Refusal(code, "why", 2.5)) == RetryLater(f"{code}: why", 2.5)


@pytest.mark.parametrize(
    "details",
    [
        "grpc: received message larger than max (5000000 vs. 4194304)",
        "SERVER: Received message larger than max (5000000 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 5000000",
    ],
)
def test_exhausted_for_the_size_of_the_message_is_too_large(details: str) -> None:
    assert isinstance(outcome_of(Refusal("RESOURCE_EXHAUSTED", details)), TooLarge)


def test_a_message_over_the_limit_of_a_real_server_is_too_large() -> None:
    with OtlpReceiver(max_message_bytes=1000) as receiver:
        assert isinstance(send(receiver.endpoint, trace_chunk(50)), TooLarge)
        assert send(receiver.endpoint, trace_chunk(1)) == Accepted()


def test_partial_success_is_accepted_and_says_what_was_rejected() -> None:
    with OtlpReceiver(answers=[PartialSuccess(2, "old"), PartialSuccess(3, "odd")]) as receiver:
        assert send(receiver.endpoint, trace_chunk(5)) == Accepted(2, "old")
        assert send(receiver.endpoint, log_chunk(5)) == Accepted(3, "odd")


def test_what_the_collector_says_is_made_fit_for_a_terminal_and_holds_no_credentials() -> None:
    answer = Refusal("UNAUTHENTICATED", "no \x1b[31m token hunter2\nfor you")
    with OtlpReceiver(answers=[answer]) as receiver:
        outcome = send(receiver.endpoint, trace_chunk(1), HEADERS="authorization=Bearer%20hunter2")
    assert isinstance(outcome, Refused)
    assert outcome.reason == "UNAUTHENTICATED: no [31m token REDACTED for you"
    assert "HEADERS" in outcome.remedy


def test_a_dead_port_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = send(f"http://127.0.0.1:{port}", trace_chunk(1))
    assert isinstance(outcome, RetryLater)
    assert "refused" in outcome.reason


def test_a_collector_that_hangs_ends_the_attempt_at_the_time_limit() -> None:
    with OtlpReceiver(answers=[Delay(3600), Delay(3600)]) as receiver:
        outcome = send(receiver.endpoint, trace_chunk(1), TIMEOUT="200")
        assert isinstance(outcome, RetryLater)
        assert outcome.reason.startswith("DEADLINE_EXCEEDED")
        assert isinstance(send(receiver.endpoint, trace_chunk(1), 0.2), RetryLater)


def test_close_ends_a_call_that_is_under_way() -> None:
    with OtlpReceiver(answers=[Delay(3600)]) as receiver:
        to = sender(receiver.endpoint, TIMEOUT="3600000")
        outcomes: list[Outcome] = []
        thread = threading.Thread(
            target=lambda: outcomes.append(to.send(trace_chunk(1), 3600)), daemon=True
        )
        thread.start()
        while not receiver.metadata:
            pass
        to.close()
        thread.join(30)
    assert isinstance(outcomes[0], RetryLater)


def test_a_channel_that_failed_connects_as_soon_as_the_collector_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    to = sender(f"http://127.0.0.1:{port}")
    for _ in range(4):
        assert isinstance(to.send(trace_chunk(1), 30), RetryLater)
    with OtlpReceiver(port=port) as receiver:
        while isinstance(to.send(trace_chunk(1), 30), RetryLater):
            pass
        assert len(receiver.spans) == 1
    to.close()


def bytes_sent(chunk: Chunk, **short: str) -> int:
    """What goes over the wire to a collector that accepts."""
    with OtlpReceiver() as receiver, socket.create_server(("127.0.0.1", 0)) as listener:
        counted = [0]

        def carry(source: socket.socket, to: socket.socket, number: int | None) -> None:
            try:
                while piece := source.recv(65536):
                    if number is not None:
                        counted[number] += len(piece)
                    to.sendall(piece)
            except OSError:
                return

        def forward() -> None:
            client, _ = listener.accept()
            server = socket.create_connection(
                ("127.0.0.1", int(receiver.endpoint.rpartition(":")[2]))
            )
            threading.Thread(target=carry, args=(server, client, None), daemon=True).start()
            carry(client, server, 0)
            server.close()
            client.close()

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        outcome = send(f"http://127.0.0.1:{listener.getsockname()[1]}", chunk, **short)
        assert outcome == Accepted()
        assert len(receiver.spans) == chunk.record_count
        thread.join(30)
        return counted[0]


def test_gzip_makes_the_message_smaller_on_the_wire() -> None:
    chunk = trace_chunk(300)
    plain, compressed = bytes_sent(chunk), bytes_sent(chunk, COMPRESSION="gzip")
    assert plain > len(chunk.payload)
    assert compressed < len(chunk.payload)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pem")
    for name in ("server", "client"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
    return folder


def test_tls_needs_a_trusted_certificate_and_mutual_tls_one_of_our_own(pem: Path) -> None:
    credentials = grpc.ssl_server_credentials(
        [((pem / "server.key").read_bytes(), (pem / "server.pem").read_bytes())],
        root_certificates=(pem / "client.pem").read_bytes(),
        require_client_auth=True,
    )
    own = {"CLIENT_CERTIFICATE": f"{pem}/client.pem", "CLIENT_KEY": f"{pem}/client.key"}
    trusted = {"CERTIFICATE": f"{pem}/server.pem"}
    with OtlpReceiver(credentials=credentials) as receiver:
        assert receiver.endpoint.startswith("https://")
        assert isinstance(send(receiver.endpoint, trace_chunk(1), **own), RetryLater)
        assert isinstance(send(receiver.endpoint, trace_chunk(1), **trusted), RetryLater)
        assert receiver.spans == []
        assert send(receiver.endpoint, trace_chunk(1), **own, **trusted) == Accepted()
        assert len(receiver.spans) == 1
