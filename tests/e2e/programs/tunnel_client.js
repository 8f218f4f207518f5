// HTTPS through a proxy, TLS on memory BIOs: node tunnel_client.js CERTIFICATE PROXY_PORT PORT
"use strict";
const fs = require("fs");
const http = require("http");
const https = require("https");
const tls = require("tls");

const [certificate, proxy, port] = process.argv.slice(2);
const connect = http.request(
  { host: "127.0.0.1", port: proxy, method: "CONNECT", path: `localhost:${port}` });
connect.on("connect", (_, socket) => {
  const ca = fs.readFileSync(certificate);
  const session = tls.connect({ socket, ca, servername: "localhost" }, () => {
    https.get(
      { host: "localhost", port, path: "/from-node", createConnection: () => session },
      (answer) => { answer.resume(); answer.on("end", () => session.end()); });
  });
});
connect.end();
