"""worker.run on a real database and the log in memory: every way an attempt can end, and what log, row and jobs hold then."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from models.conversations import Post
from models.errors import Unstorable
from models.generations import Ending
from models.migrate import migrate
from models.store import Store
from models.tables import Message as Row
from providers import base
from streams import events, keys
from streams.memory import MemoryLog
from streams.ports import Claim
from streams.text import checksum
from tests.integration.worker_rig import LEASE_SECONDS, NoJobs, Script, Step, events_of, kinds, services_over, text_of
from worker import reading, run
from worker.continuation import Held, Rung
from worker.generation import Generation
from worker.run import STALL_GRACE_SECONDS, Attempt
from worker.services import Services, Terms
from worker.verdicts import Failed, HandedOver
from worker.writing import MAX_UNACKNOWLEDGED_CHARS


@dataclass
class Rig:
    """One conversation with one queued answer, and everything an attempt works with."""

    store: Store
    log: MemoryLog
    jobs: NoJobs
    services: Services
    row: Row

    async def attempt(self, *, held: Held | None = None, best: Rung = "restart") -> Attempt:
        row = await self.reread()
        claim = await self.log.claim(row.conversation_id, row.id, row.attempt, LEASE_SECONDS)
        mine = await self.store.begin_attempt(row.id, claim.attempt, "m")
        assert mine is not None
        self.claim: Claim = claim
        return Attempt(self.services, mine, claim, Generation(row.id, claim.attempt, held or Held()), Terms(best))

    async def run(self, *steps: Step, **options: Any) -> Script:
        script = Script(steps)
        await (await self.attempt(**options)).run(script, base.Request([base.Message("user", "hi")]), "m")
        return script

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def said(self) -> None:
        """Wait until text is in the log."""
        while "Chunk" not in kinds(await self.events()):
            await asyncio.sleep(0)

    async def events(self) -> list[events.AnyEvent]:
        return await events_of(self.log, self.row)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    url = f"sqlite:///{tmp_path}/t.db"
    migrate(url)
    store, log, jobs = Store.open(url), MemoryLog(), NoJobs()
    conversation = await store.create_conversation("me")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    yield Rig(store, log, jobs, services_over(store, log, jobs), posted.assistant_message)
    await store.aclose()


@dataclass
class Clock:
    """Time as the attempt reads it: it stands until a test moves it, however slow the machine is."""

    now: float = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (reading, run):
        monkeypatch.setattr(module, "clock", lambda: clock.now)
    return clock


DONE = [base.Usage(3, 2), base.Finish("stop", "stop")]


async def test_a_whole_answer(rig: Rig) -> None:
    """start, chunks, one complete; the row equals what was streamed, with a checksum that proves it."""
    script = await rig.run([base.Text("Hé")], [base.Text("llo 😀")], DONE)
    log, row = await rig.events(), await rig.reread()
    assert kinds(log)[0] == "Start"
    assert (row.status, row.content, row.finish_reason, row.terminal_announced) == ("complete", "Héllo 😀", "stop", True)
    assert text_of(log) == row.content
    end = log[-1]
    assert isinstance(end, events.Complete)
    assert (end.length, end.crc32, end.usage) == (8, checksum(row.content), events.Usage(3, 2))
    assert row.seq == len(log) - 1
    assert script.closed
    assert rig.jobs.sent == []


async def test_a_stream_without_proof_is_not_complete(rig: Rig) -> None:
    """An end without a finish is an interruption, whatever text there is."""
    await rig.run([base.Text("half")])
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content, row.tries) == ("retrying", "half", 1)
    assert kinds(log)[-1] == "Retry"
    assert rig.jobs.sent[0][0] == rig.row.id
    assert rig.jobs.sent[0][1] == log[-1].delay_ms  # type: ignore[union-attr]


async def test_a_final_error_ends_with_a_sentence_for_people(rig: Rig) -> None:
    """The provider's own words stay in the operator's log."""
    await rig.run(base.AuthenticationFailed("bad key sk-123", status=401))
    row = await rig.reread()
    assert row.status == "error"
    assert row.error is not None
    assert row.error["code"] == "authentication_failed"
    assert "sk-123" not in str(await rig.events())
    assert kinds(await rig.events())[-1] == "Error"


async def test_three_tries_without_progress_end_in_an_error(rig: Rig) -> None:
    """The third failure is the last; each attempt is a new one."""
    for _ in range(3):
        await rig.run(base.Unavailable("down"))
    log, row = await rig.events(), await rig.reread()
    assert [kind for kind in kinds(log) if kind != "Start"] == ["Retry", "Retry", "Error"]
    assert (row.status, row.attempt) == ("error", 3)
    assert len(rig.jobs.sent) == 2


async def test_a_bug_is_reported_and_ends_the_answer(rig: Rig) -> None:
    """The job fails (dead letter), the viewer is told, nothing hangs."""
    with pytest.raises(KeyError):
        await rig.run([base.Text("a")], KeyError("bug"))
    row = await rig.reread()
    assert (row.status, row.content) == ("error", "a")
    assert row.error is not None
    assert row.error["code"] == "internal_error"


async def test_a_cancel_while_streaming(rig: Rig) -> None:
    """The partial text that people saw stays, the provider's stream is left, who asked is named."""

    async def ask() -> None:
        await rig.said()
        await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")

    script = await rig.run([base.Text("seen")], ask, [base.Text(" unseen")], asyncio.Event().wait)  # type: ignore[arg-type]
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content) == ("cancelled", "seen")
    end = log[-1]
    assert isinstance(end, events.Cancelled)
    assert (end.by, end.length) == ("me", 4)
    assert end.usage == events.Usage(1, 1, estimated=True)
    assert script.closed


