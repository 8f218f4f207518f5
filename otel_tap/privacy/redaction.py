"""Redacts one exchange: fields, trailers, request target, bodies.

Owns: which part of an exchange is treated how. Promises: what comes out holds no secret that the
rules know; the same object comes out when there was none; a part that cannot be redacted is
dropped, never passed. Must not know: sinks.

The decision about a header is remembered by its name; a value is never remembered.
"""

from __future__ import annotations

import re
from typing import Final

from otel_tap.exchange import Exchange
from otel_tap.messages import Body, Field, Request, Response
from otel_tap.privacy.bodies import BodyRedactor, Readable, RedactionCounters
from otel_tap.privacy.rules import REDACTED, RedactionSettings, SecretNames
from otel_tap.privacy.urls import redact_authority, redact_url
from otel_tap.websocket import Message, Session

# What happens to a field, by its name.
_KEEP: Final = 0
_REPLACE: Final = 1
_SCHEME: Final = 2  # credentials behind the name of an authentication scheme
_URL: Final = 3
_AUTHORITY: Final = 4
_LINKS: Final = 5
_REFRESH: Final = 6

_BY_NAME: Final = {
    b"referer": _URL,
    b"location": _URL,
    b"content-location": _URL,
    b"origin": _URL,
    b"destination": _URL,
    b"link": _LINKS,
    b"refresh": _REFRESH,
    b"host": _AUTHORITY,
    b":authority": _AUTHORITY,
    b"x-forwarded-host": _AUTHORITY,
    # Proxies pass the original target on in these.
    b":path": _URL,
    b"x-original-url": _URL,
    b"x-original-uri": _URL,
    b"x-rewrite-url": _URL,
    b"x-forwarded-uri": _URL,
    b"x-forwarded-url": _URL,
}

# Names that may stay before credentials: only registered or common ones, since a first word that
# is no scheme may be the secret itself.
_SCHEMES: Final = frozenset(
    b"apikey aws4-hmac-sha256 basic bearer concealed digest dpop gnap googlelogin hoba mutual "
    b"negotiate ntlm oauth privatetoken scram-sha-1 scram-sha-256 sharedkey token vapid".split()
)

_EQUALS, _AT, _PERCENT = b"=@%"

_MAX_MEMO: Final = 2048
_MAX_MEMO_NAME: Final = 64  # bytes; longer names are decided anew each time

_LINK_TARGET: Final = re.compile(rb"<[^>]*>")
_REFRESH_URL: Final = re.compile(rb"(?i)\A([^=]*?url\s*=\s*['\"]?)(.*)\Z", re.DOTALL)


