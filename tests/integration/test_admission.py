"""The gate before every dialect, on real sockets: what an attacker cannot do with or without a
login.
"""

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.production import MIB, line, login, public
from tests.integration.raw import raw, request
from tests.integration.serving import Web, serving
from tests.integration.test_stalled import deaf, small_buffers
from tests.unit.web.openai.test_routes import finish
from tests.waiting import until
from tokenwire.models.conversations import Post
from tokenwire.streams.limits.rates import RedisRates
from tokenwire.web.admission.layer import Caller
from tokenwire.web.http import connections

# --- who is calling comes first ---


@pytest.mark.parametrize(
    "path",
    ["/v1/responses", "/v1/chat/completions", "/api/chat", "/api/conversations", "/api/object"],
)
async def test_an_unknown_caller_is_refused_before_the_body(tmp_path: Path, path: str) -> None:
    """401 in the form of the dialect, while 16 MiB are only announced; nothing of it is read or
    parsed.
    """
    async with public(tmp_path) as web, raw(web.port) as client:
        await client.send(request("POST", path, length=16 * MIB) + b"[" * 1000)
        head, body = await client.answer()
        assert " 401 " in head
        refusal = json.loads(body)
        assert (refusal["error"]["code"] if path.startswith("/v1") else refusal["code"]) in (
            "invalid_api_key",
            "unauthenticated",
        )
        assert web.app.state.gate.memory.held == 0


async def test_no_100_continue_without_a_login(tmp_path: Path) -> None:
    """The client need not send its body."""
    async with public(tmp_path) as web, raw(web.port) as client:
        await client.send(request("POST", "/v1/responses", "Expect: 100-continue", length=MIB))
        assert " 401 " in await client.head()


async def test_a_refused_body_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rest is dropped, the next request is answered, and its size does not count there."""
    monkeypatch.setattr(connections, "LINGER_BYTES", 100_000)
    asked = b'{"title":"T"}' + b" " * 60_000
    async with public(tmp_path) as web, raw(web.port) as client:
        await client.send(request("POST", "/api/conversations", length=70_000))
        assert " 401 " in (await client.answer())[0]
        await client.send(b"x" * 70_000)
        await client.send(request("GET", "/healthz"))
        assert " 200 " in (await client.answer())[0]
        await client.send(request("POST", "/api/conversations", line("ada"), body=asked))
        assert " 201 " in (await client.answer())[0]


@pytest.mark.parametrize("proxies", ["127.0.0.1", "192.0.2.1"])
async def test_the_connection_of_a_proxy_stays_open_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxies: str
) -> None:
    """A setting gives its time; other connections have uvicorn's five seconds."""
    monkeypatch.setattr(connections, "PROXY_IDLE_SECONDS", 1)
    async with public(tmp_path, forwarded_allow_ips=proxies) as web, raw(web.port) as client:
        await client.send(request("GET", "/healthz"))
        assert " 200 " in (await client.answer())[0]
        assert await client.closed_within(4.5) == (proxies == "127.0.0.1")


