"""web.http.sending: how large answers are held while they are sent."""

import asyncio

import pytest
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Scope

from tokenwire.web.http.receiving import SMALL_BYTES, BodyMemory, BufferedBody
from tokenwire.web.http.sending import Outgoing

LONG = b"x" * (SMALL_BYTES + 1)
MEMORY = 8 * SMALL_BYTES


def scope_of(method: str) -> Scope:
    return {"type": "http", "method": method, "path": "/api/x", "headers": []}


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


class Sent:
    """The messages that reached the server, and the bytes held at each of them."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.status = 0
        self.pieces: list[tuple[int, bool, int]] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "begun twice"
            self.status = message["status"]
        else:
            self.pieces.append(
                (len(message["body"]), message.get("more_body", False), self._memory.held)
            )


async def sent(method: str, response: Response, memory: BodyMemory) -> Sent:
    found, held = Sent(memory), BufferedBody(memory, "ada")
    await response(
        scope_of(method),
        nothing,
        Outgoing(scope_of(method), nothing, found, held, repeatable=method == "GET"),
    )
    held.release()
    return found


async def test_a_large_answer_is_held_until_its_end() -> None:
    """The end is a message of its own, since servers wait before a message and never after the last
    one.
    """
    size = len(LONG)
    found = await sent("GET", Response(LONG), memory := BodyMemory(MEMORY))
    assert (found.status, found.pieces, memory.held) == (
        200,
        [(size, True, size), (0, False, size)],
        0,
    )


async def test_a_small_answer_is_never_refused() -> None:
    """However little memory is left."""
    memory = BodyMemory(MEMORY)
    memory.take("ada", memory.share)
    found = await sent("GET", Response(b"x" * SMALL_BYTES), memory)
    assert (found.status, found.pieces) == (200, [(SMALL_BYTES, False, memory.share)])


@pytest.mark.parametrize(("method", "status"), [("GET", 503), ("POST", 200)])
async def test_without_memory_a_read_is_refused(method: str, status: int) -> None:
    """A read is refused as a whole; the answer of a write is sent."""
    memory = BodyMemory(MEMORY)
    memory.take("ada", memory.share)
    found = await sent(method, Response(LONG), memory)
    assert found.status == status
    assert (sum(size for size, _, _ in found.pieces) < SMALL_BYTES) == (status == 503)
    assert [more for _, more, _ in found.pieces][-1] is False


async def test_streams_are_not_held() -> None:
    """They have no length."""
    found = await sent("GET", StreamingResponse(iter([LONG, LONG])), BodyMemory(MEMORY))
    assert [(size, held) for size, _, held in found.pieces] == [
        (len(LONG), 0),
        (len(LONG), 0),
        (0, 0),
    ]