class Redactor:
    """Takes secrets out of exchanges. One instance serves one thread.

    `body_limit` bounds what is looked at of a body that is passed on in its content coding, in
    bytes without it; what lies beyond is not passed on.
    """

    __slots__ = ("_actions", "_bodies", "_kept", "_names", "counters", "may_be_secret")

    def __init__(
        self, settings: RedactionSettings | None = None, *, body_limit: int = 1 << 20
    ) -> None:
        self.counters = RedactionCounters()
        self._names = SecretNames(settings or RedactionSettings())
        # Of a query without `@` and `%`: False only when there is nothing to redact.
        self.may_be_secret = self._names.may_be_secret
        self._bodies = BodyRedactor(self._names, self.counters, body_limit)
        self._actions: dict[bytes, int] = {}
        self._kept: set[bytes] = set()  # the names whose action is to keep: most of them

    def redact(self, exchange: Exchange) -> Exchange:
        """The exchange without secrets; the same object when it had none."""
        request = exchange.request
        response = exchange.response
        new_request = None if request is None else self._redact_request(request)
        new_response = None if response is None else self._redact_response(response)
        websocket = exchange.websocket
        if websocket is not None:
            websocket = self._redact_websocket(websocket)
        if new_request is request and new_response is response and websocket is exchange.websocket:
            return exchange
        self.counters.exchanges_changed += 1
        return Exchange(
            exchange.role,
            exchange.connection,
            exchange.tid,
            new_request,
            new_response,
            exchange.start_ktime_ns,
            exchange.request_end_ktime_ns,
            exchange.response_start_ktime_ns,
            exchange.end_ktime_ns,
            exchange.observed_ktime_ns,
            exchange.reused,
            exchange.position,
            exchange.error,
            exchange.rpc,
            websocket=websocket,
            genai=exchange.genai,
        )

    def _redact_websocket(self, what: Session | Message) -> Session | Message:
        """What a session said: contents as those of bodies without a media type."""
        if isinstance(what, Session):
            reason = self.redact_content(what.close_reason, b"text/plain")
            subprotocol = what.subprotocol
            if subprotocol is not None:
                subprotocol = self.field(b"sec-websocket-protocol", subprotocol)
            if reason is what.close_reason and subprotocol is what.subprotocol:
                return what
            return Session(
                what.sent,
                what.received,
                subprotocol,
                what.deflate,
                what.close_code,
                reason,
                what.closed_here,
            )
        body = what.body
        content = self.redact_content(body.content, b"")
        if content is body.content:
            return what
        cut = body.truncated or not content
        new = Body(content, body.size, cut)
        return Message(what.sent, what.text, what.compressed, what.number, new, what.start_ktime_ns)

    def redact_content(self, content: bytes, media_type: bytes) -> bytes:
        """A body whose content coding was removed, without the secrets that can be found."""
        return self._bodies.content(content, media_type)

    def target(self, target: bytes) -> bytes:
        """A request target of any form without user information and secret parameters."""
        try:
            if _AT in target and target[:1] != b"/" and b"//" not in target:
                return redact_authority(target)
            return redact_url(target, self._names)
        except Exception:  # noqa: BLE001 -- whatever failed, the target must not pass
            self.counters.failures += 1
            return REDACTED

    def _redact_request(self, request: Request) -> Request:
        target = request.target
        # The commonest target of all is decided without a call.
        if _EQUALS in target or _AT in target or _PERCENT in target:
            new_target = self.target(target)
        else:
            new_target = target
        fields = self._redact_fields(request.fields)
        trailers = self._redact_fields(request.trailers) if request.trailers else request.trailers
        body = request.body
        if body.content:
            body = self.body(body, request.fields)
        if (
            new_target is target
            and fields is request.fields
            and trailers is request.trailers
            and body is request.body
        ):
            return request
        return Request(
            request.method,
            new_target,
            request.version,
            fields,
            trailers,
            body,
            request.wire_size,
            request.lost_bytes,
            request.complete,
            request.headers_incomplete,
            request.ambiguity,
        )

    def _redact_response(self, response: Response) -> Response:
        fields = self._redact_fields(response.fields)
        trailers = (
            self._redact_fields(response.trailers) if response.trailers else response.trailers
        )
        body = response.body
        if body.content:
            body = self.body(body, response.fields)
        if fields is response.fields and trailers is response.trailers and body is response.body:
            return response
        return Response(
            response.status,
            response.reason,
            response.version,
            fields,
            trailers,
            body,
            response.wire_size,
            response.lost_bytes,
            response.complete,
            response.interim,
            response.headers_incomplete,
            response.ambiguity,
            response.events,
        )

    def _redact_fields(self, fields: tuple[Field, ...]) -> tuple[Field, ...]:
        kept = self._kept
        new: list[Field] | None = None
        for index, (name, value) in enumerate(fields):
            if name in kept:
                continue
            redacted = self.field(name, value)
            if redacted is not value:
                if new is None:
                    new = list(fields)
                new[index] = (name, redacted)
        return fields if new is None else tuple(new)

    def keeps(self, name: bytes) -> bool:
        """Whether fields of this name (lower-case) stay as they are, whatever their value."""
        action = self._actions.get(name)
        return (self._decide(name) if action is None else action) == _KEEP

    def field(self, name: bytes, value: bytes) -> bytes:
        """The value of a field without its secret; the same object if it has none."""
        action = self._actions.get(name)
        if action is None:
            action = self._decide(name)
        if action == _AUTHORITY:
            return value if _AT not in value else redact_authority(value)
        if action == _KEEP or not value or value == REDACTED:
            return value
        if action == _REPLACE:
            return REDACTED
        try:
            new = self._redact_value(action, value)
        except Exception:  # noqa: BLE001 -- whatever failed, the value must not pass
            self.counters.failures += 1
            return REDACTED
        return value if new == value else new

    def _redact_value(self, action: int, value: bytes) -> bytes:
        names = self._names
        if action == _URL:
            return redact_url(value, names)
        if action == _SCHEME:
            scheme, separator, _ = value.partition(b" ")
            return (
                scheme + b" " + REDACTED if separator and scheme.lower() in _SCHEMES else REDACTED
            )
        if action == _LINKS:
            links = _LINK_TARGET.sub(
                lambda link: b"<" + redact_url(link[0][1:-1], names) + b">", value
            )
            around = _LINK_TARGET.sub(b"", links)
            return links if redact_url(around, names) == around else REDACTED
        refresh = _REFRESH_URL.match(value)
        if refresh is None:
            return redact_url(value, names)
        return refresh[1] + redact_url(refresh[2], names)

    def _decide(self, name: bytes) -> int:
        """What happens to fields of this name; remembered for names of ordinary length."""
        names = self._names
        if names.is_kept_header(name):
            action = _KEEP
        elif names.is_authorization(name):
            action = _SCHEME
        elif names.is_secret_header(name):
            action = _REPLACE
        else:
            action = _BY_NAME.get(name.lower(), _KEEP)
        if len(name) <= _MAX_MEMO_NAME:
            if len(self._actions) >= _MAX_MEMO:
                # Names are few; whoever makes up thousands shall not push out the others for good.
                self._actions.clear()
                self._kept.clear()
            self._actions[name] = action
            if action == _KEEP:
                self._kept.add(name)
        return action

    def body(self, body: Body, fields: tuple[Field, ...]) -> Body:
        """A captured body without its secrets, still in its content coding."""
        return self._bodies.body(body, fields)

    def readable(self, body: Body, fields: tuple[Field, ...], limit: int) -> Readable:
        """At most `limit` bytes of a body without its secrets and its content coding."""
        return self._bodies.readable(body, fields, limit)
