"""The Python client against a whole Tokenwire: cuts, late readers, cancels, a killed
broadcaster.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.stack import Stack, running_stack
from tests.servers.faultproxy import FaultProxy
from tests.servers.service import free_port
from tokenwire.client import AnswerFailed, FollowingStopped, LiveMessage, Tokenwire

PROXY_PORT = free_port()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Its clients reach the broadcaster through a proxy."""
    with running_stack(
        tmp_path_factory.mktemp("stack"), BROADCASTER_URL=f"ws://127.0.0.1:{PROXY_PORT}"
    ) as running:
        yield running


@pytest.fixture
async def proxy(stack: Stack) -> AsyncIterator[FaultProxy]:
    made = FaultProxy("127.0.0.1", stack.broadcaster_port)
    await made.start(PROXY_PORT)
    yield made
    await made.aclose()


@pytest.fixture
async def client(stack: Stack, proxy: FaultProxy) -> AsyncIterator[Tokenwire]:
    async with Tokenwire(stack.url, jitter=lambda: 0.05) as made:
        yield made


async def watched(
    client: Tokenwire, conversation_id: str, message_id: str, delay_seconds: float = 0
) -> tuple[LiveMessage, int]:
    """The message at its end, and how often visible text changed without a reset."""
    await asyncio.sleep(delay_seconds)
    shown, broken = "", 0
    async with client.conversation(conversation_id).follow() as stream:
        async for change in stream:
            held = stream.get(message_id)
            if held is None:
                continue
            reset = change.event is not None and change.event["type"] == "reset"
            broken += not reset and not held.content.startswith(shown)
            shown = held.content
            if held.ended:
                return held, broken
    raise AssertionError("the stream ended")


@contextlib.asynccontextmanager
async def happening(what: asyncio.Future[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        what.cancel()
        await asyncio.gather(what, return_exceptions=True)


async def agree(
    client: Tokenwire, content: str, disturbance: "asyncio.Future[None]"
) -> list[LiveMessage]:
    """Two clients, one of them late, while something happens: both hold the row's text."""
    conversation = await client.create()
    posted = await conversation.post(content)
    ids = conversation.id, posted.assistant_message.id
    async with asyncio.timeout(90), happening(disturbance):
        seen = await asyncio.gather(watched(client, *ids), watched(client, *ids, delay_seconds=0.7))
    row = (await conversation.read())["messages"][-1]
    for message, broken in seen:
        assert (message.content, message.status, broken) == (row["content"], row["status"], 0)
        assert message.proven is not False
    return [message for message, _ in seen]


async def cutting(proxy: FaultProxy) -> None:
    while True:
        await asyncio.sleep(0.15)
        proxy.cut()


async def killing(stack: Stack) -> None:
    for _ in range(2):
        await asyncio.sleep(1.5)
        for pid in stack.pids("broadcaster"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_a_connection_that_is_cut_every_150_ms(client: Tokenwire, proxy: FaultProxy) -> None:
    """Every cut is resumed; the text is the row's."""
    (first, _) = await agree(client, "hello !cut", asyncio.ensure_future(cutting(proxy)))
    assert (first.status, proxy.connections > 10) == ("complete", True)


async def test_a_broadcaster_that_is_killed(client: Tokenwire, stack: Stack) -> None:
    """With SIGKILL, twice, while streaming."""
    (first, _) = await agree(client, "hello", asyncio.ensure_future(killing(stack)))
    assert first.status == "complete"


async def test_ask_and_stream(client: Tokenwire) -> None:
    """The short calls; the pieces are the answer, and a failure raises."""
    assert (await client.ask("!short hi")).content.startswith("Hello! 👋")
    pieces = [piece async for piece in client.stream("!fast !cut hi")]
    assert len("".join(pieces)) > 1000
    assert "".join(pieces) == (await client.ask("!fast hi")).content
    with pytest.raises(AnswerFailed, match="credentials") as failed:
        await client.ask("!auth")
    assert failed.value.message.error is not None


async def test_cancel(client: Tokenwire) -> None:
    """The written text stays; a second cancel finds nothing to do."""
    conversation = await client.create()
    posted = await conversation.post("!slow hello")
    async with conversation.follow() as stream:
        async for change in stream:
            if change.message is not None and change.message.content:
                break
        assert await client.cancel(posted.assistant_message.id)
        ended = await stream.until_ended(posted.assistant_message.id)
    assert (ended.status, bool(ended.content), ended.proven) == ("cancelled", True, True)
    assert not await client.cancel(ended.id)


async def test_a_post_is_safe_to_repeat(client: Tokenwire) -> None:
    """By its key."""
    conversation = await client.create(title="once")
    first = await conversation.post("!short hi", idempotency_key="k")
    again = await conversation.post("!short hi", idempotency_key="k")
    assert first.assistant_message.id == again.assistant_message.id
    assert [listed["id"] for listed in (await client.conversations(limit=1))["conversations"]] == [
        conversation.id
    ]


async def test_a_deletion_while_following(client: Tokenwire) -> None:
    """It ends the iteration with its own reason."""
    conversation = await client.create()
    await conversation.post("!slow hello")
    async with conversation.follow() as stream:
        while stream.state.name != "live":
            await anext(stream)
        await conversation.delete()
        with pytest.raises(FollowingStopped) as stopped:
            async for _ in stream:
                pass
    assert stopped.value.code == 4404
