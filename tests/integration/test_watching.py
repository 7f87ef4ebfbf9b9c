"""web/watching.py: row or log, forks of the log, and tails from every cursor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from tests.integration.serving import Web, serving
from tests.integration.test_openai_stream import Pen, asked
from tokenwire.models.tables import Message
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Chunk, Complete, Reset, Start, is_terminal
from tokenwire.protocol.fold import Answer
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.ports import Limits, Log
from tokenwire.web import watching
from tokenwire.web.problems import ApiProblem
from tokenwire.web.readers import ANYTIME
from tokenwire.web.watching import CutOff, News, Quiet, Update, Updates, watch

PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of a new epoch do not spread their reads."""
    monkeypatch.setattr(watching, "RESYNC_SECONDS", 0.0)


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    log = MemoryLog()
    async with serving(tmp_path, log, MemoryPubSub(log)) as running:
        yield running


async def begun(web: Web) -> Pen:
    """An answer that began, was withdrawn, and began again."""
    pen = await Pen.take(web, await asked(web))
    await pen.say("The answer is 41")
    await pen.withdraw()
    await pen.say("It is 42")
    return pen


def updates_of(web: Web, pen: Pen, after: Cursor | None = None) -> Updates:
    return watch(web.app.state.services, Answer(pen.message_id), ANYTIME, after)


@dataclass
class Heard:
    """News of which everything was asked for."""

    events: list[AnyEvent]
    cursor: Cursor | None
    known: bool
    row: Message | None

    @classmethod
    def of(cls, news: News) -> "Heard":
        found = [event for event, _, _ in news.folded]
        assert news.ends == any(is_terminal(event) for event in found)
        return cls(found, news.cursor, news.known, news.row)


async def next_update(updates: Updates) -> Update:
    """The next update other than Quiet."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while isinstance(update := await anext(updates), Quiet):
            pass
    return update


async def heard(updates: Updates, count: int) -> list[Heard]:
    """News of that many events with nothing between them."""
    found: list[Heard] = []
    while sum(len(news.events) for news in found) < count:
        update = await next_update(updates)
        assert isinstance(update, News), update
        found.append(Heard.of(update))
    return found


def events_in(found: Sequence[Heard]) -> list[AnyEvent]:
    return [event for news in found for event in news.events]


def texts(found: Sequence[Heard]) -> list[str]:
    """The texts of chunks, and a mark for each reset."""
    return [
        "(reset)" if isinstance(event, Reset) else event.content
        for event in events_in(found)
        if isinstance(event, Chunk | Reset)
    ]


async def rest(updates: Updates) -> list[Heard]:
    """All remaining news."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        found = [
            Heard.of(update) if isinstance(update, News) else update async for update in updates
        ]
    assert not any(isinstance(update, CutOff) for update in found)
    return [update for update in found if isinstance(update, Heard)]


async def test_a_row_becomes_events_and_the_log_continues(web: Web) -> None:
    """Text withdrawn earlier is not sent; the terminal event is the last."""
    pen = await begun(web)
    await pen.save()
    async with contextlib.aclosing(updates_of(web, pen)) as updates:
        first = await heard(updates, 1)
        assert texts(first) == ["It is 42"]
        assert first[0].cursor == pen.cursor
        await pen.say(", no: 43")
        assert texts(await heard(updates, 1)) == [", no: 43"]
        await pen.end()
        last = events_in(await rest(updates))
        assert [type(event) for event in last] == [Complete]


async def test_the_log_gives_the_order_that_a_row_cannot(web: Web) -> None:
    """Reasoning may come before the text or within it."""
    pen = await Pen.take(web, await asked(web))
    await pen.say("One")
    await pen.think("Hm")
    await pen.say(" two")
    await pen.save()
    async with contextlib.aclosing(updates_of(web, pen)) as updates:
        begun = events_in(await heard(updates, 3))
        assert [to_builtins(event)["part"] for event in begun] == [0, 1, 2]
        await pen.end()
        assert texts(await rest(updates)) == []


