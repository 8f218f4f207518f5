"""The Collector configurations, dashboards and examples: sound, closed, and true to what is sent.

The last part matters most: a name in a query, a dimension or a label list that the agent never
sends is an empty panel. Names are taken out of the queries by the rules of their languages and
held against real exchanges that went through the real encoder.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_tap.errors import ConfigError, HostError, RightsError
from otel_tap.events import Address, PeerEvidence, TlsLibrary
from otel_tap.exchange import Connection, Exchange, Position, Role
from otel_tap.messages import EMPTY_BODY, Request, Response
from otel_tap.origin import Host, Origin
from otel_tap.settings import load_settings
from otel_tap.settings.keys import flag
from otel_tap.telemetry import (
    Batcher,
    Chunk,
    Identities,
    RecordEncoder,
    Signal,
    TelemetrySettings,
    names,
)

ROOT = Path(__file__).parents[2]
COLLECTOR = ROOT / "collector-config"
PROVISIONING = ROOT / "dashboards" / "provisioning"
QUICKSTART = ROOT / "examples" / "quickstart"
UNIT = ROOT / "examples" / "systemd" / "otel-tap.service"
FOLDERS = (COLLECTOR, ROOT / "dashboards", ROOT / "examples")
DOCUMENTS = sorted(p for f in FOLDERS for p in f.rglob("*") if p.suffix in {".yaml", ".json"})
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
COMPOSE_FILES = sorted(QUICKSTART.glob("compose.*.yaml"))
OVERLAYS = sorted(p.name for p in COLLECTOR.glob("*.yaml") if p.name != "base.yaml")
COMBINATIONS = [
    combination
    for count in range(len(OVERLAYS) + 1)
    for combination in itertools.permutations(OVERLAYS, count)
]

# Types of Collector 0.159 that are used, by their names and not their deprecated aliases.
COMPONENT_TYPES = {
    "receivers": {"otlp"},
    "processors": {"memory_limiter", "batch", "transform"},
    "exporters": {"debug", "otlp_grpc", "otlp_http"},
    "connectors": {"span_metrics"},
}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


class StrictLoader(yaml.SafeLoader):
    """YAML as Go's parsers read it: a key that stands twice is an error."""


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key stands twice at {node.start_mark}"
    return loader.construct_mapping(node, deep=True)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else yaml.load(text, StrictLoader)


def merged(names: tuple[str, ...]) -> dict[str, Any]:
    """One configuration of several, as the Collector merges its `--config` flags."""

    def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        joined = dict(below)
        for key, value in above.items():
            old = joined.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                joined[key] = merge(old, value)
            else:
                joined[key] = value
        return joined

    configuration: dict[str, Any] = {}
    for name in names:
        configuration = merge(configuration, read(COLLECTOR / name))
    return configuration


