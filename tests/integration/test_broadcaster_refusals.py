"""What the broadcaster refuses: each fault has its close code, and no internals are sent."""

import asyncio
import contextlib
import json
import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.broadcasting import Stage, Writer, memory_stage, running, token
from tests.listening import closing
from tokenwire.broadcaster import session
from tokenwire.streams.hub.room import PAGE_EVENTS
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with memory_stage() as stage:
        yield stage


def subscribe(**fields: object) -> str:
    return json.dumps({"type": "subscribe", "token": token("c")} | fields)


async def closed_with(socket: ClientConnection) -> tuple[int, str]:
    """Code and reason; no frame may come before."""
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(socket.recv(), 10)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


Say = Callable[[ClientConnection], Awaitable[None]]


def text(frame: str) -> Say:
    return lambda socket: socket.send(frame)


async def fragments(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        await socket.send(["x" * 3000] * 4)


async def empty_fragments(socket: ClientConnection) -> None:
    """Masked as a client's; none of them is the last."""
    socket.transport.write(b"\x01\x80\x00\x00\x00\x00" + b"\x00\x80\x00\x00\x00\x00" * 64)


async def twice(socket: ClientConnection) -> None:
    await socket.send(subscribe(after=None))
    for _ in range(2):
        await socket.recv()
    await socket.send(subscribe(after=None))


async def bad_refresh(socket: ClientConnection) -> None:
    await socket.send(subscribe(after=None))
    for _ in range(2):
        await socket.recv()
    await socket.send(json.dumps({"type": "refresh", "token": token("other")}))


async def unmasked(socket: ClientConnection) -> None:
    socket.transport.write(b"\x81\x02hi")


async def reserved_opcode(socket: ClientConnection) -> None:
    socket.transport.write(b"\x83\x80\x00\x00\x00\x00")


@pytest.mark.parametrize(
    ("say", "code"),
    [
        pytest.param(text("hello"), 4400, id="garbage"),
        pytest.param(text(""), 4400, id="empty"),
        pytest.param(lambda s: s.send(b"\x00\xff"), 4400, id="binary"),
        pytest.param(lambda s: s.send(subscribe().encode()), 4400, id="subscribe-in-binary"),
        pytest.param(lambda s: s.send(b"\xff\xfe{", text=True), 4400, id="not-utf-8"),
        pytest.param(text(subscribe(x="y" * 8192)), 4400, id="over-8-kib"),
        pytest.param(text("x" * 3_000_000), 4400, id="three-megabytes"),
        pytest.param(fragments, 4400, id="over-8-kib-in-fragments"),
        pytest.param(empty_fragments, 4400, id="empty-fragments-without-end"),
        pytest.param(unmasked, 4400, id="unmasked"),
        pytest.param(reserved_opcode, 4400, id="reserved-opcode"),
        pytest.param(text(subscribe(after=5)), 4400, id="cursor-of-wrong-type"),
        pytest.param(text(subscribe(after="now")), 4400, id="no-cursor"),
        pytest.param(text('{"type":"refresh"}'), 4400, id="refresh-first"),
        pytest.param(twice, 4400, id="subscribe-twice"),
        pytest.param(text('{"type":"subscribe"}'), 4401, id="no-token"),
        pytest.param(text(subscribe(token="x.y.z")), 4401, id="bad-token"),
        pytest.param(text(subscribe(token=token("c", left=-1))), 4401, id="expired-token"),
        pytest.param(
            text(subscribe(token=token("other", left=86_400))),
            4403,
            id="token-for-another-conversation",
        ),
        pytest.param(bad_refresh, 4403, id="refresh-for-another-conversation"),
    ],
)
async def test_each_fault_has_its_code(stage: Stage, say: Say, code: int) -> None:
    """The close frame has the code and a fixed word; one log line names the fault, without
    internals.
    """
    with capture_logs() as lines:
        async with stage.socket("c") as socket:
            with contextlib.suppress(ConnectionClosed):
                await say(socket)
            assert await closed_with(socket) == (
                code,
                {4400: "malformed", 4401: "unauthorized", 4403: "forbidden"}[code],
            )
        async with asyncio.timeout(10):
            while not lines:
                await asyncio.sleep(0.01)
    assert [(line["event"], line["code"], line["conversation_id"]) for line in lines] == [
        ("closed", code, "c")
    ]
    assert lines[0]["reason"]


async def test_no_subscribe_frame_in_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent client is closed with 4408."""
    monkeypatch.setattr(session, "SUBSCRIBE_SECONDS", 0.1)
    async with stage.socket("c") as socket:
        assert (await closed_with(socket))[0] == 4408


async def test_a_token_in_the_query_string_is_refused(stage: Stage) -> None:
    """4400 at once: such a token is in logs already. Other parameters are ignored."""
    async with connect(f"{stage.url('c')}?token={token('c')}", proxy=None) as socket:
        assert (await closed_with(socket))[0] == 4400
    async with connect(f"{stage.url('c')}?v=1", proxy=None) as socket:
        await socket.send(subscribe())
        assert json.loads(await socket.recv())["type"] == "subscribed"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/conversations",
        "/conversations/",
        "/conversations/a/b",
        "/conversations/%20",
        f"/conversations/{'x' * 65}",
    ],
)
async def test_other_paths_are_404(stage: Stage, path: str) -> None:
    """Before the handshake, in plain HTTP."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{stage.port}{path}", proxy=None)
    assert caught.value.response.status_code == 404


