"""worker.resume.takeover: what readers hold is found whatever became of checkpoint and log."""

from tests.answers import held as held_of
from tokenwire.models.tables import Message
from tokenwire.protocol.events import AnyEvent, Chunk, Reset, Start, decode
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Claim, Limits
from tokenwire.worker.resume.takeover import Known, recover, restore


def row(content: str = "", seq: int = 0, epoch: str | None = None) -> Message:
    return Message(
        id="m",
        conversation_id="c",
        ordinal=2,
        role="assistant",
        status="streaming",
        content=content,
        reasoning="",
        attempt=1,
        seq=seq,
        epoch=epoch,
        created_at=0,
        updated_at=0,
    )


async def say(log: MemoryLog, claim: Claim, *pieces: tuple[int, str]) -> None:
    for index, (offset, content) in enumerate(pieces):
        await log.append(
            claim, index, 0, [Chunk(claim.message_id, claim.attempt, offset, content, 0)]
        )


async def test_the_log_is_folded_over_the_checkpoint() -> None:
    """What was appended after it is what people saw."""
    log = MemoryLog()
    claim = await log.claim("c", "m", 0, 60)
    await say(log, claim, (0, "ab"), (2, "cd"))
    _, held = await recover(log, row("ab", 1, claim.epoch), claim, 60)
    assert (held.answer.content, held.seq) == ("abcd", 2)


async def test_no_checkpoint_and_a_log_that_begins_later() -> None:
    """A long conversation's log is trimmed before the answer, never in it."""
    log = MemoryLog(Limits(max_events=8))
    before = await log.claim("c", "other", 0, 60)
    for index in range(40):
        await log.append(before, index, index, [Start("other", 1, "model")])
    claim = await log.claim("c", "m", 0, 60)
    await say(log, claim, (0, "ab"), (2, "cd"))
    assert (await log.read("c", None, 0, 0)).oldest > 1
    assert (await recover(log, row(), claim, 60))[1].answer.content == "abcd"


async def test_a_checkpoint_of_an_earlier_epoch() -> None:
    """The new log is given the text, since readers may have begun with an older row; what is
    appended there counts as well.
    """
    log = MemoryLog()
    lost = await log.claim("c", "m", 0, 60)
    log.restart(lose_data=True)
    claim, held = await recover(log, row("ab", 9, lost.epoch), await log.claim("c", "m", 1, 0), 0)
    assert (held.answer.content, held.seq) == ("ab", 2)
    await say(log, claim, (2, "cd"))
    _, held = await recover(log, row("ab", 9, lost.epoch), await log.claim("c", "m", 2, 60), 60)
    assert held.answer.content == "abcd"
    told = [decode(entry.data)[1] for entry in (await log.read("c", None, 0, 10)).entries]
    assert told[:3] == [
        Reset("m", 2, 0, 0, 0),
        Chunk("m", 2, 0, "ab", 0),
        Chunk("m", 2, 2, "cd", 0),
    ]


async def told(log: MemoryLog, after: int = 0) -> list[AnyEvent | None]:
    return [decode(entry.data)[1] for entry in (await log.read("c", None, after, 50)).entries]


class Losing(MemoryLog):
    """A server that can be replaced by one that knows less."""

    def lose(self, count: int) -> None:
        """Be another one, without the last `count` events of the conversation."""
        state = self._states["c"]
        state.top -= count
        for _ in range(count):
            state.size -= len(state.kept.pop().entry.data)
        for answer in state.answers.values():
            answer.last_batch = (0, min(answer.last_batch[1], state.top))
        self.restart()


async def half_lost(*, checkpoint: int) -> tuple[Losing, Claim, Message]:
    """Four pieces were appended, the last two are lost; the row holds the first `checkpoint`."""
    log = Losing()
    claim = await log.claim("c", "m", 0, 0)
    await say(log, claim, (0, "ab"), (2, "cd"), (4, "ef"), (6, "gh"))
    log.lose(2)
    return log, claim, row("abcdefgh"[: 2 * checkpoint], checkpoint, claim.epoch)


