#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The least that can be a Lambda runtime: it echoes events. It shows that the
stand-in and its helper work, whatever the host does."""
import http.client
import os
import signal
import sys
import threading
import urllib.parse

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
api = urllib.parse.urlsplit("http://" + os.environ["AWS_LAMBDA_RUNTIME_API"])
BASE = api.path + "/2018-06-01/runtime"


def call(connection, method, path, body=None, headers=()):
    connection.request(method, path, body, dict(headers))
    answer = connection.getresponse()
    return answer, answer.read()


def register():
    """An internal extension, which waits for ever."""
    connection = http.client.HTTPConnection(api.hostname, api.port)
    path = api.path + "/2020-01-01/extension/"
    answer, _ = call(connection, "POST", path + "register", '{"events":[]}',
                     {"Lambda-Extension-Name": "echo"})
    name = {"Lambda-Extension-Identifier":
            answer.getheader("Lambda-Extension-Identifier")}
    threading.Thread(target=call, daemon=True, args=(
        connection, "GET", path + "event/next", None, name)).start()


def loop():
    connection = http.client.HTTPConnection(api.hostname, api.port)
    while True:
        event, body = call(connection, "GET", BASE + "/invocation/next")
        if event.status == 204:
            continue
        if event.status != 200:
            sys.exit(1)
        name = urllib.parse.quote(
            event.getheader("Lambda-Runtime-Aws-Request-Id"), safe="")
        call(connection, "POST", f"{BASE}/invocation/{name}/response", body)


register()
loop()
