"""The OTEL_EXPORTER_OTLP_* variables."""

import subprocess
from pathlib import Path

import pytest

from otel_tap.delivery.otlp_settings import ExporterSettings, OtlpProtocol, OtlpSettings
from otel_tap.errors import ConfigError


def variables(**short: str) -> dict[str, str]:
    return {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in short.items()}


def traces(**short: str) -> ExporterSettings:
    settings = OtlpSettings.from_environment(variables(**short)).traces
    assert settings is not None
    return settings


def logs(**short: str) -> ExporterSettings:
    settings = OtlpSettings.from_environment(variables(**short)).logs
    assert settings is not None
    return settings


def error_of(environ: dict[str, str]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        OtlpSettings.from_environment(environ)
    return caught.value


def test_nothing_set_means_grpc_to_the_local_collector() -> None:
    for settings in (traces(), logs()):
        assert settings.protocol is OtlpProtocol.GRPC
        assert settings.endpoint == "localhost:4317"
        assert not settings.tls
        assert settings.headers == ()
        assert settings.timeout_s == 10
        assert not settings.gzip


def test_http_without_an_endpoint_means_the_local_collector() -> None:
    assert traces(PROTOCOL="http/protobuf").endpoint == "http://localhost:4318/v1/traces"
    assert logs(PROTOCOL="http/protobuf").endpoint == "http://localhost:4318/v1/logs"


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        ("http://c:4317", OtlpProtocol.GRPC),
        ("http://c:4318", OtlpProtocol.HTTP),
        ("https://c:4318/otlp", OtlpProtocol.HTTP),
        ("https://c", OtlpProtocol.GRPC),
    ],
)
def test_the_port_chooses_the_protocol_when_none_is_stated(
    endpoint: str, protocol: OtlpProtocol
) -> None:
    assert traces(ENDPOINT=endpoint).protocol is protocol


def test_a_stated_protocol_stands_against_the_port() -> None:
    assert traces(ENDPOINT="http://c:4318", PROTOCOL="grpc").protocol is OtlpProtocol.GRPC
    assert traces(ENDPOINT="http://c:4317", PROTOCOL="http/protobuf").endpoint == (
        "http://c:4317/v1/traces"
    )


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/logs"),
        ("http://c:4318/", "http://c:4318/v1/logs"),
        ("https://c:4318/otlp", "https://c:4318/otlp/v1/logs"),
        ("https://c:4318/otlp/", "https://c:4318/otlp/v1/logs"),
        ("https://c:4318/otlp?key=1", "https://c:4318/otlp/v1/logs?key=1"),
    ],
)
def test_the_path_of_a_signal_is_added_to_the_general_endpoint(base: str, url: str) -> None:
    assert logs(ENDPOINT=base).endpoint == url


@pytest.mark.parametrize(
    ("own", "url"),
    [
        ("http://c:4318", "http://c:4318/"),
        ("http://c:4318/mine", "http://c:4318/mine"),
        ("http://c:4318/mine/", "http://c:4318/mine/"),
    ],
)
def test_the_endpoint_of_a_signal_is_used_as_it_is(own: str, url: str) -> None:
    assert logs(LOGS_ENDPOINT=own, ENDPOINT="http://other:4318").endpoint == url