def strings(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [s for value in tree.values() for s in strings(value)]
    if isinstance(tree, list):
        return [s for value in tree for s in strings(value)]
    return [tree] if isinstance(tree, str) else []


@pytest.mark.parametrize("path", DOCUMENTS, ids=short)
def test_every_document_is_well_formed(path):
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("overlays", COMBINATIONS, ids="+".join)
def test_nothing_dangles_in_any_combination_of_collector_files(overlays):
    configuration = merged(("base.yaml", *overlays))
    assert set(configuration) <= {*COMPONENT_TYPES, "service"}
    declared = {kind: set(configuration.get(kind, {})) for kind in COMPONENT_TYPES}
    for kind, types in COMPONENT_TYPES.items():
        assert {name.partition("/")[0] for name in declared[kind]} <= types
    inputs = declared["receivers"] | declared["connectors"]
    outputs = declared["exporters"] | declared["connectors"]
    used: dict[str, set[str]] = {"inputs": set(), "processors": set(), "outputs": set()}
    for pipeline in configuration["service"]["pipelines"].values():
        used["inputs"] |= set(pipeline["receivers"])
        used["processors"] |= set(pipeline["processors"])
        used["outputs"] |= set(pipeline["exporters"])
        assert pipeline["processors"][0] == "memory_limiter"
    # Equality: a component that no pipeline names is as wrong as a name without a component.
    assert used == {"inputs": inputs, "processors": declared["processors"], "outputs": outputs}


@pytest.mark.parametrize("overlays", COMBINATIONS, ids="+".join)
def test_no_overlay_takes_a_pipeline_away_from_another_file(overlays):
    pipelines = merged(("base.yaml", *overlays))["service"]["pipelines"]
    for name in ("base.yaml", *overlays):
        for pipeline, parts in read(COLLECTOR / name)["service"]["pipelines"].items():
            assert pipelines[pipeline] == parts


def test_connectors_join_pipelines_of_the_signals_they_translate():
    pipelines = merged(("base.yaml", "grafana.yaml"))["service"]["pipelines"]
    read_by = [n for n, p in pipelines.items() if "span_metrics" in p["exporters"]]
    fed = [n for n, p in pipelines.items() if "span_metrics" in p["receivers"]]
    assert [name.partition("/")[0] for name in (*read_by, *fed)] == ["traces", "metrics"]


def test_the_collector_listens_on_loopback_unless_told_otherwise():
    protocols = read(COLLECTOR / "base.yaml")["receivers"]["otlp"]["protocols"]
    hosts = [settings["endpoint"].rpartition(":")[0] for settings in protocols.values()]
    assert hosts == ["${env:COLLECTOR_LISTEN_HOST:-127.0.0.1}"] * 2


# What leaves the agent.


def exchange_at(role: Role, status: int) -> Exchange:
    local, peer = Address("192.0.2.1", 40000), Address("192.0.2.2", 8443)
    connection = Connection(1, 7, TlsLibrary.OPENSSL, PeerEvidence.SOCKET, local, peer, 5, 6, True)
    fields = ((b"host", b"shop.example"), (b"user-agent", b"probe/1"))
    body = EMPTY_BODY
    request = Request(b"GET", b"/cart?item=1", "1.1", fields, (), body, 80, 0, True)
    response = Response(status, b"", "1.1", (), (), body, 40, 0, True)
    position = Position("tls", 0)
    return Exchange(role, connection, 8, request, response, 1, 2, 3, 4, 5, False, position, None)


ORIGIN = Origin(
    pid=7,
    start_boottime_ns=1,
    start_unix_ns=1_700_000_000_000_000_000,
    parent_pid=1,
    executable_name="shop",
    executable_path="/usr/bin/shop",
    command="shop",
    command_line=None,
    user="www-data",
    container=None,
    service_name="shop",
    service_attributes=(),
    host=Host("web-1", "0" * 32, "boot", "amd64", "linux", "6.1.0"),
)


@pytest.fixture(scope="module")
def sent():
    """Names in what the encoder makes of a failed exchange at either end, all settings default."""
    chunks: list[Chunk] = []
    encoder = RecordEncoder(TelemetrySettings(), Identities("boot"), 0)
    batcher = Batcher(encoder, chunks.append)
    for role in Role:
        batcher.add(exchange_at(role, 503), ORIGIN)
    batcher.flush()
    payloads = {chunk.signal: chunk.payload for chunk in chunks}
    traces = ExportTraceServiceRequest.FromString(payloads[Signal.TRACES])
    logs = ExportLogsServiceRequest.FromString(payloads[Signal.LOGS])
    [of_spans] = traces.resource_spans
    [of_logs] = logs.resource_logs
    assert of_spans.resource == of_logs.resource
    [spans], [records] = of_spans.scope_spans, of_logs.scope_logs
    assert spans.scope.name == records.scope.name

    def keys(carriers):
        return {attribute.key for carrier in carriers for attribute in carrier.attributes}

    found = {
        "span": keys(spans.spans),
        "log": keys(records.log_records),
        "resource": keys([of_spans.resource]),
        "scope": spans.scope.name,
    }
    # The published lists are what other tools go by; they may not say less than what is sent.
    assert found["span"] <= names.SPAN_ATTRIBUTES
    assert found["log"] <= names.LOG_ATTRIBUTES
    assert found["resource"] <= names.RESOURCE_ATTRIBUTES
    return found


# Of the connector itself, and the two that Prometheus makes of service.name and the buckets.
SPAN_METRIC_DIMENSIONS = {"service.name", "span.name", "span.kind", "status.code"}
SPAN_METRIC_LABELS = {"job", "le", "otel_metric_overflow"}
# Loki keeps these of every OTLP record beside its attributes.
LOKI_METADATA = {"trace_id", "span_id", "scope_name", "scope_version", "severity_text"}


def normalised(attribute: str) -> str:
    """The name of an attribute as a label of Prometheus or Loki."""
    return re.sub(r"[^0-9A-Za-z_]", "_", attribute)


def span_metrics() -> dict[str, Any]:
    settings: dict[str, Any] = read(COLLECTOR / "grafana.yaml")["connectors"]["span_metrics"]
    return settings


def span_metric_dimensions() -> list[str]:
    return [dimension["name"] for dimension in span_metrics()["dimensions"]]


def span_metric_names() -> set[str]:
    """Prometheus' names of the connector's two metrics.

    The connector calls them `calls` and `duration` behind its namespace (connector.go, metric
    names since 0.109). Prometheus puts underscores for dots, the unit behind a histogram's name
    and `_total` behind a counter's (UnderscoreEscapingWithSuffixes, its default for OTLP).
    """
    settings = span_metrics()
    namespace = normalised(settings["namespace"])
    unit = {"ms": "milliseconds", "s": "seconds"}[settings["histogram"]["unit"]]
    parts = {f"{namespace}_duration_{unit}_{part}" for part in ("bucket", "sum", "count")}
    return {f"{namespace}_calls_total"} | parts


# Names in queries.

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_IDENTIFIER = r"[A-Za-z_:][A-Za-z0-9_:]*"
_PROMQL_KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "offset", "bool"}


