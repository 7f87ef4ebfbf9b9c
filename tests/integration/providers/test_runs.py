"""Runs that continue at their provider: named, left, ended, attached to."""

import asyncio
import contextlib
import json

import pytest

from tests.integration.providers.answers import (
    END,
    HELLO,
    background,
    broken_off,
    chunk,
    continued,
    read,
    spec,
)
from tests.integration.providers.wire import Exchange, serving
from tokenwire.providers.base import Finish, ProviderError, Unavailable
from tokenwire.providers.hooks import Hook, with_hooks
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider


async def test_a_background_run_is_attached_to(client: HttpClient) -> None:
    """After a break, the run continues by its id and the last sequence number, without repetition
    or loss.
    """

    def event(number: int, kind: str, **fields: object) -> bytes:
        return (
            b"data: %b\n\n"
            % json.dumps({"type": kind, "sequence_number": number, **fields}).encode()
        )

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
        entry = background(server.url)
        text, run = await broken_off(open_provider(entry, client))
        assert run == ("resp_1", 1)
        again, deltas, raised = await read(client, entry, continued("attach", text, *run))
    assert (text + again, raised) == ("Hello", None)
    assert isinstance(deltas[-1], Finish)
    assert server.calls[1].path == "/responses/resp_1?stream=true&starting_after=1"


@pytest.mark.parametrize("kept", [True, False])
async def test_a_background_run_is_cancelled_by_leaving_it(client: HttpClient, kept: bool) -> None:
    """Closing the connection does not stop it, so leaving sends the cancel request, unless the run
    is to be kept.
    """

    async def script(exchange: Exchange) -> None:
        if exchange.call.path.endswith("/cancel"):
            await exchange.whole(b"{}", content_type="application/json")
            return
        await exchange.head()
        await exchange.send(
            b'data: {"type":"response.created","response":{"id":"r","background":true}}\n\n'
        )
        await exchange.left()

    async with serving(script) as server:
        entry = spec(server.url, provider="openai_responses", options={"background": True})
        async with open_provider(entry, client).stream(HELLO) as stream:
            async for _ in stream:
                break
            if kept:
                stream.keep_run()
    assert [call.path for call in server.calls] == [
        "/responses",
        *([] if kept else ["/responses/r/cancel"]),
    ]


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
        (410, b"{}", True),
        (503, b"{}", False),
        (401, b"{}", False),
        (429, b"{}", False),
    ],
)
async def test_a_run_is_ended_by_its_name(
    client: HttpClient,
    provider: str,
    options: dict[str, object],
    call: tuple[str, str],
    status: int,
    body: bytes,
    ended: bool,
) -> None:
    """Whoever began it. A run that is over or unknown has ended; after any other refusal it may
    still be running.
    """

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
    # Both mean the same in a query; aiohttp writes the shorter one.
    assert [(made.method, made.path.replace("=r%2F1", "=r/1")) for made in server.calls] == [call]


async def test_a_run_without_a_name_ends_with_its_connection(client: HttpClient) -> None:
    """Nothing else has to be sent."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(b"{}")

    async with serving(script) as server:
        await open_provider(spec(server.url, provider="anthropic"), client).end("x")
    assert server.calls == []


@pytest.mark.parametrize(
    ("last", "over"),
    [
        (
            (
                b'data: {"type":"response.completed","response":{"id":"r","background":true,'
                b'"status":"completed"}}\n\n'
            ),
            True,
        ),
        (
            (
                b'data: {"type":"response.failed","response":{"id":"r","background":true,'
                b'"status":"failed"}}\n\n'
            ),
            True,
        ),
        (b"", False),
    ],
)
async def test_only_the_provider_proves_the_end_of_a_run(
    client: HttpClient, last: bytes, over: bool
) -> None:
    """A closed connection says nothing about the run."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(
            b'data: {"type":"response.created","response":{"id":"r","background":true}}\n\n' + last
        )

    async with serving(script) as server:
        entry = spec(server.url, provider="openai_responses", options={"background": True})
        async with with_hooks(open_provider(entry, client), [Hook()]).stream(HELLO) as stream:
            with contextlib.suppress(ProviderError):
                async for _ in stream:
                    assert stream.run_id == "r"
            assert stream.run_over is over


async def test_llamacpp_runs_are_named_before_the_request(client: HttpClient) -> None:
    """So the name can be saved before anything is paid."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    async with serving(script) as server:
        entry = spec(
            server.url, provider="llamacpp", continuation="attach", options={"resume": True}
        )
        async with open_provider(entry, client).stream(HELLO) as stream:
            assert server.calls == []
            name = stream.run_id
            async for _ in stream:
                pass
    assert server.calls[0].headers["x-conversation-id"] == name


async def test_a_run_that_is_gone(client: HttpClient) -> None:
    """Another rung may work, so the request is not at fault."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(b'{"error":{"message":"not found"}}', 404, "application/json")

    async with serving(script) as server:
        entry = background(server.url)
        _, _, raised = await read(client, entry, continued("attach", "", "r", 3))
    assert type(raised) is Unavailable
    assert raised.code == "run_gone"


@pytest.mark.parametrize("status", [400, 404])
async def test_a_page_of_a_proxy_proves_nothing_about_a_run(
    client: HttpClient, status: int
) -> None:
    """The paid run may still exist and is attached to, or ended, later."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(b"<html><body><h1>nginx</h1></body></html>", status, "text/html")

    async with serving(script) as server:
        entry = background(server.url)
        _, _, raised = await read(client, entry, continued("attach", "", "r", 3))
        with pytest.raises(Unavailable):
            await open_provider(entry, client).end("r")
    assert type(raised) is Unavailable
    assert raised.code != "run_gone"


async def test_llamacpp_runs_are_attached_to_by_bytes(client: HttpClient) -> None:
    """The cursor is the byte after the last complete event, wherever the connection breaks."""
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
        entry = spec(
            server.url, provider="llamacpp", continuation="attach", options={"resume": True}
        )
        _, run = await broken_off(open_provider(entry, client))
        text, _, raised = await read(client, entry, continued("attach", "Hel", *run))
    assert (text, raised) == ("lo", None)