def test_a_signal_with_its_own_endpoint_leaves_the_other_the_general_one() -> None:
    settings = OtlpSettings.from_environment(
        variables(TRACES_ENDPOINT="http://t:4317", ENDPOINT="http://g:4318")
    )
    assert settings.traces is not None
    assert settings.logs is not None
    assert (settings.traces.protocol, settings.traces.endpoint) == (OtlpProtocol.GRPC, "t:4317")
    assert settings.logs.endpoint == "http://g:4318/v1/logs"
    assert settings.traces.endpoint_variable == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    assert settings.logs.endpoint_variable == "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("short", "target", "tls"),
    [
        ({"ENDPOINT": "http://c:4317"}, "c:4317", False),
        ({"ENDPOINT": "https://c:4317/"}, "c:4317", True),
        ({"ENDPOINT": "https://c"}, "c:443", True),
        ({"ENDPOINT": "http://c"}, "c:80", False),
        ({"ENDPOINT": "http://[::1]:4317"}, "[::1]:4317", False),
        ({"ENDPOINT": "c:4317"}, "c:4317", True),
        ({"ENDPOINT": "c"}, "c:4317", True),
        ({"ENDPOINT": "c:4317", "INSECURE": "false"}, "c:4317", True),
        ({"ENDPOINT": "c:4317", "INSECURE": "True"}, "c:4317", False),
        ({"ENDPOINT": "c:4317", "TRACES_INSECURE": "true", "INSECURE": "false"}, "c:4317", False),
        ({"ENDPOINT": "https://c:4317", "INSECURE": "true"}, "c:4317", True),
        ({"ENDPOINT": "http://c:4317", "INSECURE": "false"}, "c:4317", False),
        ({"ENDPOINT": "unix:///run/otel.sock"}, "unix:///run/otel.sock", False),
    ],
)
def test_the_scheme_decides_about_tls_and_insecure_where_there_is_none(
    short: dict[str, str], target: str, tls: bool
) -> None:
    settings = traces(**short)
    assert (settings.endpoint, settings.tls) == (target, tls)


def test_the_variable_of_a_signal_comes_first_for_everything() -> None:
    short = {
        "PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf",
        "TIMEOUT": "1000", "TRACES_TIMEOUT": "250",
        "COMPRESSION": "gzip", "TRACES_COMPRESSION": "none",
        "HEADERS": "a=1,b=2", "TRACES_HEADERS": "c=3",
    }  # fmt: skip
    first, second = traces(**short), logs(**short)
    assert (first.protocol, second.protocol) == (OtlpProtocol.HTTP, OtlpProtocol.GRPC)
    assert (first.timeout_s, second.timeout_s) == (0.25, 1)
    assert (first.gzip, second.gzip) == (False, True)
    assert (first.headers, second.headers) == ((("c", "3"),), (("a", "1"), ("b", "2")))


def test_an_empty_variable_counts_as_unset() -> None:
    assert traces(TRACES_TIMEOUT=" ", TIMEOUT="500", ENDPOINT="").timeout_s == 0.5


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("Authorization=Basic%20dXNlcjpwYXNz%3D%3D", (("authorization", "Basic dXNlcjpwYXNz=="),)),
        (" a = 1 , b=x=y ", (("a", "1"), ("b", "x=y"))),
        ("a=1,,b=2,", (("a", "1"), ("b", "2"))),
        ("a=", (("a", ""),)),
        ("a=1%2C2", (("a", "1,2"),)),
    ],
)
def test_headers_are_percent_decoded_pairs(text: str, headers: tuple[object, ...]) -> None:
    assert traces(HEADERS=text).headers == headers


