"""Tools in chats: streams that end at `wait`, decisions in a client's message, and the stream that
continues it. Over real connections, with the real worker and a scripted model.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import sql
from tests.integration.attempt.test_calls import calls, says
from tests.integration.serving import serving
from tests.integration.tool_chat import ADD, CHOOSE, CITY, PAY, PICK, Chat, allowed, given
from tokenwire.models.call_states import Decision
from tokenwire.models.errors import AlreadyDecided
from tokenwire.worker.checkpoints import Checkpointer


@pytest.fixture
async def chat(tmp_path: Path) -> AsyncIterator[Chat]:
    async with serving(tmp_path) as web, asyncio.timeout(60):
        chat = Chat(web)
        yield chat
        await chat.aclose()


@pytest.mark.parametrize("profile", ["v5", "v6", "v7"])
async def test_the_stream_ends_at_wait(chat: Chat, profile: str) -> None:
    """With the question, as a resumed one does; v5 gets it as data."""
    chat.profile = profile
    client = await chat.plays(calls(PAY), says("Done.")).asks()
    while (await chat.row()).status != "waiting":  # parking follows the event
        await asyncio.sleep(0.01)
    assert (client.over or {}).get("finishReason") == "tool-calls"
    assert client.metadata["status"] == "waiting"
    state = "input-available" if profile == "v5" else "approval-requested"
    assert client.tools() == {"call_0": state}
    data = [part["data"] for part in client.parts if part["type"] == "data-approval"]
    wanted = {"approvalId": "call_0", "toolCallId": "call_0", "toolName": "pay"}
    wanted |= {"messageId": (await chat.row()).id, "part": 0}
    assert data == ([wanted] if profile == "v5" else [])
    again = await chat.resumes()
    assert (again.parts, again.over) == (client.parts, client.over)


@pytest.mark.parametrize("profile", ["v6", "v7"])
async def test_an_approved_call_runs_and_only_what_is_new_is_sent(chat: Chat, profile: str) -> None:
    """Under the same id; the author is recorded; a reload shows the same."""
    chat.profile = profile
    client = await chat.plays(calls(PAY), says("Done.")).asks()
    await chat.answers(client, allowed(), tools=PICK)
    row = await chat.row()
    assert (row.status, row.content, chat.ran) == ("complete", "Done.", ["pay 5"])
    assert chat.chunks[0]["messageId"] == row.id
    assert [kind for kind in chat.kinds if kind != "message-metadata"] == [
        *("start", "tool-input-available", "tool-output-available"),
        *("start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"),
    ]
    assert (client.tools(), client.text()) == ({"call_0": "output-available"}, "Done.")
    [record] = await chat.web.store.decisions_of(row.id)
    assert (record.by, record.decision, record.value) == ("local", "approve", None)
    [shown] = [
        message
        for message in (
            await chat.web.client.get("/api/chat/c/messages", params={"profile": profile})
        ).json()["messages"]
        if message["role"] == "assistant"
    ]
    assert [part["type"] for part in shown["parts"]] == [
        *("step-start", "tool-pay", "step-start", "text")
    ]
    assert shown["parts"][1]["approval"] == {"id": "call_0", "approved": True}


async def test_a_denied_call_does_not_run(chat: Chat) -> None:
    """The reason reaches the model."""
    client = await chat.plays(calls(PAY), says("A pity.")).asks()
    await chat.answers(client, allowed(approved=False, approval={"reason": "Too much"}))
    [call] = await chat.calls()
    assert (call.state, call.error, chat.ran) == (
        *("denied", "A person denied this call: Too much", []),
    )
    assert (client.tools(), client.text()) == ({"call_0": "output-denied"}, "A pity.")


@pytest.mark.parametrize("late", [True, False])
async def test_two_tabs(chat: Chat, late: bool) -> None:
    """The first decision counts. The other tab gets the continued stream, not an error."""
    chat.plays(calls(PAY), says("Done."))
    client = await chat.asks()
    other = await chat.resumes()
    if late:
        await chat.answers(client, allowed())
        await chat.answers(other, allowed(approved=False))
    else:
        same = chat.answers(client, allowed()), chat.answers(other, allowed())
        await asyncio.gather(*same)
    assert chat.ran == ["pay 5"]
    assert len(await chat.web.store.decisions_of((await chat.row()).id)) == 1
    for each in (client, other):
        assert (each.tools(), each.text()) == ({"call_0": "output-available"}, "Done.")
        assert each.parts == client.parts


async def test_somebody_else_decides_in_the_same_moment(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check of the message and its decision: the first one counts."""
    client = await chat.plays(calls(PAY), says("A pity.")).asks()
    decide = chat.web.store.decide

    async def second(message_id: str, number: int, user: str, decision: Decision) -> Any:
        with contextlib.suppress(AlreadyDecided):
            assert (await decide(message_id, number, user, Decision("deny"))).queued
            await chat._enqueue(message_id)
        return await decide(message_id, number, user, decision)

    monkeypatch.setattr(chat.web.store, "decide", second)
    await chat.answers(client, allowed())
    assert (client.tools(), client.text(), chat.ran) == (
        *({"call_0": "output-denied"}, "A pity.", []),
    )