async def test_too_many_connections() -> None:
    """One more than allowed is accepted and closed with 1013; afterwards there is room again."""
    async with memory_stage(max_connections=1) as stage:
        async with stage.reader("c") as reader:
            await reader.until("live")
            async with stage.socket("c") as socket:
                assert (await closed_with(socket))[0] == 1013
        async with stage.reader("c") as reader:
            assert await reader.until("live")


async def test_too_many_refreshes(stage: Stage) -> None:
    """The 21st within a minute is 4429."""
    async with stage.reader("c") as reader:
        for _ in range(21):
            await reader.socket.send(json.dumps({"type": "refresh", "token": token("c")}))
        assert await reader.close_code() == 4429
        assert len([frame for frame in reader.frames if frame["type"] == "refreshed"]) == 20


async def test_a_flood_of_pings(stage: Stage) -> None:
    """Control frames are counted too."""
    async with stage.reader("c") as reader:
        await reader.until("live")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                await reader.socket.ping()
        assert await reader.close_code() == 4429


async def test_redis_away_at_a_subscription(stage: Stage) -> None:
    """1013: come back later. It works again with Redis."""
    assert isinstance(stage.log, MemoryLog)
    stage.log.go_down()
    async with stage.reader("c") as reader:
        assert await reader.close_code() == 1013
    stage.log.come_back()
    async with stage.reader("c") as reader:
        assert await reader.until("live")


async def test_redis_away_during_a_replay(stage: Stage) -> None:
    """A page that cannot be read ends in 1013, not in `live`."""
    assert isinstance(stage.log, MemoryLog)
    writer = await Writer(stage.log, "c").begin()
    async with stage.reader("c") as watching:
        await watching.until("live")
        for _ in range(7):
            await writer.say(*["x"] * 100)
        await watching.until_seq(writer.seq)
        read = stage.log.read

        async def fail_pages(
            conversation: str, epoch: str | None, after: int, limit: int, max_bytes: int
        ):  # type: ignore[no-untyped-def]
            page = await read(conversation, epoch, after, limit, max_bytes)
            if limit == PAGE_EVENTS:
                stage.log.go_down()  # type: ignore[attr-defined]
                return await read(conversation, epoch, after, limit, max_bytes)
            return page

        stage.log.read = fail_pages  # type: ignore[method-assign]
        async with stage.reader("c", f"{writer.epoch}:0") as reader:
            assert await reader.close_code() == 1013
            assert [frame["type"] for frame in reader.frames] == ["subscribed"]
        stage.log.come_back()


async def test_garbage_before_the_handshake(stage: Stage) -> None:
    """The connection ends; others are served."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    async with closing(writer):
        writer.write(b"\x16\x03\x01 not http\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
    assert b"Traceback" not in answer
    async with stage.reader("c") as reader:
        assert await reader.until("live")


async def test_a_reset_connection_leaves_nothing_behind(stage: Stage) -> None:
    """A reader that vanishes with RST is removed, and its tail released."""
    raw = sockets.create_connection(("127.0.0.1", stage.port))
    raw.setblocking(False)
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    socket = await connect(stage.url("c"), sock=raw, proxy=None)
    await socket.send(subscribe())
    await socket.recv()
    assert len(stage.readers.all) == 1
    socket.transport.abort()
    async with asyncio.timeout(10):
        while stage.readers.all:
            await asyncio.sleep(0.01)
    assert not stage.readers.rooms._rooms


async def test_readers_of_one_user_are_limited() -> None:
    """The next one gets 1013 and leaves nothing; a released slot can be taken again."""
    log = MemoryLog()
    async with running(Stage(log, MemoryPubSub(log), per_user=2)) as stage:
        async with stage.reader("c") as first, stage.reader("c") as second:
            for watching in (first, second):
                await watching.until("live")
            async with stage.socket("c") as third:
                await third.send(subscribe())
                assert (await closed_with(third))[0] == 1013
            assert stage.readers.users.taken("u") == 2
        async with asyncio.timeout(10):
            while stage.readers.users.taken("u"):
                await asyncio.sleep(0.01)
        async with stage.reader("c") as later:
            await later.until("live")


async def test_connections_of_one_address_are_limited() -> None:
    """A trusted proxy names the address; others are accepted, and so is a proxy that names
    nobody.
    """
    log = MemoryLog()
    async with (
        running(Stage(log, MemoryPubSub(log), per_address=2, proxies="127.0.0.1")) as stage,
        contextlib.AsyncExitStack() as stack,
    ):
        mine, other = (
            {"X-Forwarded-For": f"spoofed, {address}"} for address in ("203.0.113.7", "203.0.113.8")
        )
        for _ in range(2):
            await stack.enter_async_context(stage.socket("c", additional_headers=mine))
        async with stage.socket("c", additional_headers=mine) as refused:
            assert (await closed_with(refused))[0] == 1013
        for headers in (other, {}, {}, {}):
            socket = await stack.enter_async_context(stage.socket("c", additional_headers=headers))
            await socket.send(subscribe())
            assert json.loads(await socket.recv())["type"] == "subscribed"
