"""requests, urllib3, http.client and asyncio against one server: CERTIFICATE TLS_PORT PLAIN_PORT.

Prints a line per answered request: method, scheme, target, status.
"""

import asyncio
import http.client
import ssl
import sys

import requests
import urllib3

certificate, tls_port, plain_port = sys.argv[1:]
secure, plain = f"https://localhost:{tls_port}", f"http://localhost:{plain_port}"


def answered(method, scheme, target, status):
    print(method, scheme, target, status, flush=True)


def by_requests():
    with requests.Session() as session:
        session.trust_env = False  # no proxies, no other certificates
        session.verify = certificate
        for base, scheme in ((secure, "https"), (plain, "http")):
            for target in ("/requests/1", "/requests/2?page=2", "/missing"):
                reply = session.get(base + target)
                answered("GET", scheme, target, reply.status_code)
            reply = session.post(base + "/requests/orders", json={"quantity": 3})
            answered("POST", scheme, "/requests/orders", reply.status_code)


def by_urllib3():
    with urllib3.PoolManager(ca_certs=certificate) as pool:
        for base, scheme in ((secure, "https"), (plain, "http")):
            reply = pool.request("PUT", base + "/urllib3/7", body=b"x" * 5000)
            answered("PUT", scheme, "/urllib3/7", reply.status)
            reply = pool.request("GET", base + "/report")
            answered("GET", scheme, "/report", reply.status)


def by_http_client():
    # Chunked, in pieces.
    client = http.client.HTTPConnection("localhost", int(plain_port))
    pieces = iter([b"one", b"two", b"three"])
    client.request(
        "POST",
        "/chunked",
        body=pieces,
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    answered("POST", "http", "/chunked", client.getresponse().status)


async def by_asyncio():
    # TLS over memory BIOs: the socket is found by the ciphertext.
    context = ssl.create_default_context(cafile=certificate)

    async def one(number):
        reader, writer = await asyncio.open_connection("localhost", int(tls_port), ssl=context)
        for target in (f"/asyncio/{number}", f"/asyncio/{number}/again"):
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            answered("GET", "https", target, int(head.split()[1]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one(number) for number in range(3)))


by_requests()
by_urllib3()
by_http_client()
asyncio.run(by_asyncio())
