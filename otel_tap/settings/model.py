"""Every setting of the agent: its name, type, default and meaning.

The one place where a setting is declared; the file's keys, the variables' names, the JSON Schema
and the commented example all follow from these models. Immutable once built. Knows nothing of
files, environments or flags, and a value is only ever changed by declaring another.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from otel_tap.settings.quantities import duration_field, size_field

MIB = 1024 * 1024
SECOND_NS = 1_000_000_000
_DEFAULT_METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OUTPUT = re.compile(r"otlp|none|otlp-json:.+", re.DOTALL)
_CONTAINER_ID = re.compile(r"[0-9a-f]{1,64}")
_STATUS = re.compile(r"[1-9]xx|[1-9][0-9]{2}(-[1-9][0-9]{2})?")


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, (str, int)) else value


def _header_name(value: str) -> str:
    if _HEADER_NAME.fullmatch(value) is None:
        raise ValueError("a header name such as x-request-id")
    return value.lower()


def _method(value: str) -> str:
    if _HEADER_NAME.fullmatch(value) is None:
        raise ValueError("a method name such as GET")
    return value.upper()


def _status(value: str) -> str:
    first, _, last = value.partition("-")
    if _STATUS.fullmatch(value.lower()) is None or (last and last < first):
        raise ValueError("a status such as 404, 5xx or 500-504")
    return value.lower()


def _container_id(value: str) -> str:
    if _CONTAINER_ID.fullmatch(value.lower()) is None:
        raise ValueError("the beginning of a container id, such as 4f2a6c1d9b8e")
    return value.lower()


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression of Python ({error})") from error
    return value


def _output(value: str) -> str:
    if _OUTPUT.fullmatch(value) is None:
        raise ValueError("otlp, otlp-json:PATH or none")
    return value


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value


Text = Annotated[str, AfterValidator(_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_one_or_many)]
Pids = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_one_or_many)]
HeaderNames = Annotated[
    tuple[Annotated[str, AfterValidator(_header_name)], ...], BeforeValidator(_one_or_many)
]
ContainerIds = Annotated[
    tuple[Annotated[str, AfterValidator(_container_id)], ...], BeforeValidator(_one_or_many)
]
Methods = Annotated[
    tuple[Annotated[str, AfterValidator(_method)], ...], BeforeValidator(_one_or_many)
]
Statuses = Annotated[
    tuple[Annotated[str, AfterValidator(_status)], ...], BeforeValidator(_one_or_many)
]
Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_regular_expression)], ...], BeforeValidator(_one_or_many)
]
OptInAttribute = Literal[
    "client.port",
    "http.request.body.size",
    "http.request.size",
    "http.response.body.size",
    "http.response.size",
    "network.transport",
    "url.path",
    "url.query",
    "url.scheme",
    "user_agent.original",
]
OptInAttributes = Annotated[tuple[OptInAttribute, ...], BeforeValidator(_one_or_many)]


class Section(BaseModel):
    """A group of settings; unknown names are refused, numbers may stand where text is due."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class CaptureSettings(Section):
    """How bytes come from the kernel."""

    ring_size: Annotated[int, *size_field(MIB, 1024 * MIB, power_of_two=True)] = Field(
        default=8 * MIB,
        description="Memory of the queue between kernel and agent; a power of two. "
        "Larger bridges longer bursts.",
    )
    nice: Annotated[int, Field(ge=0, le=19)] = Field(
        default=10,
        description="How far the agent steps back while it is busy, 0 to 19: the traced programs "
        "keep their speed, and what it cannot follow then is left out and counted.",
    )
    loader: Literal["auto", "core", "bcc"] = Field(
        default="auto",
        description="Who loads the probes: core (compiled beforehand, needs the kernel's BTF), bcc "
        "(compiled on this host; sees less), or auto: core where it can be loaded, else bcc.",
    )
    placement: Literal["auto", "symbol"] = Field(
        default="auto",
        description="Where probes sit: auto (the cheapest instruction that is proved to see the "
        "same calls, checked at start), or symbol (the exported functions; slower for the traced "
        "programs).",
    )


class BodySettings(Section):
    """Content of requests and responses; not kept unless asked for."""

    enabled: bool = Field(
        default=False, description="Keep bodies, and send them on the log records."
    )
    limit: Annotated[int, *size_field(0, 64 * MIB)] = Field(
        default=64 * 1024,
        description="What is kept of one body at most; the rest is counted and marked as cut.",
    )


