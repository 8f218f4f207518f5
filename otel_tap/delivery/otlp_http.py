"""OTLP over HTTP with protobuf bodies: one attempt to hand over one chunk.

Owns: the connection, and what HTTP statuses mean to OTLP. Promises: every answer becomes one
outcome; a redirect is never followed; no more than a bounded piece of an answer is read. Must not
know: queues, other signals, when to retry.

urllib3 and not requests: requests takes credentials out of ~/.netrc in place of the configured
header.
"""

from __future__ import annotations

import gzip
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from otel_tap._version import __version__
from otel_tap.delivery.otlp_response import accepted
from otel_tap.delivery.otlp_settings import ExporterSettings
from otel_tap.delivery.outcome import Outcome, Refused, RetryLater, TooLarge, shown
from otel_tap.telemetry.chunk import Chunk

_PROTOBUF = "application/x-protobuf"
_RETRYABLE = frozenset({429, 502, 503, 504})
_TOO_LARGE = 413
_ANSWER_BYTES = 65_536
_GZIP_LEVEL = 6  # of 9: what gzip itself takes; 9 costs twice the time for 1 % of the bytes


class OtlpHttpSender:
    """Sends chunks of one signal to one URL, over one connection that is kept open."""

    def __init__(self, settings: ExporterSettings) -> None:
        self._settings = settings
        self._pool = _open(settings)
        headers = {"user-agent": f"otel-tap/{__version__}"}
        headers |= dict(settings.headers)
        headers |= {"content-type": _PROTOBUF}
        if settings.gzip:
            headers["content-encoding"] = "gzip"
        self._headers = headers

    def send(self, chunk: Chunk, at_most_s: float) -> Outcome:
        """One request; no wait in it is longer than the limit."""
        limit_s = min(self._settings.timeout_s, at_most_s)
        deadline = time.monotonic() + limit_s
        body = chunk.payload
        if self._settings.gzip:
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        try:
            response = self._pool.request(
                "POST",
                self._settings.endpoint,
                body=body,
                headers=self._headers,
                timeout=urllib3.Timeout(total=limit_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            return RetryLater(_cause(error))
        try:
            answer = _read(response, deadline)
        finally:
            response.release_conn()
        return self._outcome(chunk, response, answer)

    def close(self) -> None:
        """Close the connection, if none is in use."""
        self._pool.clear()

    def _outcome(self, chunk: Chunk, response: urllib3.BaseHTTPResponse, answer: bytes) -> Outcome:
        status = response.status
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if 200 <= status < 300:
            if content_type == "text/html":
                return Refused(
                    "a web page answered, not an OTLP endpoint",
                    f"check {self._settings.endpoint_variable}",
                )
            is_otlp = content_type in ("", _PROTOBUF)
            return accepted(chunk.signal, answer if is_otlp else b"", self._settings.headers)
        reason = _reason(status)
        message = shown(_message(content_type, answer), self._settings.headers)
        if message:
            reason = f"{reason}: {message}"
        if status in _RETRYABLE:
            return RetryLater(reason, _retry_after_s(response.headers.get("retry-after", "")))
        if status == _TOO_LARGE:
            return TooLarge(reason)
        return Refused(reason, self._remedy(status))

    def _remedy(self, status: int) -> str:
        signal = self._settings.signal
        if 300 <= status < 400:
            return f"redirects are not followed; set {self._settings.endpoint_variable} to the end"
        if status in (401, 403, 407):
            return "check OTEL_EXPORTER_OTLP_HEADERS"
        if status in (404, 405):
            return (
                f"check the path of {self._settings.endpoint_variable}, or set "
                f"OTEL_{signal.upper()}_EXPORTER=none if it does not take {signal}"
            )
        return ""


def _open(settings: ExporterSettings) -> urllib3.PoolManager:
    """One connection, through the proxy that the environment names, if any."""
    context = settings.tls_files.context() if settings.tls else None
    parts = urlsplit(settings.endpoint)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, num_pools=1, maxsize=1, ssl_context=context)
    return urllib3.PoolManager(num_pools=1, maxsize=1, ssl_context=context)


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """The beginning of the answer.

    The status alone decides what became of the chunk, so an answer that breaks off is one that
    says less, not a failure: sending again would store the records twice.
    """
    answer = b""
    try:
        while len(answer) < _ANSWER_BYTES and time.monotonic() < deadline:
            piece = response.read1(_ANSWER_BYTES)
            if not piece:
                return answer
            answer += piece
    except (urllib3.exceptions.HTTPError, OSError):
        answer = b""
    response.close()  # not read to its end: the connection cannot be used again
    return answer


def _reason(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _message(content_type: str, answer: bytes) -> str:
    """What the answer to a failed request says, if it is meant for people."""
    if content_type == _PROTOBUF:
        try:
            message: str = Status.FromString(answer).message
        except DecodeError:
            return ""
        return message
    if content_type in ("text/plain", "application/json"):
        return answer.decode("utf-8", "replace")
    return ""


def _retry_after_s(value: str) -> float | None:
    """Retry-After (RFC 9110 10.2.3): seconds, or a date."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        # The clock of this host may differ from the server's; the courier bounds the wait.
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _cause(error: urllib3.exceptions.HTTPError) -> str:
    """Why no answer came, without urllib3's names of objects in memory."""
    cause: object = error
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # a ConnectTimeoutError to urllib3
        cause = error.__cause__ or error
    elif isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return "no connection within the time limit"
    elif isinstance(error, urllib3.exceptions.TimeoutError):
        return "no answer within the time limit"
    elif isinstance(error, urllib3.exceptions.ProtocolError) and len(error.args) > 1:
        cause = error.args[1]
    return shown(getattr(cause, "strerror", None) or str(cause)) or type(cause).__name__
