# SPDX-License-Identifier: MIT
"""AWS Lambda's Runtime API for one function, on loopback, which misbehaves
where it is told to and records all it is asked.

  runtime_api.py RECORD < commands

Writes one JSON object a line into RECORD as things happen, and the bodies of
requests, one behind the other, into RECORD.bodies (a record has their [offset,
length]). Reads commands, one JSON object a line, from stdin; ends at its end.
The first line is the script; each key is optional:
  host    "127.0.0.1" (default) or "::1"
  base    a path in front of the API's own
  events  a list of events; next blocks when all are out
  faults  a list of {"at": KIND, "nth": n, "from": n, ...}: what is wrong with
          the nth request of a kind, those from n on, or each; the rest is as
          in wire.py. A next with a fault of these takes no event
  limit   seconds after which it ends in any case (120)
Later ones: {"do": "push", "event": {...}}, {"do": "fault", "fault": {...}},
{"do": "close"} and "reset" (every connection), "deaf" (nobody listens),
"listen" (again), "stop". Each is recorded when it is done.

An event: body (or body64), id, deadline (seconds from its delivery, 30),
headers (as in a fault), and faults of its delivery; one whose delivery was cut
or reset is delivered again, whole.

KIND of a request: next, response, error, init_error, register, extension_next,
other. As with Lambda an event is given out only when every registered extension
waits in extension_next, a response over 6,291,556 bytes is refused by 413, one
for an invocation that is not going on by 400.
"""
import asyncio
import base64
import collections
import json
import os
import sys
import threading
import time
import urllib.parse

import wire

RESPONSE_LIMIT = 6291556
JSON = ["Content-Type", "application/json"]


class Record:
    """The two files that tell what happened."""

    def __init__(self, path):
        self.lines = open(path, "ab")
        self.bodies = open(path + ".bodies", "ab")

    def write(self, what, **fields):
        fields.update(what=what, time=time.monotonic())
        known = {key: value for key, value in fields.items()
                 if value is not None}
        self.lines.write(json.dumps(known).encode() + b"\n")
        self.lines.flush()

    def keep(self, body):
        place = [self.bodies.tell(), len(body)]
        self.bodies.write(body)
        self.bodies.flush()
        return place


def complaint(status, kind):
    body = json.dumps({"errorMessage": kind, "errorType": kind})
    return status, [JSON], body.encode()


ACCEPTED = (202, [JSON], b'{"status":"OK"}\n')