def promql_names(query: str) -> tuple[set[str], set[str]]:
    """(metric names, label names) of a PromQL query or of a `label_values()` of Grafana's."""
    rest = _STRING.sub('""', query)
    labels: set[str] = set()
    variable = re.fullmatch(r"label_values\((.*),\s*(\w+)\)", rest)
    if variable is not None:
        rest, label = variable.groups()
        labels.add(label)
    for matchers in re.findall(r"\{([^}]*)\}", rest):
        labels |= set(re.findall(rf"({_IDENTIFIER})\s*(?:=~|!~|!=|=)", matchers))
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", rest)
    for grouping in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", rest):
        labels |= set(re.findall(_IDENTIFIER, grouping))
    rest = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", rest)
    names = {m[1] for m in re.finditer(rf"\b({_IDENTIFIER})\b(?!\s*\()", rest)}
    return names - _PROMQL_KEYWORDS, labels


def logql_names(query: str) -> tuple[set[str], set[str]]:
    """(stream labels, names of structured metadata) of a LogQL log query."""
    rest = _STRING.sub('""', query)
    selector, _, stages = rest.partition("}")
    matcher = rf"({_IDENTIFIER})\s*(?:=~|!~|!=|=|>=|<=|>|<)"
    return set(re.findall(matcher, selector)), set(re.findall(matcher, stages))


def traceql_names(query: str) -> tuple[set[str], set[str]]:
    """(span attributes, resource attributes) of a TraceQL query; intrinsic fields have no dot."""
    rest = _STRING.sub('""', query)
    found = re.findall(r"(?<![\w.])(\w*)\.([A-Za-z][\w.-]*)", re.sub(r"\$\{?\w+", "", rest))
    assert {scope for scope, _ in found} <= {"span", "resource"}, "an attribute without its scope"
    spans = {name for scope, name in found if scope == "span"}
    return spans, {name for scope, name in found if scope == "resource"}


