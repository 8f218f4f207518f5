"""Names of everything that leaves the program, and where they may stand.

Source: OpenTelemetry semantic conventions 1.44.0; own facts live under ``otel_tap.``. The sets are
what dashboards and Collector configurations are tested against.
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE_NAME = "otel_tap"
EVENT_NAME = "otel_tap.http.exchange"

HTTP_REQUEST_METHOD = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
HTTP_REQUEST_BODY_SIZE = "http.request.body.size"
HTTP_RESPONSE_BODY_SIZE = "http.response.body.size"
HTTP_REQUEST_SIZE = "http.request.size"
HTTP_RESPONSE_SIZE = "http.response.size"
HTTP_REQUEST_BODY_CONTENT = "http.request.body.content"
HTTP_RESPONSE_BODY_CONTENT = "http.response.body.content"
HTTP_REQUEST_HEADER = "http.request.header."
HTTP_RESPONSE_HEADER = "http.response.header."
ERROR_TYPE = "error.type"
URL_FULL = "url.full"
URL_SCHEME = "url.scheme"
URL_PATH = "url.path"
URL_QUERY = "url.query"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CLIENT_ADDRESS = "client.address"
CLIENT_PORT = "client.port"
NETWORK_PEER_ADDRESS = "network.peer.address"
NETWORK_PEER_PORT = "network.peer.port"
NETWORK_PROTOCOL_VERSION = "network.protocol.version"
NETWORK_TRANSPORT = "network.transport"
USER_AGENT_ORIGINAL = "user_agent.original"

TRUNCATED = "otel_tap.capture.truncated"
LOST_BYTES = "otel_tap.capture.lost_bytes"
HEADERS_INCOMPLETE = "otel_tap.capture.headers_incomplete"  # a header may be missing
TLS_LIBRARY = "otel_tap.tls.library"
CONNECTION_REUSED = "otel_tap.connection.reused"
PEER_EVIDENCE = "otel_tap.peer.evidence"
HTTP_AMBIGUITY = "otel_tap.http.ambiguity"

NETWORK_PROTOCOL_NAME = "network.protocol.name"
RPC_SYSTEM_NAME = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_METHOD_ORIGINAL = "rpc.method_original"
RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code"
RPC_WEB = "otel_tap.rpc.web"  # gRPC-Web
RPC_TIMEOUT = "otel_tap.rpc.timeout"  # seconds that the caller gave, a floating-point number
# Whole messages, and their bytes without prefixes, as compressed. Neither where a loss hides one.
RPC_REQUEST_MESSAGES = "otel_tap.rpc.request.messages"
RPC_REQUEST_MESSAGE_BYTES = "otel_tap.rpc.request.message_bytes"
RPC_RESPONSE_MESSAGES = "otel_tap.rpc.response.messages"
RPC_RESPONSE_MESSAGE_BYTES = "otel_tap.rpc.response.message_bytes"

WEBSOCKET_SESSION_EVENT = "otel_tap.websocket.session"
WEBSOCKET_MESSAGE_EVENT = "otel_tap.websocket.message"
WEBSOCKET_SENT = "otel_tap.websocket.sent."
WEBSOCKET_RECEIVED = "otel_tap.websocket.received."
WEBSOCKET_MESSAGES = "messages"  # this and what follows stand behind each of the two
WEBSOCKET_TEXT_MESSAGES = "text_messages"
WEBSOCKET_BYTES = "bytes"
WEBSOCKET_FRAMES = "frames"
WEBSOCKET_PINGS = "pings"
WEBSOCKET_PONGS = "pongs"
WEBSOCKET_COMPRESSED = "compressed_messages"
WEBSOCKET_MESSAGES_SEEN = "messages_seen"  # instead of the others, where some may be missing
WEBSOCKET_BYTES_SEEN = "bytes_seen"
WEBSOCKET_DEFLATE = "otel_tap.websocket.permessage_deflate"
WEBSOCKET_SUBPROTOCOL = "otel_tap.websocket.subprotocol"
WEBSOCKET_CLOSE_CODE = "otel_tap.websocket.close.code"
WEBSOCKET_CLOSE_BY = "otel_tap.websocket.close.by"
WEBSOCKET_CLOSE_REASON = "otel_tap.websocket.close.reason"
WEBSOCKET_MESSAGE_DIRECTION = "otel_tap.websocket.message.direction"
WEBSOCKET_MESSAGE_TYPE = "otel_tap.websocket.message.type"
WEBSOCKET_MESSAGE_SIZE = "otel_tap.websocket.message.size"
WEBSOCKET_MESSAGE_NUMBER = "otel_tap.websocket.message.number"
WEBSOCKET_MESSAGE_COMPRESSED = "otel_tap.websocket.message.compressed"
WEBSOCKET_MESSAGE_CONTENT = "otel_tap.websocket.message.content"

SSE_EVENT_COUNT = "otel_tap.sse.event_count"
SSE_FIRST_EVENT = "otel_tap.sse.time_to_first_event"  # seconds since the exchange began
SSE_LAST_EVENT = "otel_tap.sse.time_to_last_event"
SSE_UNKNOWN = "otel_tap.sse.unknown"  # why there is no count: lost, coding

GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_REQUEST = "gen_ai.request."
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_REQUEST_STREAM = "gen_ai.request.stream"
GEN_AI_RESPONSE_ID = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
GEN_AI_USAGE = "gen_ai.usage."

SERVICE_NAME = "service.name"
SERVICE_INSTANCE_ID = "service.instance.id"
PROCESS_PID = "process.pid"
PROCESS_PARENT_PID = "process.parent_pid"
PROCESS_CREATION_TIME = "process.creation.time"
PROCESS_EXECUTABLE_NAME = "process.executable.name"
PROCESS_EXECUTABLE_PATH = "process.executable.path"
PROCESS_COMMAND = "process.command"
PROCESS_COMMAND_LINE = "process.command_line"
PROCESS_OWNER = "process.owner"
CONTAINER_ID = "container.id"
CONTAINER_RUNTIME_NAME = "container.runtime.name"
K8S_POD_UID = "k8s.pod.uid"
HOST_NAME = "host.name"
HOST_ID = "host.id"
HOST_ARCH = "host.arch"
OS_TYPE = "os.type"
OS_VERSION = "os.version"
TELEMETRY_DISTRO_NAME = "telemetry.distro.name"
TELEMETRY_DISTRO_VERSION = "telemetry.distro.version"

OPT_IN_ATTRIBUTES = frozenset(
    {
        CLIENT_PORT,
        HTTP_REQUEST_BODY_SIZE,
        HTTP_REQUEST_SIZE,
        HTTP_RESPONSE_BODY_SIZE,
        HTTP_RESPONSE_SIZE,
        NETWORK_TRANSPORT,
        URL_PATH,
        URL_QUERY,
        URL_SCHEME,
        USER_AGENT_ORIGINAL,
    }
)
"""Attributes that settings may ask for; some of them one end carries anyway."""

SSE_ATTRIBUTES = frozenset({SSE_EVENT_COUNT, SSE_FIRST_EVENT, SSE_LAST_EVENT, SSE_UNKNOWN})
"""Attributes of exchanges whose response is an event stream."""

GEN_AI_ATTRIBUTES = frozenset(
    {
        GEN_AI_OPERATION_NAME,
        GEN_AI_PROVIDER_NAME,
        GEN_AI_REQUEST_MODEL,
        GEN_AI_REQUEST_STREAM,
        GEN_AI_REQUEST + "max_tokens",
        GEN_AI_REQUEST + "temperature",
        GEN_AI_REQUEST + "top_p",
        GEN_AI_REQUEST + "top_k",
        GEN_AI_REQUEST + "frequency_penalty",
        GEN_AI_REQUEST + "presence_penalty",
        GEN_AI_REQUEST + "seed",
        GEN_AI_REQUEST + "choice.count",
        GEN_AI_RESPONSE_ID,
        GEN_AI_RESPONSE_MODEL,
        GEN_AI_FINISH_REASONS,
        GEN_AI_TIME_TO_FIRST_CHUNK,
        GEN_AI_USAGE + "input_tokens",
        GEN_AI_USAGE + "output_tokens",
        GEN_AI_USAGE + "cache_read.input_tokens",
        GEN_AI_USAGE + "cache_creation.input_tokens",
        GEN_AI_USAGE + "reasoning.output_tokens",
    }
)
"""Attributes of calls of generative models, where these are asked for."""

SPAN_ATTRIBUTES = (
    OPT_IN_ATTRIBUTES
    | SSE_ATTRIBUTES
    | GEN_AI_ATTRIBUTES
    | {
        HTTP_REQUEST_METHOD,
        HTTP_REQUEST_METHOD_ORIGINAL,
        HTTP_RESPONSE_STATUS_CODE,
        ERROR_TYPE,
        URL_FULL,
        SERVER_ADDRESS,
        SERVER_PORT,
        CLIENT_ADDRESS,
        NETWORK_PEER_ADDRESS,
        NETWORK_PEER_PORT,
        NETWORK_PROTOCOL_VERSION,
        TRUNCATED,
        LOST_BYTES,
        TLS_LIBRARY,
        CONNECTION_REUSED,
        PEER_EVIDENCE,
        HTTP_AMBIGUITY,
        HEADERS_INCOMPLETE,
        RPC_SYSTEM_NAME,
        RPC_METHOD,
        RPC_METHOD_ORIGINAL,
        RPC_RESPONSE_STATUS_CODE,
        RPC_WEB,
        RPC_TIMEOUT,
        RPC_REQUEST_MESSAGES,
        RPC_REQUEST_MESSAGE_BYTES,
        RPC_RESPONSE_MESSAGES,
        RPC_RESPONSE_MESSAGE_BYTES,
    }
)
"""Attributes of spans; besides, allowed headers under their two prefixes."""

LOG_ATTRIBUTES = SPAN_ATTRIBUTES | {HTTP_REQUEST_BODY_CONTENT, HTTP_RESPONSE_BODY_CONTENT}
"""Attributes of log records: the span's, and bodies when they are asked for."""

