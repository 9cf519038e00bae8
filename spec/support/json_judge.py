# SPDX-License-Identifier: MIT
# Python's json as the judge of luapool.json: reads lines of a text in hex, and
# in hex what that became by decode and encode ("-": it was refused), and prints
# those it disagrees with. Python allows more than RFC 8259 says; not here.
import json
import sys


def refuse(what):
    raise ValueError(what)


def integer(text):
    value = int(text)
    return value if -(2**63) <= value < 2**63 else number(text)


def number(text):
    value = float(text)
    return value if abs(value) != float("inf") else refuse(text)


def alike(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


def load(data):
    value = json.loads(data.decode(), parse_int=integer, parse_float=number,
                       parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair
    return value


def judge(text, got):
    try:
        value = load(text)
    except ValueError:
        return got is None
    return got is not None and alike(value, load(got))


for line in sys.stdin:
    text, got = line.split()
    got = None if got == "-" else bytes.fromhex(got)
    text = b"" if text == "-" else bytes.fromhex(text)
    if not judge(text, got):
        print(text, got)
