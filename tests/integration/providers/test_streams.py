"""Answers over real sockets: batches as they arrive, both clocks, errors of transport, and leaving that stops the provider."""

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from providers.base import (
    Continuation,
    Delta,
    Finish,
    Interrupted,
    InvalidRequest,
    Message,
    ModelSpec,
    Provider,
    ProviderError,
    RateLimited,
    Request,
    Restart,
    Text,
    Unavailable,
)
from providers.hooks import Hook, watched
from providers.http import HttpClient, Timeouts
from providers.openai_chat import ChatDecoder
from providers.registry import open_provider
from tests.integration.providers.wire import Exchange, serving
from tests.servers.faultproxy import FaultProxy, Faults

HELLO = Request([Message("user", "hello")])
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def chunk(text: str) -> bytes:
    return b'data: {"id":"x","choices":[{"delta":{"content":%b}}]}\n\n' % json.dumps(text).encode()


def spec(url: str, **fields: object) -> ModelSpec:
    return ModelSpec(**{"name": "m", "provider": "openai_compatible", "model": "m", "base_url": url, **fields})  # type: ignore[arg-type]


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    """A client with short socket timeouts."""
    client = HttpClient(Timeouts(connect=2, read=5))
    yield client
    await client.aclose()


async def broken_off(provider: Provider) -> tuple[str, tuple[str | None, int | None]]:
    """The text of an answer that is interrupted, and what a re-attach needs."""
    text, run = "", (None, None)
    try:
        async with provider.stream(HELLO) as stream:
            async for batch in stream:
                text += "".join(delta.text for delta in batch if isinstance(delta, Text))
                run = (stream.run_id, stream.cursor)
    except Interrupted:
        return text, run
    raise AssertionError("the answer was not interrupted")


async def read(client: HttpClient, entry: ModelSpec, request: Request = HELLO) -> tuple[str, list[Delta], ProviderError | None]:
    """The text, the deltas and the error of an answer."""
    deltas: list[Delta] = []
    error = None
    try:
        async with open_provider(entry, client).stream(request) as stream:
            async for batch in stream:
                deltas += batch
    except ProviderError as raised:
        error = raised
    return "".join(delta.text for delta in deltas if isinstance(delta, Text)), deltas, error


async def test_each_read_is_a_batch(client: HttpClient) -> None:
    """Deltas are given as they arrive, not when the answer ends."""
    given = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a") + chunk("b"))
        await given.wait()
        await exchange.send(chunk("c") + END)
        await exchange.end()

    async with serving(script) as server, open_provider(spec(server.url), client).stream(HELLO) as stream:
        batches = []
        async for batch in stream:
            batches.append([delta.text for delta in batch if isinstance(delta, Text)])
            given.set()
    assert batches[0] == ["a", "b"]
    assert [text for batch in batches[1:] for text in batch] == ["c"]


async def test_the_request_is_as_the_provider_wants_it(client: HttpClient) -> None:
    """Key, headers and a refusal of compression; the body is the dialect's."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    async with serving(script) as server:
        await read(client, spec(server.url + "/v1", api_key="secret", headers={"x-team": "7"}))
    call = server.calls[0]
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.headers["authorization"] == "Bearer secret"
    assert call.headers["accept-encoding"] == "identity"
    assert call.headers["x-team"] == "7"
    assert json.loads(call.body)["messages"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(("sent", "error"), [(b"", Unavailable), (chunk("a"), Interrupted)])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_that_breaks(client: HttpClient, sent: bytes, error: type[ProviderError], reset: bool) -> None:
    """Before any text it is Unavailable, after it Interrupted, with the text delivered; a clean end without proof is no different."""

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
        await exchange.send(chunk("a") + b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')
        await asyncio.sleep(0.05)
        exchange.cut()

    async with serving(script) as server:
        text, deltas, raised = await read(client, spec(server.url))
    assert (text, raised) == ("a", None)
    assert deltas[-1] == Finish("stop", "stop")


async def test_keepalives_are_not_progress(client: HttpClient) -> None:
    """Comments keep the socket busy; the model's stall time runs all the same."""

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

    async with serving(paced) as server, open_provider(spec(server.url, stall_seconds=0.3), client).stream(HELLO) as stream:
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


@pytest.fixture
async def server_client() -> AsyncIterator[HttpClient]:
    client = HttpClient(Timeouts(connect=1, read=0.3))
    yield client
    await client.aclose()