async def test_a_checkpoint_before_the_fork_says_what_viewers_hold() -> None:
    """The rest is gone with those who had seen it; nothing is said again."""
    log, _, saved = await half_lost(checkpoint=1)
    claim, held = await recover(log, saved, await log.claim("c", "m", 1, 60), 60)
    assert (held.answer.content, held.seq) == ("abcd", 2)
    assert await told(log, 2) == []
    assert (await log.append(claim, 0, 0, [Chunk("m", 2, 4, "x", 0)])).first_seq == 3


async def test_a_checkpoint_beyond_the_fork_is_more_than_viewers_hold() -> None:
    """They are given the rest, and nothing is withdrawn. Whoever comes after that finds it
    there.
    """
    log, _, saved = await half_lost(checkpoint=3)
    claim, held = await recover(log, saved, await log.claim("c", "m", 1, 0), 0)
    assert (held.answer.content, held.seq) == ("abcdef", 3)
    assert await told(log, 2) == [Chunk("m", 2, 4, "ef", 0)]
    await log.append(claim, 0, 0, [Chunk("m", 2, 6, "!", 0)])
    _, held = await recover(log, saved, await log.claim("c", "m", 2, 60), 60)
    assert (held.answer.content, held.seq) == ("abcdef!", 4)
    assert len(await told(log, 2)) == 2


async def test_what_was_told_behind_a_fork_is_not_told_again() -> None:
    """Also in a log that is trimmed in front, which cannot say itself what readers hold."""
    log = Losing(Limits(max_events=8))
    before = await log.claim("c", "other", 0, 60)
    for index in range(40):
        await log.append(before, index, index, [Start("other", 1, "model")])
    claim = await log.claim("c", "m", 0, 0)
    await say(log, claim, (0, "ab"), (2, "cd"), (4, "ef"), (6, "gh"))
    saved = row("abcdef", 43, claim.epoch)
    log.lose(2)
    _, held = await recover(log, saved, await log.claim("c", "m", 1, 0), 0)
    _, again = await recover(log, saved, await log.claim("c", "m", 2, 60), 60)
    assert (held.seq, held.answer.content) == (again.seq, "abcdef")
    assert [type(event) for event in await told(log, 42)] == [Reset, Chunk]


async def test_who_knows_the_whole_text_brings_the_log_to_it() -> None:
    """A running attempt, or one that has ended."""
    log, claim, _ = await half_lost(checkpoint=0)
    adopted, held = await restore(log, claim, Known(held_of("abcdefgh", seq=4), claim.epoch), 60)
    assert (adopted.attempt, held.seq) == (1, 3)
    assert await told(log, 2) == [Chunk("m", 1, 4, "efgh", 0)]


async def test_readers_who_lost_all_of_an_answer_get_its_start() -> None:
    """They may have lost its row, too, and only a start begins an answer."""
    log, claim, _ = await half_lost(checkpoint=0)
    log.lose(2)
    await restore(log, claim, Known(held_of("abcdefgh", seq=4), claim.epoch), 60)
    assert await told(log) == [Start("m", 1, ""), Chunk("m", 1, 0, "abcdefgh", 0)]


async def test_what_survived_and_says_something_else_is_withdrawn() -> None:
    """The answer had been begun again in the part that is lost."""
    log, claim, _ = await half_lost(checkpoint=0)
    await restore(log, claim, Known(held_of("xyz", seq=4), claim.epoch), 60)
    assert await told(log, 2) == [Reset("m", 1, 0, 0, 0), Chunk("m", 1, 0, "xyz", 0)]


async def test_a_log_that_never_heard_of_the_epoch_says_itself_what_viewers_hold() -> None:
    """A server came back that was replaced before: its fork is another one than the row's."""
    log, claim, _ = await half_lost(checkpoint=0)
    await log.read("c", None, 0, 0)
    _, held = await restore(log, claim, Known(held_of("abcdefgh", seq=9), "elsewhere"), 60)
    assert await told(log, 2) == [Chunk("m", 1, 4, "efgh", 0)]
    assert held.seq == 3
