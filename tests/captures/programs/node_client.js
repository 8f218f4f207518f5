// Node.js against one server: CERTIFICATE TLS_PORT PLAIN_PORT.
// Prints a line per answered request: method, scheme, target, status.
const fs = require("fs");
const [certificate, tlsPort, plainPort] = process.argv.slice(2);
const ca = fs.readFileSync(certificate);
const schemes = {
  https: [require("https"), tlsPort],
  http: [require("http"), plainPort],
};

function send(scheme, method, path, body) {
  const [library, port] = schemes[scheme];
  return new Promise((resolve, reject) => {
    const request = library.request(
      { host: "localhost", port, path, method, ca, family: 4 },
      (response) => {
        response.resume();
        response.on("end", () => {
          console.log(method, scheme, path, response.statusCode);
          resolve();
        });
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

(async () => {
  for (const scheme of ["https", "http"]) {
    await send(scheme, "GET", "/node/1");
    await send(scheme, "POST", "/node/orders", "quantity=3");
    await send(scheme, "GET", "/missing");
    await Promise.all([1, 2, 3].map((n) => send(scheme, "GET", `/node/together/${n}`)));
  }
})();