async def test_a_consumer_that_is_cancelled(client: HttpClient) -> None:
    """Cancelling the reader closes the connection, and the cancellation arrives as such."""
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
    """A provider that is left in mid-answer stops being paid."""
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
    """Nobody listens: Unavailable, told apart from a timeout."""
    _, _, raised = await read(client, spec("http://127.0.0.1:9"))
    assert type(raised) is Unavailable
    assert raised.code == "connect_error"


async def test_a_connection_that_went_stale_in_the_pool(client: HttpClient) -> None:
    """A server that closed it meanwhile costs nothing: the request goes out again, once."""
    closing = True

    async def script(exchange: Exchange) -> None:
        nonlocal closing
        if len(server.calls) == 2 and closing:
            closing = False
            exchange.cut()
            return
        await exchange.whole(chunk("a") + END)

    async with serving(script) as server:
        first, _, _ = await read(client, spec(server.url))
        await asyncio.sleep(0.05)
        second, _, raised = await read(client, spec(server.url))
    assert (first, second, raised, len(server.calls)) == ("a", "a", None, 3)


async def test_a_server_that_always_hangs_up(client: HttpClient) -> None:
    """It is asked twice, not for ever."""

    async def script(exchange: Exchange) -> None:
        exchange.cut()

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is Unavailable
    assert len(server.calls) == 2


async def test_an_http_error_is_classified(client: HttpClient) -> None:
    """Status, body and headers of an error answer make its class and its hint."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(b'{"error":{"message":"slow down"}}', 429, "application/json", retry_after="7")

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is RateLimited
    assert (raised.status, raised.retry_after_s, raised.message) == (429, 7.0, "slow down")


async def test_an_endless_error_body_is_not_read_to_its_end(client: HttpClient) -> None:
    """Of an error the beginning is enough."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(500, "text/html")
        for _ in range(10_000):
            await exchange.send(b"x" * 65536)

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is Unavailable


async def test_a_background_run_is_attached_to_again(client: HttpClient) -> None:
    """After a break the run goes on by its id and the last sequence number; nothing is repeated, nothing lost."""

    def event(number: int, kind: str, **fields: object) -> bytes:
        return b"data: %b\n\n" % json.dumps({"type": kind, "sequence_number": number, **fields}).encode()

    response = {"id": "resp_1", "background": True, "status": "completed", "output": []}

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        if exchange.call.method == "POST":
            assert json.loads(exchange.call.body)["background"] is True
            await exchange.send(event(0, "response.created", response=response))
            await exchange.send(event(1, "response.output_text.delta", output_index=0, delta="Hel"))
            await asyncio.sleep(0.05)
            exchange.cut()
            return
        await exchange.send(event(1, "response.output_text.delta", output_index=0, delta="Hel"))
        await exchange.send(event(2, "response.output_text.delta", output_index=0, delta="lo"))
        await exchange.send(event(3, "response.completed", response=response))
        await exchange.end()

    async with serving(script) as server:
        entry = spec(server.url, provider="openai_responses", continuation="attach", options={"background": True})
        text, run = await broken_off(open_provider(entry, client))
        assert run == ("resp_1", 1)
        again, deltas, raised = await read(client, entry, Request(HELLO.messages, continuation=Continuation("attach", text, *run)))
    assert (text + again, raised) == ("Hello", None)
    assert isinstance(deltas[-1], Finish)
    assert server.calls[1].path == "/responses/resp_1?stream=true&starting_after=1"


@pytest.mark.parametrize("kept", [True, False])
async def test_a_background_run_is_cancelled_by_leaving_it(client: HttpClient, kept: bool) -> None:
    """Closing the connection does not stop it, so leaving sends the call that does; not where the run is to be kept."""

    async def script(exchange: Exchange) -> None:
        if exchange.call.path.endswith("/cancel"):
            await exchange.whole(b"{}", content_type="application/json")
            return
        await exchange.head()
        await exchange.send(b'data: {"type":"response.created","response":{"id":"r","background":true}}\n\n')
        await exchange.left()

    async with serving(script) as server:
        entry = spec(server.url, provider="openai_responses", options={"background": True})
        async with open_provider(entry, client).stream(HELLO) as stream:
            async for _ in stream:
                break
            if kept:
                stream.keep()
    assert [call.path for call in server.calls] == ["/responses", *([] if kept else ["/responses/r/cancel"])]