async def test_an_ended_answer_comes_from_its_row(web: Web) -> None:
    """Its log is not needed."""
    pen = await begun(web)
    await pen.end()
    found = await rest(updates_of(web, pen))
    assert texts(found) == ["It is 42"]
    assert isinstance(events_in(found)[-1], Complete)
    assert found[-1].row is not None


async def test_nothing_is_repeated_after_a_fork(web: Web) -> None:
    """The log's server restarts: the row holds no more than was sent, and only new events
    follow.
    """
    pen = await begun(web)
    await pen.save()
    assert isinstance(web.log, MemoryLog)
    async with contextlib.aclosing(updates_of(web, pen)) as updates:
        assert texts(await heard(updates, 1)) == ["It is 42"]
        web.log.restart()
        await pen.rejoin()
        await pen.say(", no: 43")
        assert texts(await heard(updates, 1)) == [", no: 43"]
        await pen.end()
        assert texts(await rest(updates)) == []


async def test_a_lagging_row_withdraws_nothing(web: Web) -> None:
    """After a fork the row may hold less than was sent."""
    pen = await begun(web)
    await pen.save()
    assert isinstance(web.log, MemoryLog)
    async with contextlib.aclosing(updates_of(web, pen)) as updates:
        await heard(updates, 1)
        await pen.say(" or so")
        assert texts(await heard(updates, 1)) == [" or so"]
        web.log.restart()
        await pen.rejoin()
        await pen.say(".")
        assert texts(await heard(updates, 1)) == ["."]


async def told_after(web: Web, pen: Pen, after: Cursor) -> tuple[list[Heard], list[Heard]]:
    """A tail reader's answer, and the events that it gets until the end."""
    found = await rest(updates_of(web, pen, after))
    return [news for news in found if news.known], [news for news in found if not news.known]


@pytest.mark.parametrize("saved", [False, True], ids=["the row lags", "the row is ahead"])
async def test_a_tail_folds_forward(web: Web, saved: bool) -> None:
    """From each cursor, the known part and the events give the answer without repetition."""
    pen = await Pen.take(web, await asked(web))
    await pen.append(Start(pen.message_id, 1, "demo"))
    cursors = []
    for piece in ("The ", "answer ", "is 41"):
        await pen.say(piece)
        cursors.append(pen.cursor)
        if piece == "The ":
            await pen.save()
    if saved:
        await pen.save()
    await pen.end()
    for number, cursor in enumerate(cursors):
        known, told = await told_after(web, pen, cursor)
        assert events_in(known)[0] == Start(pen.message_id, 1, "demo")
        assert "".join(texts(known)) == "".join(["The ", "answer ", "is 41"][: number + 1])
        answer = Answer(pen.message_id)
        for event in events_in([*known, *told]):
            answer.apply(event)
        assert (answer.content, answer.ended) == ("The answer is 41", True)
        assert "".join(texts([*known, *told])) == "The answer is 41"


async def test_impossible_cursors_of_a_tail(tmp_path: Path) -> None:
    """Of another epoch, beyond the end, or trimmed while the row is ahead."""
    log = MemoryLog(Limits(max_events=100, max_bytes=10**9, max_seconds=3600))
    async with serving(tmp_path, log, MemoryPubSub(log)) as web:
        pen = await Pen.take(web, await asked(web))
        await pen.say("a")
        for cursor in (Cursor("zzzz", 1), Cursor(pen.cursor.epoch, 999)):
            with pytest.raises(ApiProblem, match="cursor"):
                await anext(updates_of(web, pen, cursor))
        for _ in range(300):
            await pen.say("b")
            await pen.save()
        middle = pen.cursor
        for _ in range(20):
            await pen.say("c")
        first = await anext(updates_of(web, pen, middle))
        assert isinstance(first, News)
        assert texts([Heard.of(first)])[0] == pen.text[:-20]
        for _ in range(150):
            await pen.say("d")
            await pen.save()
        with pytest.raises(ApiProblem, match="cursor"):
            await anext(updates_of(web, pen, middle))