def test_names_are_found_in_queries_of_each_language():
    promql = 'topk(3, sum by (a, b) (rate(m_total{c=~"x{y}=", d!="z"}[5m]))) / on (e) n offset 1m'
    assert promql_names(promql) == ({"m_total", "n"}, {"a", "b", "c", "d", "e"})
    assert promql_names('label_values(m{a="b"}, c)') == ({"m"}, {"a", "c"})
    assert logql_names('{a=~"x|y"} | b="}" | c>=400 |= "d=e"') == ({"a"}, {"b", "c"})
    assert traceql_names('{ span.a.b = "span.x" && resource.c-d =~ "y" && kind = server }') == (
        {"a.b"},
        {"c-d"},
    )


def dashboard_queries(language: str) -> list[str]:
    """Every query that the dashboards send to data sources of one type."""
    found = []
    for path in DASHBOARDS:
        dashboard = read(path)
        askers = [*dashboard["templating"]["list"]]
        for panel in dashboard["panels"]:
            askers += panel["targets"]
        for asker in askers:
            source = asker.get("datasource")
            if source is not None and source["type"] == language:
                query = asker.get("expr", asker.get("query"))
                found.append(query["query"] if isinstance(query, dict) else query)
    return found


def datasources() -> dict[str, dict[str, Any]]:
    path = PROVISIONING / "datasources" / "otel-tap.yaml"
    return {source["type"]: source for source in read(path)["datasources"]}


def test_dashboards_ask_prometheus_only_for_metrics_and_labels_that_are_made():
    tempo = datasources()["tempo"]["jsonData"]
    linked = [
        query["query"].replace("$$__tags", "") for query in tempo["tracesToMetrics"]["queries"]
    ]
    dimensions = SPAN_METRIC_DIMENSIONS | set(span_metric_dimensions())
    made = SPAN_METRIC_LABELS | {normalised(name) for name in dimensions}
    for query in dashboard_queries("prometheus") + linked:
        metrics, labels = promql_names(query)
        assert metrics
        assert metrics <= span_metric_names()
        assert labels <= made, query


def test_legends_and_columns_show_labels_that_their_query_keeps():
    for path in DASHBOARDS:
        for panel in read(path)["panels"]:
            kept = set()
            for target in panel["targets"]:
                query = target.get("expr", "")
                for grouping in re.findall(r"\bby \(([^)]*)\)", query):
                    kept |= set(grouping.split(", "))
                shown = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
                assert shown <= kept, panel["title"]
            for change in panel.get("transformations", []):
                renamed = change["options"].get("renameByName", {})
                assert set(renamed) <= kept | {"Value"}, panel["title"]
                for label, title in renamed.items():
                    assert label == "Value" or normalised(title) == label


def test_dashboards_ask_tempo_only_for_attributes_that_are_sent(sent):
    queries = dashboard_queries("tempo")
    assert queries
    for query in queries:
        spans, resources = traceql_names(query)
        assert spans <= sent["span"]
        assert resources <= sent["resource"]
        assert f'instrumentation:name = "{sent["scope"]}"' in query


def test_dashboards_ask_loki_only_for_labels_and_metadata_that_it_keeps(sent):
    streams = {normalised(name) for name in loki_labels()}
    metadata = LOKI_METADATA | {normalised(name) for name in sent["log"] | sent["resource"]}
    queries = dashboard_queries("loki")
    assert queries
    for query in queries:
        selectors, filtered = logql_names(query)
        assert selectors
        assert selectors <= streams
        assert filtered <= metadata - streams
        assert f'scope_name="{sent["scope"]}"' in query


def loki_labels() -> list[str]:
    limits = read(QUICKSTART / "loki.yaml")["limits_config"]
    rules = limits["otlp_config"]["resource_attributes"]
    assert rules["ignore_defaults"], "Loki's defaults make a stream per process life"
    labels = [n for rule in rules["attributes_config"] for n in rule["attributes"]]
    assert {rule["action"] for rule in rules["attributes_config"]} == {"index_label"}
    return labels


