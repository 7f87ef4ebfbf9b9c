"""The routes for tool calls: who may read and decide, that a decision applies once and enqueues
the answer, and that bad ones get their documented answer.
"""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.contracts.calls import ME as OWNER
from tests.contracts.calls import Asked, asked, call, waiting
from tests.rows import take_part
from tests.unit.web.admission.test_identity import PRODUCTION
from tests.unit.web.conftest import MakeApp, MakeClient, RecordedJobs
from tests.unit.web.test_bad_input import check
from tests.unit.web.test_openapi import strictly
from tests.unit.web.test_refusal_forms import login
from tokenwire.client import RequestFailed, Tokenwire
from tokenwire.models.answers import Ending
from tokenwire.models.calls import EndedRun
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.web.api import shapes
from tokenwire.web.problems import Problem

LOCAL = "local"
"""The user of a development server."""
APPROVE, DENY = {"decision": "approve"}, {"decision": "deny", "reason": "Too much"}
LIMIT = 48 * 1024


async def local(store: Store, *calls: Any) -> Asked:
    """An answer of the local user that waits for a decision."""
    answer = await waiting(store, *calls)
    await take_part(store, answer.conversation_id, LOCAL)
    async with store.writing() as session:
        row = await session.get_one(type(await answer.row()), answer.id)
        asker = await session.get_one(type(row), row.parent_id)
        asker.user_id = LOCAL
    return answer


def address(answer: Asked, number: object = 0) -> str:
    return f"/api/messages/{answer.id}/calls/{number}/decision"


async def test_a_decision_is_stored_and_enqueues_the_answer(
    client: httpx.AsyncClient, store: Store, jobs: RecordedJobs
) -> None:
    """The response has the call as it is then, and the record."""
    answer = await local(store)
    given = await client.post(address(answer), json=DENY)
    assert given.status_code == 200, given.text
    strictly(shapes.DecidedCall)(given.json())
    found, decision = given.json()["call"], given.json()["decision"]
    assert (found["state"], found["number"], found["runs"]) == ("denied", 0, 0)
    assert (found["id"], found["name"], found["input"]) == ("c0", "pay", '{"euros": 5}')
    assert (found["error"], found["runs_at"]) == (
        "A person denied this call: Too much",
        "server",
    )
    assert not {"expires_at", "result", "ran_with", "title"} & set(found)
    at = decision.pop("at")
    assert decision == {"by": LOCAL, "decision": "deny", "reason": "Too much"}
    assert found["approval"] == {"by": LOCAL, "at": at, "decision": "denied", "reason": "Too much"}
    row = await answer.row()
    assert (row.status, jobs.enqueued, row.enqueued_at is not None) == ("queued", [row.id], True)


async def test_edited_arguments_reach_the_call(client: httpx.AsyncClient, store: Store) -> None:
    """As JSON text, beside what the model wrote."""
    answer = await local(store)
    body = APPROVE | {"arguments": {"euros": 1, "to": "é"}}
    found = (await client.post(address(answer), json=body)).json()["call"]
    assert (found["state"], found["ran_with"]) == ("proposed", '{"euros":1,"to":"é"}')
    assert found["input"] == '{"euros": 5}'


