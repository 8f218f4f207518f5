"""One exchange as an entry of an HTTP Archive, version 1.2: what browsers' network panels open.

Source: the HAR 1.2 specification (W3C Web Performance draft; http://www.softwareishard.com/blog/
har-12-spec/). What arrives here was redacted. Pure: an exchange in, plain data for JSON out.

HAR has no word for unknown, so: -1 for sizes and times that are not known, as it says; the method
`?` and the URL `about:blank` where no request was seen; status 0 where no response was, as
browsers write it. `comment` says so, and what was not captured. Names that begin with `_` are our
own, as the specification wants it:

``_otelTap``             who it was and at which end: see `_facts`
``_error``               why the exchange is not whole
``postData._encoding``   `base64` where a request's content is no text

`content.size` is the content without its coding where all of it is there, else as transferred.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote_plus

from otel_tap.events import Address
from otel_tap.exchange import Exchange, Role
from otel_tap.messages import (
    UNKNOWN,
    UNKNOWN_FIELD,
    Body,
    Field,
    Request,
    Response,
    field_value,
    field_values,
)
from otel_tap.origin import Origin
from otel_tap.privacy.rules import REDACTED
from otel_tap.telemetry.content import content_of
from otel_tap.telemetry.location import locate
from otel_tap.telemetry.rpc import is_method

Json = dict[str, object]

NO_URL: Final = "about:blank"
_UNSEEN_METHOD: Final = "?"
_VERSIONS: Final = {"2": "HTTP/2", "3": "HTTP/3"}
_MAX_PARAMETERS: Final = 1000  # of one query or cookie; the URL has them all
_SERVER: Final = Role.SERVER


def har_entry(exchange: Exchange, origin: Origin, unix_offset_ns: int, body_limit: int) -> Json:
    """The entry of a redacted exchange. `unix_offset_ns` makes Unix time of its ktime_ns."""
    comments: list[str] = []
    request = _request(exchange, body_limit, comments)
    response = _response(exchange, body_limit, comments)
    if exchange.lost_bytes:
        comments.append(f"{exchange.lost_bytes} bytes were not captured")
    timings = _timings(exchange)
    entry: Json = {
        "startedDateTime": _time(exchange.start_ktime_ns + unix_offset_ns),
        "time": timings["send"] + timings["wait"] + timings["receive"],
        "request": request,
        "response": response,
        "cache": {},
        "timings": timings,
        "connection": str(exchange.connection.connection_id),
    }
    connection = exchange.connection
    server = connection.local if exchange.role is _SERVER else connection.peer
    if server is not None:
        entry["serverIPAddress"] = server.host
    if exchange.error is not None:
        entry["_error"] = exchange.error.value
    entry["_otelTap"] = _facts(exchange, origin)
    if comments:
        entry["comment"] = "; ".join(comments)
    return entry


def _facts(exchange: Exchange, origin: Origin) -> Json:
    connection, container = exchange.connection, origin.container
    facts: Json = {
        "role": exchange.role.value,
        "pid": origin.pid,
        "process": origin.executable_name,
        "executable": origin.executable_path,
        "user": origin.user,
        "service": origin.service_name,
        "host": origin.host.name,
        "container": None if container is None else container.id,
        "pod": None if container is None else container.pod_uid,
        "local": _address(connection.local),
        "peer": _address(connection.peer),
        "peerEvidence": connection.evidence.value,
        "tls": connection.tls.value or None,
        "lostBytes": exchange.lost_bytes or None,
    }
    if exchange.rpc is not None:
        if is_method(exchange.rpc.method):  # anything else may hold a secret
            facts["rpcMethod"] = _text(exchange.rpc.method)
        facts["rpcStatus"] = exchange.rpc.status
    return {name: fact for name, fact in facts.items() if fact is not None}


def _time(unix_ns: int) -> str:
    seconds, nanoseconds = divmod(max(0, unix_ns), 1_000_000_000)
    # Recordings can hold any time; the last one that a calendar has stands for all later ones.
    moment = datetime.fromtimestamp(min(seconds, 253_402_300_799), tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds // 1000:06d}Z"


def _timings(exchange: Exchange) -> dict[str, float]:
    """Milliseconds. Of a connection's making nothing is known: it may be older than the tap."""
    start, end = exchange.start_ktime_ns, max(exchange.start_ktime_ns, exchange.end_ktime_ns)
    sent = min(max(start, exchange.request_end_ktime_ns), end)
    # A server may answer before it was asked to the end.
    first = min(max(sent, exchange.response_start_ktime_ns), end)
    if not exchange.response_start_ktime_ns:
        first = end
    return {
        "blocked": -1,
        "dns": -1,
        "connect": -1,
        "ssl": -1,
        "send": (sent - start) / 1e6,
        "wait": (first - sent) / 1e6,
        "receive": (end - first) / 1e6,
    }


def _request(exchange: Exchange, body_limit: int, comments: list[str]) -> Json:
    request = exchange.request
    if request is None:
        comments.append("the request was not seen")
        return {
            "method": _UNSEEN_METHOD,
            "url": NO_URL,
            "httpVersion": "",
            "cookies": [],
            "headers": [],
            "queryString": [],
            "headersSize": -1,
            "bodySize": -1,
        }
    url = _url(exchange, request)
    described: Json = {
        "method": _UNSEEN_METHOD if request.method == UNKNOWN else _text(request.method),
        "url": url,
        "httpVersion": _version(request.version),
        "cookies": _cookies(request.fields),
        "headers": _headers(request),
        "queryString": _query(url),
        "headersSize": -1,
        "bodySize": request.body.size,
    }
    if request.body.size:
        described["postData"] = _post_data(request, body_limit)
    if not request.complete:
        comments.append("the end of the request was not seen")
    return described