@pytest.mark.parametrize("ended", [False, True])
async def test_a_tail_reads_what_is_new(
    web: Web, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """However long the answer is: where only its text grew, the row is rewound."""
    pen = await Pen.take(web, await asked(web))
    log: Log = web.app.state.services.log
    cursors = []
    for _ in range(300):
        await pen.say("a ")
        cursors.append(pen.cursor)
    await (pen.end() if ended else pen.save())
    limits, read = [], log.read

    def counted(name: str, epoch: str | None, after: int, limit: int, most: int = 0) -> Any:
        limits.append(limit)
        return read(name, epoch, after, limit, most)

    monkeypatch.setattr(log, "read", counted)
    async with contextlib.aclosing(updates_of(web, pen, cursors[-10])) as updates:
        known = await anext(updates)
        assert isinstance(known, News)
        assert texts([Heard.of(known)]) == ["a " * 291]
        assert max(limits) < 100
        told = await heard(updates, 9 + ended)
        assert "".join(texts(told)) == "a " * 9
    assert isinstance(events_in(told)[-1], Complete) == ended


async def test_who_has_all_but_the_end_is_told_of_it(web: Web) -> None:
    """A row that has ended has the seq of the last event before its end."""
    pen = await Pen.take(web, await asked(web))
    await pen.say("The answer")
    cursor = pen.cursor
    await pen.end()
    _, told = await told_after(web, pen, cursor)
    assert [type(event) for event in events_in(told)] == [Complete]
    _, told = await told_after(web, pen, Cursor(cursor.epoch, cursor.seq + 1))
    assert told == []


async def test_a_tail_of_a_row_that_cannot_be_rewound(web: Web) -> None:
    """Its pieces have no numbers: the log is read from the first event of the answer."""
    pen = await Pen.take(web, await asked(web))
    await pen.append(Start(pen.message_id, 1, "demo"))
    for _ in range(100):
        await pen.say("a ")
    cursor = pen.cursor
    await pen.say("b")
    await pen.save()
    async with contextlib.aclosing(updates_of(web, pen, cursor)) as updates:
        known = await anext(updates)
        assert isinstance(known, News)
        assert texts([Heard.of(known)]) == ["a " * 100]


async def test_a_deleted_answer(web: Web) -> None:
    """Before or while it is watched."""
    pen = await begun(web)
    updates = updates_of(web, pen)
    await heard(updates, 1)
    row = await web.store.message(pen.message_id)
    await web.client.delete(f"/v1/responses/resp_{pen.message_id}")
    assert row is not None
    assert await next_update(updates) == CutOff("deleted")
    assert await next_update(updates_of(web, pen)) == CutOff("deleted")


async def test_what_does_not_fit_has_no_cursor(web: Web) -> None:
    """Who came back with it would miss what the row brings now."""
    pen = await Pen.take(web, await asked(web))
    async with contextlib.aclosing(updates_of(web, pen)) as updates:
        await pen.say("The ")
        assert (await heard(updates, 1))[-1].cursor == pen.cursor
        await pen.append(
            Chunk(pen.message_id, 1, 4, "answer", 0), Chunk(pen.message_id, 1, 14, "of all", 0)
        )
        [told] = await heard(updates, 1)
        assert (texts([told]), told.cursor) == (["answer"], None)
        pen.keep(" is 42, of all")
        await pen.save()
        assert texts(await heard(updates, 1)) == [" is 42, of all"]


async def test_what_nobody_asks_for_is_folded(web: Web) -> None:
    """Who only waits for the end need not look at the events."""
    pen = await begun(web)
    answer = Answer(pen.message_id)
    async with contextlib.aclosing(watch(web.app.state.services, answer, ANYTIME)) as updates:
        assert isinstance(await next_update(updates), News)
        await pen.say(", no: 43")
        await pen.end()
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for _ in updates:
                pass
    assert (answer.content, answer.ended) == ("It is 42, no: 43", True)
