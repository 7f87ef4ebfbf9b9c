"""Pure: mutations of a recorded body and its headers. Each takes a random generator and a body, and
returns another body.
"""

import json
import re
from collections.abc import Callable
from random import Random

Mutation = Callable[[Random, bytes], bytes]

HOSTILE: tuple[bytes, ...] = (
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"9" * 400,
    b"9" * 5000,
    b"-1",
    b"0",
    b"1.5",
    b"true",
    b"false",
    b"null",
    b'""',
    b"[]",
    b"{}",
    b"[null]",
    b'[["x"]]',
    b'{"":""}',
    b'"\\ud800"',
    b'"\\udc00 \\u0000"',
    b'"' + b"x" * 300 + b'"',
    b"[" * 600 + b"]" * 600,
    b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 600 + b"1" + b"}" * 600,
)
"""JSON, or almost, in place of other values."""
HEADERS: tuple[tuple[str, str], ...] = (
    ("retry-after", "9" * 400),
    ("retry-after", "-5"),
    ("retry-after", "nan"),
    ("retry-after", "1e400"),
    ("retry-after", "Fri, 31 Feb 2027 25:61:61 GMT"),
    ("retry-after", "Fri, 01 Jan 99999999 00:00:00 GMT"),
    ("retry-after", "Fri, 01 Jan 2027 00:00:00 +9999"),
    ("retry-after", "0001-01-01T00:00:00+23:59"),
    ("retry-after", "1" * 3000 + "h"),
    ("retry-after-ms", "9" * 400),
    ("x-ratelimit-reset-requests", "9" * 400 + "s"),
    ("x-ratelimit-reset-tokens", "9999-12-31T23:59:59-23:59"),
    ("x-ratelimit-remaining-requests", "NaN"),
    ("anthropic-ratelimit-requests-reset", "yesterday"),
    ("x-ratelimit-reset", "1e308"),
)
_HOLDERS = frozenset(
    b"content text thinking delta message choices candidates parts content_block tool_calls "
    b"function arguments args item output response "
    b"partial_json reasoning_content reasoning refusal functionCall".split()
)
_FRAME = re.compile(rb"(?<=\n)\r?\n")
_VALUE = re.compile(rb'(?<=[:\[,])\s*("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null|\{\}|\[\])')


def cut(chance: Random, body: bytes) -> bytes:
    """Only the beginning."""
    return body[: chance.randrange(len(body) + 1)]


def flip(chance: Random, body: bytes) -> bytes:
    """Change some bytes."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def lose(chance: Random, body: bytes) -> bytes:
    """Remove a few bytes in a row."""
    start = chance.randrange(len(body) + 1)
    return body[:start] + body[start + chance.choice((1, 1, 2, 30)) :]


def put_in(chance: Random, body: bytes) -> bytes:
    """Insert something foreign."""
    at = chance.randrange(len(body) + 1)
    return (
        body[:at]
        + chance.choice(
            (b"\n", b"\r\n\r\n", b"\x00", b"\xff", b'"', b"}", b"{", b"data: ", *HOSTILE[:12])
        )
        + body[at:]
    )


def _frames(body: bytes) -> list[bytes]:
    """Events with their blank lines, or lines if there are none."""
    ends = [match.end() for match in _FRAME.finditer(body)]
    if len(ends) < 2:
        return body.splitlines(keepends=True)
    return [
        body[start:end]
        for start, end in zip([0, *ends], [*ends, len(body)], strict=True)
        if start < end
    ]


def swap(chance: Random, body: bytes) -> bytes:
    """Exchange two frames."""
    frames = _frames(body)
    if len(frames) > 1:
        at, other = chance.randrange(len(frames)), chance.randrange(len(frames))
        frames[at], frames[other] = frames[other], frames[at]
    return b"".join(frames)


def double(chance: Random, body: bytes) -> bytes:
    """Repeat a frame, at once or later."""
    frames = _frames(body)
    if frames:
        frames.insert(chance.randrange(len(frames) + 1), chance.choice(frames))
    return b"".join(frames)


def drop(chance: Random, body: bytes) -> bytes:
    """Remove a frame."""
    frames = _frames(body)
    if frames:
        del frames[chance.randrange(len(frames))]
    return b"".join(frames)


def join(chance: Random, body: bytes) -> bytes:
    """Join frames without the blank line, or without any line end."""
    frames = _frames(body)
    if len(frames) > 1:
        at = chance.randrange(len(frames) - 1)
        frames[at] = frames[at].rstrip(b"\r\n") + chance.choice((b"", b"\n", b"\r\n", b" "))
    return b"".join(frames)


def replace(chance: Random, body: bytes) -> bytes:
    """Replace a JSON value by one of another type or size."""
    values = list(_VALUE.finditer(body))
    if not values:
        return body
    start, end = chance.choice(values).span(1)
    return body[:start] + chance.choice(HOSTILE) + body[end:]


def rename(chance: Random, body: bytes) -> bytes:
    """Rename a field of the answer to an unknown name."""
    names = list(re.finditer(rb'"(\w+)"\s*:', body))
    holders = [name for name in names if name.group(1) in _HOLDERS]
    if not holders:
        return body
    start, end = chance.choice(holders).span(1)
    return body[:start] + b"unheard_of" + body[end:]


def append(chance: Random, body: bytes) -> bytes:
    """Append something after the end."""
    error = json.dumps({"error": {"code": 503, "message": "gone"}}).encode()
    return body + chance.choice(
        (
            error,
            b"\n" + error + b"\n",
            b"data: " + error + b"\n\n",
            b"<html>502</html>",
            b"data: [DONE]\n\n",
            body,
        )
    )


def many(chance: Random, body: bytes) -> bytes:
    """Repeat a frame many times."""
    return repeated(chance, body, chance.choice((50, 200, 1000)))


def repeated(chance: Random, body: bytes, times: int) -> bytes:
    """Repeat a frame that many times, or as often as there is room."""
    frames = _frames(body)
    if frames:
        at = chance.randrange(len(frames))
        frames[at : at + 1] = [frames[at]] * min(times, 1 + _LONGEST // len(frames[at]))
    return b"".join(frames)


_LONGEST = 200_000
"""Bytes that one mutation adds at most."""


def swell(chance: Random, body: bytes) -> bytes:
    """Make a text very long."""
    texts = [match for match in _VALUE.finditer(body) if match.group(1).startswith(b'"')]
    if not texts:
        return body
    end = chance.choice(texts).end(1)
    return body[: end - 1] + b"x" * chance.choice((2_000, 20_000, 100_000)) + body[end - 1 :]


MUTATIONS: tuple[Mutation, ...] = (
    *(
        cut,
        flip,
        flip,
        lose,
        put_in,
        swap,
        double,
        drop,
        join,
        replace,
        replace,
        replace,
        rename,
        append,
    ),
    *(many, swell),
)


def damaged(chance: Random, body: bytes) -> tuple[bytes, list[str]]:
    """A body damaged in one to three ways, and a description."""
    names = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        mutation = chance.choice(MUTATIONS)
        names.append(mutation.__name__)
        body = mutation(chance, body)
    return body, names


def pieces(chance: Random, body: bytes) -> list[bytes]:
    """The body as a network may cut it."""
    if chance.random() < 0.5:
        return [body]
    places = sorted(chance.randrange(len(body) + 1) for _ in range(chance.choice((1, 3, 10))))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]
