"""`/api/chat/ws` on real sockets: what is accepted before a login, and the limits afterwards."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.production import MIB, line, login, public
from tests.integration.raw import fragment, handshake, raw
from tests.integration.serving import Web, serving
from tests.integration.test_stalled import answering, deaf, eventually, resume_frame, small_buffers
from tokenwire.models.errors import StatementFailed, StoreUnavailable
from tokenwire.web.admission import layer as admission
from tokenwire.web.aisdk import requests as chat_requests
from tokenwire.web.aisdk import socket as chat_socket
from tokenwire.web.problems import DAMAGED

ABORT = json.dumps({"type": "abort", "requestId": "x"})
BOMB = '{"type":"abort","requestId":"x","body":{"a":"\\ud800","b":[' + "[]," * 1000 + "1]}}"


def logs_in(user: str, **more: object) -> str:
    return resumes(0, headers=login(user), **more)


def resumes(number: int = 1, **more: object) -> str:
    return json.dumps({"type": "resume", "requestId": str(number), "id": "none", **more})


def socket_of(web: Web, **headers: str) -> connect:
    return connect(
        f"ws://127.0.0.1:{web.port}/api/chat/ws", additional_headers=headers, compression=None
    )


async def closed_with(client: ClientConnection, seconds: float = 20) -> int | None:
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await client.recv()
    return client.close_code


FIRST: dict[str, Callable[[], str | bytes | list[str]]] = {
    "an abort": lambda: ABORT,
    "an abort that would have to be mended": lambda: BOMB,
    "a request without a login": lambda: resumes(),
    "a login beside what is no request": lambda: json.dumps(
        {"type": "login", "headers": login("ada")}
    ),
    "half a character": lambda: logs_in("ada").replace("Bearer", "\\ud800"),
    "bytes": lambda: logs_in("ada").encode(),
    "a login in pieces": lambda: [logs_in("ada")[:20], logs_in("ada")[20:]],
    "a login of nobody": lambda: resumes(headers={"Authorization": "Bearer x"}),
    "no login": lambda: resumes(headers={"Authorization": ""}),
    "a login that is no text": lambda: resumes(headers={"Authorization": ["Bearer"]}),
    "brackets": lambda: "[" * 4000,
}


@pytest.mark.parametrize("kind", FIRST)
async def test_before_a_login_only_a_login_is_accepted(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket closes, and nothing is repaired."""
    monkeypatch.setattr(chat_requests, "decode", lambda *_: pytest.fail("mended"))
    async with public(tmp_path) as web, socket_of(web) as client:
        await client.send(FIRST[kind]())
        assert await closed_with(client, 3) == 1008  # before its time is over


async def test_before_a_login_frames_are_short(tmp_path: Path) -> None:
    """A login has room in 64 KiB, with a question beside it."""
    async with public(tmp_path) as web, socket_of(web) as client:
        await client.send(resumes(headers={"Authorization": "x" * 65536}))
        assert await closed_with(client) == 1009


async def test_a_login_takes_effect_at_once(tmp_path: Path) -> None:
    """The message that comes with it may be long; later frames belong to this user, or to the one
    they name.

    Requests of one socket may be answered in any order.
    """
    async with public(tmp_path) as web, raw(web.port) as client:
        await client.send(handshake("/api/chat/ws"))
        assert " 101 " in await client.head()
        long = fragment(resumes(1, body={"x": "y" * 300_000}).encode(), first=True, last=True)
        await client.send(fragment(logs_in("ada").encode(), first=True, last=True) + long)
        async with asyncio.timeout(20):
            replies = [await client.reader.readuntil(b"}") for _ in range(2)]
        for number in (b"0", b"1"):
            assert sum(b'"no-active","requestId":"%s"' % number in one for one in replies) == 1
        await client.send(
            fragment(
                resumes(2, headers={"authorization": "Bearer x"}).encode(), first=True, last=True
            )
        )
        async with asyncio.timeout(20):
            assert b'"error","requestId":"2"' in await client.reader.readuntil(b"}")
        assert web.app.state.gate._users.taken("ada") == 1


async def test_nothing_is_compressed(tmp_path: Path) -> None:
    """16 KB on the wire may not become 16 MB here."""
    async with serving(tmp_path) as web, raw(web.port) as client:
        await client.send(handshake("/api/chat/ws", "Sec-WebSocket-Extensions: permessage-deflate"))
        head = await client.head()
        assert " 101 " in head
        assert "permessage-deflate" not in head