def test_labels_are_made_only_of_attributes_that_are_sent(sent):
    assert set(span_metric_dimensions()) <= sent["span"] | sent["resource"]
    assert not set(span_metric_dimensions()) & SPAN_METRIC_DIMENSIONS  # the connector refuses
    prometheus = read(QUICKSTART / "prometheus.yaml")["otlp"]["promote_resource_attributes"]
    transform = read(COLLECTOR / "grafana.yaml")["processors"]["transform/service_only"]
    [statement] = transform["metric_statements"]
    stripped = re.fullmatch(r"keep_keys\(resource\.attributes, (\[.*\])\)", statement)
    assert stripped is not None
    kept = json.loads(stripped[1])
    assert kept == span_metrics()["resource_metrics_key_attributes"]
    for labels in (loki_labels(), prometheus, kept):
        assert labels
        assert set(labels) <= sent["resource"]


def test_no_label_has_a_value_per_process_life_or_per_request():
    labels = {*loki_labels(), *span_metric_dimensions()}
    unbounded = r"url\.|client\.|network\.peer|user_agent|process\.pid|instance|container\.id|time"
    assert [name for name in labels if re.match(unbounded, name)] == []
    assert 0 < span_metrics()["aggregation_cardinality_limit"] <= 10_000


def test_data_sources_link_traces_and_log_records_both_ways(sent):
    tempo, loki = datasources()["tempo"], datasources()["loki"]
    prometheus = datasources()["prometheus"]
    to_logs = tempo["jsonData"]["tracesToLogsV2"]
    assert to_logs["datasourceUid"] == loki["uid"]
    assert tempo["jsonData"]["tracesToMetrics"]["datasourceUid"] == prometheus["uid"]
    for link in (to_logs, tempo["jsonData"]["tracesToMetrics"]):
        for tag in link["tags"]:
            assert tag["key"] in sent["resource"]
            assert tag["value"] == normalised(tag["key"])
    to_record = re.sub(r"\$\$\{[^}]*\}", "", to_logs["query"])
    assert logql_names(to_record) == (set(), {"trace_id", "span_id"})
    [derived] = loki["jsonData"]["derivedFields"]
    assert derived["datasourceUid"] == tempo["uid"]
    assert derived["matcherType"] == "label"
    assert derived["matcherRegex"] in LOKI_METADATA
    [exemplar] = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert exemplar["datasourceUid"] == tempo["uid"]


# Grafana's own, known everywhere.
BUILT_IN = {"__rate_interval", "__range", "__all"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=short)
def test_panels_have_ids_of_their_own_and_do_not_overlap(path):
    panels = read(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 0
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        x, y, width, height = (panel["gridPos"][side] for side in "xywh")
        assert 0 <= x < x + width <= 24
        cells = set(itertools.product(range(x, x + width), range(y, y + height)))
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=short)
def test_panels_use_only_data_sources_and_variables_that_the_dashboard_declares(path):
    dashboard = read(path)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    sources = {
        "${" + name + "}": variable["query"]
        for name, variable in variables.items()
        if variable["type"] == "datasource"
    }
    assert set(sources.values()) == set(datasources())
    askers = [variable for variable in variables.values() if "datasource" in variable]
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        askers += [panel, *panel["targets"]]
    for asker in askers:
        assert sources[asker["datasource"]["uid"]] == asker["datasource"]["type"]
        for text in strings(asker):
            names = set(re.findall(r"\$\{?(\w+)", text))
            assert names <= set(variables) | BUILT_IN, text


