"""Answers over real sockets: batches as they arrive, both clocks, transport errors, and leaving,
which stops the provider.
"""

import asyncio
import json
from contextlib import aclosing

import pytest

from tests.integration.providers.answers import END, HELLO, chunk, read, spec
from tests.integration.providers.wire import Exchange, serving
from tests.listening import listening
from tests.servers.faultproxy import Faults, fault_proxy
from tokenwire.providers.base import (
    Finish,
    HistoryMessage,
    Interrupted,
    ProviderError,
    Request,
    TextDelta,
    Unavailable,
)
from tokenwire.providers.history import CallPart
from tokenwire.providers.http import HttpClient, Timeouts
from tokenwire.providers.registry import open_provider
from tokenwire.providers.stream import StallWatch
from tokenwire.providers.transport import Transport


async def test_each_read_is_a_batch(client: HttpClient) -> None:
    """Deltas are passed on as they arrive, not at the end of the answer."""
    given = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a") + chunk("b"))
        await given.wait()
        await exchange.send(chunk("c") + END)
        await exchange.end()

    async with (
        serving(script) as server,
        open_provider(spec(server.url), client).stream(HELLO) as stream,
    ):
        batches = []
        async for batch in stream:
            batches.append([delta.text for delta in batch if isinstance(delta, TextDelta)])
            given.set()
    assert batches[0] == ["a", "b"]
    assert [text for batch in batches[1:] for text in batch] == ["c"]


@pytest.mark.parametrize(("sent", "error"), [(b"", Unavailable), (chunk("a"), Interrupted)])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_that_breaks(
    client: HttpClient, sent: bytes, error: type[ProviderError], reset: bool
) -> None:
    """Unavailable before any text, Interrupted after it, with the text delivered; a clean end
    without proof counts the same.
    """

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        if sent:
            await exchange.send(sent)
        await asyncio.sleep(0.05)
        exchange.cut() if reset else await exchange.end()

    async with serving(script) as server:
        text, _, raised = await read(client, spec(server.url))
    assert type(raised) is error
    assert text == ("a" if sent else "")


async def test_a_connection_that_breaks_after_the_proof(client: HttpClient) -> None:
    """A finished answer stays finished."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(
            chunk("a") + b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
        )
        await asyncio.sleep(0.05)
        exchange.cut()

    async with serving(script) as server:
        text, deltas, raised = await read(client, spec(server.url))
    assert (text, raised) == ("a", None)
    assert deltas[-1] == Finish("stop", "stop")


async def test_keepalives_are_not_progress(client: HttpClient) -> None:
    """Comments keep the socket busy; the model's stall time runs on."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a"))
        for _ in range(200):
            await exchange.send(b": keep-alive\n\n")
            await asyncio.sleep(0.02)

    async with serving(script) as server:
        text, _, raised = await read(client, spec(server.url, stall_seconds=0.3))
    assert (text, type(raised), raised and raised.code) == ("a", Interrupted, "stalled")


