"""The API's routes for messages: posts, cursors and cancels, with their effects in SQL, the log and
the queue.
"""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.unit.web.api.test_conversations import begin
from tests.unit.web.conftest import MakeClient, RecordedJobs
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.conversations import Post
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.quotas import Quotas
from tokenwire.models.store import Store
from tokenwire.models.tables import Message
from tokenwire.protocol.events import Chunk
from tokenwire.streams.log import ports
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import schemas

LEASE = 30.0


@pytest.fixture
async def address(client: httpx.AsyncClient) -> str:
    """The address of a new conversation."""
    return f"/api/conversations/{(await begin(client))['id']}"


async def post(
    client: httpx.AsyncClient, address: str, content: str = "hi", key: str | None = None
) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = await client.post(f"{address}/messages", json={"content": content}, headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def logged(log: MemoryLog, address: str) -> list[dict[str, Any]]:
    page = await log.read(address.rpartition("/")[2], None, 0, 100)
    return [json.loads(entry.data) for entry in page.entries]


async def start(store: Store, log: MemoryLog, message_id: str, text: str = "Hello") -> ports.Claim:
    """What a worker does: claim, begin the attempt, append a piece, save it."""
    row = await store.message(message_id)
    assert row is not None
    claim = await log.claim(row.conversation_id, row.id, row.attempt, LEASE)
    assert await store.begin_attempt(row.id, claim.attempt, "demo") is not None
    appended = await log.append(claim, 0, 0, [Chunk(row.id, claim.attempt, 0, text, 0)])
    await store.checkpoint(
        [Checkpoint(row.id, claim.attempt, text, "", claim.epoch, appended.last_seq)]
    )
    return claim


async def test_a_post_is_stored_announced_and_enqueued(
    client: httpx.AsyncClient, address: str, store: Store, log: MemoryLog, jobs: RecordedJobs
) -> None:
    """Both rows are in the answer and, in order, in the log; the job is queued; SQL records
    both.
    """
    given = await post(client, address)
    user, assistant = given["user_message"], given["assistant_message"]
    assert (user["role"], user["content"], user["status"], user["ordinal"]) == (
        "user",
        "hi",
        "complete",
        1,
    )
    assert (assistant["role"], assistant["content"], assistant["status"], assistant["ordinal"]) == (
        "assistant",
        "",
        "queued",
        2,
    )
    assert (assistant["model"], assistant["parent_id"], user["user_id"]) == (
        "demo",
        user["id"],
        "local",
    )
    assert [(event["type"], event["message"]) for event in await logged(log, address)] == [
        ("message", user),
        ("message", assistant),
    ]
    assert jobs.enqueued == [assistant["id"]]
    rows = [await store.message(message["id"]) for message in (user, assistant)]
    assert [
        (row.announced_rev, row.enqueued_at is not None) for row in rows if row is not None
    ] == [(1, False), (1, True)]


async def test_the_cursor_of_a_post_comes_before_its_rows(
    client: httpx.AsyncClient, address: str
) -> None:
    """A reader that subscribes with it gets both rows and nothing older."""
    first, second = await post(client, address), await post(client, address)
    assert first["cursor"].endswith(":0")
    assert second["cursor"].endswith(":2")
    assert first["subscription"]["url"].endswith(address.removeprefix("/api"))


async def test_the_cursor_of_a_snapshot_matches_its_rows(
    client: httpx.AsyncClient, address: str, store: Store, log: MemoryLog
) -> None:
    """While an answer is written, the cursor is its floor, and the row's seq counts in the same
    epoch.
    """
    message_id = (await post(client, address))["assistant_message"]["id"]
    claim = await start(store, log, message_id)
    await log.append(claim, 1, 3, [Chunk(message_id, claim.attempt, 5, " world", 0)])
    snapshot = (await client.get(address)).json()
    assert snapshot["cursor"] == f"{claim.epoch}:3"
    assert [(row["content"], row["seq"], row["status"]) for row in snapshot["messages"]] == [
        ("hi", 0, "complete"),
        ("Hello", 3, "streaming"),
    ]
    log.restart(lose_data=True)
    snapshot = (await client.get(address)).json()
    assert [row["seq"] for row in snapshot["messages"]] == [0, 0]
    assert not snapshot["cursor"].startswith(claim.epoch)


async def test_a_post_is_accepted_without_redis(
    client: httpx.AsyncClient, address: str, store: Store, log: MemoryLog, jobs: RecordedJobs
) -> None:
    """202 with a null cursor. SQL records what is not announced and enqueued yet; the same key does
    it later.
    """
    log.go_down()
    jobs.away = True
    given = await post(client, address, key="k")
    assert given["cursor"] is None
    assert (await client.get(address)).json()["cursor"] is None
    row = await store.message(given["assistant_message"]["id"])
    assert row is not None
    assert (row.announced_rev, row.enqueued_at) == (0, None)
    log.come_back()
    jobs.away = False
    again = await post(client, address, key="k")
    assert again["assistant_message"]["id"] == row.id
    assert [event["message"]["ordinal"] for event in await logged(log, address)] == [1, 2]
    assert jobs.enqueued == [row.id]


async def test_a_post_is_announced_without_the_queue(
    client: httpx.AsyncClient, address: str, store: Store, jobs: RecordedJobs
) -> None:
    """Each step is recorded separately."""
    jobs.away = True
    given = await post(client, address)
    row = await store.message(given["assistant_message"]["id"])
    assert row is not None
    assert (row.announced_rev, row.enqueued_at) == (1, None)


async def test_a_post_is_accepted_if_the_database_fails_after_the_commit(
    client: httpx.AsyncClient,
    address: str,
    store: Store,
    jobs: RecordedJobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rows are stored and the job is queued: 202, although neither is recorded."""

    async def leaves(*_arguments: object, **_more: object) -> None:
        raise StoreUnavailable("gone just now")

    monkeypatch.setattr(store, "mark_posted", leaves)
    given = await post(client, address)
    assert jobs.enqueued == [given["assistant_message"]["id"]]


async def test_a_repeated_key_posts_once(
    client: httpx.AsyncClient, address: str, log: MemoryLog, jobs: RecordedJobs
) -> None:
    """The same ids come back, and nothing is announced or enqueued again. White space in the body
    does not matter.
    """
    first, second = await post(client, address, key="k"), await post(client, address, key="k")
    assert [first[name]["id"] for name in ("user_message", "assistant_message")] == [
        second[name]["id"] for name in ("user_message", "assistant_message")
    ]
    spaced = await client.post(
        f"{address}/messages", content=b'{ "content" : "hi" }', headers={"Idempotency-Key": "k"}
    )
    assert spaced.json()["user_message"]["id"] == first["user_message"]["id"]
    assert len(await logged(log, address)) == 2
    assert len(jobs.enqueued) == 1
    other = await client.post(
        f"{address}/messages", json={"content": "ho"}, headers={"Idempotency-Key": "k"}
    )
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


async def test_posts_at_once_are_queued_in_one_order(
    client: httpx.AsyncClient, address: str, log: MemoryLog, jobs: RecordedJobs
) -> None:
    """All are accepted, without holes in the ordinals; each pair stays together; every job is
    enqueued.
    """
    given = await asyncio.gather(*(post(client, address, str(n)) for n in range(12)))
    rows = (await client.get(address)).json()["messages"]
    assert [row["ordinal"] for row in rows] == list(range(1, 25))
    assert [row["role"] for row in rows] == ["user", "assistant"] * 12
    assert sorted(jobs.enqueued) == sorted(pair["assistant_message"]["id"] for pair in given)
    assert {event["message"]["id"] for event in await logged(log, address)} == {
        row["id"] for row in rows
    }


async def test_policy_reject(make_client: MakeClient) -> None:
    """409 while an answer is unfinished; nothing is stored."""
    async with make_client(concurrent_posts="reject") as client:
        address = f"/api/conversations/{(await begin(client))['id']}"
        await post(client, address)
        refused = await client.post(f"{address}/messages", json={"content": "more"})
        assert (refused.status_code, refused.json()["code"]) == (409, "answer_running")
        assert len((await client.get(address)).json()["messages"]) == 2


async def test_each_post_says_what_it_does_while_an_answer_runs(
    make_client: MakeClient, store: Store
) -> None:
    """It overrules the setting; a repeated post must say the same; nonsense is refused."""
    async with make_client(concurrent_posts="reject") as client:
        address = f"/api/conversations/{(await begin(client))['id']}"
        await post(client, address)

        async def again(key: str, **fields: Any) -> httpx.Response:
            body, headers = {"content": "more", **fields}, {"Idempotency-Key": key}
            return await client.post(f"{address}/messages", json=body, headers=headers)

        for policy, stored in (("queue", None), ("steer", "steer")):
            accepted = await again(policy, while_running=policy)
            assert accepted.status_code == 202
            row = await store.message(accepted.json()["assistant_message"]["id"])
            assert row is not None
            assert row.while_running == stored
        assert (await again("steer", while_running="queue")).json()["code"] == "key_reused"
        assert (await again("null", while_running=None)).json()["code"] == "answer_running"
        assert (await again("none")).json()["code"] == "answer_running"
        assert (await again("other", while_running="interrupt")).status_code == 422
        stopped = await again("cancel", while_running="cancel_previous")
        assert stopped.status_code == 202
        shown = (await client.get(address)).json()["messages"]
        assert [row["status"] for row in shown if row["role"] == "assistant"] == [
            *("cancelled", "cancelled", "cancelled", "queued")
        ]


async def test_policy_cancel_previous(
    make_client: MakeClient, store: Store, log: MemoryLog
) -> None:
    """An answer without a worker ends as cancelled at once; a running one is asked to stop."""
    async with make_client(concurrent_posts="cancel_previous") as client:
        address = f"/api/conversations/{(await begin(client))['id']}"
        waiting = (await post(client, address))["assistant_message"]["id"]
        running = (await post(client, address))["assistant_message"]["id"]
        row = await store.message(waiting)
        assert row is not None
        assert (row.status, row.cancel_by) == ("cancelled", "superseded")
        claim = await start(store, log, running)
        await post(client, address)
    assert await log.renew(claim, LEASE) == "superseded"
    assert [
        event["by"] for event in await logged(log, address) if event["type"] == "cancelled"
    ] == ["superseded"]


async def test_cancel_before_the_job_starts(
    client: httpx.AsyncClient, address: str, store: Store, log: MemoryLog
) -> None:
    """The answer ends as cancelled by the caller with one terminal event; a second cancel has no
    effect.
    """
    message_id = (await post(client, address))["assistant_message"]["id"]
    answer = await client.post(f"/api/messages/{message_id}/cancel")
    assert (answer.status_code, answer.json()) == (202, {"cancelled": [message_id]})
    row = await store.message(message_id)
    assert row is not None
    assert (row.status, row.cancel_by, row.terminal_announced) == ("cancelled", "local", True)
    again = await client.post(f"/api/messages/{message_id}/cancel")
    assert (again.status_code, again.json()) == (202, {"cancelled": []})
    assert [event["type"] for event in await logged(log, address)] == [
        "message",
        "message",
        "cancelled",
    ]


async def test_cancel_of_a_running_answer_is_a_request(
    client: httpx.AsyncClient, address: str, store: Store, log: MemoryLog
) -> None:
    """The worker is notified through the log and SQL, and ends the answer itself."""
    message_id = (await post(client, address))["assistant_message"]["id"]
    claim = await start(store, log, message_id)
    assert (await client.post(f"{address}/cancel")).json() == {"cancelled": [message_id]}
    assert await log.renew(claim, LEASE) == "local"
    row = await store.message(message_id)
    assert row is not None
    assert (row.status, row.cancel_by) == ("streaming", "local")


async def test_cancel_without_redis_is_durable(
    client: httpx.AsyncClient, address: str, store: Store, log: MemoryLog
) -> None:
    """202; SQL keeps the request for the next worker that claims the answer."""
    message_id = (await post(client, address))["assistant_message"]["id"]
    log.go_down()
    assert (await client.post(f"/api/messages/{message_id}/cancel")).status_code == 202
    row = await store.message(message_id)
    assert row is not None
    assert (row.status, row.cancel_by) == ("queued", "local")


async def test_cancel_of_a_conversation_stops_all_queued_answers(
    client: httpx.AsyncClient, address: str, store: Store, jobs: RecordedJobs
) -> None:
    """None of them starts because another one has ended."""
    ids = [(await post(client, address))["assistant_message"]["id"] for _ in range(3)]
    jobs.enqueued.clear()
    assert (await client.post(f"{address}/cancel")).json() == {"cancelled": ids}
    rows: list[Message | None] = [await store.message(message_id) for message_id in ids]
    assert {row.status for row in rows if row is not None} == {"cancelled"}
    assert (await client.post(f"{address}/cancel")).json() == {"cancelled": []}
    assert ids[-1] not in jobs.enqueued


async def test_a_users_row_cannot_be_cancelled(client: httpx.AsyncClient, address: str) -> None:
    """It has no answer: 202 without effect."""
    message_id = (await post(client, address))["user_message"]["id"]
    assert (await client.post(f"/api/messages/{message_id}/cancel")).json() == {"cancelled": []}


async def test_cancel_of_an_others_message_is_404(client: httpx.AsyncClient, store: Store) -> None:
    """As for an id that does not exist."""
    theirs = await store.create_conversation("somebody-else")
    posted = await store.post(Post(theirs.id, "somebody-else", "hi", "demo"))
    for message_id in (posted.assistant_message.id, "nobody", "a b", "%00"):
        answer = await client.post(f"/api/messages/{message_id}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    row = await store.message(posted.assistant_message.id)
    assert row is not None
    assert row.cancel_by is None


async def test_pages_of_messages(client: httpx.AsyncClient, address: str) -> None:
    """Newest first; `next` gives older ones."""
    for n in range(3):
        await post(client, address, str(n))
    newest = (await client.get(address, params={"limit": 2})).json()
    assert [row["ordinal"] for row in newest["messages"]] == [5, 6]
    older = (await client.get(address, params={"limit": 200, "before": newest["next"]})).json()
    assert ([row["ordinal"] for row in older["messages"]], older["next"]) == ([1, 2, 3, 4], None)


async def test_text_that_cannot_be_stored_is_replaced(
    client: httpx.AsyncClient, address: str
) -> None:
    """Lone surrogates and U+0000 become U+FFFD; a pair written as two escapes is one character."""
    answer = await client.post(
        f"{address}/messages", content=rb'{"content":"a\u0000b\ud800c\ud83d\ude00"}'
    )
    assert answer.json()["user_message"]["content"] == "a\ufffdb\ufffdc\U0001f600"


async def test_an_ended_answer_shows_how_it_ended(
    client: httpx.AsyncClient, address: str, store: Store, log: MemoryLog
) -> None:
    """Error, usage and finish reason are those of the row."""
    message_id = (await post(client, address))["assistant_message"]["id"]
    claim = await start(store, log, message_id)
    error = {"code": "rate_limited", "error": "Too many requests.", "retryable": True}
    usage = {"input_tokens": 3, "output_tokens": 1, "estimated": True}
    assert await store.finish(
        Ending(
            message_id,
            claim.attempt,
            "error",
            "Hello",
            "",
            claim.epoch,
            3,
            error=error,
            usage=usage,
        )
    )
    row = (await client.get(address)).json()["messages"][1]
    assert (row["status"], row["error"], row["usage"], row["finish_reason"], row["content"]) == (
        "error",
        error,
        usage,
        None,
        "Hello",
    )


async def test_too_many_waiting_posts_are_refused(
    client: httpx.AsyncClient, store: Store, jobs: RecordedJobs
) -> None:
    """409 with a code; nothing is stored or enqueued. A repeated post that exists already is
    answered.
    """
    store.quotas = Quotas(queued_per_conversation=20)
    conversation = (await client.post("/api/conversations")).json()["id"]
    path = f"/api/conversations/{conversation}/messages"
    key = {"Idempotency-Key": "k"}
    posted = [await client.post(path, json={"content": "hi"}, headers=key)]
    posted += [await client.post(path, json={"content": "hi"}) for _ in range(21)]
    assert [answer.status_code for answer in posted] == [202] * 20 + [409] * 2
    assert posted[-1].json()["code"] == "too_many_queued"
    assert len(jobs.enqueued) == 20
    assert (await client.post(path, json={"content": "hi"}, headers=key)).status_code == 202


async def test_a_schema_is_stored_with_the_answer(
    client: httpx.AsyncClient, address: str, store: Store
) -> None:
    schema = {"type": "object", "required": ["city"]}
    given = await client.post(f"{address}/messages", json={"content": "hi", "schema": schema})
    assert given.status_code == 202, given.text
    row = await store.message(given.json()["assistant_message"]["id"])
    assert row is not None
    assert row.response_schema == schema
    assert given.json()["assistant_message"]["object"] is None


LOOP = {"$defs": {n: {"$ref": f"#/$defs/{m}"} for n, m in ("ab", "ba")}, "$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 5},
        {"$ref": "#"},
        {"$ref": "https://a.example/s"},
        LOOP,
        {"pattern": "("},
        {"pattern": "(a{1,1000}){1,1000}"},
        {"enum": [f"x{number}" for number in range(9000)]},
    ],
)
async def test_a_schema_that_cannot_be_used_is_refused(
    client: httpx.AsyncClient, address: str, schema: dict[str, Any], jobs: RecordedJobs
) -> None:
    """With its place, and nothing is stored."""
    refused = await client.post(f"{address}/messages", json={"content": "hi", "schema": schema})
    assert refused.status_code == 422
    problem = refused.json()
    assert (problem["code"], problem["errors"][0]["field"]) == ("invalid", "body.schema")
    assert "no usable JSON Schema: #" in problem["errors"][0]["message"]
    assert jobs.enqueued == []


async def test_a_schema_that_a_busy_machine_cannot_check(
    client: httpx.AsyncClient,
    address: str,
    jobs: RecordedJobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A retry may help, so the refusal does not blame the schema."""
    monkeypatch.setattr(schemas, "LONGEST_SECONDS", 0.001)
    tool = {"name": "roll", "parameters": {"type": "object"}}
    for beside in ({"schema": {"type": "object"}}, {"tools": {"client": [tool]}}):
        refused = await client.post(f"{address}/messages", json={"content": "hi", **beside})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert jobs.enqueued == []


async def test_a_schema_without_bottom_is_refused(
    client: httpx.AsyncClient, address: str, jobs: RecordedJobs
) -> None:
    """As every body that is nested so deeply."""
    text = '{"content": "hi", "schema": ' + '{"not": ' * 400 + "{}" + "}" * 401
    refused = await client.post(f"{address}/messages", content=text)
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed_json")
    assert "64 levels" in refused.json()["detail"]
    assert jobs.enqueued == []