class Api:
    """What the function is and where it stands; one thread, no locks."""

    def __init__(self, script, record):
        self.record = record
        self.base = script.get("base", "")
        self.events = collections.deque(script.get("events", []))
        self.faults = script.get("faults", [])
        self.counts = collections.Counter()
        self.waiting = collections.deque()  # futures of open nexts
        self.going_on = set()  # ids
        self.extensions = {}  # identifier = True: it waits for its next event

    def kind(self, request):
        """The kind of a request, and the request id in its path."""
        path = request.target
        if not path.startswith(self.base + "/20"):
            return "other", None
        words = path[len(self.base) + 1:].split("/")
        match request.method, *words:
            case "GET", "2018-06-01", "runtime", "invocation", "next":
                return "next", None
            case ("POST", "2018-06-01", "runtime", "invocation", name,
                  ("response" | "error") as kind):
                return kind, urllib.parse.unquote(name)
            case "POST", "2018-06-01", "runtime", "init", "error":
                return "init_error", None
            case "POST", "2020-01-01", "extension", "register":
                return "register", None
            case "GET", "2020-01-01", "extension", "event", "next":
                return "extension_next", None
        return "other", None

    def fault(self, kind):
        """Counts a request; what is to be wrong with its answer, {}: nothing.
        """
        self.counts[kind] += 1
        n = self.counts[kind]
        for fault in self.faults:
            if fault["at"] == kind and fault.get("nth", n) == n \
                    and fault.get("from", n) <= n:
                return fault
        return {}

    def give_out(self):
        """Events to those who wait, once the extensions do."""
        while self.events and self.waiting and all(self.extensions.values()):
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(self.events.popleft())

    def push(self, event):
        self.events.append(event)
        self.give_out()

    def take_back(self, event):
        """Its delivery failed: the next one is without faults."""
        faults = ("cut", "reset", "pieces", "delay", "close", "drop", "hang")
        self.events.appendleft({key: value for key, value in event.items()
                                if key not in faults})
        self.give_out()

    def next(self):
        """A future of the next event."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        self.give_out()
        return future

    def delivery(self, event, connection):
        """Status, headers and body of an event, now."""
        name = event.get("id", f"request-{self.counts['next']}")
        self.going_on.add(name)
        deadline = time.time() + event.get("deadline", 30)
        headers = [
            ["Lambda-Runtime-Aws-Request-Id", name],
            ["Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000))],
            ["Lambda-Runtime-Invoked-Function-Arn",
             "arn:aws:lambda:eu-central-1:123456789012:function:spec"],
            ["Lambda-Runtime-Trace-Id",
             "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1"], JSON]
        self.record.write("served", id=name, connection=connection)
        if "body64" in event:
            return 200, headers, base64.b64decode(event["body64"])
        return 200, headers, wire.to_bytes(event.get("body", "{}"))

    def finish(self, kind, name, request):
        """Takes a response or an error in."""
        if name not in self.going_on:
            return complaint(400, "InvalidRequestID")
        self.going_on.remove(name)
        if kind == "response" and len(request.body) > RESPONSE_LIMIT:
            return complaint(413, "RequestEntityTooLarge")
        return ACCEPTED

    def register(self, fault):
        """One that cannot learn its identifier is not waited for."""
        identifier = f"extension-{self.counts['register']}"
        if not fault.keys() & {"cut", "reset", "hang", "headers", "raw"}:
            self.extensions[identifier] = False
        return 200, [JSON, ["Lambda-Extension-Identifier", identifier]], b"{}"

    def extension_waits(self, request):
        """False: nobody of that name registered."""
        name = request.header("lambda-extension-identifier")
        if name not in self.extensions:
            return False
        self.extensions[name] = True
        self.give_out()
        return True


class Connection:
    """One connection, from its first request to its end."""

    def __init__(self, api, number, reader, writer):
        self.api, self.record, self.number = api, api.record, number
        self.reader, self.writer = reader, writer

    def chunk_arrived(self, kind, name):
        def arrived(data):
            self.record.write("chunk", kind=kind, id=name,
                              connection=self.number, size=len(data))
        return arrived

    def note(self, kind, name, request):
        self.record.write(
            "request", kind=kind, id=name, connection=self.number,
            method=request.method, path=request.target,
            version=request.version, headers=request.headers,
            body=self.record.keep(request.body), chunks=request.chunks,
            trailers=request.trailers)

    async def until_gone(self, future):
        """What the future gives; None where the peer leaves before."""
        gone = asyncio.ensure_future(self.reader.read(1))
        await asyncio.wait({gone, future},
                           return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            if gone.exception() is None and gone.result():
                self.record.write("pipelined", connection=self.number)
            return None
        gone.cancel()
        await asyncio.wait({gone})
        return future.result()

    async def hold(self, kind, future):
        self.record.write("held", kind=kind, connection=self.number)
        return await self.until_gone(future)

    async def send(self, answer, fault):
        return await wire.send(self.writer, *answer, fault)

    async def answer_next(self):
        future = self.api.next()
        if future.done():
            event = future.result()
        else:
            event = await self.hold("next", future)
        if event is None:
            return False
        if self.reader.at_eof() or self.writer.is_closing():
            self.api.take_back(event)
            return False
        answer = self.api.delivery(event, self.number)
        fault = {key: value for key, value in event.items()
                 if key not in ("body", "body64", "id", "deadline")}
        goes_on = await self.send(answer, fault)
        if "cut" in event or "reset" in event:
            self.api.take_back(event)
        return goes_on

    async def answer_extension_next(self, request):
        if not self.api.extension_waits(request):
            return await self.send(complaint(403, "Extension.Unknown"), {})
        never = asyncio.get_running_loop().create_future()
        await self.hold("extension_next", never)
        return False

    async def answer(self, kind, name, request, fault):
        """True: the connection may be used again."""
        # Some of what is wrong stands in no answer and comes before it.
        mute = {"early", "stall", "at", "nth", "from"}
        if kind == "next" and not fault.keys() - mute:
            return await self.answer_next()
        if kind == "extension_next" and not fault.keys() - mute:
            return await self.answer_extension_next(request)
        if kind in ("response", "error"):
            answer = self.api.finish(kind, name, request)
        elif kind == "register" and not fault.get("status"):
            answer = self.api.register(fault)
        elif kind == "init_error":
            answer = ACCEPTED
        elif kind == "next" or fault.get("status"):
            answer = complaint(fault.get("status", 200), "Spec.Fault")
        else:
            answer = complaint(404, "NotFound")
        return await self.send(answer, fault)

    async def serve_one(self):
        request = await wire.read_head(self.reader)
        if request is None:
            return False
        kind, name = self.api.kind(request)
        fault = self.api.fault(kind)
        self.record.write("head", kind=kind, id=name, connection=self.number,
                          method=request.method, path=request.target,
                          headers=request.headers)
        if fault.get("stall"):
            await asyncio.sleep(fault["stall"])
        if fault.get("early"):
            await self.answer(kind, name, request, fault)
        await wire.read_body(self.reader, self.writer, request,
                             self.chunk_arrived(kind, name))
        self.note(kind, name, request)
        if fault.get("early"):
            return False
        return await self.answer(kind, name, request, fault)

    async def serve(self):
        """Serves until the end, and tells how that came."""
        how = "end"
        try:
            while await self.serve_one():
                pass
        except asyncio.IncompleteReadError:
            how = "cut"  # by the peer, in the middle of a request
        except ConnectionError as error:
            how = str(error)
        finally:
            self.record.write("closed", connection=self.number, how=how)
            self.writer.close()


class Server:
    """The listening socket, its connections, and the commands."""

    def __init__(self, script, record):
        self.script, self.record = script, record
        self.api = Api(script, record)
        self.connections = {}  # number = Connection
        self.count = 0
        self.listener = None
        self.port = 0

    async def accept(self, reader, writer):
        self.count += 1
        number = self.count
        self.record.write("connection", connection=number)
        connection = Connection(self.api, number, reader, writer)
        self.connections[number] = connection
        await connection.serve()
        del self.connections[number]

    async def listen(self):
        self.listener = await asyncio.start_server(
            self.accept, self.script.get("host", "127.0.0.1"), self.port,
            limit=wire.HEAD_LIMIT)
        self.port = self.listener.sockets[0].getsockname()[1]
        self.record.write("listening", port=self.port)

    async def obey(self, command):
        match command["do"]:
            case "push":
                self.api.push(command["event"])
            case "fault":
                self.api.faults.insert(0, command["fault"])
            case "close":
                for connection in list(self.connections.values()):
                    connection.writer.close()
            case "reset":
                for connection in list(self.connections.values()):
                    wire.reset(connection.writer)
            case "deaf":
                self.listener.close()
            case "listen":
                await self.listen()
            case "stop":
                return False
        self.record.write("done", do=command["do"])
        return True


def read_commands(loop, queue):
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "surrogateescape")
        loop.call_soon_threadsafe(queue.put_nowait, json.loads(text))
    loop.call_soon_threadsafe(queue.put_nowait, {"do": "stop"})


async def main(path):
    commands = asyncio.Queue()
    loop = asyncio.get_running_loop()
    threading.Thread(target=read_commands, args=(loop, commands),
                     daemon=True).start()
    script = await commands.get()
    loop.call_later(script.get("limit", 120), os._exit, 3)
    server = Server(script, Record(path))
    await server.listen()
    while await server.obey(await commands.get()):
        pass
    os._exit(0)


asyncio.run(main(sys.argv[1]))