def test_the_compose_file_serves_what_the_provisioning_points_to():
    services = read(QUICKSTART / "compose.grafana.yaml")["services"]
    for source in datasources().values():
        assert source["url"].removeprefix("http://").partition(":")[0] in services
    [provider] = read(PROVISIONING / "dashboards" / "otel-tap.yaml")["providers"]
    targets = [mount.split(":")[1] for mount in services["grafana"]["volumes"]]
    assert [Path(t).name for t in targets if t.startswith(provider["options"]["path"] + "/")] == [
        path.name for path in DASHBOARDS
    ]
    assert (
        services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in targets
    )


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=short)
def test_compose_files_mount_what_exists_and_publish_on_loopback_only(path):
    document = read(path)
    published = []
    for service in document["services"].values():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), "pinned"
        assert "network_mode" not in service
        published += service.get("ports", [])
        assert set(service.get("depends_on", [])) <= set(document["services"])
        for mount in service.get("volumes", []):
            source, _, target = mount.partition(":")
            if source.startswith("."):
                assert (path.parent / source).exists(), mount
                assert target.endswith(":ro")
            else:
                assert source in document["volumes"]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []
    assert len({port.split(":")[1] for port in published}) == len(published)


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=short)
def test_the_collector_in_a_compose_file_gets_the_files_and_variables_it_needs(path):
    services = read(path)["services"]
    collector = services["collector"]
    [mount] = collector["volumes"]
    source, target, _ = mount.split(":")
    assert (path.parent / source).resolve() == COLLECTOR
    assert all(argument.startswith(f"--config={target}/") for argument in collector["command"])
    files = tuple(Path(argument.partition("=")[2]).name for argument in collector["command"])
    assert files[0] == "base.yaml"
    text = "\n".join(strings(merged(files)))
    needed = set(re.findall(r"\$\{env:(\w+)\}", text))
    optional = set(re.findall(r"\$\{env:(\w+):-[^}]*\}", text))
    given = set(collector["environment"])
    assert needed <= given <= needed | optional
    assert all(isinstance(value, str) for value in collector["environment"].values())
    for name in needed:
        endpoint = collector["environment"][name].removeprefix("http://")
        assert endpoint.partition(":")[0] in services, name


def test_the_quickstart_excludes_by_flags_and_names_that_can_match():
    text = (QUICKSTART / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"(--exclude-[a-z]+) (\S+)", text)
    assert {option for option, _ in named} == {flag("filters.exclude.comm")}
    assert max(len(name) for _, name in named) <= 15  # all that the kernel keeps of a comm


def unit_lines() -> list[tuple[str, str]]:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if not line.startswith(("#", "[")))
    return [(key, value) for key, _, value in pairs if key]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_nothing_to_say_about_the_unit():
    done = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert said == []
    assert done.returncode == 0


def test_the_unit_keeps_other_processes_visible_and_the_needed_rights():
    unit = dict(unit_lines())
    assert len(unit) == len(unit_lines())
    assert not {"ProtectProc", "ProcSubset", "PrivateUsers", "PrivateNetwork"} & set(unit)
    assert not {"ProtectKernelTunables", "MemoryDenyWriteExecute"} & set(unit)
    assert unit["ProtectHome"] == "read-only"
    needed = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_RESOURCE", "SYS_ADMIN"]
    assert unit["CapabilityBoundingSet"].split() == [f"CAP_{name}" for name in needed]
    assert {"bpf", "perf_event_open"} <= set(unit["SystemCallFilter"].split())


def test_the_unit_does_not_restart_what_will_fail_again():
    codes = {2, *(error.exit_code for error in (ConfigError, HostError, RightsError))}
    assert {int(c) for c in dict(unit_lines())["RestartPreventExitStatus"].split()} == codes


def test_the_environment_of_the_unit_is_one_the_agent_accepts():
    text = (UNIT.parent / "otel-tap.env").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("# ")]
    environment = dict(line.lstrip("#").split("=", 1) for line in lines)
    assert set(environment) > {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    loaded = load_settings(None, environment, {})
    assert loaded.settings.filters.exclude.comm == ("otelcol-contrib",)