async def test_arguments_as_a_text_stay_as_they_are(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Numbers that no double can hold, too: nobody parses and writes them again."""
    answer = await local(store)
    text = '{"account": 9007199254740993, "ratio": 0.12345678901234567891, "to": "h\\u00e9"}'
    for _ in range(2):  # the same text again is the same decision
        sent = await client.post(address(answer), json=APPROVE | {"arguments": text})
        assert (sent.status_code, sent.json()["call"]["ran_with"]) == (200, text)


@pytest.mark.parametrize("result", [None, 0, "", [], {"a": [None]}, "x" * 1000])
async def test_any_result(client: httpx.AsyncClient, store: Store, result: Any) -> None:
    """Null too; it is no field of the call then."""
    answer = await local(store, call(0, "awaiting_client"))
    body = {"decision": "result", "result": result}
    found = (await client.post(address(answer), json=body)).json()["call"]
    assert (found["state"], found.get("result")) == ("done", result)


async def test_without_redis_a_decision_counts(
    client: httpx.AsyncClient, store: Store, jobs: RecordedJobs
) -> None:
    """The row says that it has no job, so the sweeper enqueues it."""
    answer = await local(store)
    before = (await answer.row()).enqueued_at
    jobs.away = True
    assert (await client.post(address(answer), json=APPROVE)).status_code == 200
    row = await answer.row()
    assert (row.status, row.enqueued_at) == ("queued", before)
    assert await answer.states() == ["proposed"]
    jobs.away = False
    assert (await client.post(address(answer), json=APPROVE)).status_code == 200
    assert jobs.enqueued == [answer.id]


async def test_a_running_answer_gets_no_second_job(
    client: httpx.AsyncClient, store: Store, jobs: RecordedJobs
) -> None:
    """Its attempt finds the decision."""
    answer = await local(store, call(0, "awaiting_approval"), call(1, "awaiting_approval"))
    assert (await client.post(address(answer, 0), json=APPROVE)).status_code == 200
    assert await store.begin_attempt(answer.id, 2, "m")
    assert (await client.post(address(answer, 1), json=APPROVE)).status_code == 200
    assert jobs.enqueued == [answer.id]


async def test_two_tabs_at_the_same_time(client: httpx.AsyncClient, store: Store) -> None:
    """One decision applies; the other tab is shown it."""
    for _ in range(5):
        answer = await local(store)
        given = await asyncio.gather(
            client.post(address(answer), json=APPROVE), client.post(address(answer), json=DENY)
        )
        assert sorted(one.status_code for one in given) == [200, 409]
        [won] = [one.json() for one in given if one.status_code == 200]
        [lost] = [one for one in given if one.status_code == 409]
        document = check(lost, 409, "already_decided")
        assert (document["decision"], document["call"]) == (won["decision"], won["call"])
        strictly(Problem)(lost.json())


async def test_the_same_from_two_tabs(client: httpx.AsyncClient, store: Store) -> None:
    """Both get the same answer, and there is one record."""
    answer = await local(store)
    one, two = await asyncio.gather(*(client.post(address(answer), json=APPROVE) for _ in range(2)))
    assert (one.status_code, one.json()) == (two.status_code, two.json()) == (200, one.json())
    assert len(await store.decisions_of(answer.id)) == 1


async def test_a_repeated_repeat_allows_one_run(client: httpx.AsyncClient, store: Store) -> None:
    """If it names the number of runs that the person has seen."""
    answer = await asked(store, call(0))
    assert await store.claim_call(answer.id, 1, 0, 0)
    lost = EndedRun("awaiting_outcome", expires_in_ms=60_000)
    assert await store.finish_call(answer.id, 1, 0, 1, lost)
    await take_part(store, answer.conversation_id, LOCAL)
    async with store.writing() as session:
        row = await session.get_one(type(await answer.row()), (await answer.row()).parent_id)
        row.user_id = LOCAL
    body = {"decision": "repeat", "runs": 1}
    assert (await client.post(address(answer), json=body)).json()["call"]["runs"] == 1
    assert await store.claim_call(answer.id, 1, 0, 1)
    assert await store.finish_call(answer.id, 1, 0, 2, lost)
    again = await client.post(address(answer), json=body)
    assert (again.status_code, again.json()["call"]["state"]) == (200, "awaiting_outcome")
    assert await answer.states() == ["awaiting_outcome"]


async def test_the_list_of_calls(client: httpx.AsyncClient, store: Store) -> None:
    """In order, each with its decisions."""
    answer = await local(store, call(0, "awaiting_approval"), call(1, "awaiting_client"))
    await client.post(address(answer), json=DENY)
    given = await client.get(f"/api/messages/{answer.id}/calls")
    assert given.status_code == 200, given.text
    strictly(shapes.CallList)(given.json())
    first, second = given.json()["calls"]
    assert (first["state"], second["state"]) == ("denied", "awaiting_client")
    assert [(one["by"], one["decision"]) for one in first["decisions"]] == [(LOCAL, "deny")]
    assert second["decisions"] == []
    assert second["expires_at"].endswith("Z")


async def test_the_python_client_decides(
    make_app: MakeApp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends a decision again that did not get through, but no `repeat` without `runs`."""
    answer = await local(store, call(0, "awaiting_approval"), call(1, "awaiting_client"))
    transport = httpx.ASGITransport(make_app())
    forward, cut = transport.handle_async_request, 0

    async def cut_off(request: httpx.Request) -> httpx.Response:
        nonlocal cut
        given = await forward(request)
        if request.method == "POST" and cut < 1:
            cut += 1
            raise httpx.ReadError("cut")
        return given

    monkeypatch.setattr(transport, "handle_async_request", cut_off)
    base = "http://chat.example:8000"
    async with Tokenwire(base, transport=transport, jitter=lambda: 0.0) as client:
        first, second = await client.calls(answer.id)
        assert (first["state"], second["state"]) == ("awaiting_approval", "awaiting_client")
        found = await client.decide(answer.id, 0, "approve", arguments={"euros": 1})
        assert (found["call"]["ran_with"], found["decision"]["by"]) == ('{"euros":1}', LOCAL)
        found = await client.decide(answer.id, 1, "result", result=None)
        assert found["call"]["state"] == "done"
        with pytest.raises(RequestFailed) as refused:
            await client.decide(answer.id, 0, "deny", reason="late")
        assert (refused.value.status, refused.value.code) == (409, "already_decided")
        cut = 0
        with pytest.raises(RequestFailed) as lost:
            await client.decide(answer.id, 0, "repeat")
        assert lost.value.status == 0


# --- who may not, and what is refused ---


async def test_who_may(make_client: MakeClient, store: Store, jobs: RecordedJobs) -> None:
    """Participants read; the owner and the author of the message decide; strangers get 404."""
    conversation = await store.create_conversation(OWNER)
    for user in ("asker", "reader"):
        await take_part(store, conversation.id, user)
    made = await store.post(Post(conversation.id, "asker", "hi", "m"))
    answer = Asked(store, conversation.id, made.assistant_message.id)
    assert await store.begin_attempt(answer.id, 1, "m")
    await answer.prove(call(0, "awaiting_approval"), call(1, "awaiting_approval"))
    async with make_client(**PRODUCTION) as client:

        async def decides(user: str, number: int) -> httpx.Response:
            return await client.post(address(answer, number), json=APPROVE, headers=login(user))

        check(await decides("reader", 0), 403, "not_decider")
        check(await decides("stranger", 0), 404, "not_found")
        listed = f"/api/messages/{answer.id}/calls"
        assert (await client.get(listed, headers=login("reader"))).status_code == 200
        check(await client.get(listed, headers=login("stranger")), 404, "not_found")
        assert await answer.states() == ["awaiting_approval"] * 2
        assert (await decides("asker", 0)).json()["decision"]["by"] == "asker"
        assert (await decides(OWNER, 1)).json()["decision"]["by"] == OWNER
        document = check(await decides(OWNER, 0), 409, "already_decided")
        assert document["decision"]["by"] == "asker"
    assert jobs.enqueued == []


async def test_each_refusal_has_its_code(client: httpx.AsyncClient, store: Store) -> None:
    """And nothing is recorded."""
    late, cancelled, over, other = [await local(store) for _ in range(4)]
    await late.set("calls", expires_at=await store.now_ms())
    await store.request_cancel(cancelled.id, LOCAL)
    assert await store.begin_attempt(over.id, 2, "m", closes=True)
    assert await store.finish(Ending(over.id, 2, "cancelled", "", "", "e1", 9))
    check(await client.post(address(late), json=APPROVE), 409, "decision_expired")
    check(await client.post(address(cancelled), json=APPROVE), 409, "answer_ended")
    check(await client.post(address(over), json=APPROVE), 409, "answer_ended")
    check(await client.post(address(other), json={"decision": "repeat"}), 409, "not_awaited")
    check(await client.post(address(other, 7), json=APPROVE), 404, "not_found")
    missing = "/api/messages/nobody/calls/0/decision"
    check(await client.post(missing, json=APPROVE), 404, "not_found")
    for answer in (late, cancelled, over, other):
        assert await store.decisions_of(answer.id) == []


BAD: list[Any] = [
    {},
    [],
    None,
    "approve",
    {"decision": None},
    {"decision": "approved"},
    {"decision": ["approve"]},
    {"decision": "approve", "reason": "why"},
    {"decision": "approve", "result": 1},
    {"decision": "approve", "arguments": []},
    {"decision": "approve", "arguments": "[1]"},
    {"decision": "approve", "arguments": '{"euros": NaN}'},
    {"decision": "approve", "arguments": ""},
    {"decision": "approve", "runs": -1},
    {"decision": "approve", "runs": 2**63},
    {"decision": "approve", "runs": "1"},
    {"decision": "approve", "runs": True},
    {"decision": "approve", "by": "somebody"},
    {"decision": "deny", "arguments": {}},
    {"decision": "deny", "reason": ""},
    {"decision": "deny", "reason": " "},
    {"decision": "deny", "reason": 5},
    {"decision": "deny", "reason": "x" * 2001},
    {"decision": "error"},
    {"decision": "error", "reason": None},
    {"decision": "error", "reason": "x", "result": 1},
    {"decision": "result"},
    {"decision": "result", "result": 1, "arguments": {}},
    {"decision": "repeat", "result": 1},
    {"decision": "go_on", "reason": "x"},
]


@pytest.mark.sampled(10)
@pytest.mark.parametrize("body", BAD, ids=json.dumps)
async def test_a_hostile_body(client: httpx.AsyncClient, store: Store, body: Any) -> None:
    """422 that names the mistake; the call stays as it is."""
    answer = await local(store)
    document = check(await client.post(address(answer), json=body), 422, "invalid")
    assert document["errors"][0]["field"].startswith("body")
    assert await answer.states() == ["awaiting_approval"]


@pytest.mark.parametrize(
    "body",
    [
        '{"decision": "deny", "decision": "approve"}',
        '{"decision": "approve", "arguments": {"to": "Ann", "t\\u006f": "Eve"}}',
        '{"decision": "approve", "arguments": {"to": "Ann"}, "arguments": {"to": "Eve"}}',
    ],
)
async def test_a_name_that_occurs_twice(client: httpx.AsyncClient, store: Store, body: str) -> None:
    """Nobody who reads the body may take another value for the one that counts."""
    answer = await local(store)
    given = await client.post(
        address(answer), content=body, headers={"content-type": "application/json"}
    )
    document = check(given, 400, "malformed_json")
    assert document["detail"] == "The body has an object in which a name occurs twice."
    assert await answer.states() == ["awaiting_approval"]


@pytest.mark.parametrize("arguments", [5, [], "[1]", "  ", '{"a": 1, "a": 2}', ['{"a": 1}'], True])
async def test_wrong_arguments_get_one_sentence(
    client: httpx.AsyncClient, store: Store, arguments: Any
) -> None:
    """About the field: not one for each form that they may have."""
    answer = await local(store)
    given = await client.post(address(answer), json=APPROVE | {"arguments": arguments})
    assert check(given, 422, "invalid")["errors"] == [
        {
            "field": "body.arguments",
            "message": "must be an object, or the JSON text of one, with each name once",
        }
    ]


WRONG = ["-1", "x", "1.5", "9" * 20, "9" * 5000, "00", "0.0", "%200", "0%20", "+0", "-0", "01"]


@pytest.mark.parametrize("number", [*WRONG, "0_0", "0e0", "%D9%A0"])
async def test_a_number_that_is_none(client: httpx.AsyncClient, store: Store, number: str) -> None:
    """One part has one address."""
    answer = await local(store)
    document = check(await client.post(address(answer, number), json=APPROVE), 422, "invalid")
    assert [error["field"] for error in document["errors"]] == ["path.number"]
    assert await answer.states() == ["awaiting_approval"]


async def test_what_is_too_large(client: httpx.AsyncClient, store: Store) -> None:
    """Counted as JSON with its escapes: 413, and the largest one passes."""
    for name, large, fits in (
        ("result", "é" * (LIMIT // 2), "é" * (LIMIT // 2 - 1)),
        ("result", '"' * (LIMIT // 2), '"' * (LIMIT // 2 - 1)),
        ("arguments", {"a": "x" * LIMIT}, {"a": "x" * (LIMIT - 20)}),
    ):
        kind = "result" if name == "result" else "approve"
        state: Any = "awaiting_client" if name == "result" else "awaiting_approval"
        answer = await local(store, call(0, state))
        body = {"decision": kind, name: large}
        check(await client.post(address(answer), json=body), 413, "content_too_large")
        assert await answer.states() == [state]
        accepted = await client.post(address(answer), json=body | {name: fits})
        assert accepted.status_code == 200, accepted.text


async def test_halves_of_characters_are_repaired(client: httpx.AsyncClient, store: Store) -> None:
    """As in every body: what is stored can be shown."""
    answer = await local(store)
    body = '{"decision": "deny", "reason": "no \\ud800\\u0000"}'
    found = (await client.post(address(answer), content=body)).json()
    assert found["decision"]["reason"] == "no \ufffd\ufffd"
