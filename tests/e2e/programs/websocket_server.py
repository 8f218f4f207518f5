"""Answers WebSocket messages; logs what it received and sent, one JSON line a session.

usage: websocket_server.py CERTIFICATE KEY LOG
prints its TLS and its plain port; ends when its standard input does.

Text comes back in fragments and in upper case, binary reversed. "close" ends the session with
code 4001.
"""

import asyncio
import contextlib
import json
import ssl
import sys
from pathlib import Path

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def said(message: str | bytes) -> list:
    return ["text", message] if isinstance(message, str) else ["binary", message.hex()]


async def main() -> None:
    certificate, key, log_path = sys.argv[1:]
    log = Path(log_path).open("w", buffering=1)  # noqa: SIM115 - as long as the process

    async def answer(websocket) -> None:
        received, sent = [], []
        with contextlib.suppress(ConnectionClosed):
            await talk(websocket, received, sent)
        row = {"path": websocket.request.path, "received": received, "sent": sent}
        log.write(json.dumps(row | {"close": websocket.close_code}) + "\n")

    async def talk(websocket, received: list, sent: list) -> None:
        async for message in websocket:
            received.append(said(message))
            if message == "close":
                await websocket.close(4001, "as you wish")
                continue
            if isinstance(message, str):
                reply = message.upper()
                half = len(reply) // 2
                await websocket.send([reply[:half], reply[half:]])
            else:
                reply = message[::-1]
                await websocket.send(reply)
            sent.append(said(reply))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ports = []
    for tls in (context, None):
        server = await serve(
            answer, "127.0.0.1", 0, ssl=tls, max_size=None, ping_interval=None,
            compression="deflate", subprotocols=["chat"],
        )  # fmt: skip
        ports.append(server.sockets[0].getsockname()[1])
    print(*ports, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
