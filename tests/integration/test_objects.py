"""`useObject` with answers that are repaired: partial objects until then, or the whole document.

Over real connections, with the real worker and a scripted model.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.attempt.test_calls import says
from tests.integration.serving import serving
from tests.integration.tool_chat import Chat
from tokenwire.protocol.fold import Answer
from tokenwire.web.aisdk import completions

MISFIT, FITS = "Oslo", '{"city": "Oslo"}'


@pytest.fixture
async def chat(tmp_path: Path) -> AsyncIterator[Chat]:
    async with serving(tmp_path) as web, asyncio.timeout(60):
        chat = Chat(web)
        yield chat
        await chat.aclose()


async def read(chat: Chat, **query: Any) -> tuple[int, str, bool]:
    """The status, the text, and whether the connection broke."""
    text = ""
    async with chat.web.client.stream(
        "POST", "/api/object", json={"where": "Fram"}, params=query
    ) as response:
        try:
            async for piece in response.aiter_text():
                text += piece
        except httpx.RemoteProtocolError:
            return response.status_code, text, True
    return response.status_code, text, False


async def test_a_repair_of_sent_text_breaks_the_stream(chat: Chat) -> None:
    """What was sent stays, and nothing follows it: no mixture of two documents."""
    chat.plays(says(MISFIT), says(FITS))
    assert await read(chat) == (200, MISFIT, True)


async def test_a_repair_that_begins_alike_continues(chat: Chat) -> None:
    """A document that lost its end, for example."""
    chat.plays(says(FITS[:9]), says(FITS))
    assert await read(chat) == (200, FITS, False)


async def test_a_whole_document_is_the_repaired_one(chat: Chat) -> None:
    """Nothing of the first one was sent."""
    chat.plays(says(MISFIT), says(FITS))
    assert await read(chat, partial=False) == (200, FITS, False)


async def test_a_whole_document_that_never_fits_has_a_status(chat: Chat) -> None:
    """The reason reaches the hook's `onError`."""
    chat.plays(says(MISFIT), says(MISFIT))
    status, text, broken = await read(chat, partial=False)
    assert (status, broken) == (502, False)
    assert '"answer_failed"' in text
    assert "does not fit its schema" in text


@pytest.mark.parametrize("fits", [True, False])
async def test_a_slow_whole_document_keeps_its_connection(
    chat: Chat, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    """By white space, which a document may begin with. Then a failure can only break it."""
    monkeypatch.setattr(completions, "SPACE_SECONDS", 0.0)
    chat.plays(says(MISFIT), says(FITS if fits else MISFIT))
    status, text, broken = await read(chat, partial=False)
    assert text[0] == "\n"
    assert (status, text.strip(), broken) == (200, FITS if fits else "", not fits)


def test_white_space_is_a_beginning() -> None:
    """Behind it, a failure has no status any more, and breaks the connection."""
    encoder = completions.TextEncoder(Answer("a"), whole=True)
    assert not encoder.begun
    assert encoder.space() == b"\n"
    assert encoder.begun


async def test_a_bad_wish_is_refused(chat: Chat) -> None:
    """By name."""
    status, text, _ = await read(chat, partial="maybe")
    assert status == 422
    assert "query.partial" in text
