"""Where a request went: forms of the target, Host, and what proxies said."""

from dataclasses import replace

import pytest

from otel_tap.events import Address, TlsLibrary
from otel_tap.exchange import Role
from otel_tap.messages import Field
from tests.unit.test_telemetry_records import PLAIN, attributes_of, exchange, request

TLS = replace(PLAIN, tls=TlsLibrary.OPENSSL)
PLACES = ("url.full", "url.scheme", "url.path", "url.query", "server.address", "server.port")


def located(role, *fields: Field, target=b"/a", connection=PLAIN, method=b"GET", host=b"h"):
    """What is said of the place of a request, by the attributes' own names."""
    sent = request(target, *fields, method=method, host=host)
    found = attributes_of(exchange(sent, role=role, connection=connection))
    return {name: found[name] for name in PLACES if name in found}


def at_client(*fields: Field, **choices):
    return located(Role.CLIENT, *fields, **choices)


def server_sees(*fields: Field, **choices):
    return located(Role.SERVER, *fields, **choices)


@pytest.mark.parametrize(
    ("connection", "host", "full", "address", "port"),
    [
        (PLAIN, b"h", "http://h/a", "h", 80),
        (TLS, b"h", "https://h/a", "h", 443),
        (PLAIN, b"h:8080", "http://h:8080/a", "h", 8080),
        (TLS, b"h:80", "https://h:80/a", "h", 80),
        (PLAIN, b"h:", "http://h:/a", "h", 80),
        (PLAIN, b"192.0.2.8:81", "http://192.0.2.8:81/a", "192.0.2.8", 81),
        (TLS, b"[2001:db8::1]", "https://[2001:db8::1]/a", "2001:db8::1", 443),
        (TLS, b"[::1]:8443", "https://[::1]:8443/a", "::1", 8443),
        (TLS, b"[::ffff:192.0.2.1]:1", "https://[::ffff:192.0.2.1]:1/a", "::ffff:192.0.2.1", 1),
        (PLAIN, b"[fe80::1%25eth0]:1", "http://[fe80::1%25eth0]:1/a", "fe80::1%25eth0", 1),
        (PLAIN, b"h:65535", "http://h:65535/a", "h", 65535),
        (PLAIN, b"H.Example", "http://H.Example/a", "H.Example", 80),
        (PLAIN, b"a_b.svc", "http://a_b.svc/a", "a_b.svc", 80),
        (PLAIN, b"b\xc3\xbccher", "http://bücher/a", "bücher", 80),
        (PLAIN, b"user@h", "http://REDACTED:REDACTED@h/a", "h", 80),
    ],
)
def test_host_names_the_server(connection, host, full, address, port):
    assert at_client(host=host, connection=connection) == {
        "url.full": full,
        "server.address": address,
        "server.port": port,
    }
    assert server_sees(host=host, connection=connection) == {
        "url.scheme": full.partition(":")[0],
        "url.path": "/a",
        "server.address": address,
        "server.port": port,
    }


BAD_HOSTS = [
    b"a b", b"h:x", b"h:0", b"h:65536", b"h:123456", b"[::1", b"::1", b"[x]", b"/", b"h/x", b"h?x",
    b"a,b:c", b"@", b":80", b"h:-1", b"[::1]x", b"h\n",
]  # fmt: skip


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_bad_host_names_nothing(host):
    assert at_client(host=host) == {}
    assert server_sees(host=host) == {"url.scheme": "http", "url.path": "/a"}


def test_only_the_first_of_several_hosts_counts():
    assert at_client((b"host", b"other"))["server.address"] == "h"


@pytest.mark.parametrize("host", [None, b""])
def test_without_a_host_the_client_went_to_its_peer(host):
    assert at_client(host=host) == {
        "url.full": "http://198.51.100.7:8443/a",
        "server.address": "198.51.100.7",
        "server.port": 8443,
    }
    v6 = replace(TLS, peer=Address("2001:db8::1", 443))
    assert at_client(host=host, connection=v6) == {
        "url.full": "https://[2001:db8::1]:443/a",
        "server.address": "2001:db8::1",
        "server.port": 443,
    }