@pytest.mark.parametrize(
    "text", ["hunter2", "a=1,hunter2", "=hunter2", "a b=hunter2", "a=hunter2%0D%0Ab: c",
             "a=hunter2%C3%BC", "x-bin=hunter2", "grpc-x=hunter2"]
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_an_error_that_hides_its_value(text: str) -> None:
    error = error_of(variables(HEADERS=text))
    assert "OTEL_EXPORTER_OTLP_HEADERS" in error.message
    assert "hunter2" not in error.message + error.remedy + repr(error)


def test_values_of_headers_and_queries_are_in_no_representation() -> None:
    settings = OtlpSettings.from_environment(
        variables(HEADERS="x-key=hunter2", ENDPOINT="http://c:4318/p?key=hunter3")
    )
    for text in (repr(settings), str(settings), str(settings.traces)):
        assert "hunter2" not in text
        assert "hunter3" not in text


@pytest.mark.parametrize("signal", ["TRACES", "LOGS"])
def test_a_signal_can_be_turned_off(signal: str) -> None:
    settings = OtlpSettings.from_environment(
        {f"OTEL_{signal}_EXPORTER": "none", f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL": "nonsense"}
    )
    assert (settings.traces is None) == (signal == "TRACES")
    assert (settings.logs is None) == (signal == "LOGS")


def test_otlp_is_the_exporter_that_exists() -> None:
    assert OtlpSettings.from_environment({"OTEL_TRACES_EXPORTER": "otlp"}).traces is not None
    error = error_of({"OTEL_LOGS_EXPORTER": "console"})
    assert "OTEL_LOGS_EXPORTER" in error.message
    assert "none" in error.remedy


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("PROTOCOL", "http/json", "http/protobuf"),
        ("TRACES_PROTOCOL", "HTTP", "grpc"),
        ("TIMEOUT", "10s", "milliseconds"),
        ("TIMEOUT", "0", "milliseconds"),
        ("TIMEOUT", "-1", "milliseconds"),
        ("LOGS_TIMEOUT", "٣", "milliseconds"),
        ("COMPRESSION", "zstd", "gzip"),
        ("INSECURE", "yes", "true"),
        ("ENDPOINT", "ftp://c:21", "http://"),
        ("ENDPOINT", "http://", "http://"),
        ("ENDPOINT", "http://c:99999", "port"),
        ("ENDPOINT", "http://c:x", "port"),
        ("ENDPOINT", "http://[::1", "URL"),
        ("ENDPOINT", "c:4318", "URL"),
        ("ENDPOINT", "https://c:4317/otlp", "http/protobuf"),
        ("TRACES_ENDPOINT", "ftp://c:4318", "URL"),
    ],
)
def test_a_bad_value_is_an_error_that_names_the_variable_and_what_it_accepts(
    name: str, value: str, accepted: str
) -> None:
    error = error_of(variables(**{name: value}))
    assert f"OTEL_EXPORTER_OTLP_{name}" in error.message
    assert accepted in error.remedy


@pytest.mark.parametrize("port", [4317, 4318])
def test_credentials_in_an_endpoint_are_an_error_that_hides_them(port: int) -> None:
    error = error_of(variables(ENDPOINT=f"https://me:hunter2@c:{port}"))
    assert "hunter2" not in error.message + error.remedy
    assert "HEADERS" in error.remedy


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pem")
    for name in ("one", "two"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key",
             "-out", folder / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
    return folder


def test_files_of_tls_are_taken(pem: Path) -> None:
    files = traces(
        ENDPOINT="https://c:4317", CERTIFICATE=f"{pem}/one.pem",
        CLIENT_CERTIFICATE=f"{pem}/two.pem", CLIENT_KEY=f"{pem}/two.key",
    ).tls_files  # fmt: skip
    assert files.certificate == pem / "one.pem"
    assert files.client_certificate == pem / "two.pem"
    assert files.client_key == pem / "two.key"


@pytest.mark.parametrize(
    ("short", "named"),
    [
        ({"CERTIFICATE": "{pem}/absent.pem"}, "CERTIFICATE"),
        ({"CERTIFICATE": "{pem}/one.key"}, "CERTIFICATE"),
        ({"CLIENT_KEY": "{pem}/one.key"}, "CLIENT_CERTIFICATE"),
        ({"CLIENT_CERTIFICATE": "{pem}/one.pem"}, "CLIENT_KEY"),
        ({"CLIENT_CERTIFICATE": "{pem}/one.pem", "CLIENT_KEY": "{pem}/two.key"}, "CLIENT_KEY"),
    ],
)
def test_files_that_tls_cannot_use_are_an_error(
    short: dict[str, str], named: str, pem: Path
) -> None:
    short = {name: value.format(pem=pem) for name, value in short.items()}
    error = error_of(variables(ENDPOINT="https://c:4317", **short))
    assert f"OTEL_EXPORTER_OTLP_{named}" in error.message


def test_files_of_tls_do_not_matter_where_tls_is_not_used() -> None:
    assert not traces(ENDPOINT="http://c:4317", CERTIFICATE="/absent").tls