async def test_a_cancel_while_the_provider_is_silent(rig: Rig) -> None:
    """The lease's renewal brings the news where no append does."""

    async def ask() -> None:
        await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
        await asyncio.Event().wait()

    await rig.run(ask)
    assert (await rig.reread()).status == "cancelled"


async def test_a_stall_is_an_interruption(rig: Rig, clock: Clock) -> None:
    """Bytes or not: nothing new for the model's limit ends the attempt."""

    async def stall() -> None:
        await rig.said()
        clock.now += 60
        await asyncio.Event().wait()

    script = Script([[base.Text("a")], stall], stall_seconds=60 - STALL_GRACE_SECONDS - 1)
    await (await rig.attempt()).run(script, base.Request([base.Message("user", "hi")]), "m")
    row = await rig.reread()
    assert (row.status, row.content) == ("retrying", "a")
    assert script.closed


async def test_a_newer_attempt_fences_the_older_off(rig: Rig) -> None:
    """What was thought dead and goes on writes nothing: not to the log, not to the row."""

    async def take_over() -> None:
        await rig.log.release(rig.claim)
        successor = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 60)
        assert await rig.store.begin_attempt(rig.row.id, successor.attempt, "m")

    taking_over: list[asyncio.Task[None]] = []

    async def lose() -> None:
        taking_over.append(asyncio.create_task(take_over()))  # which goes on when this attempt finds out in the midst of it
        await asyncio.shield(taking_over[0])

    script = await rig.run([base.Text("a")], lose, [base.Text("zombie")], [base.Text("!"), *DONE])
    await taking_over[0]
    row = await rig.reread()
    assert (row.status, row.attempt) == ("streaming", 2)
    assert "zombie" not in text_of(await rig.events())
    assert script.closed


async def test_deleted_under_way(rig: Rig) -> None:
    """A deleted conversation stops its job without an error."""

    async def delete() -> None:
        await rig.store.delete_conversation(rig.row.conversation_id)
        await rig.log.delete(rig.row.conversation_id, 60)

    script = await rig.run([base.Text("a")], delete, [base.Text("b")], [base.Text("c"), *DONE])
    assert script.closed
    assert await rig.store.message(rig.row.id) is None


async def test_redis_restarted_empty_under_way(rig: Rig) -> None:
    """The new log is given the text again; the answer goes on to its end."""

    async def lose() -> None:
        await rig.said()
        rig.log.restart(lose_data=True)

    await rig.run([base.Text("before ")], lose, [base.Text("after")], DONE)
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content) == ("complete", "before after")
    assert kinds(log)[0] == "Reset"
    assert text_of(log) == row.content


async def test_redis_restarted_empty_while_the_provider_is_silent(rig: Rig) -> None:
    """Nothing is to be appended: the renewal of the lease finds out, and viewers of the new log are given the text."""

    async def lose() -> None:
        await rig.said()
        rig.log.restart(lose_data=True)
        await rig.said()

    async with asyncio.timeout(30):
        await rig.run([base.Text("before ")], lose, [base.Text("after")], DONE)
    assert kinds(await rig.events())[:2] == ["Reset", "Chunk"]
    assert (await rig.reread()).content == "before after"