def test_without_host_and_peer_the_server_is_unknown():
    assert at_client(host=None, connection=replace(PLAIN, peer=None)) == {}
    assert server_sees(host=None) == {"url.scheme": "http", "url.path": "/a"}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", None),
        (b"/a/b.c", "/a/b.c", None),
        (b"/a?b=c&d", "/a", "b=c&d"),
        (b"/a?", "/a", None),
        (b"/a??b?c", "/a", "?b?c"),
        (b"//double//slash", "//double//slash", None),
        (b"/%2f%ff;p=1,2", "/%2f%ff;p=1,2", None),
        (b"/\xc3\xbc\xff?\xfe", "/ü\ufffd", "\ufffd"),
        (b"/:80/@x", "/:80/@x", None),
        (b"/http://other/x?y", "/http://other/x", "y"),
    ],
)
def test_origin_form_is_split_at_its_first_question_mark(target, path, query):
    sides = at_client(target=target), server_sees(target=target)
    assert sides[0]["url.full"] == "http://h" + target.decode("utf-8", "replace")
    assert sides[1]["url.path"] == path
    assert sides[1].get("url.query") == query


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://other/x?y=1", ("http", "other", 80, "/x", "y=1")),
        (b"https://other:1/x", ("https", "other", 1, "/x", None)),
        (b"HTTP://other/x", ("http", "other", 80, "/x", None)),
        (b"http://[2001:db8::2]:81/x", ("http", "2001:db8::2", 81, "/x", None)),
        (b"http://other", ("http", "other", 80, None, None)),
        (b"http://other?q", ("http", "other", 80, None, "q")),
        (b"http://REDACTED:REDACTED@other/x", ("http", "other", 80, "/x", None)),
        (b"http://other/x#f?g", ("http", "other", 80, "/x", None)),
        (b"ftp://other/x", ("ftp", "other", None, "/x", None)),
        (b"ws://other:9/x", ("ws", "other", 9, "/x", None)),
    ],
)
def test_absolute_form_says_it_all_whatever_host_says(target, expected):
    scheme, address, port, path, query = expected
    place = {"server.address": address}
    if port is not None:
        place["server.port"] = port
    assert at_client(target=target) == {"url.full": target.decode(), **place}
    place["url.scheme"] = scheme
    if path is not None:
        place["url.path"] = path
    if query is not None:
        place["url.query"] = query
    assert server_sees(target=target) == place


@pytest.mark.parametrize("target", [b"http://a b/x", b"http://:1/x", b"http:///x"])
def test_absolute_form_without_a_usable_authority_does_not_take_that_of_host(target):
    assert at_client(target=target) == {"url.full": target.decode()}
    assert "server.address" not in server_sees(target=target)


@pytest.mark.parametrize(
    ("target", "address", "port"),
    [
        (b"far.example:443", "far.example", 443),
        (b"[2001:db8::5]:8443", "2001:db8::5", 8443),
        (b"far.example", "far.example", None),
    ],
)
def test_connect_names_its_authority_and_no_url(target, address, port):
    place = {"server.address": address} if port is None else {
        "server.address": address, "server.port": port,
    }  # fmt: skip
    assert at_client(target=target, method=b"CONNECT") == place
    assert server_sees(target=target, method=b"CONNECT") == {"url.scheme": "http", **place}


def test_an_extended_connect_has_the_url_of_its_path():
    """RFC 8441: with `:protocol`, a CONNECT has scheme and path."""
    place = {"server.address": "h", "server.port": 80}
    url = {"url.full": "http://h/chat?room=1"}
    assert at_client(target=b"/chat?room=1", method=b"CONNECT") == url | place
    assert server_sees(target=b"/chat", method=b"CONNECT") == {
        "url.scheme": "http", "url.path": "/chat", **place,
    }  # fmt: skip


def test_asterisk_form_is_about_the_server_itself():
    place = {"server.address": "h", "server.port": 80}
    assert at_client(target=b"*", method=b"OPTIONS") == {"url.full": "http://h", **place}
    assert server_sees(target=b"*", method=b"OPTIONS") == {
        "url.scheme": "http",
        "url.path": "*",
        **place,
    }


@pytest.mark.parametrize("target", [b"no-slash", b"", b"?q", b"example.com:443", b"http:/x", b"#f"])
def test_a_target_of_no_known_form_makes_no_url(target):
    assert at_client(target=target) == {"server.address": "h", "server.port": 80}
    found = server_sees(target=target)
    assert found.get("url.path", "") + (
        "?" + found["url.query"] if "url.query" in found else ""
    ) == (target.decode())


def client_of(*fields: Field):
    found = attributes_of(exchange(request(b"/", *fields), role=Role.SERVER))
    return found["client.address"]


