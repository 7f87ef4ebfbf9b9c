"""A provider without a network: a paced script that fails on request. The default model, also of
the tests.

Words in the last user message control it (anywhere in it, and combined):

  !short          a few words instead of the long answer
  !slow           10 tokens per second instead of 50
  !fast           no pause between tokens
  !rate_limit     429 twice, then the answer
  !unavailable    503 twice, then the answer
  !auth           401, always
  !context        the prompt is too long, always
  !cut            the connection breaks after a quarter of the answer, twice
  !stall          silence after a quarter of the answer, twice
  !think          reasoning before the answer
  !refuse         a refusal
  !empty          the stream ends without an answer, always

With tools or a schema it makes calls or a document that fit; `demo_calls.py` has the cues for these
(`!tool`, `!tools`, `!rounds`, `!misfit`, `!misfits`).

"Twice" counts `Request.tries` if the caller sets it, else the user's messages in this process.
Options of the catalogue entry: `tokens_per_second` (default 50; 0: no pause), `fail_times` (default
2), `text` (another answer). Prefix continuation is exact: it continues after the readers' text.
"""

import asyncio
import re
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from tokenwire.providers.base import (
    AuthenticationFailed,
    ContextLengthExceeded,
    Delta,
    Finish,
    FinishReason,
    Interrupted,
    InvalidRequest,
    ProviderError,
    RateLimited,
    ReasoningDelta,
    RefusalDelta,
    Request,
    RunStarted,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Unavailable,
    UsageDelta,
)
from tokenwire.providers.content import check_parameters
from tokenwire.providers.demo_calls import (
    DemoCall,
    calls_of,
    document,
    last_question,
    text_of_results,
    text_of_typo,
)
from tokenwire.providers.presets import rung_of
from tokenwire.providers.spec import ModelSpec, Preset

_TOKEN = re.compile(r"\s*\S{1,7}|\s+")
_CUE = re.compile(r"!([a-z_]+)")
_REMEMBERED = 10_000
"""Conversations whose failures are counted, per process."""

_failures: OrderedDict[tuple[str, int], int] = OrderedDict()

SHORT = "Hello! 👋 This is the demo model: a script, not a mind."
THINKING = (
    "The user greets a scripted model. It has only one story to tell, so it will tell "
    "that one, slowly enough to watch."
)
REFUSAL = "I would rather not answer that. (This is the demo model refusing on cue.)"
STORY = """\
# A reply that survives its worker 🚦

Hello! 👋 You are talking to the **demo model** of Tokenwire. There is no language model behind \
these words: they come \
from a script, at the pace of a real one, so that you can watch what happens to a stream when \
things go wrong. *Close \
this tab now, if you like, and open it again in a few seconds.* The text will have grown in your \
absence, and nothing \
of it will be missing.

## What is happening 🔎

1. Your message was stored, and with it an empty answer.
2. A **background worker** picked the answer up as a job. It talks to the provider; your browser \
does not.
3. Every piece of text goes into an ordered log, numbered without holes: 1, 2, 3 …
4. Every open window follows that log from the place where it left off. Two windows, ten windows, \
a phone 📱 on the \
sofa: all see the same.

## A little code, since every answer has some

```python
async def follow(conversation):
    async for event in conversation.events(after=cursor):
        if event.type == "chunk":          # text, and where it belongs
            screen.put(event.offset, event.content)
```

| when this breaks          | this is what you see            |
|---------------------------|---------------------------------|
| the tab is closed         | nothing is lost 🧷              |
| the network drops         | a short pause, then the rest    |
| the worker is killed      | another one goes on 🔁          |
| the provider says "later" | a waiting note, then the answer |

## Letters that are awkward on purpose

Text on the wire is counted in UTF-16 units, as browsers do, so this script contains characters \
that need two of them: \
🦉 an owl, 𝄞 a clef, 𝕬 𝖋𝖆𝖓𝖈𝖞 𝖋𝖔𝖓𝖙, 🏳️‍🌈 a flag glued from four, 👩‍🔬 a scientist glued from three, \
日本語, Ελληνικά, עברית, \
العربية, and an é that is written as one sign and an é that is written as two. If any of them \
shows up as a box with a \
question mark, somebody has cut a string in the wrong place.

## Things to try 🧪

- Write `!short` for a short answer, or `!slow` to have more time.
- Write `!rate_limit` and the provider will refuse twice before it answers. You will see the wait \
being counted down.
- Write `!cut` and the connection will break in mid-sentence. The answer goes on where it \
stopped, without saying a \
word twice.
- Write `!auth` to see an error that no retry can mend.
- Press **stop** in the middle: what has been written stays.

> "The reply a user is waiting for is a job, not a request."

That is all there is to it. Once a real model is configured, with a key in the environment or a \
server on this \
machine, it appears in the list beside this one, and everything above holds for it as well. Thank \
you for reading to \
the end 🌇, and have a pleasant day!
"""


