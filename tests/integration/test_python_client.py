"""The Python client over real sockets against a hostile server: for any fault, the text is exactly
the answer's.
"""

import asyncio
import contextlib
import random
import time
import zlib
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest

from tests.integration.hostile import Faults, Hostile, answer, units
from tokenwire.client import (
    AnswerFailed,
    Change,
    Following,
    FollowingStopped,
    LiveMessage,
    PostResult,
    RequestFailed,
    Tokenwire,
    api,
    following,
)

PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "HOLE_SECONDS", 0.1)


@contextlib.asynccontextmanager
async def followed(server: Hostile) -> AsyncIterator[Following]:
    """The conversation, followed by a client with almost no pause before it reconnects."""
    async with (
        server.running(),
        Tokenwire("http://hostile", transport=server.transport, jitter=lambda: 0.01) as client,
        client.conversation("c1").follow() as stream,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        yield stream


async def until_live(stream: Following) -> list[Change]:
    seen = []
    while stream.state.name != "live":
        seen.append(await anext(stream))
    return seen


async def test_leaving_closes_the_connection() -> None:
    """Also between two changes, and with a reference to the generator: the server's slot is free at
    once.
    """
    server = Hostile(random.Random(1), Faults())
    server.row(id="m1", status="streaming")
    async with (
        server.running(),
        Tokenwire("http://hostile", transport=server.transport) as client,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        async with client.conversation("c1").follow() as stream:
            await until_live(stream)
            assert len(server.sockets) == 1
        while server.sockets:
            await asyncio.sleep(0.01)
    assert stream.messages


async def test_the_cursor_is_known_with_the_rows() -> None:
    """A program may store both, and resume there."""
    server = Hostile(random.Random(1), Faults())
    row = server.row(id="m1", status="complete", content="Hello")
    for _ in range(3):
        server.append({"type": "title", "title": "T", "rev": 0})
    async with followed(server) as stream:
        assert stream.cursor is None
        await anext(stream)
        assert ([message.content for message in stream.messages], stream.cursor) == (
            ["Hello"],
            "e1:3",
        )
        await until_live(stream)
        row["content"] = "Hello you"
        await server.lose_log([{"type": "title", "title": "T", "rev": 0}])
        while stream.messages[0].content == "Hello":
            await anext(stream)
        assert stream.cursor == "e2:1"


FAULTS = {
    "none": Faults(),
    "reordered": Faults(reorder=0.4),
    "repeated": Faults(repeat=0.4),
    "dropped": Faults(drop=0.1),
    "cut": Faults(cut=0.08),
    "refused": Faults(cut=0.05, refuse=0.5),
    "all": Faults(reorder=0.3, repeat=0.3, drop=0.05, cut=0.05, refuse=0.2),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("seed", [1, 2])
async def test_every_fault_ends_in_the_exact_text(name: str, seed: int) -> None:
    """The checksum proves it; the text only grows between resets, and each event is applied once in
    order.
    """
    chance = random.Random(f"{name}{seed}")
    server = Hostile(chance, FAULTS[name])
    server.row(id="m1", status="streaming")
    events, text = answer("m1", chance)
    async with followed(server) as stream:
        playing = asyncio.create_task(server.play(events))
        seqs, shown = [], ""
        async for change in stream:
            if change.message is not None and change.event is not None:
                seqs.append(change.event["seq"])
                assert change.event["type"] == "reset" or change.message.content.startswith(shown)
                assert stream.cursor == f"e1:{seqs[-1]}"
                shown = change.message.content
            if change.message is not None and change.message.ended:
                break
        await playing
        message = stream.get("m1")
    assert message is not None
    assert (message.content, message.proven, message.status) == (text, True, "complete")
    assert seqs == list(range(1, len(events) + 1))
    assert server.loads == 1  # resumed by cursor, without another read


async def test_after_a_new_epoch_the_rows_are_read_again() -> None:
    """The rows may lag: the visible text does not get shorter, and the end is exact."""
    server = Hostile(random.Random(3), Faults())
    row = server.row(id="m1", status="streaming")
    events, text = answer("m1", random.Random(5), pieces=20)
    chunks = [event for event in events if event["type"] == "chunk"]
    shown = ""
    async with followed(server) as stream:
        server.append(events[0])
        for event in chunks[:5]:
            server.append(event)
        await until_live(stream)
        assert stream.cursor == "e1:6"
        message = stream.get("m1")
        assert message is not None
        shown = message.content
        row["content"] = shown[:4]
        nothing = {"keep": 0, "keep_reasoning": 0, "keep_parts": 0}
        await server.lose_log([{"type": "reset", "message_id": "m1", "attempt": 1, **nothing}])
        for event in events[1:]:
            server.append(event)
        ended = await stream.until_ended("m1")
    assert (ended.content, ended.proven, server.loads) == (text, True, 2)


async def test_a_refused_token_is_renewed() -> None:
    """4401: another token, the same cursor."""
    server = Hostile(random.Random(1), Faults(cut=1.0, codes=(1012,)))
    server.row(id="m1", status="streaming")
    async with followed(server) as stream:
        await until_live(stream)
        server.token = 2
        server.append({"type": "start", "message_id": "m1", "attempt": 1, "model": "demo"})
        server.faults.cut = 0
        while stream.state.name == "live":
            await anext(stream)
        await until_live(stream)
    assert (server.grants, server.loads, stream.cursor) == (2, 1, "e1:1")


async def test_tokens_that_are_refused_repeatedly_are_an_error() -> None:
    """A new one would be refused too: the program gets the error instead of an endless loop."""
    server = Hostile(random.Random(1), Faults(), refuses=True)
    server.row(id="m1", status="streaming")
    async with followed(server) as stream, asyncio.timeout(60):
        with pytest.raises(FollowingStopped) as stopped:
            await stream.until_ended("m1")
    assert (stopped.value.code, server.grants) == (4401, following.REFUSED_TOKENS)


async def test_occasionally_refused_tokens_are_no_error() -> None:
    """A program that follows for days renews its token as needed: a valid token resets the
    count.
    """
    server = Hostile(random.Random(1), Faults(cut=1.0, codes=(1012,)))
    server.row(id="m1", status="streaming")
    server.append({"type": "start", "message_id": "m1", "attempt": 1, "model": "demo"})
    async with followed(server) as stream:
        for number in range(following.REFUSED_TOKENS + 1):
            server.faults.cut = 0
            await until_live(stream)
            server.token += 1
            server.faults.cut = 1.0
            server.append(
                {
                    "type": "chunk",
                    "message_id": "m1",
                    "attempt": 1,
                    "part": 0,
                    "offset": number,
                    "content": "x",
                }
            )
            while stream.state.name == "live":
                await anext(stream)
    assert server.grants == following.REFUSED_TOKENS + 1


async def test_a_token_is_renewed_before_it_expires() -> None:
    """By a `refresh` frame on the same connection."""
    server = Hostile(random.Random(1), Faults(), expires_in=30.05)
    server.row(id="m1", status="streaming")
    async with followed(server) as stream:
        waiting = asyncio.create_task(stream.until_ended("m1"))
        while not server.refreshes:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (server.connections, server.refreshes[0]) == (1, "t1")


async def test_silence_is_a_broken_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a frame for longer than the server promised, it reconnects."""
    server = Hostile(random.Random(1), Faults(), heartbeat_seconds=60)
    server.row(id="m1", status="streaming")
    async with followed(server) as stream:
        await until_live(stream)
        while stream.state.name != "reconnecting":
            await anext(stream)
        await until_live(stream)
    assert server.connections == 2


async def test_a_steady_connection_resets_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that follows for days does not wait ever longer to reconnect."""
    monkeypatch.setattr(following, "STEADY_SECONDS", -1.0)
    server = Hostile(random.Random(1), Faults(), heartbeat_seconds=60)
    server.row(id="m1", status="streaming")
    async with followed(server) as stream:
        for _ in range(3):
            await until_live(stream)
            while stream.state.name != "reconnecting":
                await anext(stream)
        assert stream._failures == 1


async def test_a_wait_that_timed_out_can_be_repeated() -> None:
    """A timeout around one change neither ends the connection nor loses a change."""
    server = Hostile(random.Random(1), Faults())
    server.row(id="m1", status="streaming")
    events, text = answer("m1", random.Random(2), pieces=20)
    seqs = []
    async with followed(server) as stream:
        playing = asyncio.create_task(server.play(events, 0.01))
        while len(events) not in seqs:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.004):
                    change = await anext(stream)
                    seqs += [change.event["seq"]] if change.event else []
        await playing
        held = stream.get("m1")
    assert held is not None
    assert (held.content, server.connections, seqs) == (text, 1, list(range(1, len(events) + 1)))


async def test_a_standstill_of_the_program_is_no_silence_of_the_server() -> None:
    """A laptop slept, say: what the server sends right afterwards keeps the connection."""
    server = Hostile(random.Random(1), Faults())
    server.row(id="m1", status="streaming")
    events, text = answer("m1", random.Random(2), pieces=20)
    async with followed(server) as stream:
        await until_live(stream)
        ended = asyncio.create_task(stream.until_ended("m1"))
        await asyncio.sleep(0.1)
        time.sleep(1.2)  # noqa: ASYNC251 -- longer than the silence that ends a connection
        await asyncio.sleep(0.2)
        await server.play(events)
        assert ((await ended).content, server.connections) == (text, 1)


async def test_a_web_app_that_is_away_is_asked_again() -> None:
    """503 with Retry-After is retried."""
    server = Hostile(random.Random(1), Faults(), away=3)
    server.row(id="m1", status="streaming")
    async with followed(server) as stream:
        await until_live(stream)
    assert server.loads == 1


@pytest.mark.parametrize("code", [4404, 4403, 4400])
async def test_some_closes_are_final(code: int) -> None:
    """Deleted, or not visible to this user."""
    server = Hostile(random.Random(1), Faults(cut=1.0, codes=(code,)))
    server.row(id="m1", status="streaming")
    async with followed(server) as stream:
        await until_live(stream)
        server.append({"type": "start", "message_id": "m1", "attempt": 1, "model": "demo"})
        with pytest.raises(FollowingStopped) as stopped:
            await stream.until_ended("m1")
    assert (stopped.value.code, server.connections) == (code, 1)


async def test_merged_chunks_stand_for_several() -> None:
    """As a slow reader receives them."""
    server = Hostile(random.Random(1), Faults())
    server.row(id="m1", status="streaming")
    events, text = answer("m1", random.Random(11), pieces=10)
    start, *chunks, end = [
        event for event in events if event["type"] in ("start", "chunk", "complete")
    ]
    assert units(text) == end["length"]
    merged = chunks[0] | {"content": text, "from_seq": 2, "seq": 11}
    async with followed(server) as stream:
        await until_live(stream)
        server.append(start)
        for socket in server.sockets:
            socket.deliver(merged)
        server.events += [{"seq": seq} for seq in range(2, 12)]
        server.append(end)
        assert (await stream.until_ended("m1")).content == text


async def test_refusals_have_their_code() -> None:
    """Those that can be retried are, a few times."""
    server = Hostile(random.Random(1), Faults(), away=2)
    async with Tokenwire(
        "http://hostile", transport=server.transport, jitter=lambda: 0.0
    ) as client:
        await client.conversation("c1").read()
        server.away = 9
        with pytest.raises(RequestFailed) as refused:
            await client.conversation("c1").delete()
        assert (refused.value.status, refused.value.code, server.away) == (503, "unavailable", 8)


async def test_retry_after_is_respected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If it is longer than the client's own pause."""
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    def answer(_request: httpx.Request) -> httpx.Response:
        problem = {"code": "too_many_posts", "detail": "later"}
        return (
            httpx.Response(200, json={})
            if waits
            else httpx.Response(429, headers={"retry-after": "7"}, json=problem)
        )

    monkeypatch.setattr(api, "asyncio", SimpleNamespace(sleep=wait))
    async with Tokenwire(
        "http://busy", transport=httpx.MockTransport(answer), jitter=lambda: 1.0
    ) as client:
        await client.models()
    assert waits == [7.0]


async def test_a_failed_answer_raises() -> None:
    """With its partial text."""
    server = Hostile(random.Random(1), Faults())
    server.row(
        id="m1",
        status="error",
        error={"code": "unavailable", "error": "Not there.", "retryable": True},
        content="Hel",
    )
    async with followed(server) as stream:
        message = await stream.until_ended("m1")
    assert str(AnswerFailed(message)) == "Not there."
    assert AnswerFailed(message).message.content == "Hel"


STEERED = {"type": "part", "message_id": "a1", "attempt": 1, "part": 1}
STEERED |= {"value": {"type": "step", "message_ids": ["u2"]}}


def steered() -> tuple[Hostile, PostResult]:
    """An answer that runs, and a post behind it that steers."""
    server = Hostile(random.Random(1), Faults())
    server.row(id="a1", status="streaming", content="Well. ", parts=[{"type": "text", "length": 6}])
    rows = server.row(id="u2", role="user", parent_id="a1"), server.row(id="p2", parent_id="u2")
    return server, PostResult(*map(LiveMessage, rows), None)


def ends(message_id: str, kind: str, *texts: str, **fields: object) -> dict[str, object]:
    """The end of an answer with a step between its texts."""
    layout = "step\0\0".join(f"text\0{units(text)}\0" for text in texts).encode()
    whole = "".join(texts)
    proof = {"length": units(whole), "crc32": zlib.crc32(whole.encode())}
    proof |= {"parts": max(0, 2 * len(texts) - 1), "parts_crc32": zlib.crc32(layout)}
    facts = {"usage": None} | ({"seams": []} if kind == "complete" else {}) | fields
    return {"type": kind, "message_id": message_id, "attempt": 1, **proof, **facts}


async def test_a_post_that_steers_has_the_answer_that_took_it_in() -> None:
    """`until_answered` follows it from the step on, whatever becomes of the placeholder."""
    server, post = steered()
    async with followed(server) as stream:
        await until_live(stream)
        assert stream.answer_to(post) is stream.get("p2")
        waits = asyncio.create_task(stream.until_answered(post))
        server.append(dict(STEERED))
        server.append(ends("p2", "cancelled", by="steered"))
        chunk = {"message_id": "a1", "attempt": 1, "part": 2, "offset": 6, "content": "Bon."}
        server.append({"type": "chunk", **chunk})
        server.append(ends("a1", "complete", "Well. ", "Bon.", finish_reason="stop"))
        answered = await waits
    assert (answered.id, answered.status, answered.content) == ("a1", "complete", "Well. Bon.")
    assert answered.text_for("u2") == "Bon."
    assert answered.text_for("u1") == "Well. Bon."


async def test_a_post_that_no_step_brings_has_its_own_answer() -> None:
    server, post = steered()
    async with followed(server) as stream:
        await until_live(stream)
        server.append(ends("a1", "cancelled", "Well. ", by="me"))
        server.append({"type": "start", "message_id": "p2", "attempt": 1, "model": "demo"})
        chunk = {"message_id": "p2", "attempt": 1, "part": 0, "offset": 0, "content": "Bon."}
        server.append({"type": "chunk", **chunk})
        server.append(ends("p2", "complete", "Bon.", finish_reason="stop"))
        answered = await stream.until_answered(post)
    assert (answered.id, answered.content) == ("p2", "Bon.")


async def test_asking_and_streaming_follow_the_answer_that_took_the_message_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`ask` gives that answer, `stream` what it says behind the message."""
    for way in ("ask", "stream"):
        server, post = steered()

        async def posts(*_: object, post: PostResult = post, **__: object) -> PostResult:
            return post

        monkeypatch.setattr(api.RemoteConversation, "post", posts)
        server.append(dict(STEERED))
        server.append(ends("p2", "cancelled", by="steered"))
        chunk = {"message_id": "a1", "attempt": 1, "part": 2, "offset": 6, "content": "Bon."}
        server.append({"type": "chunk", **chunk})
        server.append(ends("a1", "complete", "Well. ", "Bon.", finish_reason="stop"))
        async with (
            server.running(),
            Tokenwire("http://hostile", transport=server.transport) as client,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            conversation = client.conversation("c1")
            if way == "ask":
                assert (await conversation.ask("In French")).content == "Well. Bon."
            else:
                pieces = [piece async for piece in conversation.stream("In French")]
                assert "".join(pieces) == "Bon."
