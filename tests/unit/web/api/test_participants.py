"""Participants: invite, accept, leave, remove, and what a participant may not do."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from tests.unit.web.admission.test_identity import KEY, PRODUCTION
from tests.unit.web.conftest import MakeApp
from tokenwire.models.answers import Ending
from tokenwire.models.store import Store
from tokenwire.models.sweeps import Due
from tokenwire.streams.log import keys
from tokenwire.streams.log.memory import MemoryLog

C = "/api/conversations"


class People:
    """Clients of one app, each with a login of its own."""

    def __init__(self, app: Any) -> None:
        self._app, self._clients = app, list[httpx.AsyncClient]()

    def __getitem__(self, user: str) -> httpx.AsyncClient:
        login = jwt.encode({"sub": user, "exp": time.time() + 600}, KEY, "HS256")
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self._app),
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {login}"},
        )
        self._clients.append(client)
        return client

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()


@pytest.fixture
async def people(make_app: MakeApp) -> AsyncIterator[People]:
    made = People(make_app(**PRODUCTION, max_participants=3))
    yield made
    await made.aclose()


@pytest.fixture
async def address(people: People) -> str:
    """A conversation of Ada's."""
    created = await people["ada"].post(C, json={"title": "Ours", "instructions": "Be kind."})
    return f"{C}/{created.json()['id']}"


async def let_in(people: People, address: str, user: str) -> None:
    assert (
        await people["ada"].post(f"{address}/participants", json={"user_id": user})
    ).status_code == 200
    assert (
        await people[user].post(f"/api/invitations/{address.rpartition('/')[2]}/accept")
    ).status_code == 200


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"] if answer.status_code >= 400 else ""


async def test_participation_begins_with_the_acceptance(people: People, address: str) -> None:
    """Before it, an invited person sees the invitation and nothing of the conversation."""
    bob, name = people["bob"], address.rpartition("/")[2]
    for _ in range(2):
        answer = await people["ada"].post(f"{address}/participants", json={"user_id": "bob"})
        assert answer.json() == {"participants": ["ada"], "invited": ["bob"]}
    assert told(await bob.get(address)) == (404, "not_found")
    assert (await bob.get(C)).json()["conversations"] == []
    invitation = (await bob.get("/api/invitations")).json()["invitations"]
    assert [
        (item["conversation_id"], item["title"], item["invited_by"]) for item in invitation
    ] == [(name, "Ours", "ada")]
    assert told(await people["eve"].post(f"/api/invitations/{name}/accept")) == (404, "not_found")
    for _ in range(2):
        assert (await bob.post(f"/api/invitations/{name}/accept")).json()["id"] == name
    assert (await bob.get(f"{address}/participants")).json() == {
        "participants": ["ada", "bob"],
        "invited": [],
    }
    assert (await bob.get("/api/invitations")).json() == {"invitations": []}
    again = await people["ada"].post(f"{address}/participants", json={"user_id": "bob"})
    assert again.json() == {"participants": ["ada", "bob"], "invited": []}


async def test_a_declined_or_withdrawn_invitation_is_void(people: People, address: str) -> None:
    """It cannot be accepted any more."""
    name = address.rpartition("/")[2]
    for end in (
        people["bob"].delete(f"/api/invitations/{name}"),
        people["ada"].delete(f"{address}/participants/bob"),
    ):
        await people["ada"].post(f"{address}/participants", json={"user_id": "bob"})
        assert (await end).status_code == 204
        assert told(await people["bob"].post(f"/api/invitations/{name}/accept")) == (
            404,
            "not_found",
        )
    assert told(await people["bob"].delete(f"/api/invitations/{name}")) == (404, "not_found")


async def test_all_but_the_owner_may_leave_and_only_the_owner_removes(
    people: People, address: str
) -> None:
    """A person who left gets 404; the owner stays as long as the conversation exists."""
    await let_in(people, address, "bob")
    await let_in(people, address, "cy")
    assert told(await people["bob"].delete(f"{address}/participants/cy")) == (403, "not_owner")
    assert told(await people["bob"].delete(f"{address}/participants/ada")) == (403, "not_owner")
    assert told(await people["ada"].delete(f"{address}/participants/ada")) == (409, "conflict")
    assert told(await people["eve"].delete(f"{address}/participants/eve")) == (404, "not_found")
    assert (await people["bob"].delete(f"{address}/participants/bob")).status_code == 204
    for _ in range(2):
        assert (await people["ada"].delete(f"{address}/participants/cy")).status_code == 204
    for user in ("bob", "cy"):
        assert told(await people[user].get(address)) == (404, "not_found")
        assert told(await people[user].post(f"{address}/subscription")) == (404, "not_found")