def open_demo(spec: ModelSpec, preset: Preset) -> "DemoProvider":
    """The demo model of a catalogue entry. Raises InvalidRequest for wrong option types."""
    return DemoProvider(spec, preset)


class DemoProvider:
    """Implements `base.Provider`; its only I/O is `asyncio.sleep`."""

    def __init__(self, spec: ModelSpec, preset: Preset) -> None:
        options = spec.options
        self.spec, self._preset = spec, preset
        self.continuation = rung_of(spec)
        self._rate = _number(spec, options, "tokens_per_second", 50.0)
        self._fail_times = int(_number(spec, options, "fail_times", 2.0))
        self._text = str(options.get("text", STORY))
        self.stall_seconds = spec.stall_seconds or preset.stall_seconds

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator["DemoStream"]:
        """The script for the question. Leaving the context ends it. Raises UnsupportedParameter."""
        check_parameters(request, "demo", (self.spec, self._preset))
        script = self._script(request)
        stream = DemoStream(script)
        try:
            yield stream
        finally:
            await script.aclose()

    async def end(self, run_id: str) -> None:
        """Do nothing: no run outlives its stream."""

    async def _script(self, request: Request) -> AsyncGenerator[Sequence[Delta]]:
        prompt, _ = last_question(request.messages)
        cues = set(_CUE.findall(prompt))
        failing = self._fails(cues, request)
        if error := _refused(cues, failing):
            raise error
        rate = 10.0 if "slow" in cues else 0.0 if "fast" in cues else self._rate
        yield [RunStarted(None, self.spec.model)]
        if "empty" in cues:
            raise Unavailable("the stream ended without an answer (demo)", code="empty_stream")
        held = request.continuation.text if request.continuation else ""
        if "think" in cues and not held:
            async for deltas in _paced(
                [ReasoningDelta(token) for token in _TOKEN.findall(THINKING)], rate
            ):
                yield deltas
        calls = calls_of(request)
        whole = _called(calls) if calls else self._written(request, cues, "")
        rest = whole if calls else self._written(request, cues, held)
        async for deltas in self._shown(rest, len(whole), cues, failing, rate):
            yield deltas
        reason: FinishReason = "tool_calls" if calls else _reason(cues)
        yield [
            UsageDelta(len(prompt) // 4 + 1, len(whole)),
            Finish(reason, "tool_calls" if calls else "stop"),
        ]

    def _written(self, request: Request, cues: set[str], held: str) -> list[Delta]:
        """The text of the answer behind what readers hold."""
        if "refuse" in cues:
            return [RefusalDelta(token) for token in _TOKEN.findall(REFUSAL.removeprefix(held))]
        text = self._text_of(request, cues)
        return [TextDelta(token) for token in _TOKEN.findall(text.removeprefix(held))]

    def _text_of(self, request: Request, cues: set[str]) -> str:
        if request.schema is not None and "text" not in self.spec.options:
            return document(request)
        called = text_of_typo(request) or text_of_results(request.messages)
        return called or (SHORT if "short" in cues else self._text)

    async def _shown(
        self, deltas: list[Delta], whole: int, cues: set[str], failing: bool, rate: float
    ) -> AsyncIterator[Sequence[Delta]]:
        """These deltas at the pace of the model, or a part of them and a failure."""
        breaks = failing and bool(cues & {"cut", "stall"})
        async for shown in _paced(deltas[: max(1, whole // 4)] if breaks else deltas, rate):
            yield shown
        if breaks and "stall" in cues:
            await asyncio.sleep(self.stall_seconds)
            raise Interrupted(f"nothing came for {self.stall_seconds:g} s (demo)", code="stalled")
        if breaks:
            raise Interrupted("the connection broke (demo)", code="connection_lost")

    def _fails(self, cues: set[str], request: Request) -> bool:
        """Whether a temporary failure still occurs; counts this try."""
        if request.tries is not None:
            return request.tries < self._fail_times
        for cue in sorted(cues & {"rate_limit", "unavailable", "cut", "stall"}):
            key = (cue, _fingerprint(request))
            tries = _failures.pop(key, 0) + 1
            _failures[key] = tries
            while len(_failures) > _REMEMBERED:
                _failures.popitem(last=False)
            if tries <= self._fail_times:
                return True
        return False


class DemoStream:
    """Implements `base.DeltaStream`."""

    run_id: str | None = None
    cursor: int | None = None
    stitching = midway = naming = False
    run_over = False

    def __init__(self, script: AsyncGenerator[Sequence[Delta]]) -> None:
        self._script = script

    def keep_run(self) -> None:
        """Do nothing: no run outlives its stream."""

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self._script


def _called(calls: Sequence[DemoCall]) -> list[Delta]:
    """Calls with their arguments in pieces."""
    deltas: list[Delta] = []
    for index, call in enumerate(calls):
        pieces = [ToolCallArguments(index, piece) for piece in _TOKEN.findall(call.arguments)]
        deltas += [ToolCallStart(index, call.id, call.name), *pieces, ToolCallEnd(index)]
    return deltas


def _refused(cues: set[str], failing: bool) -> ProviderError | None:
    """The error before any text."""
    if "auth" in cues:
        return AuthenticationFailed("the key is wrong (demo)", code="invalid_api_key", status=401)
    if "context" in cues:
        return ContextLengthExceeded(
            "the prompt is too long (demo)", code="context_length_exceeded", status=400
        )
    if failing and "rate_limit" in cues:
        return RateLimited(
            "too many requests (demo)", code="rate_limit_exceeded", status=429, retry_after_s=1.0
        )
    if failing and "unavailable" in cues:
        return Unavailable("try again later (demo)", code="unavailable", status=503)
    return None


def _reason(cues: set[str]) -> Literal["stop", "refusal"]:
    return "refusal" if "refuse" in cues else "stop"


async def _paced(deltas: Sequence[Delta], rate: float) -> AsyncIterator[Sequence[Delta]]:
    """One at a time, `rate` a second; 0: without pauses. Keeps the average pace, however slow the
    consumer is.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    for delta in deltas:
        due = max(due, loop.time() - 1.0) + (1 / rate if rate else 0.0)
        await asyncio.sleep(max(0.0, due - loop.time()) if rate else 0)
        yield [delta]


def _fingerprint(request: Request) -> int:
    # The tries of one answer share the messages before it.
    return zlib.crc32(
        "\0".join(message.text for message in request.messages if message.role == "user").encode(
            "utf-8", "replace"
        )
    )


def _number(spec: ModelSpec, options: Mapping[str, object], name: str, default: float) -> float:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidRequest(
            f"{spec.name}: {name} must be a number of at least 0", code="bad_option"
        )
    return float(value)
