"""A turn as an OTLP span and log record: the short way of most exchanges.

Owns how the few things that differ from one turn of a connection to the next are put to what they
have in common. Promises the very bytes that `RecordEncoder` makes of the turn's exchange; a
property test holds them against each other. What it does not know goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from otel_tap.exchange import Exchange, Role
from otel_tap.privacy import Redactor
from otel_tap.telemetry.assembly import Assembly, Encoded, Pieces
from otel_tap.telemetry.attributes import AttributeEncoder
from otel_tap.telemetry.blocks import Block, Blocks, Common, Fragment
from otel_tap.telemetry.identity import Identities, Seed, context_of
from otel_tap.telemetry.location import Forwarded
from otel_tap.telemetry.otlp import LOG_ATTRIBUTE, SPAN_ATTRIBUTE, StringAttribute
from otel_tap.turn import Hops, Turn

_NOTHING: Final[Pieces] = (b"", b"", b"", b"", b"")
_EQUALS, _AT, _PERCENT = b"=@%"
# Bytes of a target, of what stands before it in a URI (a name of the domain name system, scheme and
# port), and of a User-Agent that is remembered. Longer ones are rare.
_LONGEST: Final = 1024
_LONGEST_BASE: Final = 272
_LONGEST_AGENT: Final = 512
_MAX_AGENTS: Final = 256
_LONGEST_HOPS: Final = 512
_MAX_HOPS: Final = 1024
_HOPS: Final = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")

_CLIENT: Final = Role.CLIENT  # a member is looked up slowly on its class


class TurnEncoder:
    """Encodes turns; `whole` encodes exchanges. One instance serves one thread."""

    __slots__ = (
        "_agents",
        "_assembly",
        "_attributes",
        "_blocks",
        "_hops",
        "_identities",
        "_known",
        "_may_be_secret",
        "_methods",
        "_reads_context",
        "_redactor",
        "_url_full",
        "_url_path",
        "_url_query",
        "_whole",
    )

    def __init__(
        self,
        attributes: AttributeEncoder,
        blocks: Blocks,
        identities: Identities,
        redactor: Redactor,
        assembly: Assembly,
        methods: Mapping[bytes, str],
        whole: Callable[[Exchange], Encoded],
    ) -> None:
        self._blocks = blocks
        self._known = blocks.known
        self._identities = identities
        self._redactor = redactor
        self._may_be_secret = redactor.may_be_secret
        self._assembly = assembly
        self._methods = methods
        self._whole = whole
        self._reads_context = redactor.keeps(b"traceparent")
        self._url_full = _prefixes(attributes.url_full)
        self._url_path = _prefixes(attributes.url_path)
        self._url_query = _prefixes(attributes.url_query)
        self._attributes = attributes
        self._agents: dict[bytes | None, Fragment] = {}
        self._hops: dict[Hops, tuple[Forwarded, Fragment | None]] = {}

    def encode(self, turn: Turn) -> Encoded:
        """Both records of one turn."""
        connection = turn.connection
        block = self._known.get(connection.connection_id)
        if (
            block is None
            or block.connection is not connection
            or block.host != turn.host
            or block.role is not turn.role
        ):
            block = self._blocks.of(connection, turn.role, turn.host)
        client: Fragment | None = None
        if block is not None and turn.hops is not None and turn.role is not _CLIENT:
            hops, client = self._hops.get(turn.hops) or self._told(turn.hops)
            client = client or block.client
            block = self._blocks.behind(block, hops)
        offset = turn.offset
        if block is None or offset is None:
            return self._whole(turn.exchange())
        seed = block.seed or self._seed(block, turn)
        common = block.shaped.get((turn.method, turn.status, turn.version, turn.reused, None))
        if common is None:
            common = self._shaped(block, turn)
        target = turn.target
        path, _, query = target.partition(b"?")
        # The commonest targets of all are decided without a call.
        if _AT in target or _PERCENT in target or _EQUALS in path or self._may_be_secret(query):
            target = self._redactor.target(target)
            path, _, query = target.partition(b"?")
            if not path.startswith(b"/"):
                return self._whole(turn.exchange())
        if seed is None or common is None or len(target) > _LONGEST:
            return self._whole(turn.exchange())
        at_client = turn.role is _CLIENT
        if at_client:
            shown, span_attributes, log_attributes = self._at_client(block, target)
        else:
            shown = target
            agent_span, agent_log = self._agents.get(turn.agent) or self._agent(turn.agent)
            if client is not None:
                agent_span, agent_log = client[0] + agent_span, client[1] + agent_log
            before_span, before_log = self._url_path[len(path)]
            query_span, query_log = self._url_query[len(query)] if query else (b"", b"")
            span_attributes = (before_span, path, query_span, query, agent_span)
            log_attributes = (before_log, path, query_log, query, agent_log)
        if not shown.isascii():
            return self._whole(turn.exchange())
        context = None
        if turn.trace_parent is not None and self._reads_context:
            context = context_of(turn.trace_parent, turn.trace_state or b"")
        return self._assembly.records(
            block.ends,
            common,
            self._identities.identity(seed, offset, context, connection, at_client),
            turn.start_ktime_ns,
            turn.end_ktime_ns,
            turn.end_ktime_ns,
            shown,
            span_attributes,
            log_attributes,
        )

    # What is met for the first time.

    def _seed(self, block: Block, turn: Turn) -> Seed | None:
        at_client = turn.role is _CLIENT
        block.seed = self._identities.seed_of(turn.connection, turn.kind, at_client=at_client)
        return block.seed

    def _shaped(self, block: Block, turn: Turn) -> Common | None:
        method = self._methods.get(turn.method)
        if method is None:
            return None
        key = (turn.method, turn.status, turn.version, turn.reused, None)
        return self._blocks.shaped(block, key, turn.exchange(), method)

    def _at_client(self, block: Block, target: bytes) -> tuple[bytes, Pieces, Pieces]:
        """What is shown for the target, and the attributes that say where it is."""
        if block.base is None:
            return target, _NOTHING, _NOTHING
        full = block.base + target
        before_span, before_log = self._url_full[len(full)]
        return full, (before_span, full, b"", b"", b""), (before_log, full, b"", b"", b"")

    def _told(self, hops: Hops) -> tuple[Forwarded, Fragment | None]:
        """What a proxy said, and the client that it named; remembered unless long or secret."""
        said = {name: value for name, value in zip(_HOPS, hops, strict=True) if value is not None}
        told = self._attributes.hops(said)
        client = None
        if told.client is not None:
            attribute = self._attributes.client_address.of(told.client)
            client = (SPAN_ATTRIBUTE + attribute, LOG_ATTRIBUTE + attribute)
        kept = all(self._redactor.field(name, value) is value for name, value in said.items())
        if kept and sum(map(len, said.values())) <= _LONGEST_HOPS:
            if len(self._hops) >= _MAX_HOPS:
                self._hops.clear()
            self._hops[hops] = (told, client)
        return told, client

    def _agent(self, agent: bytes | None) -> Fragment:
        """What the User-Agent says; remembered for other turns unless it is long or secret."""
        encoded = (b"", b"")
        if agent is not None:
            redacted = self._redactor.field(b"user-agent", agent)
            attribute = self._attributes.user_agent.of(redacted)
            encoded = (SPAN_ATTRIBUTE + attribute, LOG_ATTRIBUTE + attribute)
            if redacted is not agent or len(agent) > _LONGEST_AGENT:
                return encoded
        if len(self._agents) >= _MAX_AGENTS:
            self._agents.clear()
        self._agents[agent] = encoded
        return encoded


def _prefixes(attribute: StringAttribute) -> list[Fragment]:
    """What stands before a value in a span, and in a log record, by its length."""
    prefixes = [attribute.prefix(length) for length in range(_LONGEST + _LONGEST_BASE + 1)]
    return [(SPAN_ATTRIBUTE + prefix, LOG_ATTRIBUTE + prefix) for prefix in prefixes]
