"""Settings: every place they come from, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from otel_tap.errors import ConfigError
from otel_tap.filters import NAMES, ExchangeFilter
from otel_tap.settings import Settings, check_settings, load_settings
from otel_tap.settings.document import example, json_schema
from otel_tap.settings.keys import leaves, variable
from otel_tap.settings.model import Selection
from otel_tap.settings.quantities import (
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = Path("otel-tap.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write


def message_of(path, environ=None, flags=None):
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ or {}, flags or {})
    assert caught.value.remedy
    return caught.value.message


def test_nothing_given_means_the_defaults():
    loaded = load_settings(None, {"PATH": "/bin"}, {})
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}
    assert not loaded.settings.bodies.enabled


def test_flags_win_over_environment_over_file_over_default(written):
    path = written("bodies:\n  limit: 1KiB\n  enabled: true\nfilters:\n  comm: [curl, wget]\n")
    environ = {"OTEL_TAP_BODIES__LIMIT": "2KiB", "OTEL_TAP_FILTERS__COMM": "python"}
    loaded = load_settings(path, environ, {"filters.comm": ["node"]})
    assert loaded.settings.bodies.limit == 2048
    assert loaded.settings.filters.comm == ("node",)
    assert loaded.settings.bodies.enabled
    assert loaded.sources["bodies.enabled"] == "otel-tap.yaml:3"
    assert loaded.sources["bodies.limit"] == "env OTEL_TAP_BODIES__LIMIT"
    assert loaded.sources["filters.comm"] == "flag --comm"
    assert loaded.sources["capture.ring_size"] == "default"


def test_a_flag_that_was_not_given_hides_nothing():
    loaded = load_settings(
        None, {"OTEL_TAP_FILTERS__PID": "7, 8"}, {"filters.pid": [], "bodies.enabled": None}
    )
    assert loaded.settings.filters.pid == (7, 8)


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_key(written):
    path = written("bodies:\n  enabled: true\n\n  limt: 4\n")
    assert message_of(path) == (
        'otel-tap.yaml:4: unknown key "bodies.limt"; did you mean "bodies.limit"?'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("body:\n  limit: 4\n", 'otel-tap.yaml:1: unknown key "body"'),
        ("ring_size: 4MiB\n", 'unknown key "ring_size"; did you mean "capture.ring_size"?'),
        ("zebra: 1\n", 'otel-tap.yaml:1: unknown key "zebra"'),
        ("bodies:\n  limit: 64XB\n", 'otel-tap.yaml:2: bodies.limit is "64XB"; accepted: a size'),
        (
            "capture:\n  ring_size: 3MiB\n",
            'otel-tap.yaml:2: capture.ring_size is "3MiB"; accepted: a power of two from 1MiB',
        ),
        ("bodies:\n  enabled: perhaps\n", 'bodies.enabled is "perhaps"; accepted: true or false'),
        (
            "filters:\n  pid:\n    - 1\n    - x\n",
            'otel-tap.yaml:4: filters.pid[1] is "x"; accepted: a whole number',
        ),
        ("filters:\n  pid: [0]\n", "accepted: a whole number from 1"),
        ("filters:\n  status: [6]\n", "accepted: a status such as 404, 5xx or 500-504"),
        ("filters:\n  status: [504-500]\n", "accepted: a status such as 404, 5xx or 500-504"),
        ("filters:\n  exclude:\n    container: web\n", 'exclude.container[0] is "web"; accepted:'),
        ("exchange:\n  idle_timeout: 30\n", 'idle_timeout is "30"; accepted: a duration with its'),
        ("exchange:\n  idle_timeout: 1ms\n", "accepted: from 1s to 24h"),
        ("privacy:\n  patterns: ['(']\n", "accepted: a regular expression"),
        ("telemetry:\n  attributes: [url.colour]\n", "'url.query'"),
        ("telemetry:\n  request_headers: ['a b']\n", "accepted: a header name"),
        ("output: kafka\n", 'output is "kafka"; accepted: otlp, otlp-json:PATH or none'),
        (
            "services:\n  - executable: a\n    nam: b\n",
            "otel-tap.yaml:2: services[0].name is missing",
        ),
        (
            "services:\n  - executable: a\n    name: c\n    nam: b\n",
            'otel-tap.yaml:4: unknown key "services[0].nam"',
        ),
        (
            "services:\n  - name: c\n",
            "otel-tap.yaml:2: services[0] is a mapping; accepted: a rule with executable, comm or",
        ),
        ("services: {a: b}\n", "services is a mapping; accepted: a list"),
        ("bodies: 5\n", "otel-tap.yaml:1: bodies is not a mapping of settings"),
        ("- a\n", "otel-tap.yaml:1: the file holds not a mapping of settings"),
        ("output: none\noutput: otlp\n", 'otel-tap.yaml:2: key "output" stands here again'),
        ("bodies:\n  limit: [\n", "otel-tap.yaml:3: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x00\n", "otel-tap.yaml: not valid YAML"),
        ("a: " + "[" * 5000 + "\n", "otel-tap.yaml"),
    ],
)
def test_what_is_wrong_is_named_with_place_value_and_what_is_accepted(written, text, message):
    assert message in message_of(written(text))


def test_every_problem_of_all_places_is_found_in_one_pass(written):
    path = written("bodies:\n  limt: 4\n  limit: x\n")
    loaded, problems = check_settings(path, {"OTEL_TAP_OUTPUT": "x"}, {})
    assert loaded is None
    assert len(problems) == 3


def test_a_missing_file_is_said():
    assert message_of(Path("/nowhere/otel-tap.yaml")) == "/nowhere/otel-tap.yaml: no such file"


def test_a_directory_is_no_file(tmp_path):
    assert "cannot be read" in message_of(tmp_path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "~\n", "bodies:\nfilters:\n  pid:\n"])
def test_what_is_empty_keeps_its_default(written, text):
    assert load_settings(written(text), {}, {}).settings == Settings()


def test_yaml_does_not_reinterpret_text(written):
    path = written("filters:\n  user: [no, 012]\n  container: [1e10, 012]\n  comm: 0x10\n")
    filters = load_settings(path, {}, {}).settings.filters
    assert filters.user == ("no", "012")
    assert filters.container == ("1e10", "012")
    assert filters.comm == ("0x10",)


def test_an_unknown_variable_is_named_with_the_nearest():
    assert message_of(None, {"OTEL_TAP_BODIES__LIMT": "4"}) == (
        "environment: unknown variable OTEL_TAP_BODIES__LIMT; did you mean OTEL_TAP_BODIES__LIMIT?"
    )


def test_variables_that_kubernetes_makes_for_a_service_of_our_name_are_no_settings():
    environ = {
        "OTEL_TAP_SERVICE_HOST": "10.0.0.1",
        "OTEL_TAP_SERVICE_PORT": "4317",
        "OTEL_TAP_SERVICE_PORT_OTLP": "4317",
        "OTEL_TAP_PORT": "tcp://10.0.0.1:4317",
        "OTEL_TAP_PORT_4317_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings(None, environ, {}).settings == Settings()


def test_an_empty_variable_counts_as_not_set():
    assert load_settings(None, {"OTEL_TAP_BODIES__LIMIT": ""}, {}).settings == Settings()


def test_a_list_in_a_variable_stands_behind_commas_or_in_brackets():
    environ = {
        "OTEL_TAP_PRIVACY__HEADERS": "X-One, x-two",
        "OTEL_TAP_PRIVACY__PATTERNS": '["a{1,2}", b]',
        "OTEL_TAP_SERVICES": "[{executable: /usr/bin/x, name: api}]",
    }
    settings = load_settings(None, environ, {}).settings
    assert settings.privacy.headers == ("x-one", "x-two")
    assert settings.privacy.patterns == ("a{1,2}", "b")
    assert settings.services[0].name == "api"


def test_a_broken_list_in_a_variable_is_an_error():
    assert "OTEL_TAP_PRIVACY__HEADERS: not a list" in message_of(
        None, {"OTEL_TAP_PRIVACY__HEADERS": "[a"}
    )


def test_the_standard_variable_of_known_methods_is_heard_and_our_own_wins():
    standard = {"OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS": "GET,purge"}
    loaded = load_settings(None, standard, {})
    assert loaded.settings.telemetry.known_methods == ("GET", "PURGE")
    own = standard | {"OTEL_TAP_TELEMETRY__KNOWN_METHODS": "GET"}
    assert load_settings(None, own, {}).settings.telemetry.known_methods == ("GET",)


def test_a_control_character_of_a_value_never_reaches_the_message(written):
    assert "\x1b" not in message_of(written('output: "\\x1b[31m"\n'))


def test_settings_cannot_be_changed_once_made():
    with pytest.raises(ValueError, match="frozen"):
        Settings().output = "none"


def test_the_example_loads_as_the_defaults_and_names_every_key(written):
    text = example()
    loaded = load_settings(written(text), {}, {})
    assert loaded.settings == Settings()
    for key in leaves():
        assert f"{key.rpartition('.')[2]}:" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_schema_accepts_the_example_and_refuses_what_the_models_refuse():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(yaml.safe_load(example()))
    assert validator.is_valid({"bodies": {"limit": 5}})
    assert not validator.is_valid({"bodies": {"limt": 5}})
    assert not validator.is_valid({"bodies": {"limit": "5 apples"}})
    assert not validator.is_valid({"services": [{"name": "a"}]})
    assert validator.is_valid({"services": [{"name": "a", "comm": "b"}]})
    assert not validator.is_valid({"exchange": {"idle_timeout": "30"}})


def test_every_key_can_be_set_by_its_variable():
    samples = {
        "bool": "true",
        "capture.ring_size": "1MiB",
        "capture.loader": "bcc",
        "capture.nice": "3",
        "capture.placement": "symbol",
        "bodies.limit": "7B",
        "exchange.idle_timeout": "2s",
        "output": "none",
        "services": "[{executable: a, name: b}]",
        "telemetry.attributes": "url.query",
        "status": "404",
        "pid": "5",
    }
    for key, field in leaves().items():
        kind = "bool" if field.annotation is bool else key.rpartition(".")[2]
        text = samples.get(key) or samples.get(kind) or "abc"
        loaded = load_settings(None, {variable(key): text}, {})
        assert loaded.sources[key] == f"env {variable(key)}", key
        assert loaded.settings != Settings(), key


@given(st.integers(min_value=0, max_value=2**40))
def test_sizes_and_durations_survive_being_written_and_read(amount):
    assert parse_size(format_size(amount)) == amount
    assert parse_duration(format_duration(amount)) == amount


def test_fractions_are_exact_or_refused():
    assert parse_duration("0.1s") == 100_000_000
    assert parse_size("1.5KiB") == 1536
    for refused in ("0.3B", "1e3", "-1", "", "1 KiB extra", "٣B"):
        with pytest.raises(ValueError, match="a size"):
            parse_size(refused)
    with pytest.raises(ValueError, match="a size"):
        parse_size(True)


def test_selections_become_the_conditions_of_the_filter():
    environ = {"OTEL_TAP_FILTERS__PID": "1,2", "OTEL_TAP_FILTERS__EXCLUDE__STATUS": "5XX"}
    filters = load_settings(None, environ, {}).settings.filters
    assert filters.conditions() == {"pid": ("1", "2")}
    assert filters.exclude.conditions() == {"status": ("5xx",)}
    ExchangeFilter(filters.conditions(), filters.exclude.conditions())


def test_every_filter_is_a_setting():
    assert tuple(Selection.model_fields) == NAMES