async def test_a_slow_consumer_is_no_stall(client: HttpClient) -> None:
    """The clock runs only while the consumer waits."""

    async def paced(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a"))
        await asyncio.sleep(0.1)
        await exchange.send(chunk("b") + END)
        await exchange.end()

    async with (
        serving(paced) as server,
        open_provider(spec(server.url, stall_seconds=0.3), client).stream(HELLO) as stream,
    ):
        count = 0
        async for _ in stream:
            count += 1
            await asyncio.sleep(0.5)
    assert count == 2


async def test_silence_on_the_socket(server_client: HttpClient) -> None:
    """The socket's own timeout is Unavailable before any text."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.left(5)

    async with serving(script) as server:
        _, _, raised = await read(server_client, spec(server.url))
    assert type(raised) is Unavailable
    assert raised.code == "read_timeout"


async def test_a_consumer_that_is_cancelled(client: HttpClient) -> None:
    """The connection is closed, and the cancellation is raised."""
    left = asyncio.get_running_loop().create_future()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a"))
        left.set_result(await exchange.left())

    async with serving(script) as server:
        task = asyncio.create_task(read(client, spec(server.url)))
        while not server.calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await left


async def test_leaving_closes_the_connection_at_once(client: HttpClient) -> None:
    """The provider's request is not paid any further."""
    left = asyncio.get_running_loop().create_future()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a"))
        left.set_result(await exchange.left(1.0))

    async with serving(script) as server:
        async with open_provider(spec(server.url), client).stream(HELLO) as stream:
            async for _ in stream:
                break
        assert await left


async def test_refused_and_unreachable(client: HttpClient) -> None:
    """Nobody listens: Unavailable, distinct from a timeout."""
    _, _, raised = await read(client, spec("http://127.0.0.1:9"))
    assert type(raised) is Unavailable
    assert (raised.code, raised.no_run) == ("connect_error", True)


async def test_a_server_that_hangs_up_after_each_answer(client: HttpClient) -> None:
    """As llama.cpp does without announcing it: each request has its own connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)
        exchange.cut()

    async with serving(script) as server:
        answers = [await read(client, spec(server.url)) for _ in range(5)]
    assert [(text, raised) for text, _, raised in answers] == [("a", None)] * 5


async def test_a_stale_connection_in_the_pool(transport: Transport) -> None:
    """The request is not repeated silently: the error says what happened, and the next request
    works.
    """
    async with aclosing(HttpClient(reuse_plain=True, transport=transport)) as client:

        async def script(exchange: Exchange) -> None:
            if len(server.calls) == 2:
                exchange.cut()
                return
            await exchange.whole(chunk("a") + END)

        async with serving(script) as server:
            first, _, _ = await read(client, spec(server.url))
            await asyncio.sleep(0.05)
            _, _, raised = await read(client, spec(server.url))
            assert type(raised) is Unavailable
            assert (raised.code, raised.no_run, len(server.calls)) == ("stale_connection", False, 2)
            third, _, raised = await read(client, spec(server.url))
    assert (first, third, raised, len(server.calls)) == ("a", "a", None, 3)


async def test_a_server_that_hangs_up_after_the_request(client: HttpClient) -> None:
    """It may be working on it: the request is sent once, and nothing proves that it was not
    received.
    """

    async def script(exchange: Exchange) -> None:
        exchange.cut()

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is Unavailable
    assert (raised.code, raised.no_run, len(server.calls)) == ("connection_lost", False, 1)


async def test_a_slow_server(transport: Transport) -> None:
    """A request that was sent and not answered proves nothing either."""
    async with aclosing(HttpClient(Timeouts(read=0.2), transport=transport)) as client:

        async def script(exchange: Exchange) -> None:
            await exchange.left()

        async with serving(script) as server:
            _, _, raised = await read(client, spec(server.url))
    assert type(raised) is Unavailable
    assert (raised.code, raised.no_run) == ("timeout", False)


@pytest.mark.parametrize(("hangs", "code"), [(False, "connect_error"), (True, "timeout")])
async def test_a_connection_that_was_never_established(
    transport: Transport, hangs: bool, code: str
) -> None:
    """TLS failed: nothing of the request was sent, so nobody received it."""

    async def answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if hangs:
            await asyncio.Event().wait()

    async with (
        listening(answer) as server,
        aclosing(HttpClient(Timeouts(connect=0.3), transport=transport)) as client,
    ):
        _, _, raised = await read(client, spec(f"https://127.0.0.1:{server.port}"))
    assert type(raised) is Unavailable
    assert (raised.code, raised.no_run) == (code, True)


@pytest.mark.parametrize("cut_by", ["rst", "fin"])
async def test_a_network_that_cuts_anywhere(client: HttpClient, cut_by: str) -> None:
    """The text is a prefix, and complete only with its proof."""
    text = "Où est la gare ? 🚉 Là-bas."
    body = b"".join(chunk(character) for character in text) + END

    async def script(exchange: Exchange) -> None:
        await exchange.whole(body)

    async with serving(script) as server, fault_proxy("127.0.0.1", server.port) as proxy:
        proxy.faults = Faults(slice_bytes=11, cut_by=cut_by)
        for cut_after in [*range(100, len(body) + 100, 97), None]:
            proxy.faults.cut_after_bytes = cut_after
            got, _, raised = await read(client, spec(f"http://127.0.0.1:{proxy.port}"))
            assert text.startswith(got)
            assert (raised is None) <= (got == text)
            assert raised is None or type(raised) is (Interrupted if got else Unavailable)
            proxy.cut()
    assert raised is None


async def test_a_finished_answer_has_no_timer() -> None:
    """Otherwise each answer would leave one that is set again and again."""
    watch = StallWatch(60.0)
    watch.progress()
    timer = watch._timer
    assert timer is not None
    watch.stop()
    assert timer.cancelled()


async def test_a_black_hole(client: HttpClient) -> None:
    """Nothing arrives, and nothing is refused: the stall time ends it."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    async with serving(script) as server, fault_proxy("127.0.0.1", server.port) as proxy:
        proxy.faults.blackhole = True
        _, _, raised = await read(client, spec(f"http://127.0.0.1:{proxy.port}", stall_seconds=0.3))
    assert type(raised) is Unavailable
    assert raised.code == "stalled"


@pytest.mark.parametrize(("reuse", "expected"), [(True, 1), (False, 3)])
async def test_a_connection_serves_the_next_answer(
    transport: Transport, reuse: bool, expected: int
) -> None:
    """After the last delta, the client waits a moment for the end of the body. Without TLS only on
    request.
    """
    async with aclosing(HttpClient(reuse_plain=reuse, transport=transport)) as client:
        connections: set[object] = set()

        async def script(exchange: Exchange) -> None:
            connections.add(exchange.writer)
            await exchange.head()
            await exchange.send(chunk("a") + END)
            await asyncio.sleep(0.01)
            await exchange.end()

        async with serving(script) as server:
            for _ in range(3):
                await read(client, spec(server.url))
    assert len(connections) == expected


@pytest.mark.parametrize("dialect", ["anthropic", "openai_compatible"])
async def test_half_a_character_reaches_no_provider(client: HttpClient, dialect: str) -> None:
    """Input goes back as the model wrote it. Where it is an object, lone halves are U+FFFD."""
    bodies: list[bytes] = []

    async def script(exchange: Exchange) -> None:
        bodies.append(exchange.call.body)
        await exchange.whole(b"{}", 400, "application/json")

    text = r'{"k":"\ud83d\ude00 \ud800 \u0000 ?","n":%s}' % ("9" * 40)
    turn = HistoryMessage("assistant", [CallPart("c", "f", text, None)])
    request = Request([*HELLO.messages, turn])
    async with serving(script) as server:
        await read(client, spec(server.url, provider=dialect, api_key="k"), request)
    body = bodies[0].decode()
    if dialect == "anthropic":
        assert r'"input": {"k": "😀 � \u0000 ?", "n": 999' in body
    else:
        assert json.dumps(text) in body
