"""Golden recordings: what real programs sent, and the exchanges that it must give.

`NAME.otr` is a recording of `otel-tap record`, reduced to the connections of its servers;
`NAME.json` has the exchanges that a replay gives. `python -m tests.captures [NAME ...]`, as root,
records them again (`make captures`): it compares what was captured with what the programs
themselves count, and writes nothing where the two differ.

No secret is in them but `PLANTED_SECRET`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from otel_tap.agent import Agent
from otel_tap.events import Address
from otel_tap.exchange import Exchange
from otel_tap.origin import Origin
from otel_tap.settings import Settings

FOLDER = Path(__file__).parent
PLANTED_SECRET = "captured-s3cret"


def replay(path: Path, take: Callable[[Exchange, Origin], None]) -> None:
    """Play the recording at `path` into `take`."""
    agent = Agent(Settings(output="none"), on_exchange=take, report=_nothing, replay=path)
    agent.start()
    while not agent.finished:
        agent.run_once()
    agent.stop()


def exchanges_of(path: Path) -> list[dict[str, Any]]:
    """What a replay of the recording at `path` gives, in an order of its own."""
    found: list[dict[str, Any]] = []
    replay(path, lambda exchange, origin: found.append(_facts(exchange, origin)))
    return sorted(found, key=lambda facts: [str(fact) for fact in facts.values()])


def _nothing(_message: str) -> None:
    """Replays say nothing that a test wants to hear."""


def _facts(exchange: Exchange, origin: Origin) -> dict[str, Any]:
    request, response, connection = exchange.request, exchange.response, exchange.connection
    facts = {
        "role": exchange.role.value,
        "process": f"{origin.executable_name}[{origin.pid}]",
        "method": None if request is None else request.method.decode(),
        "target": None if request is None else request.target.decode(),
        "version": None if request is None else request.version,
        "status": None if response is None else response.status,
        "request_bytes": None if request is None else request.body.size,
        "response_bytes": None if response is None else response.body.size,
        "lost_bytes": exchange.lost_bytes or None,
        "tls": connection.tls.value or None,
        "evidence": connection.evidence.value,
        "local": _address(connection.local),
        "peer": _address(connection.peer),
        "reused": exchange.reused,
        "error": None if exchange.error is None else exchange.error.value,
        "rpc": None if exchange.rpc is None else exchange.rpc.method.decode(),
        "rpc_status": None if exchange.rpc is None else exchange.rpc.status,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _address(address: Address | None) -> str | None:
    return None if address is None else f"{address.host}:{address.port}"
