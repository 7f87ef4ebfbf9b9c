"""Who may not read an event stream, and from which cursor; what happens when a permission or the
server ends.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import jwt
import pytest

from tests.eventsource import PATIENCE_SECONDS, EventSource
from tests.integration.serving import KEY, Web, serving
from tokenwire.protocol.tokens import AUDIENCE, LEEWAY_SECONDS
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.web import readers
from tokenwire.web.feed import routes as feed

HOST_KEY = "host-key-of-tests-0123456789abcdefgh"
PLACES = 3


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    """In development mode, with few slots."""
    async with serving(tmp_path, max_streams=PLACES, heartbeat_idle_seconds=0.1) as running:
        yield running


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Web]:
    """In production mode."""
    production = {"mode": "production", "host_jwt_key": HOST_KEY, "redis_url": "redis://unused"}
    async with serving(
        tmp_path, heartbeat_idle_seconds=0.1, heartbeat_running_seconds=0.1, **production
    ) as running:
        yield running


def login(user: str, left: float = 600) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + left}, HOST_KEY)


def token(conversation: str, user: str = "ada", left: float = 600, key: str = KEY) -> str:
    return jwt.encode(
        {"sub": user, "conv": conversation, "exp": time.time() + left, "aud": AUDIENCE}, key
    )


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def opened(web: Web, address: str, **headers: str) -> int:
    """The status of an answer, which is closed at once."""
    async with web.client.stream("GET", address, headers=headers) as answer:
        return answer.status_code


@pytest.mark.parametrize(
    "cursor",
    ["5", "e:", "e:-1", "e 5", "../..", "e:５", "x" * 5000, "%00", "e:99999999999999999999"],
)
async def test_a_malformed_cursor_is_refused_before_the_stream(web: Web, cursor: str) -> None:
    """In any parameter; a valid one beside it does not help if the malformed one counts."""
    address = f"/api/conversations/{await web.conversation()}/events"
    assert problem(await web.client.get(f"{address}?after={cursor}")) == (
        400,
        "malformed_cursor",
    )
    if cursor.isascii() and len(cursor) < 1000:
        headers = {"Last-Event-ID": cursor}
        assert problem(await web.client.get(f"{address}?after=e:1", headers=headers)) == (
            400,
            "malformed_cursor",
        )


async def test_unknown_conversations_and_messages_are_404(web: Web) -> None:
    """For any id."""
    for name in ("nobody", "..", "a%2Fb", "%00", "x" * 100):
        assert problem(await web.client.get(f"/api/conversations/{name}/events"))[0] in (404, 405)
        assert problem(await web.client.get(f"/api/messages/{name}/events"))[0] in (404, 405)


async def test_a_token_in_the_address_is_refused(web: Web) -> None:
    """Even a valid one, since addresses end up in logs."""
    conversation = await web.conversation()
    address = f"/api/conversations/{conversation}/events"
    assert problem(await web.client.get(f"{address}?token={token(conversation, 'local')}")) == (
        400,
        "bad_request",
    )


async def test_methods(web: Web) -> None:
    """HEAD answers like GET without a stream; others list the allowed methods."""
    conversation = await web.conversation()
    for address in (f"/api/conversations/{conversation}/events", "/api/feed"):
        head = await web.client.head(address)
        assert (head.status_code, head.headers["content-type"], head.content) == (
            200,
            "text/event-stream; charset=utf-8",
            b"",
        )
        for method in ("OPTIONS", "POST", "DELETE"):
            refused = await web.client.request(method, address)
            assert problem(refused) == (405, "method_not_allowed")
            assert "GET" in refused.headers["allow"]
    assert problem(await web.client.get("/api/conversations/nobody/events"))[0] == 404
    assert web.streams == 0


async def test_a_full_server_refuses_streams(web: Web) -> None:
    """503 with Retry-After; ordinary calls continue, and a released slot can be taken."""
    address = f"/api/conversations/{await web.conversation()}/events"
    held = [web.client.stream("GET", address) for _ in range(PLACES)]
    for one in held:
        await one.__aenter__()
    refused = await web.client.get(address)
    assert (*problem(refused), refused.headers["retry-after"]) == (503, "over_capacity", "5")
    assert problem(await web.client.get("/api/feed")) == (503, "over_capacity")
    assert (await web.client.get("/api/conversations")).status_code == 200
    for one in held:
        await one.__aexit__(None, None, None)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while web.streams:
            await asyncio.sleep(0.01)
    assert await opened(web, address) == 200


async def test_without_redis_only_feeds_open(tmp_path: Path) -> None:
    """503 with Retry-After for a conversation; a feed uses SQL alone and is slower."""
    log = MemoryLog()
    async with serving(tmp_path, log, MemoryPubSub(log), heartbeat_idle_seconds=0.1) as web:
        conversation = await web.conversation()
        log.go_down()
        refused = await web.client.get(f"/api/conversations/{conversation}/events")
        assert (*problem(refused), refused.headers["retry-after"]) == (503, "unavailable", "2")
        events = aiter(EventSource(web.client, "/api/feed"))
        assert len((await anext(events)).json["conversations"]) == 1
        await web.conversation()
        assert (await anext(events)).json["type"] == "created"
        log.come_back()


# --- who ---


async def test_strangers_are_refused(guarded: Web) -> None:
    """401 without a login, 404 for what belongs to others."""
    made = await guarded.client.post("/api/conversations", headers=bearer(login("ada")))
    address = f"/api/conversations/{made.json()['id']}/events"
    assert problem(await guarded.client.get(address)) == (401, "unauthenticated")
    assert problem(await guarded.client.get("/api/feed")) == (401, "unauthenticated")
    assert problem(await guarded.client.get(address, headers=bearer(login("eve")))) == (
        404,
        "not_found",
    )
    assert await opened(guarded, address, **bearer(login("ada"))) == 200


async def test_a_bare_eventsource_sends_its_cookie(guarded: Web) -> None:
    """And needs nothing else."""
    made = await guarded.client.post("/api/conversations", headers=bearer(login("ada")))
    assert (
        await opened(
            guarded,
            f"/api/conversations/{made.json()['id']}/events",
            Cookie=f"session={login('ada')}",
        )
        == 200
    )
    assert await opened(guarded, "/api/feed", Cookie=f"session={login('ada')}") == 200


async def test_a_subscription_token_opens_only_its_conversation(guarded: Web) -> None:
    """And its messages; neither the feed nor another conversation. Forged and expired ones open
    nothing.
    """
    ada = bearer(login("ada"))
    one, two = [
        (await guarded.client.post("/api/conversations", headers=ada)).json()["id"]
        for _ in range(2)
    ]
    posted = await guarded.client.post(
        f"/api/conversations/{one}/messages", json={"content": "hi"}, headers=ada
    )
    messages = f"/api/messages/{posted.json()['assistant_message']['id']}/events"
    given = posted.json()["subscription"]["token"]
    address = f"/api/conversations/{one}/events"
    assert [await opened(guarded, where, **bearer(given)) for where in (address, messages)] == [
        200,
        200,
    ]
    assert problem(
        await guarded.client.get(f"/api/conversations/{two}/events", headers=bearer(given))
    ) == (404, "not_found")
    assert problem(await guarded.client.get(messages, headers=bearer(token(two)))) == (
        404,
        "not_found",
    )
    assert problem(await guarded.client.get(address, headers=bearer(token(one, user="eve")))) == (
        404,
        "not_found",
    )
    assert problem(await guarded.client.get("/api/feed", headers=bearer(given))) == (
        401,
        "unauthenticated",
    )
    for bad in (token(one, left=-31), token(one, key="another-key-0123456789abcdef01234")):
        assert problem(await guarded.client.get(address, headers=bearer(bad))) == (
            401,
            "unauthenticated",
        )


async def test_a_bad_subscription_token_is_refused(web: Web) -> None:
    """Even where no login is required."""
    conversation = await web.conversation()
    bad = token(conversation, "local", left=-31)
    assert problem(
        await web.client.get(f"/api/conversations/{conversation}/events", headers=bearer(bad))
    ) == (401, "unauthenticated")


# --- ends ---


async def test_an_expired_token_ends_the_stream(guarded: Web) -> None:
    """After its leeway; a client that reconnects gets the reason."""
    made = await guarded.client.post("/api/conversations", headers=bearer(login("ada")))
    headers = bearer(token(made.json()["id"], left=1.5 - LEEWAY_SECONDS))
    async with guarded.client.stream(
        "GET", f"/api/conversations/{made.json()['id']}/events", headers=headers
    ) as answer:
        assert answer.status_code == 200
        text = b"".join([data async for data in answer.aiter_raw()])
    assert text.endswith(b": expired\n\n")
    again = await guarded.client.get(
        f"/api/conversations/{made.json()['id']}/events", headers=headers
    )
    assert problem(again) == (401, "unauthenticated")


async def test_an_expired_login_ends_its_streams(
    guarded: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a heartbeat, for conversations and feeds."""
    monkeypatch.setattr(readers, "RECHECK_SECONDS", 0.0)
    monkeypatch.setattr(feed, "RECHECK_SECONDS", 0.0)
    made = await guarded.client.post("/api/conversations", headers=bearer(login("ada")))
    session = bearer(login("ada", left=1.5 - LEEWAY_SECONDS))
    for address in (f"/api/conversations/{made.json()['id']}/events", "/api/feed"):
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            guarded.client.stream("GET", address, headers=session) as answer,
        ):
            assert answer.status_code == 200
            text = b"".join([data async for data in answer.aiter_raw()])
        assert text.endswith(b": expired\n\n")
        session = bearer(login("ada", left=1.5 - LEEWAY_SECONDS))


