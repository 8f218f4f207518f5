// As websocket_client.py, by Node.js and its `ws`: node websocket_client.js CERTIFICATE TLS PLAIN
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const WebSocket = require("ws");

const MESSAGES = ["hello", "", "grüße ".repeat(40), Buffer.from([0, 1, 254, 255]),
  '{"tick": 1}'.repeat(60), '{"tick": 2}'.repeat(60), crypto.randomBytes(70000), "last"];

const said = (data, binary) =>
  binary ? ["binary", data.toString("hex")] : ["text", data.toString()];

function session(url, options) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, ["chat"], options);
    const sent = [], received = [];
    const next = () => {
      if (sent.length === MESSAGES.length) return socket.close(1000, "done");
      const message = MESSAGES[sent.length], binary = Buffer.isBuffer(message);
      sent.push(said(Buffer.from(message), binary));
      if (sent.length % 2 && message.length) {
        const half = message.length >> 1;
        socket.send(message.slice(0, half), { binary, fin: false });
        socket.send(message.slice(half), { binary, fin: true });
      } else socket.send(message, { binary });
    };
    socket.on("open", next);
    socket.on("message", (data, binary) => { received.push(said(data, binary)); next(); });
    socket.on("error", reject);
    socket.on("close", (close) => {
      console.log(JSON.stringify({ path: new URL(url).pathname.slice(1), sent, received, close }));
      resolve();
    });
  });
}

(async () => {
  const [certificate, tls, plain] = process.argv.slice(2);
  const ca = fs.readFileSync(certificate);
  for (const [scheme, port] of [["wss", tls], ["ws", plain]])
    for (const perMessageDeflate of [{ threshold: 0 }, false])
      await session(`${scheme}://127.0.0.1:${port}/node-${scheme}-${!!perMessageDeflate}`,
        { ca, perMessageDeflate });
})();
