"""worker.takeover: what viewers hold is found whatever became of checkpoint and log."""

from models.tables import Message
from streams.events import Chunk, Reset, Start, decode
from streams.memory import MemoryLog
from streams.ports import Claim, Limits
from worker.takeover import recover


def row(content: str = "", seq: int = 0, epoch: str | None = None) -> Message:
    return Message(
        id="m",
        conversation_id="c",
        ordinal=2,
        role="assistant",
        status="streaming",
        content=content,
        seq=seq,
        epoch=epoch,
        created_at=0,
        updated_at=0,
    )


async def say(log: MemoryLog, claim: Claim, *pieces: tuple[int, str]) -> None:
    for index, (offset, content) in enumerate(pieces):
        await log.append(claim, index, 0, [Chunk(claim.message_id, claim.attempt, offset, content)])


async def test_the_log_is_folded_over_the_checkpoint() -> None:
    """What was appended after it is what people saw."""
    log = MemoryLog()
    claim = await log.claim("c", "m", 0, 60)
    await say(log, claim, (0, "ab"), (2, "cd"))
    _, held = await recover(log, row("ab", 1, claim.epoch), claim, 60)
    assert (held.text, held.seq) == ("abcd", 2)


async def test_no_checkpoint_and_a_log_that_begins_later() -> None:
    """A long conversation's log is trimmed before the answer, never in it."""
    log = MemoryLog(Limits(max_events=8))
    before = await log.claim("c", "other", 0, 60)
    for index in range(40):
        await log.append(before, index, index, [Start("other", 1, "model")])
    claim = await log.claim("c", "m", 0, 60)
    await say(log, claim, (0, "ab"), (2, "cd"))
    assert (await log.read("c", None, 0, 0)).oldest > 1
    assert (await recover(log, row(), claim, 60))[1].text == "abcd"


async def test_a_checkpoint_of_an_earlier_epoch() -> None:
    """The new log is given the text, since viewers may have begun with an older row; what is appended there counts as well."""
    log = MemoryLog()
    lost = await log.claim("c", "m", 0, 60)
    log.restart(lose_data=True)
    claim, held = await recover(log, row("ab", 9, lost.epoch), await log.claim("c", "m", 1, 0), 0)
    assert (held.text, held.seq) == ("ab", 2)
    await say(log, claim, (2, "cd"))
    _, held = await recover(log, row("ab", 9, lost.epoch), await log.claim("c", "m", 2, 60), 60)
    assert held.text == "abcd"
    told = [decode(entry.data)[1] for entry in (await log.read("c", None, 0, 10)).entries]
    assert told[:3] == [Reset("m", 2, 0, 0), Chunk("m", 2, 0, "ab"), Chunk("m", 2, 2, "cd")]