@pytest.mark.parametrize("name", ["a/b", "ü%2Fx", "..", " ", "x" * 255])
async def test_user_ids_of_any_shape(people: People, address: str, name: str) -> None:
    """The host application chooses them."""
    user = name.replace("%2F", "/")
    await people["ada"].post(f"{address}/participants", json={"user_id": user})
    path = (
        httpx.URL(f"{address}/participants/").raw_path
        + name.replace("/", "%2F").replace(" ", "%20").encode()
    )
    path = path.replace("ü".encode(), b"%C3%BC").replace(b"..", b"%2E%2E")
    url = httpx.URL("http://localhost").copy_with(raw_path=path)
    assert (await people["ada"].delete(url)).status_code == 204
    assert (await people["ada"].get(f"{address}/participants")).json()["invited"] == []


async def test_there_is_a_limit(people: People, address: str) -> None:
    """Participants and invitations count together: nobody can invite thousands."""
    for user in ("bob", "cy"):
        assert (
            await people["ada"].post(f"{address}/participants", json={"user_id": user})
        ).status_code == 200
    assert told(await people["ada"].post(f"{address}/participants", json={"user_id": "dee"})) == (
        409,
        "too_many_participants",
    )
    assert (await people["ada"].get(f"{address}/participants")).json()["invited"] == ["bob", "cy"]


async def test_a_removal_is_kept_while_a_token_may_be_valid(
    people: People, address: str, log: MemoryLog
) -> None:
    """Broadcasters read no rows, so the log keeps it. A person who comes back is taken off the
    list.
    """
    name = address.rpartition("/")[2]
    await let_in(people, address, "bob")
    await people["ada"].delete(f"{address}/participants/bob")
    assert await log.revoked(name) == {"bob"}
    await let_in(people, address, "bob")
    assert await log.revoked(name) == set()


async def test_lists_change_with_the_participants(
    people: People, address: str, log: MemoryLog
) -> None:
    """The list of a person who joins or leaves changes at once; an invitation alone changes
    none.
    """
    name, heard = address.rpartition("/")[2], list[bytes]()
    log.listen(lambda channel, payload: heard.append(payload) if channel == keys.CHANGES else None)
    await people["ada"].post(f"{address}/participants", json={"user_id": "bob"})
    assert heard == []
    await people["bob"].post(f"/api/invitations/{name}/accept")
    assert heard == [name.encode()]
    await people["bob"].delete(f"{address}/participants/bob")
    assert heard == [name.encode()] * 2


async def test_a_removal_without_redis_is_stored_in_rows(
    people: People, address: str, log: MemoryLog, store: Store
) -> None:
    """The sweeper announces it later, and so does the same call once more."""
    name = address.rpartition("/")[2]
    await let_in(people, address, "bob")
    log.go_down()
    assert (await people["ada"].delete(f"{address}/participants/bob")).status_code == 204
    now = Due(0, 0, 0, 0, 0, 0)
    assert [row.user_id for row in await store.unannounced_revocations(now, "", 9)] == ["bob"]
    assert told(await people["bob"].get(address)) == (404, "not_found")
    log.come_back()
    assert (await people["ada"].delete(f"{address}/participants/bob")).status_code == 204
    assert await log.revoked(name) == {"bob"}
    assert await store.unannounced_revocations(now, "", 9) == []