@pytest.mark.parametrize(
    ("provider", "options", "call"),
    [
        ("openai_responses", {"background": True}, ("POST", "/responses/r%2F1/cancel")),
        ("llamacpp", {"resume": True}, ("DELETE", "/stream?conv_id=r/1")),
    ],
)
@pytest.mark.parametrize(
    ("status", "body", "ended"),
    [
        (200, b"{}", True),
        (404, b'{"error":{"message":"no such run"}}', True),
        (400, b'{"error":{"message":"already completed"}}', True),
        (409, b"{}", True),
        (503, b"{}", False),
        (401, b"{}", False),
        (429, b"{}", False),
    ],
)
async def test_a_run_is_ended_by_its_name(
    client: HttpClient, provider: str, options: dict[str, object], call: tuple[str, str], status: int, body: bytes, ended: bool
) -> None:
    """Whoever began it. One that is over, or not known any more, has ended; any other refusal says that it may still run."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(body, status, "application/json")

    async with serving(script) as server:
        model = open_provider(spec(server.url, provider=provider, options=options), client)
        try:
            await model.end("r/1")
        except ProviderError:
            assert not ended
        else:
            assert ended
    assert [(made.method, made.path) for made in server.calls] == [call]


async def test_a_run_without_a_name_needs_no_end(client: HttpClient) -> None:
    """Leaving its connection is its end."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(b"{}")

    async with serving(script) as server:
        await open_provider(spec(server.url, provider="anthropic"), client).end("x")
    assert server.calls == []


@pytest.mark.parametrize(
    ("last", "over"),
    [
        (b'data: {"type":"response.completed","response":{"id":"r","background":true,"status":"completed"}}\n\n', True),
        (b'data: {"type":"response.failed","response":{"id":"r","background":true,"status":"failed"}}\n\n', True),
        (b"", False),
    ],
)
async def test_a_run_is_over_when_its_provider_says_so(client: HttpClient, last: bytes, over: bool) -> None:
    """A connection that ends says nothing about the run."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(b'data: {"type":"response.created","response":{"id":"r","background":true}}\n\n' + last)

    async with serving(script) as server:
        entry = spec(server.url, provider="openai_responses", options={"background": True})
        async with watched(open_provider(entry, client), [Hook()]).stream(HELLO) as stream:
            with contextlib.suppress(ProviderError):
                async for _ in stream:
                    assert stream.run_id == "r"
            assert stream.run_over is over


async def test_llamacpp_runs_have_their_name_before_they_are_asked_for(client: HttpClient) -> None:
    """So it can be saved before there is anything to pay."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    async with serving(script) as server:
        entry = spec(server.url, provider="llamacpp", continuation="attach", options={"resume": True})
        async with open_provider(entry, client).stream(HELLO) as stream:
            assert server.calls == []
            name = stream.run_id
            async for _ in stream:
                pass
    assert server.calls[0].headers["x-conversation-id"] == name


async def test_text_that_is_held_back_is_no_place_to_attach_to(client: HttpClient) -> None:
    """What the run has said and the consumer was not given would be lost."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for text in ("brown", " fox", " jumps"):
            await exchange.send(chunk(text))
            await asyncio.sleep(0.02)
        await exchange.send(END)
        await exchange.end()

    async with serving(script) as server:
        request = Request(HELLO.messages, continuation=Continuation("turn", "The quick brown fox"))
        async with open_provider(spec(server.url), client).stream(request) as stream:
            assert stream.stitching
            seen = [(stream.stitching, "".join(d.text for d in batch if isinstance(d, Text))) async for batch in stream]
    assert all(not text for stitching, text in seen if stitching)
    assert not seen[-1][0]


@pytest.mark.parametrize(("rung", "run"), [("attach", None), ("prefix", None)])
async def test_what_cannot_be_attached_to_or_prefixed_is_asked_to_go_on(client: HttpClient, rung: str, run: str | None) -> None:
    """The next rung that there is, and the overlap is still dropped."""

    async def script(exchange: Exchange) -> None:
        assert b"Go on exactly after" in exchange.call.body
        delta = json.dumps({"type": "response.output_text.delta", "output_index": 0, "delta": "brown fox jumps"}).encode()
        await exchange.whole(b'data: %b\n\ndata: {"type":"response.completed","response":{"id":"r"}}\n\n' % delta)

    async with serving(script) as server:
        entry = spec(server.url, provider="openai_responses", continuation="attach", options={"background": True})
        going_on = Continuation(rung, "The quick brown fox", run)  # type: ignore[arg-type]
        text, _, raised = await read(client, entry, Request(HELLO.messages, continuation=going_on))
    assert (text, raised) == (" jumps", None)


async def test_a_run_that_is_gone(client: HttpClient) -> None:
    """It can be tried otherwise, so it is no fault of the request."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(b'{"error":{"message":"not found"}}', 404, "application/json")

    async with serving(script) as server:
        entry = spec(server.url, provider="openai_responses", continuation="attach", options={"background": True})
        _, _, raised = await read(client, entry, Request(HELLO.messages, continuation=Continuation("attach", "", "r", 3)))
    assert type(raised) is Unavailable
    assert raised.code == "run_gone"


