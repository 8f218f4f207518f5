"""Answers WebSocket messages on streams of HTTP/2; logs what each session was.

usage: websocket_http2_server.py CERTIFICATE KEY TLS_PORT PLAIN_PORT LOG
prints a line when it listens; ends when its standard input does. The log has what each session
received and sent, a JSON line each. Hypercorn speaks the protocol.

Text comes back in upper case, binary reversed. "close" ends the session with code 4001.
"""

import asyncio
import json
import sys
import threading
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config


def said(message: str | bytes) -> list:
    return ["text", message] if isinstance(message, str) else ["binary", message.hex()]


def main() -> None:
    certificate, key, tls_port, plain_port, log_path = sys.argv[1:]
    log = Path(log_path).open("w", buffering=1)  # noqa: SIM115 - as long as the process

    async def app(scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            print("listening", flush=True)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"no socket"})
            return
        received, sent = [], []
        await receive()
        if scope["path"].endswith("refused"):
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept", "subprotocol": "chat"})
        closed = False
        while (event := await receive())["type"] != "websocket.disconnect":
            if closed:
                continue  # to return would close the connection when the client answers
            message = event["bytes"] if event.get("text") is None else event["text"]
            received.append(said(message))
            if message == "close":
                await send({"type": "websocket.close", "code": 4001, "reason": "as you wish"})
                closed = True
                continue
            if isinstance(message, str):
                reply = message.upper()
                await send({"type": "websocket.send", "text": reply})
            else:
                reply = message[::-1]
                await send({"type": "websocket.send", "bytes": reply})
            sent.append(said(reply))
        row = {"path": scope["path"], "received": received, "sent": sent}
        log.write(json.dumps(row | {"http": scope["http_version"]}) + "\n")

    config = Config()
    config.bind = [f"127.0.0.1:{tls_port}"]
    config.insecure_bind = [f"127.0.0.1:{plain_port}"]
    config.certfile, config.keyfile = certificate, key
    config.accesslog = config.errorlog = None
    config.websocket_max_message_size = 1 << 24

    async def run() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> None:
            sys.stdin.read()
            loop.call_soon_threadsafe(over.set)

        threading.Thread(target=wait, daemon=True).start()
        await serve(app, config, shutdown_trigger=over.wait)

    asyncio.run(run())


main()
