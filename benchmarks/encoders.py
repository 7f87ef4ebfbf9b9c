"""CPU per event of each dialect, and what a reader costs who comes back with a cursor.

An event is decoded, folded and encoded, by the code that serves readers; sockets are left out. A
quick model's events come 20 at a time, a slow one's alone. Server-sent events of the log itself are
relayed, not folded.

A reader who comes back is 100 events behind in an answer that goes on. The log is Valkey's. What is
read of it does not grow; the text that the reader holds is copied. Goal: at most twice the cost in
a log that is ten times as long. Exits non-zero at four times the cost.
"""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from tests.valkey import Valkey
from tokenwire.models.tables import Message
from tokenwire.models.views import message_view
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import (
    AnyEvent,
    Chunk,
    Entry,
    PartEvent,
    Reasoning,
    Start,
    ToolInput,
    encode,
    stamp,
)
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.replay import catch_up
from tokenwire.streams.log.ports import Page
from tokenwire.streams.log.redis import RedisLog
from tokenwire.web.aisdk.completions import TextEncoder
from tokenwire.web.aisdk.stream import chunk_batches, encoded
from tokenwire.web.events.encoder import EventEncoder
from tokenwire.web.openai.encoder import ChatEncoder, ResponseEncoder
from tokenwire.web.openai.objects import Head
from tokenwire.web.readers import ANYTIME, Entries
from tokenwire.web.services import WebServices
from tokenwire.web.watching import News, watch

ID, CONVERSATION = "0198f7c2-6a51-7c3e-9b1d-3f5a8e2d4c6b", "c"
PIECES = ("hello wor ", "ld, this i", "s an answe", "r that is ", "long and ü", "nicely don")
TOGETHER = (1, 20)
ROUNDS = 5
BEHIND, COMES_BACK, LENGTHS = 100, 1_000, (900, 9_000)
GOAL = 2.0


def answered() -> list[AnyEvent]:
    """A long answer: 500 pieces of reasoning, 4,500 of text, two calls."""
    log: list[AnyEvent] = [Start(ID, 1, "demo"), *pieces(Reasoning, 500, 0, 0)]
    for call in (1, 2):
        number = 2 * call
        log += pieces(Chunk, 2_250, number - 1, sum(map(size, log)))
        opened = {"type": "tool_call", "id": f"call_{call}", "name": "n", "state": "streaming"}
        log.append(PartEvent(ID, 1, number, opened))
        log += [ToolInput(ID, 1, at, '"' if at in (0, 199) else "x", number) for at in range(200)]
        log.append(PartEvent(ID, 1, number, {"type": "tool_call", "state": "invalid"}))
    answer = Answer(ID)
    for event in log:
        answer.apply(event)
    want = answer.copy()
    want.status, want.finish_reason = "complete", "stop"
    return [*log, *catch_up(answer, want, 1)]


def pieces(
    kind: type[Chunk] | type[Reasoning], count: int, part: int, begin: int
) -> list[Chunk | Reasoning]:
    """The next text of an answer."""
    return [kind(ID, 1, begin + 10 * n, PIECES[n % len(PIECES)], part) for n in range(count)]


def size(event: AnyEvent) -> int:
    """How much content it adds."""
    return 10 if isinstance(event, Chunk) else 0


def row(content: str = "", seq: int = 0, epoch: str = "e") -> Message:
    """The stored answer."""
    held: dict[str, Any] = {"content": content, "seq": seq, "epoch": epoch, "created_at": 0}
    return Message(
        id=ID, conversation_id=CONVERSATION, role="assistant", status="streaming", ordinal=2,
        attempt=1, model="demo", rev=1, updated_at=0, **held,
    )  # fmt: skip


class Played:
    """Stands for store, log and readers: the log as it was, so many events at a time."""

    settings = SimpleNamespace(cancel_without_readers_seconds=0)

    def __init__(self, entries: Sequence[Entry], together: int) -> None:
        self._entries, self._together = entries, together
        self.store = self.log = self.readers = self
        self.cursor = Cursor("e", 0)

    async def message(self, _: str) -> Message:
        return row()

    async def read(self, *_: Any) -> Page:
        return Page("e", 1, 0, None)

    @contextlib.asynccontextmanager
    async def follow(self, *_: Any) -> AsyncIterator[AsyncIterator[Entries]]:
        yield cast("AsyncIterator[Entries]", self)

    async def __aiter__(self) -> AsyncIterator[Entries]:
        for start in range(0, len(self._entries), self._together):
            part = self._entries[start : start + self._together]
            self.cursor = Cursor("e", part[-1].seq)
            yield Entries(part, late=False)