async def test_a_wait_that_is_over_ends_no_stream(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person is faster than the parking worker: one stream brings the rest."""
    decided, park = asyncio.Event(), chat.web.store.park

    async def late(*args: Any) -> Any:
        await decided.wait()
        return await park(*args)

    monkeypatch.setattr(chat.web.store, "park", late)
    client = await chat.plays(calls(PAY), says("Done.")).asks()
    assert (await chat.row()).status == "streaming"
    going_on = asyncio.create_task(chat.answers(client, allowed()))
    while await chat.states() != ["proposed"]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)  # the stream has met the wait
    decided.set()
    await going_on
    assert (client.tools(), client.text()) == ({"call_0": "output-available"}, "Done.")
    assert (chat.ran, (client.over or {}).get("finishReason")) == (["pay 5"], "stop")


async def test_a_page_that_comes_before_the_answer_is_parked(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has the wait, and the row does not yet: its stream ends too. A checkpoint between the
    two would hide the wait from it.
    """
    come, park = asyncio.Event(), chat.web.store.park

    async def late(*args: Any) -> Any:
        await come.wait()
        return await park(*args)

    monkeypatch.setattr(chat.web.store, "park", late)
    await chat.plays(calls(PAY), says("Done.")).asks()
    [attempt] = chat.runner.running()
    attempt.draft.not_saved()  # a result of another call, say
    await Checkpointer(chat.web.store, 1.0, 500).save([attempt])
    assert (await chat.row()).status == "streaming"
    page = asyncio.create_task(chat.resumes())
    await asyncio.sleep(0.2)
    come.set()
    async with asyncio.timeout(5):
        client = await page
    assert client.tools() == {"call_0": "approval-requested"}
    assert (client.over or {}).get("finishReason") == "tool-calls"


async def test_a_stop_that_is_under_way(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of a late decision ends with the answer, not at its wait."""
    client = await chat.plays(calls(PAY), says("Done.")).asks()
    row = await chat.row()
    await chat.web.store.request_cancel(row.id, "local")
    going_on = asyncio.create_task(chat.answers(client, allowed()))
    await asyncio.sleep(0.2)
    assert not going_on.done()
    await chat._enqueue(row.id)
    await going_on
    assert ((client.over or {})["type"], chat.ran) == ("abort", [])


async def test_two_tabs_with_a_tool_of_the_front_end(chat: Chat) -> None:
    """The first result counts, and the other tab shows it."""
    chat.plays(calls(CHOOSE), says("Cold."))
    client = await chat.asks(tools=PICK)
    other = await chat.resumes()
    await chat.answers(client, given("Oslo"))
    await chat.answers(other, given("Bergen"))
    outputs = [each.parts[1]["output"] for each in (client, other)]
    assert (outputs, other.text()) == (["Oslo", "Oslo"], "Cold.")


async def test_a_tool_of_the_front_end(chat: Chat) -> None:
    """It comes with the request; its result continues the answer, and is confirmed."""
    chat.plays(calls(CHOOSE), says("Cold."))
    client = await chat.asks(tools=PICK)
    whole = next(chunk for chunk in chat.chunks if chunk["type"] == "tool-input-available")
    assert "providerExecuted" not in whole
    assert "dynamic" not in whole
    assert await chat.states() == ["awaiting_client"]
    await chat.answers(client, given({"degrees": 7}))
    [call] = await chat.calls()
    assert (call.state, call.result, client.text()) == ("done", {"degrees": 7}, "Cold.")
    confirmed = [chunk for chunk in chat.chunks if chunk["type"] == "tool-output-available"]
    assert [(chunk["output"], chunk["providerExecuted"]) for chunk in confirmed] == [
        ({"degrees": 7}, True)
    ]


async def test_an_error_of_the_front_ends_tool(chat: Chat) -> None:
    """The model gets the sentence."""
    chat.plays(calls(CHOOSE), says("A pity."))
    client = await chat.asks(tools=PICK)
    failed = given(None, state="output-error", errorText="No map.")
    await chat.answers(client, failed)
    [call] = await chat.calls()
    assert (call.state, call.error, client.text()) == ("failed", "No map.", "A pity.")


async def test_three_parallel_calls(chat: Chat) -> None:
    """One of the server, one of the front end, one that a person allows; decided one by one."""
    chat.plays(calls(PAY, ADD, CHOOSE), says("All."))
    client = await chat.asks(tools=PICK)
    assert client.tools() == {
        "call_0": "approval-requested",
        "call_1": "output-available",
        "call_2": "input-available",
    }
    await chat.answers(client, given("Oslo", "call_2"))
    assert (client.over or {}).get("finishReason") == "tool-calls"
    assert (await chat.states(), chat.ran) == (["awaiting_approval", "done", "done"], ["add"])
    assert "tool-input-start" not in chat.kinds
    await chat.answers(client, allowed())
    assert (chat.ran, client.text()) == (["add", "pay 5"], "All.")
    assert set(client.tools().values()) == {"output-available"}


async def test_a_decision_is_shown_before_the_stream_ends(chat: Chat) -> None:
    """Another call still waits, and workers are slow: a stream that ended without the decision
    would make its client send it again.
    """
    chat.plays(calls(PAY, CHOOSE), says("All."))
    client, enqueue = await chat.asks(tools=PICK), chat.web.app.state.services.jobs.generate

    async def late(message_id: str, delay_ms: int | None = None) -> None:
        await asyncio.sleep(0.3)
        await enqueue(message_id, delay_ms)

    chat.web.app.state.services.jobs.generate = late
    await chat.answers(client, given("Oslo", "call_1"))
    assert (client.over or {}).get("finishReason") == "tool-calls"
    assert [chunk["output"] for chunk in chat.chunks if "output" in chunk] == ["Oslo"]
    assert await chat.states() == ["awaiting_approval", "done"]


async def test_two_rounds(chat: Chat) -> None:
    """Each question ends the stream; what an earlier round has is not sent again."""
    chat.plays(calls(PAY), calls(PAY), says("Twice."))
    client = await chat.asks()
    await chat.answers(client, allowed())
    assert client.tools() == {"call_0": "output-available", "call_0.2": "approval-requested"}
    await chat.answers(client, allowed("call_0.2"))
    assert [chunk.get("toolCallId") for chunk in chat.chunks if "toolCallId" in chunk] == (
        ["call_0.2"] * 2
    )
    assert (chat.ran, client.text()) == (["pay 5"] * 2, "Twice.")


FORGED = [
    (allowed("call_1", input={}), "not_awaited"),
    (allowed("call_9"), "not_awaited"),
    (given("x", "call_9"), "not_awaited"),
    (given("x"), "not_awaited"),
    (allowed(input={"euros": 500}), "not_awaited"),
    (allowed(input={"euros": 10**400}), "not_awaited"),
    (allowed(type="tool-add"), "not_awaited"),
    (allowed() | {"approval": {"id": "call_0"}}, "not_awaited"),
    (given("x" * 60_000, "call_2"), "content_too_large"),
    (allowed() | {"toolCallId": 7}, "invalid"),
    (allowed() | {"approval": "yes"}, "invalid"),
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("part", "code"), FORGED)
async def test_what_cannot_be_decided_changes_nothing(
    chat: Chat, part: dict[str, Any], code: str
) -> None:
    """Not even the good decision beside it."""
    chat.plays(calls(PAY, ADD, CHOOSE), says("All."))
    client = await chat.asks(tools=PICK)
    states = await chat.states()
    good = given("Oslo", "call_2") if part.get("toolCallId") == "call_0" else allowed()
    held = [{"type": "step-start"}, good, part]
    await chat.posts({"id": (await chat.row()).id, "role": "assistant", "parts": held}, client)
    assert chat.problem["code"] == code
    assert (await chat.states(), chat.ran) == (states, ["add"])
    assert await chat.web.store.decisions_of((await chat.row()).id) == []


async def test_outputs_that_the_server_has_decide_nothing(chat: Chat) -> None:
    """Every message repeats its history; what a client changed in it is put right."""
    chat.plays(calls(ADD, CHOOSE), says("All."))
    client = await chat.asks(tools=PICK)
    await chat.answers(client, given("Oslo", "call_1"), given(999))
    added, _ = await chat.calls()
    assert (added.result, client.text()) == (3, "All.")
    assert client.parts[1]["output"] == 3


async def test_another_chats_message_cannot_be_decided(chat: Chat) -> None:
    """Nor a user's, nor one that does not exist."""
    chat.plays(calls(PAY), says("Done."))
    await chat.asks()
    row = await chat.row()
    for name, chat_id in ((row.id, "other"), ("nothing", "c")):
        message = {"id": name, "role": "assistant", "parts": [allowed()]}
        await chat.posts(message, id=chat_id)
        assert chat.problem["code"] == "not_found"
    await chat.posts({"id": "u1", "role": "assistant", "parts": [allowed()]})
    assert (chat.problem["code"], await chat.states()) == ("not_found", ["awaiting_approval"])


async def test_a_decision_after_its_time(chat: Chat) -> None:
    """The call counts as denied, and the stream says so."""
    client = await chat.plays(calls(PAY), says("A pity.")).asks()
    async with chat.web.store.writing() as session:
        await session.execute(sql("UPDATE calls SET expires_at = 1"))
    await chat.answers(client, allowed())
    [call] = await chat.calls()
    assert (call.state, call.error) == ("denied", "Nobody approved this call in time.")
    assert (chat.ran, client.tools(), client.text()) == ([], {"call_0": "output-denied"}, "A pity.")


async def test_a_decision_after_the_end(chat: Chat) -> None:
    """The stream shows what has become of the answer."""
    client = await chat.plays(calls(PAY), says("Done.")).asks()
    await chat.web.client.post("/api/chat/c/stop")
    await chat.answers(client, allowed())
    assert (client.tools(), (client.over or {})["type"]) == ({"call_0": "output-error"}, "abort")
    assert chat.ran == []


async def test_a_decision_over_the_api_is_shown_to_a_chat(chat: Chat) -> None:
    """A client that decides there continues its message without one; v5 has no other way."""
    chat.profile = "v5"
    client = await chat.plays(calls(PAY), says("Done.")).asks()
    decided = await chat.web.store.decide((await chat.row()).id, 0, "local", Decision("approve"))
    assert decided.queued
    await chat._enqueue((await chat.row()).id)
    await chat.answers(client)
    assert (client.tools(), client.text()) == ({"call_0": "output-available"}, "Done.")


@pytest.mark.parametrize("profile", ["v5", "v7"])
async def test_a_client_with_a_torn_turn(chat: Chat, profile: str) -> None:
    """It lost its connection behind the call, and continues: nothing is shown twice."""
    chat.profile = profile
    client = await chat.plays(calls(ADD), says("Three.")).asks()
    assert client.parts[-1] == {"type": "text", "text": "Three."}
    client.parts[-1]["text"] = "Thr"
    await chat.answers(client)
    assert client.text() == "Three."


@pytest.mark.parametrize(
    "tools",
    [
        {"pick": {"parameters": {"type": "string"}}},
        {"pick": {"parameters": 5}},
        {"pick me": {"parameters": CITY}},
        {"pick": {"parameters": {"type": "object", "properties": 5}}},
        [{"parameters": CITY}],
        ["pick"],
        "pick",
    ],
)
async def test_bad_tools(chat: Chat, tools: Any) -> None:
    """422, and nothing is posted."""
    chat.plays(says("Hi."))
    await chat.asks(tools=tools)
    assert chat.problem["code"] == "invalid"
    assert chat.problem["errors"][0]["field"].startswith("body")


async def test_tools_as_a_list_and_a_choice(chat: Chat) -> None:
    """A list names each tool itself; `activeTools` narrows those of the server."""
    listed = [{"name": "pick", "inputSchema": CITY}]
    choice = {"type": "tool", "toolName": "pick"}
    await chat.plays(says("Hi.")).asks(tools=listed, activeTools=["add"], toolChoice=choice)
    assert (await chat.row()).tools == {
        "use": ["add"],
        "choice": {"name": "pick"},
        "own": [{"name": "pick", "parameters": CITY, "runs_at": "client"}],
    }