def _response(exchange: Exchange, body_limit: int, comments: list[str]) -> Json:
    response = exchange.response
    if response is None:
        comments.append("no response was seen")
        return {
            "status": 0,
            "statusText": "",
            "httpVersion": "",
            "cookies": [],
            "headers": [],
            "content": {"size": 0, "mimeType": "x-unknown"},
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": -1,
        }
    if not response.complete:
        comments.append("the end of the response was not seen")
    return {
        "status": max(0, response.status),
        "statusText": _text(response.reason),
        "httpVersion": _version(response.version),
        "cookies": _set_cookies(response.fields),
        "headers": _headers(response),
        "content": _content(response, body_limit),
        "redirectURL": _text(field_value(response.fields, b"location") or b""),
        "headersSize": -1,
        "bodySize": response.body.size,
    }


def _url(exchange: Exchange, request: Request) -> str:
    target = request.target
    if target == UNKNOWN:
        return NO_URL
    host = field_value(request.fields, b"host")
    if host is None and request.headers_incomplete:
        return _text(target)  # the peer's address need not be what it was asked as
    place = locate(target, request.method, exchange.connection, exchange.role, host)
    if place.full is not None:
        return _text(place.full)
    local = exchange.connection.local
    if host is None and local is not None and exchange.role is _SERVER:
        host = (_address(local) or "").encode()
    if host is None or not (target.startswith(b"/") or target == b"*"):
        return _text(target)
    path = b"" if target == b"*" else target
    return f"{place.scheme}://{_text(host)}{_text(path)}"


def _post_data(request: Request, body_limit: int) -> Json:
    data: Json = {"mimeType": _media_type(request.fields), "params": [], "text": ""}
    _put_content(data, request.body, request.fields, body_limit, "_encoding")
    return data


def _content(response: Response, body_limit: int) -> Json:
    data: Json = {"size": response.body.size, "mimeType": _media_type(response.fields)}
    whole = _put_content(data, response.body, response.fields, body_limit, "encoding")
    if whole is not None:
        data["size"] = whole
        if whole != response.body.size:
            data["compression"] = whole - response.body.size
    return data


def _put_content(
    data: Json, body: Body, fields: tuple[Field, ...], limit: int, encoding: str
) -> int | None:
    """Put what was kept of a body into `data`; returns its size if that is all of it, decoded."""
    if not body.size:
        return None
    if not body.content:
        data["comment"] = f"{body.size} bytes of content were not kept"
        return None
    content = content_of(body, fields, limit)
    if content.is_text:
        data["text"] = content.shown.decode()
    else:
        data["text"] = b64encode(content.shown).decode()
        data[encoding] = "base64"
    comments = []
    if not content.decoded:
        coding = b", ".join(field_values(fields, b"content-encoding"))
        comments.append(f"still in its content coding {_text(coding)}")
    if content.cut:
        comments.append(f"truncated: {len(content.shown)} bytes are here")
    if comments:
        data["comment"] = "; ".join(comments)
    return None if comments else len(content.shown)


def _version(version: str) -> str:
    return _VERSIONS.get(version) or f"HTTP/{version}"


def _media_type(fields: tuple[Field, ...]) -> str:
    return _text(field_value(fields, b"content-type") or b"x-unknown")


def _headers(message: Request | Response) -> list[Json]:
    unknown = UNKNOWN_FIELD[0]
    pairs = [_pair(_text(name), _text(value)) for name, value in message.fields if name != unknown]
    for name, value in message.trailers:
        if name != unknown:
            pairs.append({**_pair(_text(name), _text(value)), "comment": "trailer"})
    return pairs


def _query(url: str) -> list[Json]:
    _, mark, query = url.partition("#")[0].partition("?")
    if not mark or not query:
        return []
    pairs = []
    for part in query.split("&", _MAX_PARAMETERS)[:_MAX_PARAMETERS]:
        name, _, value = part.partition("=")
        pairs.append(_pair(_plain(name), _plain(value)))
    return pairs


def _plain(coded: str) -> str:
    return unquote_plus(coded, errors="backslashreplace")


def _cookies(fields: tuple[Field, ...]) -> list[Json]:
    cookies = []
    for value in field_values(fields, b"cookie"):
        if value == REDACTED:
            continue
        for part in value.split(b";", _MAX_PARAMETERS)[:_MAX_PARAMETERS]:
            name, _, content = part.strip().partition(b"=")
            if name:
                cookies.append(_pair(_text(name), _text(content)))
    return cookies


def _set_cookies(fields: tuple[Field, ...]) -> list[Json]:
    """RFC 6265 5.2, as far as HAR has words for it."""
    cookies = []
    for value in field_values(fields, b"set-cookie")[:_MAX_PARAMETERS]:
        if value == REDACTED:
            continue
        first, *rest = value.split(b";", _MAX_PARAMETERS)
        name, _, content = first.strip().partition(b"=")
        cookie = _pair(_text(name), _text(content))
        for part in rest:
            key, _, detail = part.strip().partition(b"=")
            match key.lower():
                case b"path":
                    cookie["path"] = _text(detail)
                case b"domain":
                    cookie["domain"] = _text(detail)
                case b"httponly":
                    cookie["httpOnly"] = True
                case b"secure":
                    cookie["secure"] = True
                case b"expires":
                    expires = _date(_text(detail))
                    if expires:
                        cookie["expires"] = expires
        cookies.append(cookie)
    return cookies


def _date(text: str) -> str:
    try:
        return parsedate_to_datetime(text).isoformat()
    except (ValueError, TypeError, OverflowError):
        return ""


def _pair(name: str, value: str) -> Json:
    return {"name": name, "value": value}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _address(address: Address | None) -> str | None:
    if address is None:
        return None
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
