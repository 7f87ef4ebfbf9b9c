"""web/answers.py: the row or the log from its start, as was asked; and what follows after a log that forked."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.integration.serving import Web, serving
from tests.integration.test_openai_stream import Pen, asked
from tokenwire.protocol.events import AnyEvent, Chunk, Reset
from tokenwire.streams.log.memory import MemoryFeed, MemoryLog
from tokenwire.web import answers
from tokenwire.web.answers import Final, Heard, Held, Quiet, Step, Steps, watch
from tokenwire.web.readers import ANYTIME

PATIENCE_SECONDS = 20.0


async def begun(web: Web) -> Pen:
    """An answer that began, was withdrawn, and began again."""
    pen = await Pen.take(web, await asked(web))
    await pen.say("The answer is 41")
    await pen.withdraw()
    await pen.say("It is 42")
    return pen


def steps_of(web: Web, pen: Pen, *, from_start: bool) -> Steps:
    return watch(web.app.state.services, pen.message_id, ANYTIME, from_start=from_start)


async def next_step(steps: Steps) -> Step:
    """The next that is not Quiet."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while isinstance(step := await anext(steps), Quiet):
            pass
    return step


async def heard(steps: Steps, count: int) -> list[AnyEvent]:
    """So many events; nothing else comes between them."""
    found: list[AnyEvent] = []
    while len(found) < count:
        step = await next_step(steps)
        assert isinstance(step, Heard), step
        found += step.events
    return found


def texts(events: list[AnyEvent]) -> list[str]:
    """What chunks say; of a reset, that it was one."""
    return [
        "(reset)" if isinstance(event, Reset) else event.content
        for event in events
        if isinstance(event, Chunk | Reset)
    ]


@pytest.mark.parametrize("from_start", [True, False])
async def test_the_row_or_every_event(tmp_path: Path, from_start: bool) -> None:
    """From the start: all events, and no row, which cannot tell of what was withdrawn. Otherwise: the row, and what it does not hold."""
    async with serving(tmp_path) as web:
        pen = await begun(web)
        await pen.save()
        async with contextlib.aclosing(steps_of(web, pen, from_start=from_start)) as steps:
            if from_start:
                assert texts(await heard(steps, 3)) == ["The answer is 41", "(reset)", "It is 42"]
            else:
                step = await next_step(steps)
                assert isinstance(step, Held)
                assert step.row.content == "It is 42"
            await pen.say(", no: 43")
            assert texts(await heard(steps, 1)) == [", no: 43"]
            await pen.end()
            assert isinstance(await next_step(steps), Final)


async def test_nothing_is_said_twice_behind_a_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of the log restarts: who had read from the start has the row now, and hears only what is new."""
    monkeypatch.setattr(answers, "RESYNC_SECONDS", 0.0)
    log = MemoryLog()
    async with serving(tmp_path, log, MemoryFeed(log)) as web:
        pen = await begun(web)
        async with contextlib.aclosing(steps_of(web, pen, from_start=True)) as steps:
            assert len(await heard(steps, 3)) == 3
            await pen.save()
            log.restart()
            await pen.rejoin()
            await pen.say(", no: 43")
            step = await next_step(steps)
            assert isinstance(step, Held)
            assert step.row.content == "It is 42"
            assert texts(await heard(steps, 1)) == [", no: 43"]
            await pen.end()
            assert isinstance(await next_step(steps), Final)
