"""Answers that continue after a break; repetitions of the provider are dropped."""

import asyncio
import json

import pytest

from tests.integration.providers.answers import END, background, chunk, continued, read, spec
from tests.integration.providers.wire import Exchange, serving
from tokenwire.providers.base import (
    Interrupted,
    InvalidRequest,
    Restart,
    TextDelta,
)
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider


async def test_withheld_text_is_before_the_cursor(client: HttpClient) -> None:
    """Attaching behind it would lose text that the consumer has not received."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for text in ("brown", " fox", " jumps"):
            await exchange.send(chunk(text))
            await asyncio.sleep(0.02)
        await exchange.send(END)
        await exchange.end()

    async with serving(script) as server:
        request = continued("turn", "The quick brown fox")
        async with open_provider(spec(server.url), client).stream(request) as stream:
            assert stream.stitching
            seen = [
                (stream.stitching, "".join(d.text for d in batch if isinstance(d, TextDelta)))
                async for batch in stream
            ]
    assert all(not text for stitching, text in seen if stitching)
    assert not seen[-1][0]


async def test_withheld_text_is_given_when_the_connection_breaks(
    client: HttpClient,
) -> None:
    """It might have become a repetition, but it has arrived and was paid for."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk(" quick"))
        await asyncio.sleep(0.05)
        exchange.cut()

    async with serving(script) as server:
        request = continued("turn", "The quick brown fox")
        text, _, raised = await read(client, spec(server.url), request)
    assert text == " quick"
    assert isinstance(raised, Interrupted)


@pytest.mark.parametrize(("rung", "run"), [("attach", None), ("prefix", None)])
async def test_without_attach_and_prefix_an_extra_turn_continues(
    client: HttpClient, rung: str, run: str | None
) -> None:
    """The next available rung; the overlap is still dropped."""

    async def script(exchange: Exchange) -> None:
        assert b"Go on exactly after" in exchange.call.body
        delta = json.dumps(
            {"type": "response.output_text.delta", "output_index": 0, "delta": "brown fox jumps"}
        ).encode()
        await exchange.whole(
            b'data: %b\n\ndata: {"type":"response.completed","response":{"id":"r"}}\n\n' % delta
        )

    async with serving(script) as server:
        entry = background(server.url)
        request = continued(rung, "The quick brown fox", run)
        text, _, raised = await read(client, entry, request)
    assert (text, raised) == (" jumps", None)


@pytest.mark.parametrize(
    ("provider", "rung", "answer", "grown"),
    [
        ("mistral", "prefix", "The quick brown fox jumps", "The quick brown fox jumps"),
        ("llamacpp", "prefix", " fox jumps", "The quick brown fox jumps"),
        ("openai_compatible", "turn", "brown fox jumps", "The quick brown fox jumps"),
    ],
)
async def test_a_continued_answer_fits_its_beginning(
    client: HttpClient, provider: str, rung: str, answer: str, grown: str
) -> None:
    """Repetitions are dropped, however they are cut."""
    held = "The quick brown"

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for character in answer:
            await exchange.send(chunk(character))
        await exchange.send(END)
        await exchange.end()

    async with serving(script) as server:
        request = continued(rung, held)
        text, _, raised = await read(client, spec(server.url, provider=provider), request)
    assert (held + text, raised) == (grown, None)


async def test_a_model_that_starts_over_in_other_words(client: HttpClient) -> None:
    """The consumer gets a Restart once, before the first text that replaces the held one."""
    same = "".join(f"{number} birds. " for number in range(20))

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk(same) + chunk("And then") + chunk(" night.") + END)

    async with serving(script) as server:
        request = continued("turn", same + "The end of all bir")
        text, deltas, raised = await read(client, spec(server.url), request)
    assert (text, raised) == (same + "And then night.", None)
    shown = [delta for delta in deltas if isinstance(delta, TextDelta | Restart)]
    assert shown[0] == Restart()
    assert shown.count(Restart()) == 1


@pytest.mark.parametrize(
    "more", ["", "Each of them is described below, and each of them is ripe in summer. " * 8]
)
async def test_a_model_that_starts_over_with_the_same_few_words(
    client: HttpClient, more: str
) -> None:
    """They are enough, behind a line and behind a page; the decision does not wait for more."""
    anew = "Sure! Here are some red fruits: apple, cherry, strawberry."

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for character in anew:
            await exchange.send(chunk(character))
        await exchange.send(END)
        await exchange.end()

    async with serving(script) as server:
        held = f"Sure! Here is a list of fruits that are red. {more}There are apple, cherry, straw"
        text, deltas, raised = await read(
            client,
            spec(server.url),
            continued("turn", held),
        )
    assert (text, raised) == (anew, None)
    assert [delta for delta in deltas if isinstance(delta, TextDelta | Restart)][:2] == [
        Restart(),
        TextDelta("Sure! Here a"),
    ]


async def test_an_unsupported_rung(client: HttpClient) -> None:
    """It is refused before the request."""
    with pytest.raises(InvalidRequest):
        async with open_provider(spec("http://127.0.0.1:9"), client).stream(
            continued("prefix", "x")
        ):
            pass