async def test_a_provider_does_not_run_far_ahead_of_the_log(rig: Rig) -> None:
    """While the log takes nothing, no more is read than may wait; then all of it comes."""
    append, open_again, taken = rig.log.append, asyncio.Event(), 0

    async def closed(claim: Any, index: int, covered: int, batch: Any) -> Any:
        await open_again.wait()
        return await append(claim, index, covered, batch)

    async def count() -> None:
        nonlocal taken
        taken += 1

    rig.log.append = closed  # type: ignore[method-assign]
    size, pieces = MAX_UNACKNOWLEDGED_CHARS // 4, 20
    attempt = await rig.attempt()
    script = Script([step for _ in range(pieces) for step in ([base.Text("x" * size)], count)] + [DONE])
    running = asyncio.create_task(attempt.run(script, base.Request([base.Message("user", "hi")]), "m"))
    while attempt.generation.pending_chars <= MAX_UNACKNOWLEDGED_CHARS:
        await asyncio.sleep(0)
    for _ in range(200):  # long enough for all the rest
        await asyncio.sleep(0)
    assert taken == 4
    open_again.set()
    async with asyncio.timeout(30):
        await running
    assert (await rig.reread()).content == "x" * size * pieces


async def test_redis_restarted_empty_before_the_terminal_event(rig: Rig) -> None:
    """Content is committed, the log forgot the claim: the new one is given the text that the terminal event attests, then the event."""
    finish = rig.store.finish

    async def finish_then_lose(ending: Any) -> bool:
        done = await finish(ending)
        rig.log.restart(lose_data=True)
        return done

    rig.store.finish = finish_then_lose  # type: ignore[method-assign]
    await rig.run([base.Text("a"), *DONE])
    assert kinds(await rig.events()) == ["Reset", "Chunk", "Complete"]
    assert text_of(await rig.events()) == "a"
    assert (await rig.reread()).terminal_announced


async def test_a_cancel_while_the_answer_to_an_append_is_lost(rig: Rig) -> None:
    """The batch was appended and seen: it belongs to the text that stays, and the terminal event does not take its number."""
    append, renew, lost, told = rig.log.append, rig.log.renew, asyncio.Event(), asyncio.Event()

    async def renew_and_tell(claim: Claim, lease_seconds: float) -> str | None:
        by = await renew(claim, lease_seconds)
        if by is not None:
            asyncio.get_running_loop().call_soon(told.set)
        return by

    async def append_unheard(claim: Claim, index: int, covered: int, batch: Sequence[events.AnyEvent]) -> Any:
        done = await append(claim, index, covered, batch)
        if not lost.is_set() and "Chunk" in kinds(list(batch)):
            lost.set()
            await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
            await told.wait()  # the renewal tells of the cancel; then the batch is repeated
            return await append(claim, index, covered, batch)
        return done

    rig.log.append, rig.log.renew = append_unheard, renew_and_tell  # type: ignore[method-assign]
    await rig.run([base.Text("seen")], asyncio.Event().wait)  # type: ignore[arg-type]
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content, text_of(log)) == ("cancelled", "seen", "seen")
    assert isinstance(log[-1], events.Cancelled)
    assert log[-1].length == 4


async def test_a_cancel_outranks_a_deploy(rig: Rig) -> None:
    """Asked to hand over, then refused by a cancel: a truncated answer is not complete."""
    append, attempt = rig.log.append, await rig.attempt()

    async def deploy_and_cancel(claim: Claim, index: int, covered: int, batch: Sequence[events.AnyEvent]) -> Any:
        if index == 1:
            attempt.stop(HandedOver())
            await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
        return await append(claim, index, covered, batch)

    rig.log.append = deploy_and_cancel  # type: ignore[method-assign]
    await attempt.run(Script([[base.Text("whole answer"), *DONE]]), base.Request([base.Message("user", "hi")]), "m")
    assert (await rig.reread()).status == "cancelled"


async def test_a_checkpoint_that_is_saved_after_its_epoch_was_lost(rig: Rig) -> None:
    """Its seq says nothing about the new log: the floor there must not rise, or a viewer's snapshot would skip events."""
    attempt = await rig.attempt(held=Held("ab", "", (), 5))
    before = attempt.checkpoint()
    writer = attempt._writer
    writer.claim = replace(rig.claim, epoch="another")
    attempt.saved(before)
    assert writer._covered == 0
    attempt.saved(replace(before, epoch="another"))
    assert writer._covered == 5


