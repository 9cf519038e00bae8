# SPDX-License-Identifier: MIT
"""An HTTP server of raw sockets that misbehaves as the path says.

Prints its port, serves until stdin ends, and then exits. A request's first
segment names a function below; `/log` lists all requests since the last
`/log`, a line each: connection, method, path, bytes of the body that came,
and the header lines, joined by '|'.
"""
import hashlib
import os
import socket
import struct
import sys
import threading

log = []
lock = threading.Lock()
n_closed = 0
closed = threading.Condition()
gates = {}


def gate(name):
    with lock:
        return gates.setdefault(name, threading.Event())


class Ended(Exception):
    """The other side has closed, or we have."""


class Connection:
    def __init__(self, sock, number):
        self.sock, self.number = sock, number
        self.served, self.unread = 0, b""
        self.count_end = False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Ended
        self.unread += data

    def line(self):
        while b"\r\n" not in self.unread:
            self.more()
        line, self.unread = self.unread.split(b"\r\n", 1)
        return line.decode("latin-1")

    def exactly(self, n):
        while len(self.unread) < n:
            self.more()
        data, self.unread = self.unread[:n], self.unread[n:]
        return data

    def lines(self):
        lines = []
        while line := self.line():
            lines.append(line)
        return lines

    def chunk(self):
        data = self.exactly(int(self.line(), 16))
        return data and (data, self.line())[0]

    def head(self):
        self.method, self.path, _ = self.line().split(" ")
        self.headers = self.lines()
        self.fields = {}
        for line in self.headers:
            name, value = line.split(":", 1)
            self.fields[name.lower()] = value.strip()
        self.chunked = "transfer-encoding" in self.fields
        self.length = int(self.fields.get("content-length", 0))
        self.trailers = []

    def body(self):
        if not self.chunked:
            return self.exactly(self.length)
        chunks = []
        while data := self.chunk():
            chunks.append(data)
        self.trailers = self.lines()
        return b"".join(chunks)

    def send(self, data):
        self.sock.sendall(data)

    def answer(self, body=b"", status="200 OK", headers=()):
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        raise Ended

    def note(self, n):
        with lock:
            log.append(" ".join([str(self.number), self.method, self.path,
                                 str(n), "|".join(self.headers)]))

    def serve(self):
        self.head()
        self.served += 1
        name, *self.rest = self.path.strip("/").split("/")
        getattr(self, "do_" + name)()

    def take(self):
        body = self.body()
        self.note(len(body))
        return body

    # --- what a path does --------------------------------------------------

    def do_log(self):
        with lock:
            text = "\n".join(log)
            log.clear()
        self.answer(text.encode())

    def do_echo(self):
        body = self.take()
        self.answer(body, headers=["X-Trailers: " + "|".join(self.trailers)])

    def do_digest(self):
        body = self.take()
        self.answer(f"{len(body)} {hashlib.md5(body).hexdigest()}".encode())

    def do_size(self):
        self.take()
        self.answer(b"0123456789abcdef" * (int(self.rest[0]) // 16))

    def do_status(self):
        self.take()
        status = int(self.rest[0])
        if status == 204:
            self.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            self.answer(b"such is life", f"{status} Whatever")

    def do_pieces(self):
        self.take()
        text = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npieces"
        for i in range(len(text)):
            self.send(text[i:i + 1])

    def do_chunks(self):
        self.take()
        self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for c in b"chunks":
            self.send(b"1\r\n" + bytes([c]) + b"\r\n")
        self.send(b"0\r\nX-After: all\r\n\r\n")

    def do_untold(self):
        self.take()
        self.send(b"HTTP/1.1 200 OK\r\n\r\nas long as it lasts")
        raise Ended

    def do_interim(self):
        self.take()
        self.send(b"HTTP/1.1 100 Continue\r\nX-No: 1\r\n\r\n"
                  b"HTTP/1.1 103 Early Hints\r\nX-No: 2\r\n\r\n")
        self.answer(b"final", headers=["X-Yes: 3"])

    def do_headers(self):
        self.take()
        self.send(b"HTTP/1.1 200 OK\r\nLAMBDA-Runtime-X:  a b \t \r\n"
                  b"empty:\r\nBlank:  \r\nTwice: 1\r\ntwice: 2\r\n"
                  b"Content-Length:0\r\n\r\n")

    def do_colonless(self):
        self.take()
        self.send(b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n")

    def do_raw(self):
        """Answers with the bytes of the request, and closes."""
        self.send(self.take())
        raise Ended

    def do_rst(self):
        """... and resets, once the other side has had the bytes."""
        self.send(self.take())
        gate("rst").wait(20)
        self.reset()

    def do_close(self):
        """A kept connection is closed after the answer, unannounced."""
        self.take()
        self.answer(b"bye")
        self.count_end = True
        raise Ended

    def do_closed(self):
        """Answers when so many connections of do_close are closed."""
        with closed:
            closed.wait_for(lambda: n_closed >= int(self.rest[0]), 20)
        self.take()
        self.answer()

    def do_drop(self):
        """The second request on a connection is read and not answered."""
        self.take()
        if self.served > 1:
            raise Ended
        self.answer(b"fresh")

    def do_half(self):
        """... or read by half."""
        if self.served > 1:
            self.note(len(self.exactly(self.length // 2)))
            raise Ended
        self.take()
        self.answer(b"fresh")

    def do_never(self):
        """No answer; notes when the other side has gone."""
        self.take()
        try:
            self.more()
        finally:
            gate("gone").set()

    def do_gone(self):
        self.answer(str(gate("gone").wait(20)).encode())

    def do_hold(self):
        self.take()
        gate(self.rest[0]).wait(20)
        self.answer(b"released")

    def do_release(self):
        gate(self.rest[0]).set()
        self.answer()

    def do_early(self):
        """An answer to the head; the body stays unread."""
        self.note(0)
        self.answer(b"enough", f"{self.rest[0]} Early")
        gate("early").wait(20)
        raise Ended

    def do_lazy(self):
        """Reads the body of /lazy/NAME once /release/NAME was asked for."""
        gate(self.rest[0]).wait(20)
        self.do_digest()

    def do_slam(self):
        """A reset in the middle of the body."""
        self.more()
        self.note(0)
        self.reset()


def count_closed():
    global n_closed
    with closed:
        n_closed += 1
        closed.notify_all()


def serve(sock, number):
    connection = Connection(sock, number)
    try:
        while True:
            connection.serve()
    except (Ended, OSError):
        pass
    finally:
        sock.close()
        if connection.count_end:
            count_closed()


def accept(listener):
    number = 0
    while True:
        sock, _ = listener.accept()
        number += 1
        threading.Thread(target=serve, args=(sock, number),
                         daemon=True).start()


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    sys.stdin.read()
    os._exit(0)


main()
