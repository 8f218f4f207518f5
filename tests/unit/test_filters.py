"""Values of a name are alternatives, names must all hold, an exclusion wins."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.errors import ConfigError
from otel_tap.events import PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, Position, Role
from otel_tap.filters import NAMES, ExchangeFilter, host_of, path_of
from otel_tap.messages import EMPTY_BODY, Request, Response
from otel_tap.origin import Container, Host, Origin

ORIGIN = Origin(
    pid=42,
    start_boottime_ns=1,
    start_unix_ns=1,
    parent_pid=1,
    executable_name="python3.11",
    executable_path="/usr/bin/python3.11",
    command="/usr/bin/python3",
    command_line=None,
    user="www-data",
    container=Container("4f2a6c1d" + "0" * 56, "docker", "1b5c3a6e-0f6d-4c0e-9a55-7b1de2f3a4b5"),
    service_name="shop",
    service_attributes=(("k8s.pod.name", "checkout-7d9"),),
    host=Host("h", None, "", "amd64", "linux", ""),
)
NOBODY = replace(
    ORIGIN,
    executable_name="unknown",
    executable_path=None,
    command=None,
    user=None,
    container=None,
    service_attributes=(),
)


def sent(
    method: bytes = b"GET",
    target: bytes = b"/api/items?x=1",
    host: bytes | None = b"API.Example.com:443",
) -> Request:
    fields = () if host is None else ((b"host", host),)
    return Request(method, target, "1.1", fields, (), EMPTY_BODY, 1, 0, complete=True)


def exchange(request: Request | None = None, status: int | None = 404) -> Exchange:
    connection = Connection(
        1, 42, TlsLibrary.NONE, PeerEvidence.NONE, None, None, 0, 0, from_start=True
    )
    response = None
    if status is not None:
        response = Response(status, b"", "1.1", (), (), EMPTY_BODY, 1, 0, complete=True)
    return Exchange(
        Role.CLIENT,
        connection,
        1,
        request,
        response,
        1,
        1,
        1,
        1,
        1,
        False,
        Position("tcp", 0),
        None,
    )


EXCHANGE = exchange(sent())

MATCHING = [
    ("pid", "42"),
    ("comm", "python*"),
    ("comm", "python3"),
    ("comm", "python3.11"),
    ("exe", "/usr/bin/*"),
    ("user", "www-data"),
    ("container", "4f2a6c"),
    ("container", "4F2A6C"),
    ("pod", "1b5c3a6e"),
    ("pod", "checkout-*"),
    ("host", "api.example.com"),
    ("host", "*.Example.com"),
    ("method", "get"),
    ("path", "/api/*"),
    ("path", "/api/items"),
    ("status", "404"),
    ("status", "4xx"),
    ("status", "400-499"),
]
OTHER = [
    ("pid", "43"),
    ("comm", "python"),
    ("exe", "/bin/*"),
    ("exe", "python3.11"),
    ("user", "root"),
    ("container", "ff"),
    ("pod", "payment-*"),
    ("host", "example.com"),
    ("method", "POST"),
    ("path", "/api"),
    ("path", "*x=1"),
    ("status", "5xx"),
    ("status", "405-499"),
]


@pytest.mark.parametrize(("name", "value"), MATCHING)
def test_a_matching_value_includes_or_excludes(name, value):
    assert ExchangeFilter({name: [value]}).matches(EXCHANGE, ORIGIN)
    assert not ExchangeFilter({}, {name: [value]}).matches(EXCHANGE, ORIGIN)


@pytest.mark.parametrize(("name", "value"), OTHER)
def test_another_value_neither_includes_nor_excludes(name, value):
    assert not ExchangeFilter({name: [value]}).matches(EXCHANGE, ORIGIN)
    assert ExchangeFilter({}, {name: [value]}).matches(EXCHANGE, ORIGIN)


# A process always has a number and a name.
CAN_BE_UNKNOWN = [case for case in MATCHING if case[0] not in ("pid", "comm")]


@pytest.mark.parametrize(("name", "value"), CAN_BE_UNKNOWN)
def test_the_unknown_is_neither_included_nor_excluded(name, value):
    nothing = exchange(None, None)
    assert not ExchangeFilter({name: [value]}).matches(nothing, NOBODY)
    assert ExchangeFilter({}, {name: [value]}).matches(nothing, NOBODY)


def test_values_of_one_name_are_alternatives():
    wanted = ExchangeFilter({"status": ["5xx", "404"], "comm": ["x", "python3"]})
    assert wanted.matches(EXCHANGE, ORIGIN)


def test_all_names_must_hold():
    assert not ExchangeFilter({"status": ["404"], "method": ["POST"]}).matches(EXCHANGE, ORIGIN)
    assert not ExchangeFilter({"status": ["404"], "pid": ["1"]}).matches(EXCHANGE, ORIGIN)


def test_an_exclusion_wins():
    wanted = ExchangeFilter({"path": ["/api/*"]}, {"path": ["*/items"], "status": ["200"]})
    assert not wanted.matches(EXCHANGE, ORIGIN)


def test_no_filter_matches_everything():
    for empty in (ExchangeFilter(), ExchangeFilter({"pid": []}, {"host": ()})):
        assert empty.is_empty
        assert empty.matches(exchange(), NOBODY)
    assert not ExchangeFilter({}, {"status": ["2xx"]}).is_empty


def test_a_process_is_judged_by_what_is_known_of_processes_alone():
    wanted = ExchangeFilter({"pid": ["42"], "status": ["5xx"]}, {"path": ["*"], "user": ["root"]})
    assert wanted.matches_process(ORIGIN)
    assert not wanted.matches_process(replace(ORIGIN, pid=43))
    assert not wanted.matches_process(replace(ORIGIN, user="root"))


def test_a_long_name_matches_as_the_kernel_cuts_it():
    origin = replace(ORIGIN, executable_name="elasticsearch-server", command=None)
    assert ExchangeFilter({"comm": ["elasticsearch-s"]}).matches_process(origin)
    assert ExchangeFilter({"comm": ["elasticsearch-server"]}).matches_process(origin)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pid", "0"),
        ("pid", "-1"),
        ("pid", "nginx"),
        ("pid", "²"),
        ("comm", ""),
        ("exe", " "),
        ("user", ""),
        ("container", "xyz"),
        ("container", "a" * 65),
        ("pod", ""),
        ("host", ""),
        ("method", "GET /"),
        ("path", ""),
        ("status", "40"),
        ("status", "4x"),
        ("status", "499-400"),
        ("status", "0xx"),
    ],
)
def test_a_bad_value_is_said_with_its_flag_and_an_example(name, value):
    with pytest.raises(ConfigError) as including:
        ExchangeFilter({name: [value]})
    assert f"--{name}:" in including.value.message
    assert f"--{name} " in including.value.remedy
    with pytest.raises(ConfigError) as excluding:
        ExchangeFilter({}, {name: [value]})
    assert f"--exclude-{name}:" in excluding.value.message


def test_an_unknown_name_is_an_error_that_lists_the_names():
    with pytest.raises(ConfigError) as raised:
        ExchangeFilter({}, {"port": ["80"]})
    assert all(name in raised.value.remedy for name in NAMES)


@pytest.mark.parametrize(
    ("request_", "host", "path"),
    [
        (sent(target=b"/a?b"), "api.example.com", "/a"),
        (sent(target=b"/a#b?c"), "api.example.com", "/a"),
        (sent(target=b"http://u:p@Other.org:81/x?y"), "other.org", "/x"),
        (sent(target=b"http://other.org"), "other.org", "/"),
        (sent(target=b"http://other.org?q"), "other.org", "/"),
        (sent(target=b"/go?to=http://x/"), "api.example.com", "/go"),
        (sent(b"CONNECT", b"proxied.org:443"), "proxied.org", None),
        (sent(b"CONNECT", b"/chat?room=1"), "api.example.com", "/chat"),  # RFC 8441
        (sent(b"OPTIONS", b"*"), "api.example.com", None),
        (sent(host=b"[::1]:80"), "::1", "/api/items"),
        (sent(host=None), None, "/api/items"),
        (sent(target=b"/\xff"), "api.example.com", "/\\xff"),
    ],
)
def test_host_and_path_are_read_from_every_form_of_target(request_, host, path):
    assert host_of(request_) == host
    assert path_of(request_) == path


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_target_and_host_are_judged_without_an_error(target, host):
    everything = ExchangeFilter({"host": ["*"], "path": ["*"]})
    assert everything.matches(exchange(sent(b"GET", target, host)), ORIGIN) in (True, False)