PEER = "198.51.100.7"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        (b'For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        (b'for="[2001:db8:cafe::17]"', "2001:db8:cafe::17"),
        (b"for=192.0.2.43, for=198.51.100.17", "192.0.2.43"),
        (b'for="192.0.2.43:47011"', "192.0.2.43"),
        (b"proto=https;for=192.0.2.43", "192.0.2.43"),
        (b"for = 192.0.2.43", "192.0.2.43"),
        (b"for=client.example", "client.example"),
        (b"for=_hidden", PEER),
        (b'for="_SEVKISEK"', PEER),
        (b"for=unknown", PEER),
        (b"for=Unknown", PEER),
        (b'for="unknown:99"', PEER),
        (b'for=""', PEER),
        (b"for=", PEER),
        (b"x-for=192.0.2.43", PEER),
        (b"by=192.0.2.43", PEER),
        (b"before=192.0.2.43", PEER),
        (b"", PEER),
        (b"for=a:b:c", PEER),
        (b'for="192.0.2.1, 192.0.2.2"', PEER),
        (b'for="unclosed', PEER),
        (b"\xff\xfe", PEER),
    ],
)
def test_forwarded_names_the_client(value, client):
    assert client_of((b"forwarded", value)) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"203.0.113.195", "203.0.113.195"),
        (b"203.0.113.195, 70.41.3.18, 150.172.238.178", "203.0.113.195"),
        (b" 203.0.113.195 ,x", "203.0.113.195"),
        (b"203.0.113.195:41237", "203.0.113.195"),
        (b"2001:db8:85a3::8a2e:370:7334", "2001:db8:85a3::8a2e:370:7334"),
        (b"[2001:db8::1]:41237", "2001:db8::1"),
        (b"[2001:db8::1]", "2001:db8::1"),
        (b"unknown", PEER),
        (b"", PEER),
        (b", 1.2.3.4", PEER),
        (b"a b", PEER),
        (b"::not::an::address", PEER),
        (b"javascript::alert(1)::x", PEER),
    ],
)
def test_x_forwarded_for_names_the_client(value, client):
    assert client_of((b"x-forwarded-for", value)) == client


def test_the_first_hop_is_in_the_first_field():
    first, second = (b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-for", b"192.0.2.2")
    assert client_of(first, second) == "192.0.2.1"
    assert client_of((b"forwarded", b"for=192.0.2.1"), (b"forwarded", b"for=192.0.2.2")) == (
        "192.0.2.1"
    )


def test_forwarded_goes_before_x_forwarded():
    old = (
        (b"x-forwarded-for", b"192.0.2.2"),
        (b"x-forwarded-host", b"old.example"),
        (b"x-forwarded-proto", b"http"),
    )
    new = (b"forwarded", b"for=192.0.2.1;host=new.example:99;proto=https")
    for fields in ((new, *old), (*old, new)):
        assert client_of(*fields) == "192.0.2.1"
        assert server_sees(*fields) == {
            "url.scheme": "https",
            "url.path": "/a",
            "server.address": "new.example",
            "server.port": 99,
        }


def test_x_forwarded_fields_say_what_forwarded_does_not():
    fields = ((b"forwarded", b"for=192.0.2.1"), (b"x-forwarded-host", b"old.example"))
    assert server_sees(*fields)["server.address"] == "old.example"


def test_the_forwarded_scheme_decides_the_default_port():
    found = server_sees((b"x-forwarded-proto", b"https"))
    assert (found["url.scheme"], found["server.port"]) == ("https", 443)


@pytest.mark.parametrize("proto", [b"gopher", b"", b"\xff", b"httpss", b"a" * 9999])
def test_a_forwarded_scheme_that_is_not_http_is_not_believed(proto):
    found = server_sees((b"x-forwarded-proto", proto))
    assert (found["url.scheme"], found["server.port"]) == ("http", 80)


def test_a_bad_forwarded_host_leaves_the_request_its_own():
    fields = ((b"x-forwarded-host", b"a b"),)
    assert server_sees(*fields)["server.address"] == "h"
    assert server_sees(*fields, target=b"http://other/")["server.address"] == "other"


def test_a_forwarded_host_without_its_scheme_leaves_the_port_unknown():
    host = (b"x-forwarded-host", b"shop.example")
    found = server_sees(host)
    assert found["server.address"] == "shop.example"
    assert "server.port" not in found
    assert server_sees(host, (b"x-forwarded-proto", b"https"))["server.port"] == 443
    assert server_sees((b"x-forwarded-host", b"a b"))["server.port"] == 80


def test_the_first_forwarded_host_counts():
    found = server_sees((b"x-forwarded-host", b"first:81, second"))
    assert (found["server.address"], found["server.port"]) == ("first", 81)


def test_a_client_does_not_believe_what_it_forwards():
    fields = (
        (b"forwarded", b"for=192.0.2.1;host=new.example;proto=https"),
        (b"x-forwarded-host", b"old.example"),
    )
    assert at_client(*fields) == {
        "url.full": "http://h/a",
        "server.address": "h",
        "server.port": 80,
    }