async def test_half_a_character_of_a_broken_stream_is_not_shown(rig: Rig) -> None:
    """The next attempt gives it whole; a replacement character in between would stay for good."""
    await rig.run([base.Text("a\ud83d")], base.Interrupted("cut"))
    assert (await rig.reread()).content == "a"


async def test_handed_over_on_a_deploy(rig: Rig) -> None:
    """Checkpoint, release, requeue: the successor can claim at once and holds the same text."""
    attempt = await rig.attempt()

    async def deploy() -> None:
        while not attempt.uncheckpointed:
            await asyncio.sleep(0)
        attempt.stop(HandedOver())
        await asyncio.Event().wait()

    await attempt.run(Script([[base.Text("so far")], deploy]), base.Request([base.Message("user", "hi")]), "m")
    row = await rig.reread()
    assert (row.content, row.tries) == ("so far", 0)
    assert rig.jobs.sent == [(rig.row.id, None)]
    assert (await rig.log.claim(row.conversation_id, row.id, row.attempt, 1)).attempt == 2


@pytest.mark.parametrize("end", [HandedOver(), Failed(base.Unavailable("down"))])
async def test_a_released_lease_stays_released(rig: Rig, end: HandedOver | Failed) -> None:
    """However long the queue takes to accept the job: the successor finds the generation free, not renewed in between."""
    attempt = await rig.attempt()
    generate = rig.jobs.generate

    async def slowly(message_id: str, delay_ms: int | None = None) -> None:
        await asyncio.sleep(LEASE_SECONDS)
        assert not await rig.log.leased(rig.row.conversation_id, message_id)
        await generate(message_id, delay_ms)

    async def stop() -> None:
        attempt.stop(end)
        await asyncio.Event().wait()

    rig.jobs.generate = slowly  # type: ignore[method-assign]
    await attempt.run(Script([stop]), base.Request([base.Message("user", "hi")]), "m")
    assert len(rig.jobs.sent) == 1


async def test_the_next_in_line_is_started(rig: Rig) -> None:
    """A post that waited behind this answer starts when it ends."""
    second = await rig.store.post(Post(rig.row.conversation_id, "me", "and?", "m"))
    await rig.run([base.Text("a"), *DONE])
    assert rig.jobs.sent == [(second.assistant_message.id, None)]


async def test_an_answer_that_nobody_watches(rig: Rig, clock: Clock) -> None:
    """With the setting on, it is stopped in the name of `no_viewers`; a viewer keeps it going."""
    rig.log.subscribers[keys.channel(rig.row.conversation_id)] += 1
    row, claim = await rig.reread(), await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, LEASE_SECONDS)
    mine = await rig.store.begin_attempt(row.id, claim.attempt, "m")
    assert mine is not None
    attempt = Attempt(rig.services, mine, claim, Generation(row.id, 1, Held()), Terms("restart", alone_seconds=60))
    watched, looks = rig.log.watched, 0
    watched_until = asyncio.Event()

    async def count_looks(conversation_id: str) -> bool:
        nonlocal looks
        looks += 1
        return await watched(conversation_id)

    async def leave() -> None:
        await rig.said()
        for _ in range(3):
            clock.now += 50
            seen = looks
            while looks < seen + 2:  # the second one began after the first had ended
                await asyncio.sleep(0)
        watched_until.set()
        rig.log.subscribers.clear()
        clock.now += 100
        await asyncio.Event().wait()

    rig.log.watched = count_looks  # type: ignore[method-assign]

    script = Script([[base.Text("a")], leave], stall_seconds=1e6)
    await attempt.run(script, base.Request([base.Message("user", "hi")]), "m")
    row = await rig.reread()
    assert watched_until.is_set()
    assert (row.status, row.cancel_by, row.content) == ("cancelled", "no_viewers", "a")


async def test_a_log_that_cannot_be_written_for_a_bug(rig: Rig) -> None:
    """The answer ends in an error instead of hanging; what was seen stays."""
    append = rig.log.append

    async def broken(claim: Any, index: int, covered: int, batch: Any) -> Any:
        if index == 1:
            raise TypeError("bug")
        return await append(claim, index, covered, batch)

    rig.log.append = broken  # type: ignore[method-assign]
    with pytest.raises(TypeError):
        await rig.run([base.Text("a")], asyncio.Event().wait)
    row = await rig.reread()
    assert row.status == "error"