async def test_a_return_during_the_announcement_of_a_removal_counts(
    people: People, address: str, log: MemoryLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the removal would be announced last."""
    await let_in(people, address, "bob")
    revoke = log.revoke

    async def late(*arguments: Any) -> None:
        monkeypatch.setattr(log, "revoke", revoke)
        await let_in(people, address, "bob")
        await revoke(*arguments)

    monkeypatch.setattr(log, "revoke", late)
    assert (await people["ada"].delete(f"{address}/participants/bob")).status_code == 204
    assert await log.revoked(address.rpartition("/")[2]) == set()


# --- what a participant may not do ----------------------------------------------------------------


def chat(address: str, text: str, message_id: str, edits: bool = False) -> dict[str, Any]:
    message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": address.rpartition("/")[2], "messages": [message]} | (
        {"messageId": message_id} if edits else {}
    )


async def finish_all(store: Store, address: str) -> None:
    for row in await store.unfinished(address.rpartition("/")[2]):
        await store.begin_attempt(row.id, row.attempt + 1, "demo")
        assert await store.finish(
            Ending(row.id, row.attempt + 1, "complete", "Yes.", "", "e", 0, "stop")
        )


async def say(people: People, store: Store, address: str, user: str, text: str) -> dict[str, str]:
    """The ids of the rows."""
    posted = (await people[user].post(f"{address}/messages", json={"content": text})).json()
    await finish_all(store, address)
    return {"question": posted["user_message"]["id"], "answer": posted["assistant_message"]["id"]}


async def texts(people: People, address: str) -> list[str]:
    return [
        row["content"]
        for row in (await people["ada"].get(address)).json()["messages"]
        if row["role"] == "user"
    ]


async def test_only_the_owner_changes_instructions(people: People, address: str) -> None:
    """A participant may change the title."""
    await let_in(people, address, "bob")
    assert told(await people["bob"].patch(address, json={"instructions": "Be rude."})) == (
        403,
        "not_owner",
    )
    assert told(
        await people["bob"].patch(address, json={"title": "Mine", "instructions": None})
    ) == (403, "not_owner")
    assert (await people["bob"].patch(address, json={"title": "Everybody's"})).status_code == 200
    row = (await people["ada"].get(address)).json()["conversation"]
    assert (row["title"], row["instructions"]) == ("Everybody's", "Be kind.")


async def test_nobody_edits_the_messages_of_others(
    people: People, address: str, store: Store
) -> None:
    """By `messageId` over /api/chat, neither a participant nor the owner can change another
    person's text.
    """
    await let_in(people, address, "bob")
    adas = await say(people, store, address, "ada", "Ada's words")
    answer = await people["bob"].post(
        "/api/chat", json=chat(address, "Bob's words", adas["question"], edits=True)
    )
    assert told(answer) == (403, "not_author")
    bobs = await say(people, store, address, "bob", "Bob's words")
    answer = await people["ada"].post(
        "/api/chat", json=chat(address, "Ada's words", bobs["question"], edits=True)
    )
    assert told(answer) == (403, "not_author")
    assert await texts(people, address) == ["Ada's words", "Bob's words"]


async def test_only_the_owner_drops_later_messages_of_others(
    people: People, address: str, store: Store
) -> None:
    """A regeneration of an early answer drops what follows it."""
    await let_in(people, address, "bob")
    bobs = await say(people, store, address, "bob", "First")
    await say(people, store, address, "ada", "Second")
    assert told(await people["bob"].post(f"/api/messages/{bobs['answer']}/regenerate")) == (
        403,
        "not_author",
    )
    assert await texts(people, address) == ["First", "Second"]
    assert (
        await people["ada"].post(f"/api/messages/{bobs['answer']}/regenerate")
    ).status_code == 202
    assert await texts(people, address) == ["First"]


async def test_open_invitations_are_counted(make_app: MakeApp) -> None:
    """Sent and received ones; an accepted one makes room. They count as posts, too."""
    people = People(make_app(**PRODUCTION, max_invitations=2, posts_per_minute_per_user=9))
    names = [(await people["ada"].post(C, json={})).json()["id"] for _ in range(3)]

    async def invite(by: str, name: str, user: str) -> tuple[int, str]:
        return told(await people[by].post(f"{C}/{name}/participants", json={"user_id": user}))

    assert [await invite("ada", name, "bob") for name in names] == [
        (200, ""),
        (200, ""),
        (409, "too_many_invitations"),
    ]
    mine = (await people["cem"].post(C, json={})).json()["id"]
    assert await invite("cem", mine, "bob") == (409, "too_many_invitations")
    assert await invite("cem", mine, "dee") == (200, "")
    assert (await people["bob"].delete(f"/api/invitations/{names[0]}")).status_code == 204
    assert await invite("ada", names[2], "bob") == (200, "")
    assert [(await invite("ada", names[0], "eve"))[1] for _ in range(3)] == [
        "too_many_invitations"
    ] * 2 + ["too_many_posts"]
    await people.aclose()


async def test_an_invitation_is_not_accepted_without_redis(
    people: People, address: str, log: MemoryLog
) -> None:
    """The new participant's events would stay closed. It can be accepted later."""
    name = address.rpartition("/")[2]
    await people["ada"].post(f"{address}/participants", json={"user_id": "bob"})
    log.go_down()
    assert told(await people["bob"].post(f"/api/invitations/{name}/accept")) == (503, "unavailable")
    assert len((await people["bob"].get("/api/invitations")).json()["invitations"]) == 1


async def test_the_end_of_participation_closes_followed_responses(
    people: People, address: str
) -> None:
    """A former participant can neither read the history of their own response nor continue it."""
    await let_in(people, address, "bob")
    posted = (await people["ada"].post(f"{address}/messages", json={"content": "a secret"})).json()
    answer = posted["assistant_message"]["id"]
    await people["ada"].post(f"/api/messages/{answer}/cancel")
    follow = {
        "model": "demo",
        "input": "Go on",
        "previous_response_id": f"resp_{answer}",
        "background": True,
    }
    mine = (await people["bob"].post("/v1/responses", json=follow)).json()["id"]
    await people["bob"].post(f"/v1/responses/{mine}/cancel")

    async def items() -> list[str]:
        listed = (await people["bob"].get(f"/v1/responses/{mine}/input_items?order=asc")).json()[
            "data"
        ]
        return [item["content"][0]["text"] for item in listed]

    assert await items() == ["a secret", "Go on"]
    assert (await people["ada"].delete(f"{address}/participants/bob")).status_code == 204
    assert await items() == ["Go on"]
    refused = await people["bob"].post(
        "/v1/responses", json=follow | {"previous_response_id": mine}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        400,
        "previous_response_not_found",
    )
