"""Chunks as the bytes of a response."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tokenwire.web.aisdk import DONE, HEADERS, Misuse, UIChunk, Writer, abody, body, comment, frames
from tokenwire.web.http import sse


def test_a_body_is_made_while_it_is_read() -> None:
    """Lazy, with comments and ids passed through, ended by [DONE]."""
    asked: list[str] = []

    def answer() -> Iterator[list[UIChunk] | bytes]:
        write = Writer()
        asked.append("begun")
        yield write.start("m")
        yield comment("still here")
        yield frames(write.text("a"), "k3f9:7")
        yield []
        asked.append("done")
        yield write.finish()

    reading = body(answer())
    assert asked == []
    assert next(reading) == b'data: {"type":"start","messageId":"m"}\n\n'
    assert asked == ["begun"]
    rest = list(reading)
    assert rest[0] == b": still here\n\n"
    assert (
        rest[1].split(b"\n\n")[1]
        == b'id: k3f9:7\ndata: {"type":"text-delta","id":"text","delta":"a"}'
    )
    assert rest[-1] == DONE == b"data: [DONE]\n\n"
    assert all(rest)


async def test_an_asynchronous_source() -> None:
    """Like an iterable."""

    async def answer() -> AsyncIterator[list[UIChunk]]:
        write = Writer()
        yield write.text("é")
        yield write.finish()

    said = b"".join([piece async for piece in abody(answer())])
    assert "é".encode() in said
    assert said.endswith(b'data: {"type":"finish"}\n\ndata: [DONE]\n\n')


async def test_a_failure_breaks_the_stream_or_is_sent() -> None:
    """By default it is raised to the server; `on_error` makes it an error that the client shows."""

    def failing() -> Iterator[list[UIChunk]]:
        yield Writer().text("a")
        raise RuntimeError("secret")

    async def failing_too() -> AsyncIterator[list[UIChunk]]:
        for chunks in failing():
            yield chunks

    with pytest.raises(RuntimeError):
        list(body(failing()))
    with pytest.raises(RuntimeError):
        [piece async for piece in abody(failing_too())]
    told = b'data: {"type":"error","errorText":"It failed."}\n\n'
    assert list(body(failing(), lambda _: "It failed."))[-2:] == [told, DONE]
    assert [piece async for piece in abody(failing_too(), lambda _: "It failed.")][-2:] == [
        told,
        DONE,
    ]


def test_ids_and_comments_stay_on_their_line() -> None:
    """An id with a line break would become another field; every line of a comment is marked."""
    with pytest.raises(Misuse):
        frames([{"type": "start"}], "a\nid: b")
    assert comment("a\ndata: x") == b": a\n: data: x\n\n"
    assert comment() == b": \n\n"
    assert frames([]) == b""


def test_headers() -> None:
    """As the SDK sends them, and nothing that a proxy could change."""
    assert HEADERS.items() >= sse.HEADERS.items()
    assert HEADERS["X-Vercel-AI-UI-Message-Stream"] == "v1"
    assert "no-transform" in HEADERS["Cache-Control"]