async def test_a_retry_does_not_wait_for_a_log_that_cannot_be_written(rig: Rig) -> None:
    """The provider failed in the moment of our own failure: the next attempt is due all the same, only its announcement is missing."""
    attempt = await rig.attempt()

    async def broken(claim: Any, index: int, covered: int, batch: Any) -> Any:
        while attempt._reader is None or not attempt._reader.over:
            await asyncio.sleep(0)
        raise TypeError("bug")

    rig.log.append = broken  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        await attempt.run(Script([base.RateLimited("later", code="429")]), base.Request([base.Message("user", "hi")]), "m")
    row = await rig.reread()
    assert row.status == "retrying"


async def test_a_finished_answer_is_not_handed_over(rig: Rig) -> None:
    """A deploy in the moment of the end: another attempt would only say it again."""
    attempt = await rig.attempt()
    append = rig.log.append

    async def deploy(claim: Any, index: int, covered: int, batch: Any) -> Any:
        while attempt._reader is None or not attempt._reader.over:
            await asyncio.sleep(0)
        attempt.stop(HandedOver())
        return await append(claim, index, covered, batch)

    rig.log.append = deploy  # type: ignore[method-assign]
    await attempt.run(Script([[base.Text("all"), *DONE]]), base.Request([base.Message("user", "hi")]), "m")
    row = await rig.reread()
    assert (row.status, row.content) == ("complete", "all")


async def test_values_that_only_one_database_takes(database_url: str) -> None:
    """A run's name without end, numbers that JSON does not know, halves of characters: the answer is whole on both, and its log says the
    same."""
    migrate(database_url)
    store, log = Store.open(database_url), MemoryLog()
    conversation = await store.create_conversation("me")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    rig = Rig(store, log, NoJobs(), services_over(store, log, NoJobs()), posted.assistant_message)
    call = [base.ToolCallStart(0, "c\0", "f\ud83d"), base.ToolCallArguments(0, '{"x": NaN, "y": [1e999]}'), base.ToolCallEnd(0)]
    script = Script([[base.Text("So.")], call, [base.Source("http://x\0")], DONE], run_id="r" * 300)
    await (await rig.attempt()).run(script, base.Request([base.Message("user", "hi")]), "m")
    row = await rig.reread()
    await store.aclose()
    [seen] = [event for event in await rig.events() if isinstance(event, events.ToolCall)]
    assert (row.status, row.content, row.run_id) == ("complete", "So.", None)
    # NaN is no JSON: such a call cannot be executed, and stays the text that the model wrote.
    assert row.tool_calls == [{"id": "c\ufffd", "name": "f\ufffd", "arguments": '{"x": NaN, "y": [1e999]}', "status": "error"}]
    assert seen.arguments == row.tool_calls[0]["arguments"]


@pytest.mark.parametrize("asked_to_stop", [False, True])
async def test_an_end_that_the_database_refuses(rig: Rig, asked_to_stop: bool) -> None:
    """The text that people saw is kept, without what cannot be held. A whole answer is then not called complete, and operators are told."""
    told: list[BaseException] = []
    rig.services = replace(rig.services, tell_operators=lambda error, _facts: told.append(error))
    finish = rig.store._finish

    async def refuse(ending: Ending) -> bool:
        if ending.tool_calls is not None:
            raise Unstorable("22P02")
        return await finish(ending)

    rig.store._finish = refuse  # type: ignore[method-assign]
    call = [base.ToolCallStart(0, "c", "f"), base.ToolCallEnd(0)]

    async def stop() -> None:
        if asked_to_stop:
            await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
            await asyncio.Event().wait()

    await rig.run([base.Text("Seen.")], call, stop, DONE)
    row, last = await rig.reread(), (await rig.events())[-1]
    assert (row.content, row.tool_calls) == ("Seen.", None)
    if asked_to_stop:
        assert (row.status, isinstance(last, events.Cancelled)) == ("cancelled", True)
    else:
        assert (row.status, (row.error or {})["code"], isinstance(last, events.Error)) == ("error", "internal_error", True)
        assert isinstance(told[0], Unstorable)