class Selection(Section):
    """Which exchanges: of one name any value suffices, of several names each must be met.

    In globs `*` stands for any characters and `?` for one. What is not known matches no value.
    """

    pid: Pids = Field(default=(), description="Process ids.")
    comm: Texts = Field(default=(), description="Globs on the name of the process.")
    exe: Texts = Field(default=(), description="Globs on the path of the executable.")
    user: Texts = Field(default=(), description="User names, or numbers of nameless users.")
    container: ContainerIds = Field(default=(), description="Beginnings of container ids.")
    pod: Texts = Field(
        default=(),
        description="Beginnings of pod uids, or globs on pod names where processes declare them.",
    )
    host: Texts = Field(
        default=(), description="Globs on the host that a request names, without its port."
    )
    method: Methods = Field(default=(), description="Request methods.")
    path: Texts = Field(
        default=(), description="Globs on the path of a request, without its query."
    )
    status: Statuses = Field(
        default=(), description="Response statuses: 404, a class 5xx, a range 500-504."
    )

    def conditions(self) -> dict[str, tuple[str, ...]]:
        """The values by filter name, as `ExchangeFilter` takes them; only names that have some."""
        values = {name: getattr(self, name) for name in Selection.model_fields}
        return {name: tuple(map(str, given)) for name, given in values.items() if given}


class FilterSettings(Selection):
    """Which exchanges are kept; all of them where nothing is named."""

    exclude: Selection = Field(
        default=Selection(),
        description="Which exchanges are dropped; any one value that is met suffices.",
    )


class PrivacySettings(Section):
    """What is redacted, beyond the credentials that always are."""

    headers: HeaderNames = Field(
        default=(), description="Further headers whose values become REDACTED."
    )
    query_keys: Texts = Field(
        default=(),
        description="Further names of query parameters, and of keys in bodies, that lose their "
        "value.",
    )
    patterns: Patterns = Field(
        default=(),
        description="Further regular expressions on the names of either; case does not matter.",
    )
    keep_headers: HeaderNames = Field(
        default=(),
        description="Headers whose values are kept, whatever a rule says.",
    )


class TelemetrySettings(Section):
    """What spans and log records carry beyond the defaults."""

    request_headers: HeaderNames = Field(
        default=(), description="Request headers that become attributes."
    )
    response_headers: HeaderNames = Field(
        default=(), description="Response headers that become attributes."
    )
    attributes: OptInAttributes = Field(
        default=(), description="Attributes that the conventions leave to choice, by their names."
    )
    genai: bool = Field(
        default=False,
        description="Read calls of generative models (OpenAI and compatible, Azure OpenAI, "
        "Anthropic, Ollama) and send model, token counts and parameters; never messages.",
    )
    command_line: bool = Field(
        default=False,
        description="Send the whole command line of processes; it can hold secrets.",
    )
    known_methods: Methods = Field(
        default=_DEFAULT_METHODS,
        description="Methods that are sent by name; any other is sent as _OTHER.",
    )


class ServiceRule(Section):
    """One rule: processes that meet every condition it has are the service `name`."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["executable"]},
                {"required": ["comm"]},
                {"required": ["container"]},
            ]
        }
    )

    name: Text = Field(description="Value of service.name.")
    executable: Text | None = Field(
        default=None, description="Path of the executable; * and ? stand for any characters."
    )
    comm: Text | None = Field(
        default=None, description="Name of the process; * and ? stand for any characters."
    )
    container: Text | None = Field(default=None, description="Beginning of the container id.")

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if self.executable is None and self.comm is None and self.container is None:
            raise ValueError("a rule with executable, comm or container")
        return self


class ExchangeSettings(Section):
    """How requests and responses are joined."""

    idle_timeout: Annotated[int, *duration_field(SECOND_NS, 24 * 3600 * SECOND_NS)] = Field(
        default=60 * SECOND_NS,
        description="An exchange on which nothing moved for so long is ended as timeout.",
    )


class Settings(Section):
    """All settings of the agent."""

    capture: CaptureSettings = Field(
        default=CaptureSettings(), description="How bytes come from the kernel."
    )
    bodies: BodySettings = Field(
        default=BodySettings(),
        description="Content of requests and responses; not kept unless asked for.",
    )
    filters: FilterSettings = Field(
        default=FilterSettings(),
        description="Which exchanges are kept: of one name any value suffices, of several names "
        "each must be met; all of them where nothing is named. In globs * stands for any "
        "characters, also /.",
    )
    privacy: PrivacySettings = Field(
        default=PrivacySettings(),
        description="What is redacted, beyond the credentials that always are.",
    )
    telemetry: TelemetrySettings = Field(
        default=TelemetrySettings(),
        description="What spans and log records carry beyond the defaults.",
    )
    services: tuple[ServiceRule, ...] = Field(
        default=(),
        description="Names of services: a list of rules, the first that is met counts. Each has a "
        "name, and as conditions executable (path), comm (both with * and ?) or container (the "
        "beginning of its id). Example: [{executable: /opt/shop/*, name: shop}]",
    )
    exchange: ExchangeSettings = Field(
        default=ExchangeSettings(), description="How requests and responses are joined."
    )
    output: Annotated[str, AfterValidator(_output)] | None = Field(
        default=None,
        description="Where telemetry goes: otlp (as OTEL_EXPORTER_OTLP_* says), otlp-json:PATH, or "
        "none. Not set: otlp if an endpoint is configured, else otlp-json:otel-tap.otlp.jsonl",
    )
    har: Text | None = Field(
        default=None,
        description="Also write every exchange to this file as HAR 1.2, for the network panel of a "
        "browser. A file that otel-tap wrote is continued; another one is refused.",
    )