AnyEncoder = ResponseEncoder | ChatEncoder | TextEncoder


async def through(services: WebServices, make: Callable[[Answer], AnyEncoder]) -> None:
    answer = Answer(ID)
    encoder = make(answer)
    async for step in watch(services, answer, ANYTIME):
        for event in step.folded if isinstance(step, News) else ():
            found = encoder.apply(*event)
            if not isinstance(found, bytes):
                b"".join(found)
    if not answer.ended:
        sys.exit("the answer did not end")


async def aisdk(services: WebServices) -> None:
    async with chunk_batches(services, ID, "v5", ANYTIME) as found:
        last = [data async for data in encoded(found)][-1]
    if last != b"data: [DONE]\n\n":
        sys.exit("the answer did not end")


async def relayed(services: WebServices) -> None:
    encoder = EventEncoder()
    async with services.readers.follow(CONVERSATION) as reader:
        async for part in reader:
            encoder.events("e", cast("Entries", part).entries)


HEAD = Head(ID, "demo", 0)
DIALECTS: dict[str, Callable[[WebServices], Awaitable[None]]] = {
    "server-sent events, relayed": relayed,
    "plain text (`useCompletion`)": lambda services: through(services, TextEncoder),
    "AI SDK": aisdk,
    "chat completions": lambda services: through(services, lambda a: ChatEncoder(a, HEAD)),
    "Responses": lambda services: through(services, lambda a: ResponseEncoder(a, HEAD)),
}


async def encoders() -> None:
    entries = [Entry(seq, stamp(seq, encode(event))) for seq, event in enumerate(answered(), 1)]
    print("| dialect: CPU us per event | events come alone | 20 at a time |\n|---|---|---|")
    for name, dialect in DIALECTS.items():
        found = []
        for together in TOGETHER:
            times = []
            for _ in range(ROUNDS):
                began = time.process_time()
                await dialect(cast("WebServices", Played(entries, together)))
                times.append((time.process_time() - began) / len(entries) * 1e6)
            found.append(f"{statistics.median(times):.1f}")
        print(f"| {name} | {' | '.join(found)} |", flush=True)


async def comes_back(log: RedisLog, length: int) -> float:
    """CPU in microseconds of a reader who comes back."""
    name = f"{CONVERSATION}{length}"
    claim = await log.claim(name, ID, 0, 600)
    text = pieces(Chunk, length, 0, 0)
    for index, start in enumerate(range(0, length, 100)):
        appended = await log.append(claim, index, 10**9, text[start : start + 100])
    stored = row("".join(event.content for event in text), appended.last_seq, claim.epoch)
    stored.conversation_id = name

    async def message(_: str) -> Message:
        return stored

    services = cast("WebServices", SimpleNamespace(store=SimpleNamespace(message=message), log=log))
    cursor = Cursor(claim.epoch, appended.last_seq - BEHIND)
    began = time.process_time()
    for _ in range(COMES_BACK):
        answer = Answer(ID)
        async with contextlib.aclosing(watch(services, answer, ANYTIME, cursor)) as steps:
            for _ in cast("News", await anext(steps)).folded:
                pass
        if answer.content_units != 10 * (length - BEHIND):
            sys.exit("a reader was given something else than it held")
    return (time.process_time() - began) / COMES_BACK * 1e6


async def returns(url: str) -> float:
    log = RedisLog(url)
    short, long = [await comes_back(log, length) for length in LENGTHS]
    await log.aclose()
    print(
        f"\n| {COMES_BACK:,} readers come back, {BEHIND} events behind | CPU us each |\n|---|---|"
    )
    print(f"| log of {LENGTHS[0]:,} events | {short:.0f} |\n| {LENGTHS[1]:,} | {long:.0f} |")
    print(f"\nGoal: at most {GOAL:.0f} times: {'met' if long <= GOAL * short else 'missed'}")
    return long / short


def main() -> int:
    message_view(row())  # what is imported and compiled at first is not counted
    asyncio.run(encoders())
    server = Valkey()
    server.start()
    try:
        return int(asyncio.run(returns(server.url)) > 2 * GOAL)
    finally:
        server.remove()


if __name__ == "__main__":
    sys.exit(main())