async def test_a_stopping_server_ends_all_streams(tmp_path: Path) -> None:
    """Properly, so that clients reconnect at once; also one that waits after a resync."""
    async with serving(tmp_path, heartbeat_idle_seconds=25) as web:
        conversation = await web.conversation()
        address = f"/api/conversations/{conversation}/events"
        texts = [bytearray() for _ in range(3)]
        places = (address, f"{address}?after=other:1", "/api/feed")
        ended = asyncio.gather(
            *[_read_to_the_end(web, where, text) for where, text in zip(places, texts, strict=True)]
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (b": live" in texts[0] and b"resync" in texts[1] and b"snapshot" in texts[2]):
                await asyncio.sleep(0.01)
        begun = time.monotonic()
        stopping = asyncio.create_task(web.leave())
        await ended
        await stopping
    assert time.monotonic() - begun < PATIENCE_SECONDS / 2
    assert texts[0].endswith(b": stopped\n\n")


async def _read_to_the_end(web: Web, address: str, text: bytearray) -> None:
    async with web.client.stream("GET", address, timeout=PATIENCE_SECONDS) as answer:
        async for data in answer.aiter_raw():
            text += data


async def test_streams_of_a_removed_participant_end(guarded: Web) -> None:
    """With a login and with a subscription token; the feed shows it, and the owner's stream
    continues.
    """
    ada, bob = bearer(login("ada")), bearer(login("bob"))
    name = (await guarded.client.post("/api/conversations", headers=ada)).json()["id"]
    address = f"/api/conversations/{name}"
    await guarded.client.post(f"{address}/participants", json={"user_id": "bob"}, headers=ada)
    await guarded.client.post(f"/api/invitations/{name}/accept", headers=bob)
    granted = (await guarded.client.post(f"{address}/subscription", headers=bob)).json()["token"]
    texts = [bytearray() for _ in range(4)]

    async def read(where: str, headers: dict[str, str], text: bytearray) -> None:
        async with guarded.client.stream(
            "GET", where, headers=headers, timeout=PATIENCE_SECONDS
        ) as answer:
            async for data in answer.aiter_raw():
                text += data

    places = [
        (f"{address}/events", bob),
        (f"{address}/events", bearer(granted)),
        (f"{address}/events", ada),
        ("/api/feed", bob),
    ]
    reading = [
        asyncio.create_task(read(where, who, text))
        for (where, who), text in zip(places, texts, strict=True)
    ]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (all(b": live" in text for text in texts[:3]) and b"snapshot" in texts[3]):
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        assert (
            await guarded.client.delete(f"{address}/participants/bob", headers=ada)
        ).status_code == 204
        await asyncio.gather(*reading[:2])
        while b'"type":"deleted"' not in texts[3]:
            await asyncio.sleep(0.01)
    assert time.monotonic() - begun < PATIENCE_SECONDS / 2
    assert texts[0].endswith(b": removed\n\n")
    assert texts[1].endswith(b": removed\n\n")
    assert not reading[2].done()
    again = await guarded.client.get(f"{address}/events", headers=bearer(granted))
    assert again.status_code == 404
    for task in reading[2:]:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