_OF_HANDSHAKE = {
    URL_FULL, URL_PATH, URL_QUERY, URL_SCHEME, SERVER_ADDRESS, SERVER_PORT, CLIENT_ADDRESS,
    CLIENT_PORT, USER_AGENT_ORIGINAL, NETWORK_PEER_ADDRESS, NETWORK_PEER_PORT, NETWORK_TRANSPORT,
    NETWORK_PROTOCOL_NAME, TLS_LIBRARY, PEER_EVIDENCE, TRUNCATED,
}  # fmt: skip

WEBSOCKET_SPAN_ATTRIBUTES = frozenset(
    {
        *_OF_HANDSHAKE,
        *(
            direction + name
            for direction in (WEBSOCKET_SENT, WEBSOCKET_RECEIVED)
            for name in (
                WEBSOCKET_MESSAGES, WEBSOCKET_TEXT_MESSAGES, WEBSOCKET_BYTES, WEBSOCKET_FRAMES,
                WEBSOCKET_PINGS, WEBSOCKET_PONGS, WEBSOCKET_COMPRESSED, WEBSOCKET_MESSAGES_SEEN,
                WEBSOCKET_BYTES_SEEN,
            )
        ),
        WEBSOCKET_DEFLATE,
        WEBSOCKET_SUBPROTOCOL,
        WEBSOCKET_CLOSE_CODE,
        WEBSOCKET_CLOSE_BY,
        ERROR_TYPE,
        LOST_BYTES,
    }
)  # fmt: skip
"""Attributes of the span of a WebSocket session."""

