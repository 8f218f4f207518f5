"""Holds WebSocket sessions of every shape; prints what each sent and received, a JSON line each.

usage: websocket_client.py CERTIFICATE TLS_PORT PLAIN_PORT
"""

import asyncio
import json
import os
import ssl
import sys

from websockets.asyncio.client import connect

MESSAGES = [
    "hello",
    "",
    "grüße " * 40,
    bytes(range(256)),
    '{"tick": 1, "price": 100}' * 20,
    '{"tick": 2, "price": 101}' * 20,
    os.urandom(70_000),
    b"\0" * 200_000,
    "last",
]


def said(message: str | bytes) -> list:
    return ["text", message] if isinstance(message, str) else ["binary", message.hex()]


async def session(url: str, context: ssl.SSLContext | None, compression: str | None) -> None:
    sent, received = [], []
    async with connect(
        url, ssl=context, compression=compression, max_size=None, ping_interval=None,
        subprotocols=["chat"],
    ) as websocket:  # fmt: skip
        await (await websocket.ping(b"there?"))
        for number, message in enumerate(MESSAGES):
            if number % 2 and message:
                third = len(message) // 3
                await websocket.send([message[:third], message[third:-third], message[-third:]])
            else:
                await websocket.send(message)
            sent.append(said(message))
            received.append(said(await websocket.recv()))
        if url.endswith("/server-closes"):
            await websocket.send("close")
            sent.append(said("close"))
            await websocket.wait_closed()
    row = {"path": url.partition("127.0.0.1")[2].partition("/")[2], "sent": sent}
    print(json.dumps(row | {"received": received, "close": websocket.close_code}), flush=True)


async def main() -> None:
    certificate, tls_port, plain_port = sys.argv[1:]
    context = ssl.create_default_context(cafile=certificate)
    for scheme, port, tls in (("wss", tls_port, context), ("ws", plain_port, None)):
        for compression in ("deflate", None):
            for how in ("client-closes", "server-closes"):
                name = f"{scheme}-{compression}/{how}"
                await session(f"{scheme}://127.0.0.1:{port}/{name}", tls, compression)


asyncio.run(main())
