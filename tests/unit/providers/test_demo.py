"""The demo model needs nothing, keeps its pace, and fails only on request."""

import asyncio
from typing import Any

import pytest

from tokenwire.providers import demo
from tokenwire.providers.base import (
    Continuation,
    Finish,
    HistoryMessage,
    InvalidRequest,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Request,
    RunStarted,
    TextDelta,
    UsageDelta,
)
from tokenwire.providers.registry import presets
from tokenwire.providers.spec import ModelSpec


@pytest.fixture(autouse=True)
def _forget() -> None:
    demo._failures.clear()


def provider(**options: Any) -> demo.DemoProvider:
    return demo.open_demo(
        ModelSpec(
            "demo", "demo", "demo", options={"tokens_per_second": 0, **options}, stall_seconds=0.01
        ),
        presets()["demo"],
    )


async def ask(
    words: str, held: str | None = None, tries: int | None = None, **options: Any
) -> tuple[str, list[Any], ProviderError | None]:
    request = Request(
        [HistoryMessage("user", words)],
        continuation=None if held is None else Continuation("prefix", held),
        tries=tries,
    )
    deltas: list[Any] = []
    try:
        async with provider(**options).stream(request) as stream:
            async for batch in stream:
                deltas += batch
    except ProviderError as error:
        return (
            "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)),
            deltas,
            error,
        )
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), deltas, None


async def test_the_story_is_complete() -> None:
    """Long, with Markdown and characters outside the BMP, between a start and usage with a
    finish.
    """
    text, deltas, error = await ask("hello")
    assert error is None
    assert text == demo.STORY
    assert len(text) > 2000
    assert "```" in text
    assert any(ord(character) > 0xFFFF for character in text)
    assert isinstance(deltas[0], RunStarted)
    assert isinstance(deltas[-2], UsageDelta)
    assert deltas[-1] == Finish("stop", "stop")


async def test_it_takes_ten_to_twenty_seconds() -> None:
    """At the default pace of 50 tokens a second."""
    assert 10 <= len(demo._TOKEN.findall(demo.STORY)) / 50 <= 20


@pytest.mark.parametrize("cue", ["!rate_limit", "!unavailable", "!cut", "!stall"])
async def test_retries_succeed_at_last(cue: str) -> None:
    """The first two tries fail and can be retried; a continued one repeats nothing."""
    text = ""
    for _ in range(2):
        piece, _, error = await ask(f"{cue} please", text or None)
        assert error is not None
        assert error.retryable
        text += piece
    piece, _, error = await ask(f"{cue} please", text or None)
    assert error is None
    assert text + piece == demo.STORY


async def test_the_caller_may_count_the_tries() -> None:
    """Then the memory of this process does not matter."""
    for tries, fails in ((0, True), (1, True), (2, False), (0, True)):
        _, _, error = await ask("!rate_limit !short", tries=tries)
        assert (error is not None) == fails


@pytest.mark.parametrize(
    ("cue", "name"),
    [
        ("!auth", "AuthenticationFailed"),
        ("!context", "ContextLengthExceeded"),
        ("!empty", "Unavailable"),
    ],
)
async def test_a_permanent_failure(cue: str, name: str) -> None:
    """It fails each time."""
    for _ in range(4):
        text, _, error = await ask(cue)
        assert (text, type(error).__name__) == ("", name)


async def test_cues_change_the_answer() -> None:
    """Short answers, reasoning and refusals."""
    assert (await ask("!short"))[0] == demo.SHORT
    _, deltas, _ = await ask("!short !think")
    assert (
        "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
        == demo.THINKING
    )
    _, deltas, _ = await ask("!refuse")
    assert (
        "".join(delta.text for delta in deltas if isinstance(delta, RefusalDelta)) == demo.REFUSAL
    )
    assert deltas[-1].reason == "refusal"


@pytest.mark.parametrize("at", [0, 1, 100, len(demo.STORY) - 1, len(demo.STORY)])
async def test_a_continuation_is_exact(at: int) -> None:
    """From any character of the story."""
    assert (await ask("hello", demo.STORY[:at]))[0] == demo.STORY[at:]


async def test_options() -> None:
    """Another text, other failures; invalid values are refused."""
    assert (await ask("hello", text="abc"))[0] == "abc"
    assert (await ask("!rate_limit", fail_times=0))[2] is None
    with pytest.raises(InvalidRequest, match="tokens_per_second"):
        provider(tokens_per_second="fast")


async def test_the_pace_is_kept() -> None:
    """One token after another, each at its time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await ask("!short", tokens_per_second=200)
    assert loop.time() - began >= 0.9 * len(demo._TOKEN.findall(demo.SHORT)) / 200
