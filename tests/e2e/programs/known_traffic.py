"""HTTP/1.1 over loopback between threads of this process, every byte of which can be told again.

`known_traffic.py CONNECTIONS`: prints the port, then obeys lines on stdin: `run N` makes N
exchanges on every connection and prints how many bytes clients sent and received; `close` ends.
"""

import hashlib
import json
import socket
import sys
import threading


def content(path: str, side: str) -> bytes:
    """What the request (`q`) or response (`r`) for `path` carries: 0 to 4 KiB."""
    digest = hashlib.sha256(f"{side}{path}".encode()).digest()
    return (digest.hex().encode() * 64)[: int.from_bytes(digest[:2], "big") % 4097]


def receive(connection: socket.socket, waiting: bytes) -> tuple[bytes, bytes, bytes]:
    """The next message: head, body, and what is behind it."""
    while b"\r\n\r\n" not in waiting:
        more = connection.recv(65536)
        if not more:
            return b"", b"", b""
        waiting += more
    head, _, rest = waiting.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    return head, rest[:length], rest[length:]


def serve(connection: socket.socket) -> None:
    waiting = b""
    while True:
        head, body, waiting = receive(connection, waiting)
        if not head:
            connection.close()
            return
        path = head.split()[1].decode()
        assert body == content(path, "q")
        answer = content(path, "r")
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
            % (len(answer), answer)
        )


def accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


class Client:
    def __init__(self, number: int, port: int) -> None:
        self.number, self.made, self.moved = number, 0, 0
        self.connection = socket.create_connection(("127.0.0.1", port))

    def run(self, count: int) -> None:
        for _ in range(count):
            path = f"/{self.number}/{self.made}"
            self.made += 1
            body = content(path, "q")
            message = (
                b"POST %b HTTP/1.1\r\nHost: known.test\r\nContent-Type: text/plain\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
            )
            self.connection.sendall(message)
            head, answer, rest = receive(self.connection, b"")
            assert (answer, rest) == (content(path, "r"), b"")
            self.moved += len(message) + len(head) + 4 + len(answer)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    port = listener.getsockname()[1]
    print(port, flush=True)
    clients = [Client(number, port) for number in range(int(sys.argv[1]))]
    for line in sys.stdin:
        if line.startswith("close"):
            break
        threads = [
            threading.Thread(target=client.run, args=(int(line.split()[1]),)) for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps({client.number: client.moved for client in clients}), flush=True)
    for client in clients:
        client.connection.close()


if __name__ == "__main__":
    main()