async def test_messages_per_minute(tmp_path: Path) -> None:
    """Few enough to be harmless, more than anybody sends."""
    async with public(tmp_path) as web, socket_of(web, **login("ada")) as client:
        for _ in range(120):
            await client.send(ABORT)
        await client.send(resumes())
        assert await closed_with(client) == 1008


async def test_parsing_stops_during_a_flood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of one read is refused."""
    from tokenwire.web.http.sockets import Incoming

    seen = 0
    counted = Incoming.recv_frame

    def count(self: Incoming, frame: Any) -> None:
        nonlocal seen
        seen += 1
        counted(self, frame)

    monkeypatch.setattr(Incoming, "recv_frame", count)
    async with public(tmp_path) as web, raw(web.port) as client:
        await client.send(handshake("/api/chat/ws", line("ada")))
        assert " 101 " in await client.head()
        with contextlib.suppress(ConnectionError):
            await client.send(fragment(b"{}", first=True, last=True) * 5000)
        assert await client.closed_within(10)
    assert seen <= 121


async def test_repairs_happen_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the text is: a repair costs a hundred times as much as parsing."""
    threads: list[str] = []
    decode = chat_requests.decode

    def noted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return decode(*arguments)

    monkeypatch.setattr(chat_requests, "decode", noted)
    async with public(tmp_path) as web, socket_of(web, **login("ada")) as client:
        await client.send(resumes().replace("none", "none\\ud800"))
        async with asyncio.timeout(20):
            assert json.loads(await client.recv())["type"] == "error"
        message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi X"}]}
        sent = json.dumps(
            {"type": "send", "requestId": "2", "id": "c", "messages": [message]}
        ).replace("X", "\\ud800")
        await client.send(sent)
        async with asyncio.timeout(20):
            assert json.loads(await client.recv())["type"] == "start"
    assert threads
    assert all(name.startswith("aside") for name in threads)


async def test_no_pong_to_a_client_that_does_not_read(tmp_path: Path) -> None:
    """Nothing is added to the waiting bytes."""
    async with serving(tmp_path, stalled_seconds=30) as web:
        small_buffers(web.listening)
        chat, worker = await answering(web)
        async with deaf(web.port, handshake("/api/chat/ws"), resume_frame(chat)) as client:
            await eventually(lambda: web.streams == 1)
            async with asyncio.timeout(20):
                while max(unsent := web.unsent()) < 64 * 1024:
                    await worker.say("x" * 2000)
                    await asyncio.sleep(0.002)
            await asyncio.sleep(0.2)
            unsent = web.unsent()
            full = b"\x89\xfd" + bytes(4) + b"p" * 125  # a ping of 125 bytes
            await asyncio.get_running_loop().sock_sendall(client, full * 100)
            await asyncio.sleep(0.3)
            assert web.unsent() == unsent


async def test_what_a_resuming_client_shows_is_a_text(tmp_path: Path) -> None:
    async with public(tmp_path) as web, socket_of(web, **login("ada")) as client:
        for number, shown in enumerate((7, "x" * 256, ["m"])):
            await client.send(resumes(number, body={"lastMessageId": shown}))
            assert "lastMessageId" in json.loads(await client.recv())["errorText"]
        await client.send(resumes(9, body={"lastMessageId": ""}))
        assert json.loads(await client.recv())["type"] == "no-active"


async def test_silent_sockets_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In total and for an address: the oldest one without a login is closed for a new one."""
    monkeypatch.setattr(admission, "ANONYMOUS_SOCKETS", 6)
    monkeypatch.setattr(admission, "ANONYMOUS_SOCKETS_PER_ADDRESS", 2)
    async with public(tmp_path) as web, contextlib.AsyncExitStack() as stack:

        async def opened(address: str) -> ClientConnection:
            return await stack.enter_async_context(socket_of(web, **{"X-Forwarded-For": address}))

        one = [await opened("203.0.113.1") for _ in range(3)]
        assert await closed_with(one[0]) == 1013
        others = [await opened(f"203.0.113.{number}") for number in range(2, 6)]
        new = await opened("203.0.113.9")
        assert await closed_with(one[1]) == 1013
        for client in (one[2], *others, new):
            await client.send(logs_in("ada"))
            await client.send(resumes())
            async with asyncio.timeout(20):
                assert json.loads(await client.recv())["type"] == "no-active"
        assert web.app.state.gate.newcomers.count == 0


async def test_a_logged_in_socket_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login releases its slot."""
    monkeypatch.setattr(admission, "ANONYMOUS_SOCKETS", 1)
    async with public(tmp_path) as web, socket_of(web) as client:
        await client.send(logs_in("ada"))
        await client.recv()
        async with socket_of(web), socket_of(web):
            await client.send(resumes(2))
            assert json.loads(await client.recv())["requestId"] == "2"


