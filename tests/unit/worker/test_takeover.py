"""worker.takeover: what viewers hold is found whatever became of checkpoint and log."""

from models.tables import Message
from streams.events import Chunk, Start
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
    held = await recover(log, row("ab", 1, claim.epoch), claim.epoch)
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
    assert (await recover(log, row(), claim.epoch)).text == "abcd"


async def test_a_checkpoint_of_an_earlier_epoch() -> None:
    """It stands before all that the new log holds: what an attempt appended there was seen too."""
    log = MemoryLog()
    lost = await log.claim("c", "m", 0, 60)
    log.restart(lose_data=True)
    claim = await log.claim("c", "m", 1, 60)
    assert (await recover(log, row("ab", 9, lost.epoch), claim.epoch)).text == "ab"
    await say(log, claim, (2, "cd"))
    assert (await recover(log, row("ab", 9, lost.epoch), claim.epoch)).text == "abcd"
