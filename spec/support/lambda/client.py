# SPDX-License-Identifier: MIT
"""AWS's own Lambda client (boto3), driven by a spec.

  client.py ENDPOINT < CALLS

CALLS is a JSON list: each call is [operation, arguments], or a list of such
that are made at once. {"file": PATH} as an argument is what that file holds.
Prints the list of results: the response, with every body and event stream read,
or {"error": code, "message": text, "status": of HTTP}.
"""
import concurrent.futures
import json
import sys

import boto3
import botocore.config
import botocore.exceptions


def connect(endpoint):
    return boto3.client(
        "lambda", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
        config=botocore.config.Config(
            retries={"total_max_attempts": 1}, read_timeout=30,
            max_pool_connections=20, proxies={}))


def loaded(value):
    if isinstance(value, dict):
        if set(value) == {"file"}:
            with open(value["file"], "rb") as file:
                return file.read()
        return {key: loaded(item) for key, item in value.items()}
    return value


def plain(value):
    """What JSON can hold."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "read"):
        return plain(value.read())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, int, float, type(None))):
        return value
    if hasattr(value, "__iter__"):
        return [plain(item) for item in value]
    return str(value)


def call(client, operation, arguments):
    try:
        return plain(getattr(client, operation)(**loaded(arguments)))
    except botocore.exceptions.ClientError as e:
        error = e.response["Error"]
        return {"error": error["Code"], "message": error["Message"],
                "status": e.response["ResponseMetadata"]["HTTPStatusCode"]}


def main(endpoint):
    client = connect(endpoint)
    results = []
    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        for entry in json.load(sys.stdin):
            if isinstance(entry[0], str):
                results.append(call(client, *entry))
            else:
                results.append(list(threads.map(
                    lambda one: call(client, *one), entry)))
    json.dump(results, sys.stdout)


main(sys.argv[1])