async def test_a_message_must_keep_coming(tmp_path: Path) -> None:
    """Its first pieces hold memory."""
    async with (
        public(tmp_path, body_gap_seconds=0.5) as web,
        raw(web.port) as client,
        socket_of(web, **login("ada")) as idle,
    ):
        await client.send(handshake("/api/chat/ws", line("ada")))
        assert " 101 " in await client.head()
        await client.send(fragment(b"x" * 100_000, first=True))
        assert await client.closed_within(10)
        await idle.send(resumes())
        assert json.loads(await idle.recv())["type"] == "no-active"


async def test_a_message_counts_until_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it waits for the thread."""
    go_on = threading.Event()
    parse = chat_requests.parse_frame

    def slow(*arguments: Any, **options: Any) -> Any:
        go_on.wait(10)
        return parse(*arguments, **options)

    monkeypatch.setattr(chat_requests, "parse_frame", slow)
    async with public(tmp_path) as web, socket_of(web, **login("ada")) as client:
        await client.send(resumes(body={"x": "y" * MIB}))
        await eventually(lambda: web.app.state.gate.memory.held > MIB)
        await asyncio.sleep(0.1)
        assert web.app.state.gate.memory.held > MIB
        go_on.set()
        assert json.loads(await client.recv())["type"] == "no-active"
        await eventually(lambda: web.app.state.gate.memory.held == 0)


async def test_finished_requests_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is open for days may send any number of requests, even with an earlier id."""
    monkeypatch.setattr(chat_socket, "MAX_REQUESTS", 2)
    async with public(tmp_path) as web, socket_of(web) as client, asyncio.timeout(20):
        for number in (1, 2, 3, 1):
            await client.send(resumes(number, headers=login("ada")))
            assert json.loads(await client.recv())["type"] == "no-active"


def sends(number: int, text: str, **body: object) -> dict[str, object]:
    parts = [{"type": "text", "text": text}]
    messages = [{"id": str(number), "role": "user", "parts": parts}]
    return {"id": "c", "trigger": "submit-message", "messages": messages, **body}


REFUSED = {
    "answer_running": sends(2, "another", while_running="reject"),
    "key_reused": sends(1, "other words"),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_a_refusal_has_the_sentence_of_http(tmp_path: Path, code: str) -> None:
    """What stays is not told as an outage."""
    body = REFUSED[code]
    async with serving(tmp_path) as web, socket_of(web) as client, asyncio.timeout(20):
        async with web.client.stream("POST", "/api/chat", json=sends(1, "first")):
            pass
        said = (await web.client.post("/api/chat", json=body)).json()
        within = {"while_running": body.get("while_running")}
        frame = {"type": "send", "requestId": "x", "body": within, **body}
        await client.send(json.dumps(frame))
        heard = json.loads(await client.recv())
    assert said["code"] == code
    assert heard == {"type": "error", "requestId": "x", "errorText": said["detail"]}


FAILED = "The server failed. It is not your request's fault."


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (StoreUnavailable("secret"), "The database does not answer at the moment."),
        (StatementFailed("secret"), DAMAGED),
        (LookupError("secret"), FAILED),
        (RecursionError("secret"), FAILED),
    ],
)
async def test_an_outage_a_damage_and_a_bug_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    """Nothing of the error itself is told."""

    async def fails(*_: object) -> None:
        raise error

    async with serving(tmp_path) as web, socket_of(web) as client, asyncio.timeout(20):
        monkeypatch.setattr(web.store, "find_chat", fails)
        await client.send(resumes())
        heard = json.loads(await client.recv())
    assert heard["errorText"] == sentence