async def test_skipping_a_body_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes and in time."""
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.3)
    async with public(tmp_path) as web:
        async with raw(web.port) as client:
            await client.send(request("POST", "/v1/responses", length=50 * MIB))
            await client.answer()
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 50:
                    await client.send(b"x" * MIB)
                    sent += 1
            assert sent < 20
        async with raw(web.port) as client:
            await client.send(request("POST", "/v1/responses", length=50 * MIB))
            await client.answer()
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(20):
                    while not client.reader.at_eof():
                        await client.send(b"x")
                        await asyncio.sleep(0.02)


async def test_public_pages_need_no_login(tmp_path: Path) -> None:
    """The page, its files and the health checks."""
    async with public(tmp_path) as web:
        for path in ("/", "/healthz", "/static/style.css"):
            assert (await web.client.get(path)).status_code == 200


async def test_a_subscription_token_opens_only_events(tmp_path: Path) -> None:
    """The gate accepts it only where it is a credential."""
    async with public(tmp_path) as web:
        web.client.headers.update(login("ada"))
        conversation = (await web.client.post("/api/conversations")).json()["id"]
        token = (await web.client.post(f"/api/conversations/{conversation}/subscription")).json()[
            "token"
        ]
        bearer = {"Authorization": f"Bearer {token}"}
        async with web.client.stream(
            "GET", f"/api/conversations/{conversation}/events", headers=bearer
        ) as stream:
            assert stream.status_code == 200
        assert (
            await web.client.get(f"/api/conversations/{conversation}", headers=bearer)
        ).status_code == 401
        async with raw(web.port) as client:  # their bodies are not waited for either
            await client.send(
                request("POST", "/v1/responses", f"Authorization: Bearer {token}", length=MIB)
            )
            assert " 401 " in await client.head()


# --- places ---


async def test_one_user_does_not_block_others(tmp_path: Path) -> None:
    """Feeds above the limit get 429 in every dialect; another user gets one, and a released slot
    can be taken again.
    """
    async with public(tmp_path, max_open_per_user=5) as web, contextlib.AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                web.client.stream("GET", "/api/feed", headers=login("ada"))
            )
            for _ in range(5)
        ]
        assert {stream.status_code for stream in opened} == {200}
        refused = await web.client.get("/api/feed", headers=login("ada"))
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            429,
            "too_many_open",
            "5",
        )
        refused = await web.client.get("/v1/models", headers=login("ada"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_open")
        async with web.client.stream("GET", "/api/feed", headers=login("bob")) as other:
            assert other.status_code == 200
        await opened[0].aclose()
        await until(lambda: web.streams == 4)
        assert (await web.client.get("/api/me", headers=login("ada"))).status_code == 200


async def test_one_address_does_not_block_others(tmp_path: Path) -> None:
    """Under any user name; a trusted proxy names the address, and its own does not count."""
    async with (
        public(tmp_path, max_open_per_address=3) as web,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(3):
            headers = login(f"user{number}") | {"X-Forwarded-For": "203.0.113.7"}
            await stack.enter_async_context(web.client.stream("GET", "/api/feed", headers=headers))
        mine, other = (
            {"X-Forwarded-For": address} | login("late")
            for address in ("203.0.113.7", "203.0.113.8")
        )
        assert (await web.client.get("/api/me", headers=mine)).json()["code"] == "too_many_open"
        for headers in (other, login("late")):
            assert (await web.client.get("/api/me", headers=headers)).status_code == 200


async def test_an_untrusted_client_names_no_address(tmp_path: Path) -> None:
    """Its X-Forwarded-For is ignored: its own connections count."""
    async with (
        public(tmp_path, max_open_per_address=3, forwarded_allow_ips="192.0.2.1") as web,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(raw(web.port)) for _ in range(4)]
        assert await clients[3].closed_within(20)
        await clients[0].send(
            request("GET", "/api/me", line("ada"), "X-Forwarded-For: 203.0.113.9")
        )
        assert " 200 " in (await clients[0].answer())[0]


# --- rates ---


@pytest.fixture
async def minute() -> None:
    """Wait until the current minute is young: reads are counted per minute of the clock."""
    while time.time() % 60 > 50:
        await asyncio.sleep(0.1)


async def test_posts_per_minute(tmp_path: Path) -> None:
    """One user's posts in all dialects: headers count down, then 429 with a time. Reads and other
    users do not count.
    """
    async with public(tmp_path, posts_per_minute_per_user=3) as web:
        first = await web.client.post("/api/conversations", headers=login("ada"))
        assert first.headers["ratelimit-policy"] == '"user";q=3;w=60'
        assert first.headers["ratelimit"].startswith('"user";r=2;t=')
        await web.client.post("/api/chat", headers=login("ada"), json={})
        await web.client.post("/v1/responses", headers=login("ada"), json={})
        refused = await web.client.post("/v1/chat/completions", headers=login("ada"), json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_posts")
        assert 50 < int(refused.headers["retry-after"]) <= 60
        refused = await web.client.post("/api/conversations", headers=login("ada"))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_posts")
        assert (await web.client.get("/api/me", headers=login("ada"))).status_code == 200
        assert (
            await web.client.post("/api/conversations", headers=login("bob"))
        ).status_code == 201


async def test_posts_per_minute_of_an_address(tmp_path: Path) -> None:
    """All its users together."""
    async with public(tmp_path, posts_per_minute_per_address=2) as web:
        answers = [
            await web.client.post(
                "/api/conversations",
                headers=login(f"user{number}")
                | {"X-Forwarded-For": "2001:db8:1:2::" + str(number)},
            )
            for number in range(1, 4)
        ]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert '"address";r=0' in answers[2].headers["ratelimit"]


async def test_refused_posts_cost_others_nothing(tmp_path: Path) -> None:
    """A user at an address is refused; the address counts only what was accepted."""
    behind = {"X-Forwarded-For": "203.0.113.7"}
    async with public(tmp_path, posts_per_minute_per_user=2, posts_per_minute_per_address=4) as web:
        mine = [
            await web.client.post("/api/conversations", headers=login("ada") | behind)
            for _ in range(20)
        ]
        assert [answer.status_code for answer in mine] == [201] * 2 + [429] * 18
        theirs = [
            await web.client.post("/api/conversations", headers=login(user) | behind)
            for user in ("bob", "eve", "joe")
        ]
        assert [answer.status_code for answer in theirs] == [201, 201, 429]


async def test_no_path_avoids_the_count(tmp_path: Path) -> None:
    """A route may match a path with a trailing line break. Changes of a conversation count too,
    since they store text.
    """
    async with public(tmp_path, posts_per_minute_per_user=2) as web:
        for path in (
            "/api/conversations%0A",
            "/v1/responses%0a",
            "/api/conversations%0D%0A",
            "/api/%7Fconversations",
        ):
            refused = await web.client.post(path, headers=login("ada"), json={})
            assert (
                refused.status_code,
                (refused.json().get("error") or refused.json())["code"],
            ) == (404, "not_found")
        name = (await web.client.post("/api/conversations", headers=login("ada"))).json()["id"]
        answers = [
            await web.client.patch(
                f"/api/conversations/{name}", headers=login("ada"), json={"title": "x"}
            )
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [200, 429]


async def test_reads_per_minute(tmp_path: Path, minute: None) -> None:
    """One user's GET and HEAD in all dialects, a stream once: headers count down, then 429. Posts,
    health checks, the page and other users continue.
    """
    async with public(tmp_path, reads_per_minute_per_user=4) as web:
        name = (await web.client.post("/api/conversations", headers=login("ada"))).json()["id"]
        first = await web.client.get("/api/me", headers=login("ada"))
        assert first.headers["ratelimit-policy"] == '"user-reads";q=4;w=60'
        assert first.headers["ratelimit"].startswith('"user-reads";r=3;t=')
        await web.client.head("/api/me", headers=login("ada"))
        await web.client.get("/v1/responses/resp_none", headers=login("ada"))
        async with web.client.stream(
            "GET", f"/api/conversations/{name}/events", headers=login("ada")
        ) as stream:
            assert stream.status_code == 200
        refused = await web.client.get(f"/api/conversations/{name}", headers=login("ada"))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_reads")
        assert 0 < int(refused.headers["retry-after"]) <= 60
        refused = await web.client.get("/v1/models", headers=login("ada"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_reads")
        for path in ("/", "/static/app.js", "/healthz", "/readyz"):
            assert (await web.client.get(path, headers=login("ada"))).status_code == 200
        assert (
            await web.client.post("/api/conversations", headers=login("ada"))
        ).status_code == 201
        assert (
            await web.client.post(f"/api/conversations/{name}/cancel", headers=login("ada"))
        ).status_code == 202
        assert (await web.client.get("/api/me", headers=login("bob"))).status_code == 200


async def test_changes_per_minute(tmp_path: Path, minute: None) -> None:
    """Requests that are neither post nor read: the same number, counted apart, so that a user above
    the read limit can still cancel.
    """
    async with public(tmp_path, reads_per_minute_per_user=2) as web:
        name = (await web.client.post("/api/conversations", headers=login("ada"))).json()["id"]
        reads = [
            (await web.client.get("/api/me", headers=login("ada"))).status_code for _ in range(3)
        ]
        assert reads == [200, 200, 429]
        first = await web.client.post(f"/api/conversations/{name}/cancel", headers=login("ada"))
        assert (first.status_code, first.headers["ratelimit-policy"]) == (
            202,
            '"user-changes";q=2;w=60',
        )
        assert (
            await web.client.post(f"/api/conversations/{name}/subscription", headers=login("ada"))
        ).status_code == 200
        refused = await web.client.delete(f"/api/conversations/{name}", headers=login("ada"))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_changes")
        refused = await web.client.post("/v1/responses/resp_none/cancel", headers=login("ada"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_changes")
        assert (
            await web.client.post("/api/conversations", headers=login("ada"))
        ).status_code == 201


async def test_every_route_of_an_api_is_counted(tmp_path: Path) -> None:
    """Whatever its method and path."""
    async with public(
        tmp_path, reads_per_minute_per_user=1000, posts_per_minute_per_user=1000
    ) as web:
        described = web.app.openapi()["paths"]
        routes = [
            (method.upper(), path)
            for path, found in described.items()
            for method in found
            if path.startswith(("/api/", "/v1/"))
        ]
        assert len(routes) > 30
        for method, path in routes:
            scope = {
                "type": "http",
                "method": method,
                "path": path.replace("{", "").replace("}", ""),
            }
            headers = await web.app.state.gate.count(scope, Caller("ada", None))
            assert headers["RateLimit-Policy"].startswith('"user'), scope


async def test_reads_per_minute_of_an_address(tmp_path: Path, minute: None) -> None:
    """All its users together; refused reads of one cost the others nothing."""
    behind = {"X-Forwarded-For": "203.0.113.7"}
    async with public(tmp_path, reads_per_minute_per_user=2, reads_per_minute_per_address=4) as web:
        mine = [
            (await web.client.get("/api/me", headers=login("ada") | behind)).status_code
            for _ in range(9)
        ]
        assert mine == [200] * 2 + [429] * 7
        others = [
            (await web.client.get("/api/me", headers=login(user) | behind)).status_code
            for user in ("bob", "bob", "eve")
        ]
        assert others == [200, 200, 429]
        assert (await web.client.get("/api/me", headers=login("eve"))).status_code == 200


async def test_reads_continue_without_redis(tmp_path: Path, minute: None) -> None:
    """Each process then counts alone, as it does posts."""
    rates = RedisRates("redis://127.0.0.1:1")
    try:
        async with public(tmp_path, counting=rates, reads_per_minute_per_user=3) as web:
            statuses = [
                (await web.client.get("/api/me", headers=login("ada"))).status_code
                for _ in range(4)
            ]
            assert statuses == [200] * 3 + [429]
    finally:
        await rates.aclose()


# --- slow clients ---


async def test_slow_clients_are_cut(tmp_path: Path) -> None:
    """Silence, a slow head, line ends between requests, a slow body: each ends soon."""
    async with (
        serving(tmp_path, head_seconds=0.5, body_seconds=0.5) as web,
        contextlib.AsyncExitStack() as stack,
    ):
        silent, head, between, body = [
            await stack.enter_async_context(raw(web.port)) for _ in range(4)
        ]
        await between.send(request("GET", "/healthz"))
        await between.answer()
        await body.send(request("POST", "/api/conversations", length=1000) + b"{")

        async def drip(client: Any, pieces: bytes) -> None:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    await client.send(bytes([piece]))
                    await asyncio.sleep(0.05)

        dripping = [
            asyncio.create_task(drip(client, data))
            for client, data in (
                (head, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 2000),
                (between, b"\r\n" * 1000),
                (body, b" " * 900),
            )
        ]
        # Read as soon as it comes: a byte that follows the server's end resets the connection.
        reading = asyncio.create_task(body.answer())
        try:
            assert await silent.closed_within(20)
            assert await head.closed_within(20)
            assert await between.closed_within(20)
            answer, _ = await reading
            assert " 408 " in answer
            assert await body.closed_within(10)
        finally:
            for task in (reading, *dripping):
                task.cancel()
            await asyncio.gather(reading, *dripping, return_exceptions=True)


async def test_patient_clients_are_not_cut(tmp_path: Path) -> None:
    """A body that keeps coming may exceed its grace, and a stream may exceed any limit."""
    async with (
        serving(tmp_path, head_seconds=1.0, body_seconds=0.3) as web,
        web.client.stream("GET", "/api/feed") as feed,
    ):
        lines = feed.aiter_lines()
        await anext(lines)
        await asyncio.sleep(1.2)
        async with raw(web.port) as client:
            body = b'{"title": "x", "instructions": "' + b"y" * 16_000 + b'"}'
            await client.send(request("POST", "/api/conversations", length=len(body)))
            for start in range(0, len(body), 4000):
                await client.send(body[start : start + 4000])
                await asyncio.sleep(0.15)
            assert " 201 " in (await client.answer())[0]
            async with asyncio.timeout(10):
                async for text in lines:
                    if "created" in text:
                        break


async def test_bodies_share_memory(tmp_path: Path) -> None:
    """One user gets a quarter of it; it is released after the read."""
    async with public(tmp_path, max_bodies_bytes=4 * MIB) as web:
        async with raw(web.port) as client:
            await client.send(
                request("POST", "/v1/responses", line("ada"), length=8 * MIB) + b"x" * (MIB // 2)
            )
            await until(lambda: web.app.state.gate.memory.held == MIB // 2)
            refused = await web.client.post(
                "/v1/responses", content=b"x" * (MIB - 1000), headers=login("ada")
            )
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "over_capacity")
            assert (
                await web.client.post(
                    "/v1/responses", content=b"x" * (MIB - 1000), headers=login("bob")
                )
            ).status_code == 400
        await until(lambda: web.app.state.gate.memory.held == 0)


async def large_answer(web: Web, user: str) -> str:
    """The address of an answer of 720 KB."""
    made = (await web.client.post("/api/conversations", headers=login(user))).json()["id"]
    for _ in range(2):
        await web.store.post(Post(made, user, "\x01" * 60_000, "demo"))
    return f"/api/conversations/{made}"


async def test_unread_answers_share_memory(tmp_path: Path) -> None:
    """One user gets a quarter of it; it is released when the client reads or leaves."""
    async with public(tmp_path, max_bodies_bytes=4 * MIB, max_open_per_user=2) as web:
        memory = web.app.state.gate.memory
        mine, others = await large_answer(web, "ada"), await large_answer(web, "bob")
        small_buffers(web.listening)
        for read in (True, False):
            async with deaf(web.port, request("GET", mine, line("ada"))) as client:
                await until(lambda: memory.held > 700_000)
                for _ in range(3):
                    refused = await web.client.get(mine, headers=login("ada"))
                    assert (
                        refused.status_code,
                        refused.json()["code"],
                        refused.headers["retry-after"],
                    ) == (503, "over_capacity", "5")
                assert (await web.client.get("/api/me", headers=login("ada"))).status_code == 200
                assert len((await web.client.get(others, headers=login("bob"))).content) > 700_000
                if read:
                    answer = b""
                    async with asyncio.timeout(20):
                        while memory.held:
                            answer += await asyncio.get_running_loop().sock_recv(client, 65536)
                    assert b"200 OK" in answer
            await until(lambda: memory.held == 0)
            assert len((await web.client.get(mine, headers=login("ada"))).content) > 700_000


async def test_the_answer_of_a_cancel_counts_as_a_read(tmp_path: Path) -> None:
    """It is a whole response, and a cancel can be repeated."""
    async with public(tmp_path, max_bodies_bytes=4 * MIB) as web:
        body = {"model": "demo", "input": "x", "background": True}
        made = (await web.client.post("/v1/responses", headers=login("ada"), json=body)).json()[
            "id"
        ]
        # The log is one in memory.
        await finish(web.store, web.log, made, "x" * 700_000)  # type: ignore[arg-type]
        cancel = f"/v1/responses/{made}/cancel"
        small_buffers(web.listening)
        async with deaf(web.port, request("GET", f"/v1/responses/{made}", line("ada"))):
            await until(lambda: web.app.state.gate.memory.held > 700_000)
            refused = await web.client.post(cancel, headers=login("ada"))
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "over_capacity")
        await until(lambda: web.app.state.gate.memory.held == 0)
        assert len((await web.client.post(cancel, headers=login("ada"))).content) > 700_000


async def test_an_answer_above_the_share_can_be_read(tmp_path: Path) -> None:
    """If it is the only one."""
    async with public(tmp_path, max_bodies_bytes=MIB) as web:
        mine = await large_answer(web, "ada")
        for _ in range(2):
            assert len((await web.client.get(mine, headers=login("ada"))).content) > 700_000
        await until(lambda: web.app.state.gate.memory.held == 0)


async def test_a_share_of_the_memory_is_for_small_bodies(tmp_path: Path) -> None:
    """However many large ones have begun: a title can still be changed."""
    async with (
        public(tmp_path, max_bodies_bytes=4 * MIB) as web,
        contextlib.AsyncExitStack() as stack,
    ):
        piece = b"x" * (MIB // 2)
        for number in range(6):
            one = await stack.enter_async_context(raw(web.port))
            if number % 2:
                await one.send(
                    request("POST", "/v1/responses", line(f"u{number}"), length=8 * MIB) + piece
                )
            else:
                chunk = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
                await one.send(
                    request(
                        "POST", "/v1/responses", line(f"u{number}"), "Transfer-Encoding: chunked"
                    )
                    + chunk
                )
        await until(lambda: web.app.state.gate.memory.held == 3 * MIB)
        refused = await web.client.post(
            "/v1/responses", content=b" " * 70_000, headers=login("ada")
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "over_capacity")
        assert (
            await web.client.post("/api/conversations", json={"title": "x"}, headers=login("ada"))
        ).status_code == 201


async def test_a_body_must_keep_coming(tmp_path: Path) -> None:
    """A pause ends it, and so does its maximum time."""
    large = b" " * (2 * MIB)
    async with (
        serving(tmp_path, body_gap_seconds=0.5, max_body_seconds=1.5) as web,
        contextlib.AsyncExitStack() as stack,
    ):
        pausing, slow = [await stack.enter_async_context(raw(web.port)) for _ in range(2)]
        for client in (pausing, slow):
            await client.send(request("POST", "/v1/responses", length=8 * MIB) + large)

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    await slow.send(b" ")
                    await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        try:
            for client in (pausing, slow):
                assert " 408 " in (await client.answer())[0]
        finally:
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)


async def test_allowed_origins_can_read_refusals(tmp_path: Path) -> None:
    """CORS is outside of the gate and exposes Retry-After."""
    async with public(
        tmp_path, cors_origins="https://app.example.com", posts_per_minute_per_user=1
    ) as web:
        headers = login("ada") | {"Origin": "https://app.example.com"}
        answers: list[httpx.Response] = [
            await web.client.post("/api/conversations", headers=headers) for _ in range(2)
        ]
        answers.append(
            await web.client.post(
                "/api/conversations", headers={"Origin": "https://app.example.com"}
            )
        )
        assert [answer.status_code for answer in answers] == [201, 429, 401]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "RateLimit" in answers[1].headers["access-control-expose-headers"]
