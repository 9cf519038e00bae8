# SPDX-License-Identifier: MIT
"""HTTP as bytes, for runtime_api.py: requests are read just as they were
written, names, order and chunks included, and answers go wrong on demand.

What may go wrong with an answer is a table, the fault; each key is optional:
  delay    seconds before it
  status, body, headers   instead of what it would be; headers are [name,
           value] pairs, each in place of one of that name, false deletes it
  names    "lower", "upper" or "odd": how header names are written
  chunked  the body goes in chunks of so many bytes
  raw      these bytes and nothing else
  pieces   it is sent so many bytes at a time, each in a packet of its own
  cut      only so many bytes of it, or "head", "body": half of these; then
           the connection ends
  reset    the connection ends by RST: after the cut, or in place of an answer
  close    it says "Connection: close", and closes
  drop     it says nothing of the kind, and closes all the same
  hang     it never comes
  early    it comes before the body of the request was read; the rest is read
           and thrown away
  stall    seconds in which the body of the request is not read
"""
import asyncio
import socket
import struct
import time

HEAD_LIMIT = 1 << 20
REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request",
           403: "Forbidden", 404: "Not Found", 410: "Gone",
           413: "Payload Too Large", 500: "Internal Server Error"}


def to_bytes(text):
    """Bytes that JSON cannot hold come as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")


class Request:
    """One request; lists of headers and trailers are [name, value] pairs."""

    def __init__(self, line, headers):
        self.method, self.target, self.version = (line.split(" ", 2)
                                                  + ["", ""])[:3]
        self.headers = headers
        self.body = b""
        self.chunks = []  # [size, time]
        self.trailers = []

    def header(self, name):
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


def parse_headers(lines):
    pairs = (line.partition(":") for line in lines if line)
    return [[name, value.strip(" \t")] for name, _, value in pairs]


async def read_head(reader):
    """The first request on its way, without its body; None at an end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    lines = head.decode("latin-1").split("\r\n")
    return Request(lines[0], parse_headers(lines[1:]))


async def read_chunks(reader, request, arrived):
    parts = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size == 0:
            break
        parts.append(await reader.readexactly(size))
        await reader.readuntil(b"\r\n")
        request.chunks.append([size, time.monotonic()])
        arrived(parts[-1])
    lines = []
    while True:
        line = (await reader.readuntil(b"\r\n")).decode("latin-1")[:-2]
        if not line:
            break
        lines.append(line)
    request.trailers = parse_headers(lines)
    request.body = b"".join(parts)


async def read_body(reader, writer, request, arrived):
    """Reads it into the request; arrived(bytes) is called for each chunk."""
    if (request.header("expect") or "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if (request.header("transfer-encoding") or "").lower() == "chunked":
        await read_chunks(reader, request, arrived)
    else:
        size = int(request.header("content-length") or 0)
        request.body = await reader.readexactly(size)


def spell(name, how):
    if how == "odd":
        return "".join(c.upper() if i % 2 else c.lower()
                       for i, c in enumerate(name))
    return {"lower": name.lower(), "upper": name.upper()}.get(how, name)


def merge(headers, changes):
    """The pairs, those of the same name replaced; false deletes."""
    names = {name.lower() for name, _ in changes}
    kept = [pair for pair in headers if pair[0].lower() not in names]
    return kept + [pair for pair in changes if isinstance(pair[1], str)]


def in_chunks(body, size):
    parts = [body[i:i + size] for i in range(0, len(body), size)] + [b""]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def render(status, headers, body, fault):
    """The head and the body of an answer, as bytes."""
    if "raw" in fault:
        return b"", to_bytes(fault["raw"])
    status = fault.get("status", status)
    if "body" in fault:
        body = to_bytes(fault["body"])
    if status == 204:
        body = b""
    if fault.get("chunked"):
        framing = [["Transfer-Encoding", "chunked"]]
        body = in_chunks(body, fault["chunked"])
    else:
        framing = [["Content-Length", str(len(body))]]
    if status == 204:
        framing = []
    if fault.get("close"):
        framing.append(["Connection", "close"])
    headers = merge(headers + framing, fault.get("headers", []))
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
    lines += [f"{spell(n, fault.get('names'))}: {v}" for n, v in headers]
    return to_bytes("\r\n".join(lines) + "\r\n\r\n"), body


def shorten(head, body, cut):
    if cut == "head":
        return head[:len(head) // 2]
    if cut == "body":
        return head + body[:len(body) // 2]
    return (head + body)[:cut]


def reset(writer):
    """Ends the connection by RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))
    writer.transport.abort()


async def send_pieces(writer, data, size):
    for i in range(0, len(data), size):
        writer.write(data[i:i + size])
        await writer.drain()
        await asyncio.sleep(0.0005)


async def send(writer, status, headers, body, fault):
    """Sends an answer as the fault says. True: the connection may go on."""
    if fault.get("delay"):
        await asyncio.sleep(fault["delay"])
    if fault.get("hang"):
        await asyncio.Event().wait()
    head, body = render(status, headers, body, fault)
    if "cut" in fault or fault.get("reset"):
        data = shorten(head, body, fault.get("cut", 0))
    else:
        data = head + body
    await send_pieces(writer, data, fault.get("pieces", max(1, len(data))))
    if fault.get("reset"):
        await asyncio.sleep(0.02)  # what was sent arrives before the RST
        reset(writer)
    return not any(key in fault for key in ("cut", "reset", "close", "drop"))