async def test_llamacpp_runs_are_attached_to_by_bytes(client: HttpClient) -> None:
    """The cursor is the byte after the last whole event, wherever the connection broke."""
    body = chunk("Hel") + chunk("lo") + END
    broken = len(chunk("Hel")) + 20

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        if exchange.call.method == "POST":
            assert exchange.call.headers["x-conversation-id"]
            await exchange.send(body[:broken])
            await asyncio.sleep(0.05)
            exchange.cut()
            return
        await exchange.send(body[int(exchange.call.path.rpartition("from=")[2]) :])
        await exchange.end()

    async with serving(script) as server:
        entry = spec(server.url, provider="llamacpp", continuation="attach", options={"resume": True})
        _, run = await broken_off(open_provider(entry, client))
        text, _, raised = await read(client, entry, Request(HELLO.messages, continuation=Continuation("attach", "Hel", *run)))
    assert (text, raised) == ("lo", None)


@pytest.mark.parametrize(
    ("provider", "rung", "answer", "grown"),
    [
        ("mistral", "prefix", "The quick brown fox jumps", "The quick brown fox jumps"),
        ("llamacpp", "prefix", " fox jumps", "The quick brown fox jumps"),
        ("openai_compatible", "turn", "brown fox jumps", "The quick brown fox jumps"),
    ],
)
async def test_a_continued_answer_fits_its_beginning(client: HttpClient, provider: str, rung: str, answer: str, grown: str) -> None:
    """What the provider repeats is dropped, however it is cut."""
    held = "The quick brown"

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for character in answer:
            await exchange.send(chunk(character))
        await exchange.send(END)
        await exchange.end()

    async with serving(script) as server:
        request = Request(HELLO.messages, continuation=Continuation(rung, held))  # type: ignore[arg-type]
        text, _, raised = await read(client, spec(server.url, provider=provider), request)
    assert (held + text, raised) == (grown, None)


async def test_a_model_that_begins_anew_in_other_words(client: HttpClient) -> None:
    """The consumer is told, once, before the first text that takes the place of what is held."""
    same = "".join(f"{number} birds. " for number in range(20))

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk(same) + chunk("And then") + chunk(" night.") + END)

    async with serving(script) as server:
        request = Request(HELLO.messages, continuation=Continuation("turn", same + "The end of all bir"))
        text, deltas, raised = await read(client, spec(server.url), request)
    assert (text, raised) == (same + "And then night.", None)
    shown = [delta for delta in deltas if isinstance(delta, Text | Restart)]
    assert shown[0] == Restart()
    assert shown.count(Restart()) == 1


@pytest.mark.parametrize("cut_by", ["rst", "fin"])
async def test_a_network_that_slices_and_cuts_anywhere(client: HttpClient, cut_by: str) -> None:
    """Wherever the connection ends, the text is a prefix, and whole only with its proof."""
    text = "Où est la gare ? 🚉 Là-bas."
    body = b"".join(chunk(character) for character in text) + END

    async def script(exchange: Exchange) -> None:
        await exchange.whole(body)

    async with serving(script) as server:
        proxy = FaultProxy("127.0.0.1", server.port)
        await proxy.start()
        proxy.faults = Faults(slice_bytes=11, cut_by=cut_by)
        for cut_after in [*range(100, len(body) + 100, 97), None]:
            proxy.faults.cut_after_bytes = cut_after
            got, _, raised = await read(client, spec(f"http://127.0.0.1:{proxy.port}"))
            assert text.startswith(got)
            assert (raised is None) <= (got == text)
            assert raised is None or type(raised) is (Interrupted if got else Unavailable)
            proxy.cut()
        await proxy.aclose()
    assert raised is None


