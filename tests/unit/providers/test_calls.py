"""Complete calls, callbacks, hooks and cost: the package as a library."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tokenwire.providers import calls
from tokenwire.providers.base import (
    REASONING,
    Delta,
    Finish,
    HistoryMessage,
    InvalidRequest,
    Kept,
    KeptDelta,
    ProviderError,
    RateLimited,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Request,
    Restart,
    RunStarted,
    SourceDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Unavailable,
    UsageDelta,
)
from tokenwire.providers.history import CallPart, KeptPart, ReasoningPart, TextPart
from tokenwire.providers.hooks import Hook, with_hooks

REQUEST = Request([HistoryMessage("user", "hello")])
Step = Sequence[Delta] | ProviderError


class Scripted:
    """A provider that plays one script per try."""

    continuation = "none"
    stall_seconds = 7.0

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = list(scripts)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Any]:
        yield Stream(self.scripts.pop(0))

    async def end(self, run_id: str) -> None:
        self.ended = run_id


class Stream:
    run_id = "r"
    cursor = 3
    stitching = midway = naming = False
    run_over = True
    kept = False

    def __init__(self, script: Sequence[Step]) -> None:
        self._script = script

    def keep_run(self) -> None:
        self.kept = True

    async def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        for step in self._script:
            if isinstance(step, ProviderError):
                raise step
            yield step


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(seconds: float) -> None:
        return None

    monkeypatch.setattr(calls.asyncio, "sleep", at_once)


SIGNED = Kept("anthropic.messages", REASONING, {"type": "thinking", "signature": "s"})
NAMED = Kept("anthropic.messages", "tool_call", {"caller": {"type": "direct"}})
WHOLE: list[Step] = [
    [
        RunStarted("id", "model"),
        ReasoningDelta("hm"),
        ReasoningEnd(SIGNED),
        TextDelta("Hel"),
    ],
    [
        TextDelta("lo"),
        RefusalDelta("no"),
        SourceDelta("https://x"),
        ToolCallStart(0, "c", "f"),
        ToolCallArguments(0, '{"a"'),
    ],
    [
        ToolCallArguments(0, ":1}"),
        ToolCallEnd(0, NAMED),
        UsageDelta(1, None),
        UsageDelta(None, 2),
        Finish("tool_calls", "x"),
    ],
]


async def test_one_object() -> None:
    """Everything that an answer holds, as one object."""
    response = await calls.complete(Scripted(WHOLE), REQUEST)  # type: ignore[arg-type]
    assert (response.id, response.model, response.text, response.reasoning, response.refusal) == (
        "id",
        "model",
        "Hello",
        "hm",
        "no",
    )
    call = CallPart("c", "f", '{"a":1}', NAMED)
    assert response.tool_calls == [call]
    assert response.usage == UsageDelta(1, 2)
    assert response.finish == Finish("tool_calls", "x")
    assert response.sources == [SourceDelta("https://x")]
    assert list(response.parts) == [ReasoningPart("hm", SIGNED), TextPart("Hellono"), call]


async def test_a_model_that_starts_over_drops_the_earlier_text() -> None:
    """With everything that refers to it; what follows refers to the new text."""
    image = KeptDelta("openai.responses", "image_generation_call", {"id": "i"})
    anew: list[Step] = [
        [TextDelta("Let me "), image, Restart()],
        [TextDelta("Yes."), image, Finish("stop")],
    ]
    response = await calls.complete(Scripted(anew), REQUEST)  # type: ignore[arg-type]
    assert response.text == "Yes."
    assert list(response.parts) == [
        TextPart("Yes."),
        KeptPart(image.dialect, image.kind, image.value),
    ]


async def test_retried_until_it_succeeds() -> None:
    """Retryable errors are retried after the provider's delay; hooks are notified."""
    heard: list[Any] = []

    class Listener(Hook):
        def retry(self, error: ProviderError, delay_seconds: float, tries: int) -> None:
            heard.append((type(error), delay_seconds >= 30, tries))

    provider = Scripted(
        [RateLimited("slow", retry_after_s=30)], [[TextDelta("a")], Unavailable("gone")], WHOLE
    )
    response = await calls.complete(provider, REQUEST, hooks=[Listener()])  # type: ignore[arg-type]
    assert response.text == "Hello"
    assert heard == [(RateLimited, True, 1), (Unavailable, False, 2)]


@pytest.mark.parametrize("error", [InvalidRequest("bad"), Unavailable("gone")])
async def test_other_errors_are_raised(error: ProviderError) -> None:
    """At once, or when the tries are used up."""
    tries = 3 if error.retryable else 1
    provider = Scripted(*[[error]] * tries)
    with pytest.raises(type(error)):
        await calls.complete(provider, REQUEST)  # type: ignore[arg-type]
    assert provider.scripts == []


async def test_the_callback_form_never_repeats_itself() -> None:
    """After the first visible piece, a break is raised with what there was and is not retried."""
    heard: list[Delta] = []
    with pytest.raises(calls.Broken) as broken:
        await calls.run(
            Scripted([[TextDelta("a")], Unavailable("gone")], WHOLE), REQUEST, heard.append
        )  # type: ignore[arg-type]
    assert broken.value.response.text == "a"
    assert heard == [TextDelta("a")]


async def test_hooks_are_called_in_order_and_break_nothing() -> None:
    """Several hooks may watch; an exception of one affects nothing else."""
    heard: list[str] = []

    class Listener(Hook):
        def before_request(self, request: Request) -> None:
            heard.append("before")

        def first_token(self, seconds: float) -> None:
            heard.append("first")

        def finish(self, finish: Finish, seconds: float) -> None:
            heard.append(f"finish {finish.reason}")

    class Broken(Hook):
        def delta(self, delta: Delta) -> None:
            raise RuntimeError("a bug in a hook")

    provider: Any = Scripted(WHOLE)
    response = await calls.complete(provider, REQUEST, hooks=[Broken(), Listener()])
    assert response.text == "Hello"
    assert heard == ["before", "first", "finish tool_calls"]


async def test_a_watched_provider_is_the_provider() -> None:
    """Errors, the run and its cursor pass through."""
    errors: list[ProviderError] = []

    class Listener(Hook):
        def error(self, error: ProviderError) -> None:
            errors.append(error)

    scripted: Any = Scripted([[TextDelta("a")], Unavailable("gone")])
    provider = with_hooks(scripted, [Listener()])
    assert (provider.continuation, provider.stall_seconds) == ("none", 7.0)
    batches = []

    async def read() -> None:
        async with provider.stream(REQUEST) as stream:
            assert (stream.run_id, stream.cursor) == ("r", 3)
            stream.keep_run()
            async for batch in stream:
                batches.append(batch)  # noqa: PERF401 - what came before the error is looked at

    with pytest.raises(Unavailable):
        await read()
    assert batches == [[TextDelta("a")]]
    assert len(errors) == 1


async def test_an_answer_that_becomes_too_long_is_abandoned() -> None:
    """For example, a model that repeats itself for ever."""
    provider = Scripted([[TextDelta("ab")]] * 1000)
    response = await calls.complete(provider, REQUEST, max_chars=10)
    assert (response.text, response.chars, response.finish) == ("ab" * 6, 12, Finish("length"))
    provider = Scripted([[ReasoningDelta("ab"), RefusalDelta("no")]] * 1000)
    response = await calls.complete(provider, REQUEST, max_chars=10)
    assert (response.reasoning, response.refusal, response.chars) == ("ab" * 3, "no" * 3, 12)
