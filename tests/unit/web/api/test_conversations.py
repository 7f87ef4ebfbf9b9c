"""The API's routes for conversations, as PROTOCOL.md describes them."""

from typing import Any

import httpx
import pytest

from tests.rows import take_part
from tests.unit.web.conftest import TOKEN_KEY, MakeClient
from tokenwire.models.store import Store
from tokenwire.protocol import tokens
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Gone

OTHER = "somebody-else"


async def begin(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/api/conversations", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def events(log: MemoryLog, conversation_id: str) -> list[str]:
    return [
        entry.data.decode() for entry in (await log.read(conversation_id, None, 0, 100)).entries
    ]


async def test_create_and_read(client: httpx.AsyncClient) -> None:
    """A new conversation has the given fields, no messages, and a cursor to subscribe from."""
    made = await begin(client, title=" Trip ", model="second", instructions="Be brief")
    assert (made["title"], made["model"], made["instructions"], made["user_id"], made["rev"]) == (
        "Trip",
        "second",
        "Be brief",
        "local",
        1,
    )
    found = (await client.get(f"/api/conversations/{made['id']}")).json()
    assert found["conversation"] == made
    assert (found["messages"], found["next"]) == ([], None)
    assert found["cursor"].endswith(":0")


@pytest.mark.parametrize(
    "send", [{}, {"json": {}}, {"content": b"null"}, {"json": {"title": None, "model": None}}]
)
async def test_everything_about_a_new_conversation_is_optional(
    client: httpx.AsyncClient, send: dict[str, Any]
) -> None:
    """Even the body."""
    made = await client.post("/api/conversations", **send)
    assert made.status_code == 201
    assert made.json()["model"] is None


async def test_the_content_type_of_the_body_is_ignored(client: httpx.AsyncClient) -> None:
    """As `curl -d` sends it."""
    made = await client.post(
        "/api/conversations",
        content=b'{"title":"x"}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert made.json()["title"] == "x"


async def test_pages_visit_every_conversation_once(client: httpx.AsyncClient) -> None:
    """`next` of a page is `before` of the following one; null ends the list."""
    made = [(await begin(client))["id"] for _ in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        page = (await client.get("/api/conversations", params=query)).json()
        seen += [row["id"] for row in page["conversations"]]
        query["before"] = page["next"]
    assert page["next"] is None
    assert sorted(seen) == sorted(made)


async def test_a_change_sets_only_the_named_fields(
    client: httpx.AsyncClient, log: MemoryLog
) -> None:
    """A new title is announced with its rev; an empty change does nothing."""
    made = await begin(client, title="Old", model="second", instructions="Be brief")
    address = f"/api/conversations/{made['id']}"
    changed = (await client.patch(address, json={"title": "New"})).json()
    assert (changed["title"], changed["model"], changed["instructions"], changed["rev"]) == (
        "New",
        "second",
        "Be brief",
        2,
    )
    changed = (await client.patch(address, json={"model": None, "instructions": None})).json()
    assert (changed["title"], changed["model"], changed["instructions"], changed["rev"]) == (
        "New",
        None,
        None,
        2,
    )
    assert (await client.patch(address, json={})).json() == changed
    assert await events(log, made["id"]) == ['{"seq":1,"type":"title","title":"New","rev":2}']


async def test_a_title_changes_without_redis(
    client: httpx.AsyncClient, log: MemoryLog, store: Store
) -> None:
    """The row records that the title has not been announced."""
    made = await begin(client, title="Old")
    log.go_down()
    changed = await client.patch(f"/api/conversations/{made['id']}", json={"title": "New"})
    assert changed.status_code == 200
    row = await store.conversation(made["id"], "local")
    assert (row.title, row.rev, row.announced_rev) == ("New", 2, 1)


async def test_deletion_is_final(client: httpx.AsyncClient, log: MemoryLog) -> None:
    """The conversation is gone, and its log refuses readers."""
    made = await begin(client)
    address = f"/api/conversations/{made['id']}"
    await client.post(f"{address}/messages", json={"content": "hi"})
    answer = await client.delete(address)
    assert (answer.status_code, answer.content) == (204, b"")
    for again in (
        await client.delete(address),
        await client.get(address),
        await client.post(f"{address}/messages", json={"content": "hi"}),
    ):
        assert (again.status_code, again.json()["code"]) == (404, "not_found")
    with pytest.raises(Gone):
        await log.read(made["id"], None, 0, 1)


async def test_a_token_opens_one_conversation(client: httpx.AsyncClient) -> None:
    """It holds user, conversation and expiry. The address has the request's host and the
    broadcaster's port.
    """
    made = await begin(client)
    given = (await client.post(f"/api/conversations/{made['id']}/subscription")).json()
    assert given["url"] == f"ws://chat.example:8001/conversations/{made['id']}"
    assert given["expires_in"] == 600
    grant = tokens.verify(TOKEN_KEY, given["token"], 0)
    assert (grant.conversation_id, grant.user_id) == (made["id"], "local")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("chat.example", "ws://chat.example:8001"),
        ("127.0.0.1:8000", "ws://127.0.0.1:8001"),
        ("[::1]:8000", "ws://[::1]:8001"),
        ("CHAT.example:80", "ws://chat.example:8001"),
    ],
)
async def test_the_broadcaster_is_found_at_the_requests_host(
    client: httpx.AsyncClient, host: str, url: str
) -> None:
    """Whatever name the browser used for this server."""
    made = await begin(client)
    given = await client.post(
        f"/api/conversations/{made['id']}/subscription", headers={"Host": host}
    )
    assert given.json()["url"] == f"{url}/conversations/{made['id']}"


async def test_a_configured_broadcaster_is_named(make_client: MakeClient) -> None:
    """BROADCASTER_URL comes before the request's host."""
    async with make_client(broadcaster_url="wss://stream.example/") as client:
        made = await begin(client)
        given = (await client.post(f"/api/conversations/{made['id']}/subscription")).json()
    assert given["url"] == f"wss://stream.example/conversations/{made['id']}"


async def test_only_the_owner_invites_and_deletes(client: httpx.AsyncClient, store: Store) -> None:
    """A participant knows that the conversation exists, so the answer is 403."""
    theirs = await store.create_conversation(OTHER)
    await take_part(store, theirs.id, "local")
    address = f"/api/conversations/{theirs.id}"
    for answer in (
        await client.delete(address),
        await client.post(f"{address}/participants", json={"user_id": "x"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "not_owner")
    assert (await client.get(address)).status_code == 200
    assert (await client.patch(address, json={"title": "Ours"})).status_code == 200


async def test_a_participant_archives_for_themselves(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Beside other changes, or alone. The owner's list stays as it was."""
    theirs = await store.create_conversation(OTHER)
    await take_part(store, theirs.id, "local")
    address = f"/api/conversations/{theirs.id}"
    changed = (await client.patch(address, json={"title": "Old", "archived": True})).json()
    assert (changed["title"], changed["archived"]) == ("Old", True)
    assert (await client.patch(address, json={"title": "Older"})).json()["archived"] is True
    posted = await client.post(f"{address}/messages", json={"content": "hi"})
    assert posted.status_code == 202
    listed = (await client.get("/api/conversations?archived=true")).json()["conversations"]
    assert [(row["id"], row["archived"], row["message_count"]) for row in listed] == [
        (theirs.id, True, 2)
    ]
    assert listed[0]["last_message_at"] == posted.json()["user_message"]["created_at"]
    assert (await client.get("/api/conversations")).json()["conversations"] == []
    assert [row.id for row in (await store.conversations(OTHER, 10))[0]] == [theirs.id]
    refused = await client.patch(address, json={"archived": None})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")


async def test_conversations_of_others_are_404(client: httpx.AsyncClient, store: Store) -> None:
    """Every route answers as for an id that does not exist."""
    theirs = await store.create_conversation(OTHER)
    for conversation_id in (theirs.id, "0" * 36, "%00", "..", "a.b", "x" * 400):
        address = f"/api/conversations/{conversation_id}"
        answers = [
            await client.get(address),
            await client.patch(address, json={"title": "Mine"}),
            await client.patch(address, json={"archived": True}),
            await client.delete(address),
            await client.post(f"{address}/messages", json={"content": "hi"}),
            await client.post(f"{address}/subscription"),
            await client.post(f"{address}/cancel"),
            await client.post(f"{address}/participants", json={"user_id": "local"}),
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} <= {
            (404, "not_found"),
            (405, "method_not_allowed"),
        }
    assert (await store.conversation(theirs.id, OTHER)).title is None


async def test_creation_happens_once_per_key(client: httpx.AsyncClient) -> None:
    """The same key and body give the same conversation; another body is refused."""
    answers = [
        await client.post(
            "/api/conversations", json={"title": "A"}, headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    other = await client.post(
        "/api/conversations", json={"title": "B"}, headers={"Idempotency-Key": "k"}
    )
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
