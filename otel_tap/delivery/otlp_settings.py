"""Where and how telemetry is sent: the OTEL_EXPORTER_OTLP_* variables, read once.

Owns: their precedence (a signal's own variable before the general one; an empty variable counts
as unset), defaults and checks. Promises: what it returns can be used as it stands, or ConfigError
names the variable and what it accepts. Values of headers are in no repr, message or error. Must
not know: how sending works.

The protocol is grpc unless stated, but http/protobuf where the endpoint's port is 4318.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import SplitResult, unquote, urlsplit

from otel_tap.delivery.tls import TlsFiles
from otel_tap.errors import ConfigError
from otel_tap.telemetry.chunk import Signal

_PREFIX = "OTEL_EXPORTER_OTLP_"
_GRPC_PORT = 4317
_HTTP_PORT = 4318
_MAX_TIMEOUT_MS = 3_600_000
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 5.6.2
_GRPC_KEY = re.compile(r"[a-z0-9_.-]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


class OtlpProtocol(StrEnum):
    """How OTLP is carried."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


@dataclass(frozen=True, slots=True)
class ExporterSettings:
    """How one signal leaves.

    `endpoint` is the whole URL for HTTP and the target (`host:port`, `unix:PATH`) for gRPC; it
    can hold a key in its query, so that only `destination` is shown.
    """

    signal: Signal
    protocol: OtlpProtocol
    endpoint: str = field(repr=False)
    destination: str  # scheme, host and port: what people are shown
    tls: bool
    headers: tuple[tuple[str, str], ...] = field(repr=False)  # names in lower case
    timeout_s: float  # for one attempt
    gzip: bool
    tls_files: TlsFiles
    endpoint_variable: str  # the variable that set the endpoint, or would set it


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """How each signal leaves; None: this signal is turned off. Metrics are the agent's own."""

    traces: ExporterSettings | None
    logs: ExporterSettings | None
    metrics: ExporterSettings | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; raises ConfigError."""
        return cls(*(_exporter(environ, signal) for signal in Signal))


class _Value(NamedTuple):
    """A value and the variable it came from; `text` is "" where none is set."""

    variable: str
    text: str
    own: bool  # from the signal's own variable


def _exporter(environ: Mapping[str, str], signal: Signal) -> ExporterSettings | None:
    if not _is_wanted(environ, signal):
        return None

    def read(name: str) -> _Value:
        own = f"{_PREFIX}{signal.upper()}_{name}"
        for variable in (own, _PREFIX + name):
            text = environ.get(variable, "").strip()
            if text:
                return _Value(variable, text, variable == own)
        return _Value(_PREFIX + name, "", own=False)

    given = read("ENDPOINT")
    protocol = _protocol(read("PROTOCOL"), given)
    insecure = _is_insecure(read("INSECURE"))
    headers = _headers(read("HEADERS"), protocol)
    if protocol is OtlpProtocol.HTTP:
        endpoint, destination, tls = _http_endpoint(given, signal)
    else:
        endpoint, destination, tls = _grpc_endpoint(given, insecure=insecure)
    return ExporterSettings(
        signal=signal,
        protocol=protocol,
        endpoint=endpoint,
        destination=destination,
        tls=tls,
        headers=headers,
        timeout_s=_timeout_s(read("TIMEOUT")),
        gzip=_is_gzip(read("COMPRESSION")),
        tls_files=_tls_files(
            read("CERTIFICATE"), read("CLIENT_CERTIFICATE"), read("CLIENT_KEY"), tls=tls
        ),
        endpoint_variable=given.variable,
    )


def _is_wanted(environ: Mapping[str, str], signal: Signal) -> bool:
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    text = environ.get(variable, "").strip()
    if text not in ("", "otlp", "none"):
        raise ConfigError(
            f"{variable}={text!r} is not supported", remedy="set it to otlp (the default) or none"
        )
    return text != "none"


def _protocol(given: _Value, endpoint: _Value) -> OtlpProtocol:
    if not given.text:
        text = endpoint.text if "://" in endpoint.text else f"//{endpoint.text}"
        port = _port(_split(text, endpoint.variable), endpoint.variable)
        return OtlpProtocol.HTTP if port == _HTTP_PORT else OtlpProtocol.GRPC
    try:
        return OtlpProtocol(given.text.lower())
    except ValueError:
        raise _wrong(given, "set it to grpc or http/protobuf") from None


def _is_insecure(given: _Value) -> bool:
    text = given.text.lower()
    if text not in ("", "true", "false"):
        raise _wrong(given, "set it to true or false")
    return text == "true"


def _is_gzip(given: _Value) -> bool:
    text = given.text.lower()
    if text not in ("", "gzip", "none"):
        raise _wrong(given, "set it to gzip or none")
    return text == "gzip"


def _timeout_s(given: _Value) -> float:
    text = given.text or "10000"
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= _MAX_TIMEOUT_MS:
        raise _wrong(given, f"set it to whole milliseconds, 1 to {_MAX_TIMEOUT_MS}")
    return int(text) / 1000


def _headers(given: _Value, protocol: OtlpProtocol) -> tuple[tuple[str, str], ...]:
    """`name=value,name=value`, values percent-encoded; errors never show a value."""
    headers: dict[str, str] = {}
    for number, item in enumerate(given.text.split(","), 1):
        if not item.strip():
            continue
        name, equals, value = item.partition("=")
        name = unquote(name.strip()).lower()
        value = unquote(value.strip())
        if not equals or not _TOKEN.fullmatch(name):
            raise ConfigError(
                f"entry {number} of {given.variable} is not a header",
                remedy="write name=value,name=value, with values percent-encoded",
            )
        if not _PRINTABLE.fullmatch(value):
            raise ConfigError(
                f"the value of {name} in {given.variable} cannot be sent",
                remedy="use printable ASCII characters; encode commas as %2C",
            )
        if protocol is OtlpProtocol.GRPC and (
            not _GRPC_KEY.fullmatch(name) or name.endswith("-bin") or name.startswith("grpc-")
        ):
            raise ConfigError(
                f"{name} in {given.variable} cannot be sent by gRPC",
                remedy="use letters, digits, '-', '_' and '.', no grpc- before and no -bin behind",
            )
        headers[name] = value
    return tuple(headers.items())


def _http_endpoint(given: _Value, signal: Signal) -> tuple[str, str, bool]:
    """(URL, destination, TLS). The signal's path is added to the general endpoint only."""
    parts = _split(given.text or f"http://localhost:{_HTTP_PORT}", given.variable)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{given.variable} is not an endpoint for http/protobuf",
            remedy=f"write a URL, such as http://localhost:{_HTTP_PORT}",
        )
    _port(parts, given.variable)
    _refuse_userinfo(parts, given.variable)
    path = parts.path or "/"
    if not given.own:
        path = f"{parts.path.rstrip('/')}/v1/{signal.value}"
    url = parts._replace(path=path, fragment="").geturl()
    return url, f"{parts.scheme}://{parts.netloc}", parts.scheme == "https"


