"""`while_running` of a post over the AI SDK, and the stream of a post that steers. Over real
connections, with the real worker and a scripted model.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.integration.attempt.test_calls import calls, says
from tests.integration.serving import serving
from tests.integration.tool_chat import PAY, WORK, Chat
from tests.unit.web.aisdk.client import Client
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.tables import Message
from tokenwire.web.aisdk import stream as streams


class Steering(Chat):
    """A chat whose first answer works while another message comes."""

    async def begins(self) -> asyncio.Task[Client]:
        """The stream of the first answer, whose tool runs."""
        first = asyncio.create_task(self.asks())
        await asyncio.to_thread(self.works.wait, 20)
        return first

    def sends(self, policy: str | None, **more: Any) -> asyncio.Task[Client]:
        """A second message, and its stream."""
        sent = {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "Hurry"}]}
        return asyncio.create_task(self.posts(sent, while_running=policy, **more))

    async def in_line(self) -> tuple[Message, Message]:
        """The running answer, and the placeholder behind it."""
        found = await self.web.store.find_chat("local", "c")
        while True:
            rows = await self.web.store.unfinished(found.id) if found else []
            if len(rows) == 2:
                return rows[0], rows[1]
            await asyncio.sleep(0.01)

    async def follows_in_line(self, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
        """Is set as soon as a stream has sent a sign of life in line."""
        seen, real = asyncio.Event(), streams._begun

        def begun(*given: Any) -> Any:
            found = real(*given)
            if found is None:
                seen.set()
            return found

        monkeypatch.setattr(streams, "_begun", begun)
        return seen

    async def shown(self) -> list[tuple[str, str]]:
        """Ids and texts of the stored history."""
        found = (await self.web.client.get("/api/chat/c/messages")).json()["messages"]
        return [
            (one["id"], "".join(part.get("text", "") for part in one["parts"])) for one in found
        ]


@pytest.fixture
async def chat(tmp_path: Path) -> AsyncIterator[Steering]:
    async with serving(tmp_path) as web, asyncio.timeout(60):
        chat = Steering(web)
        yield chat
        chat.may_end.set()
        await chat.aclose()


async def test_the_stream_is_that_of_the_answer_that_took_the_message_in(
    chat: Steering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole and under its own id. Until then nothing but signs of life is sent."""
    seen = await chat.follows_in_line(monkeypatch)
    chat.plays(calls(WORK), says("Bon."))
    first = await chat.begins()
    second = chat.sends("steer")
    answer, placeholder = await chat.in_line()
    await seen.wait()
    chat.may_end.set()
    one, two = await first, await second
    assert chat.turns.asked[1].messages[-1].text == "Hurry"
    assert (one.parts, one.metadata["status"]) == (two.parts, "complete")
    assert chat.chunks[0]["messageId"] == answer.id != placeholder.id
    assert [chunk["type"] for chunk in chat.chunks].count("start") == 1
    assert await chat.shown() == [("u1", "hi"), (answer.id, "Bon."), ("u2", "Hurry")]
    again = await chat.sends("steer")  # the client repeats its post
    assert (again.parts, chat.chunks[0]["messageId"]) == (two.parts, answer.id)


async def test_without_a_step_the_stream_is_that_of_its_own_answer(chat: Steering) -> None:
    """The running answer ends before another round, as cancelled: the message is answered next."""
    chat.plays(calls(WORK), says("Own."))
    first = await chat.begins()
    second = chat.sends("steer")
    answer, placeholder = await chat.in_line()
    await chat.web.client.post(f"/api/messages/{answer.id}/cancel")
    assert (await first).metadata["status"] == "cancelled"
    chat.may_end.set()
    await chat._enqueue(placeholder.id)
    assert ((await second).text(), chat.chunks[0]["messageId"]) == ("Own.", placeholder.id)
    assert [text for _, text in await chat.shown()] == ["hi", "", "Hurry", "Own."]


async def test_a_post_that_is_cancelled_in_line_ends_as_itself(chat: Steering) -> None:
    chat.plays(calls(WORK), says("Bon."))
    first = await chat.begins()
    second = chat.sends("steer")
    _, placeholder = await chat.in_line()
    await chat.web.client.post(f"/api/messages/{placeholder.id}/cancel")
    assert (await second).metadata["status"] == "cancelled"
    assert (chat.kinds[-1], chat.chunks[0]["messageId"]) == ("abort", placeholder.id)
    chat.may_end.set()
    assert (await first).text() == "Bon."


async def test_a_conversation_that_is_deleted_ends_the_stream(chat: Steering) -> None:
    chat.plays(calls(WORK), says("Bon."))
    first = await chat.begins()
    second = chat.sends("steer")
    answer, _ = await chat.in_line()
    await chat.web.client.delete(f"/api/conversations/{answer.conversation_id}")
    chat.may_end.set()
    for ended in (await first, await second):
        assert ended.over == {"type": "error", "errorText": "The conversation was deleted."}