async def test_a_black_hole(client: HttpClient) -> None:
    """Nothing arrives, nothing is refused: the stall time ends it."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    async with serving(script) as server:
        proxy = FaultProxy("127.0.0.1", server.port)
        await proxy.start()
        proxy.faults.blackhole = True
        _, _, raised = await read(client, spec(f"http://127.0.0.1:{proxy.port}", stall_seconds=0.3))
        await proxy.aclose()
    assert type(raised) is Unavailable
    assert raised.code == "stalled"


async def test_cookies_of_one_answer_are_not_sent_with_the_next(client: HttpClient) -> None:
    """Keys of several customers may share a pool."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END, set_cookie="who=me; Path=/")

    async with serving(script) as server:
        for _ in range(2):
            await read(client, spec(server.url))
    assert all("cookie" not in call.headers for call in server.calls)


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
async def test_a_body_compressed_unasked(client: HttpClient, encoding: str, wbits: int) -> None:
    """It is read as it comes; what cannot be undone is an error."""

    async def script(exchange: Exchange) -> None:
        squeeze = zlib.compressobj(wbits=wbits)
        await exchange.head(content_encoding=encoding)
        await exchange.send(squeeze.compress(chunk("a")) + squeeze.flush(zlib.Z_SYNC_FLUSH))
        await exchange.send(squeeze.compress(END) + squeeze.flush())
        await exchange.end()

    async with serving(script) as server:
        text, _, raised = await read(client, spec(server.url))
    assert (text, raised) == ("a", None)


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_a_body_that_cannot_be_read(client: HttpClient, encoding: str) -> None:
    """It is the provider's fault."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(content_encoding=encoding)
        await exchange.send(b"rubbish")
        await exchange.end()

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is Unavailable
    assert raised.code == "bad_encoding"


async def test_a_connection_serves_the_next_answer(client: HttpClient) -> None:
    """The end of the body is waited for, a moment, after the last delta."""
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
    assert len(connections) == 1


async def test_an_answer_does_not_wait_for_a_body_without_end(client: HttpClient) -> None:
    """Proof is enough."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a") + END)
        await exchange.left()

    async with serving(script) as server, asyncio.timeout(2):
        text, _, raised = await read(client, spec(server.url))
    assert (text, raised) == ("a", None)


async def test_a_rung_that_the_model_does_not_have(client: HttpClient) -> None:
    """It is refused before the call."""
    with pytest.raises(InvalidRequest):
        async with open_provider(spec("http://127.0.0.1:9"), client).stream(
            Request(HELLO.messages, continuation=Continuation("prefix", "x"))
        ):
            pass


async def test_a_key_that_a_provider_echoes_is_not_told(client: HttpClient) -> None:
    """Neither the key nor another header of the entry, in an HTTP error and in an error inside a success."""

    async def script(exchange: Exchange) -> None:
        said = f"you sent {exchange.call.headers['authorization']} and {exchange.call.headers['x-team']}"
        body = json.dumps({"error": {"message": said, "code": exchange.call.headers["x-team"]}}).encode()
        if len(server.calls) == 1:
            await exchange.whole(body, 401, "application/json")
        else:
            await exchange.whole(b"data: " + body + b"\n\n")

    async with serving(script) as server:
        for _ in range(2):
            _, _, error = await read(client, spec(server.url, api_key="plain words", headers={"x-team": "blue whale"}))
            assert error is not None
            assert "you sent" in error.message
            for secret in ("plain words", "blue whale"):
                assert secret not in f"{error} {error!r} {error.message} {error.code}"


async def test_whatever_is_raised_while_reading_is_a_failure_of_the_answer(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what no decoder foresees: the consumer gets the project's own error."""

    def broken(_self: ChatDecoder, _data: bytes) -> list[Delta]:
        raise OverflowError("a bug")

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    monkeypatch.setattr(ChatDecoder, "feed", broken)
    async with serving(script) as server:
        _, _, error = await read(client, spec(server.url))
    assert isinstance(error, Unavailable)
    assert error.code == "unreadable"