def _grpc_endpoint(given: _Value, *, insecure: bool) -> tuple[str, str, bool]:
    """(target, destination, TLS)."""
    text = given.text or f"http://localhost:{_GRPC_PORT}"
    if text.startswith("unix:"):
        return text, text, False
    has_scheme = "://" in text
    parts = _split(text if has_scheme else f"//{text}", given.variable)
    if parts.scheme not in ("http", "https", "") or not parts.hostname:
        raise ConfigError(
            f"{given.variable} is not an endpoint for gRPC",
            remedy=f"write http://, https:// or nothing before host:port ({_GRPC_PORT})",
        )
    _refuse_userinfo(parts, given.variable)
    if parts.path.strip("/") or parts.query:
        raise ConfigError(
            f"{given.variable} has a path, which gRPC endpoints have not",
            remedy=f"remove it, or set {_PREFIX}PROTOCOL=http/protobuf if it serves OTLP/HTTP",
        )
    tls = parts.scheme == "https" or (not has_scheme and not insecure)
    # A URL without a port means its scheme's; gRPC by itself would take 443 for both.
    usual = {"http": 80, "https": 443, "": _GRPC_PORT}[parts.scheme]
    port = _port(parts, given.variable) or usual
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}", f"{'https' if tls else 'http'}://{host}:{port}", tls


def _split(text: str, variable: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError as error:
        raise ConfigError(
            f"{variable} is not an endpoint: {error}", remedy="write a URL, or host:port"
        ) from None


def _port(parts: SplitResult, variable: str) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise ConfigError(
            f"{variable} has no valid port", remedy="write a port from 1 to 65535 behind the host"
        ) from None


def _refuse_userinfo(parts: SplitResult, variable: str) -> None:
    if "@" in parts.netloc:
        raise ConfigError(
            f"{variable} holds a user name or password",
            remedy=f"send it as a header: {_PREFIX}HEADERS=authorization=Basic%20...",
        )


def _tls_files(
    certificate: _Value, client_certificate: _Value, client_key: _Value, *, tls: bool
) -> TlsFiles:
    """Checked only where TLS is used; what the general variables say may be for others."""
    if not tls:
        return TlsFiles()
    if bool(client_certificate.text) != bool(client_key.text):
        present, absent = client_certificate, client_key
        if client_key.text:
            present, absent = absent, present
        raise ConfigError(
            f"{present.variable} is set, but {absent.variable} is not", remedy="set both or none"
        )
    files = TlsFiles(
        *(Path(value.text) if value.text else None
          for value in (certificate, client_certificate, client_key))
    )  # fmt: skip
    files.check(certificate.variable, client_certificate.variable, client_key.variable)
    return files


def _wrong(given: _Value, remedy: str) -> ConfigError:
    return ConfigError(f"{given.variable}={given.text!r} is not accepted", remedy=remedy)
