"""What exchanges have in common is remembered, and never taken for that of another."""

from dataclasses import replace
from itertools import product

from otel_tap.events import TlsLibrary
from otel_tap.exchange import ExchangeError, Role
from otel_tap.telemetry import Identities, RecordEncoder, TelemetrySettings
from tests.unit.test_telemetry_records import PLAIN, exchange, request, response


def test_exchanges_that_differ_in_one_thing_alone_are_told_apart():
    connections = [PLAIN, replace(PLAIN, connection_id=2, tls=TlsLibrary.OPENSSL)]
    several = [
        replace(
            exchange(
                request(b"/", method=method, host=host),
                replace(response(status), version=version) if status is not None else None,
                role=role,
                connection=connection,
                error=error,
            ),
            reused=reused,
        )
        for role, method, host, connection, version, status, error, reused in product(
            Role, (b"GET", b"PUT", b"FOO"), (b"a:80", b"b:80", None), connections, ("1.0", "1.1"),
            (None, 0, 200, 500), (None, ExchangeError.TIMEOUT), (False, True),
        )
    ]  # fmt: skip
    remembering = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    for one in several:
        remembering.encode(one)
    for one in several[::7]:
        fresh = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
        assert remembering.encode(one) == fresh.encode(one)


def test_a_request_without_a_place_is_not_taken_for_no_request():
    nowhere = exchange(request(host=None), connection=replace(PLAIN, peer=None))
    unknown = replace(nowhere, request=None)
    remembering = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    for one in (nowhere, unknown, nowhere):
        fresh = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
        assert remembering.encode(one) == fresh.encode(one)