@pytest.mark.parametrize("policy", ["queue", None])
async def test_other_posts_show_their_own_answer(chat: Steering, policy: str | None) -> None:
    """Also if the server's setting is to steer, and the post says nothing."""
    object.__setattr__(chat.web.settings, "concurrent_posts", "steer")
    chat.plays(calls(WORK), says("Bon."), says("Own."))
    first = await chat.begins()
    second = chat.sends(policy)
    _, placeholder = await chat.in_line()
    chat.may_end.set()
    assert (await first).text() == "Bon."
    await chat._enqueue(placeholder.id)
    assert ((await second).text(), chat.chunks[0]["messageId"]) == ("Own.", placeholder.id)


async def test_the_other_policies(chat: Steering) -> None:
    """`reject` refuses, `cancel_previous` stops the running answer, and nonsense is refused."""
    chat.plays(calls(WORK), says("Own."))
    first = await chat.begins()
    for policy, code in (("reject", "answer_running"), ("interrupt", "invalid")):
        await chat.sends(policy)
        assert chat.problem["code"] == code
    assert chat.problem["errors"][0]["field"].startswith("body")
    second = chat.sends("cancel_previous")
    assert (await first).metadata["status"] == "cancelled"
    chat.may_end.set()
    found = await chat.web.store.find_chat("local", "c")
    assert found is not None
    [row] = await chat.web.store.unfinished(found.id)
    await chat._enqueue(row.id)
    assert (await second).text() == "Own."


async def test_a_post_takes_a_question_back_and_steers(chat: Steering) -> None:
    """Only if it says so: the answer that waits gets the message in place of a decision."""
    chat.plays(calls(PAY), says("Then not."))
    first = await chat.asks()
    answer = await chat.row()
    second = await chat.sends("steer")
    assert (chat.ran, first.tools(), second.tools()) == (
        *([], {"call_0": "approval-requested"}, {"call_0": "output-error"}),
    )
    assert (second.text(), chat.chunks[0]["messageId"]) == ("Then not.", answer.id)
    assert chat.turns.asked[1].messages[-1].text == "Hurry"


async def test_an_outage_when_the_message_was_taken_in(
    chat: Steering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that has it is read as soon as the database is back. Until then there are signs of
    life.
    """
    monkeypatch.setattr(streams, "WATCH_RETRY_SECONDS", 0.01)
    seen = await chat.follows_in_line(monkeypatch)
    chat.plays(calls(WORK), says("Bon."))
    first = await chat.begins()
    second = chat.sends("steer")
    _, placeholder = await chat.in_line()
    await seen.wait()
    failures, read = [StoreUnavailable("away")] * 3, chat.web.store.message
    heard, signs, sign = list[int](), list[str](), streams.aisdk.comment

    def comment(text: str) -> bytes:
        signs.append(text)
        return sign(text)

    monkeypatch.setattr(streams.aisdk, "comment", comment)
    taken_in_by = streams._Encoding._taken_in_by

    async def reads(message_id: str) -> Message | None:
        if message_id == placeholder.id and failures:
            raise failures.pop()
        return await read(message_id)

    async def meets_an_outage(encoding: Any) -> str | None:
        heard.append(len(signs))
        with monkeypatch.context() as outage:
            outage.setattr(chat.web.store, "message", reads)
            return await taken_in_by(encoding)

    monkeypatch.setattr(streams._Encoding, "_taken_in_by", meets_an_outage)
    chat.may_end.set()
    assert ((await second).text(), (await first).text()) == ("Bon.", "Bon.")
    assert failures == []
    assert [number - heard[0] for number in heard] == [0, 1, 2, 3]


async def test_over_a_socket(chat: Steering) -> None:
    """`while_running` in the `body` of a frame; nonsense is refused."""
    chat.plays(calls(WORK), says("Bon."))
    first = await chat.begins()
    answer = await chat.row()
    message = {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "Hurry"}]}
    frame = {"type": "send", "requestId": "r", "id": "c", "messages": [message]}
    async with connect(f"ws://127.0.0.1:{chat.web.port}/api/chat/ws?profile=v7") as socket:

        async def send(policy: object) -> None:
            await socket.send(json.dumps(frame | {"body": {"while_running": policy}}))

        for policy in ("interrupt", ["steer"]):
            await send(policy)
            refused = json.loads(await socket.recv())
            assert (refused["type"], "while_running" in refused["errorText"]) == ("error", True)
        await send("steer")
        await chat.in_line()
        chat.may_end.set()
        frames = []
        while not frames or frames[-1]["type"] != "end":
            frames.append(json.loads(await socket.recv()))
    chunks = [found["chunk"] for found in frames if found["type"] == "chunk"]
    assert chunks[0]["messageId"] == answer.id
    assert Client().read(chunks).parts == (await first).parts