WEBSOCKET_LOG_ATTRIBUTES = {
    WEBSOCKET_SESSION_EVENT: WEBSOCKET_SPAN_ATTRIBUTES | {WEBSOCKET_CLOSE_REASON},
    WEBSOCKET_MESSAGE_EVENT: frozenset(
        {
            *_OF_HANDSHAKE,
            WEBSOCKET_MESSAGE_DIRECTION,
            WEBSOCKET_MESSAGE_TYPE,
            WEBSOCKET_MESSAGE_SIZE,
            WEBSOCKET_MESSAGE_NUMBER,
            WEBSOCKET_MESSAGE_COMPRESSED,
            WEBSOCKET_MESSAGE_CONTENT,
        }
    ),
}
"""Attributes of log records, by event name: of a session, and of a message."""

RESOURCE_ATTRIBUTES = frozenset(
    {
        SERVICE_NAME,
        SERVICE_INSTANCE_ID,
        PROCESS_PID,
        PROCESS_PARENT_PID,
        PROCESS_CREATION_TIME,
        PROCESS_EXECUTABLE_NAME,
        PROCESS_EXECUTABLE_PATH,
        PROCESS_COMMAND,
        PROCESS_COMMAND_LINE,
        PROCESS_OWNER,
        CONTAINER_ID,
        CONTAINER_RUNTIME_NAME,
        K8S_POD_UID,
        HOST_NAME,
        HOST_ID,
        HOST_ARCH,
        OS_TYPE,
        OS_VERSION,
        TELEMETRY_DISTRO_NAME,
        TELEMETRY_DISTRO_VERSION,
    }
)
"""Attributes of the Resource; besides, what the target's own OTEL_RESOURCE_ATTRIBUTES declare."""
