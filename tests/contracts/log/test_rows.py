"""Rows in the log: announcements, once per revision, and the deletion of a conversation."""

import asyncio

import pytest

from tests.contracts.log.rigs import LEASE, RedisRig, Rig, chunk, complete
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Title
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import Gone


async def test_a_row_is_announced_once_per_rev(rig: Rig) -> None:
    """A repeated or lower rev appends nothing and gives the top."""
    log = rig.log()
    first = await log.announce("c", "r", 1, Title("a", 1))
    assert await log.announce("c", "r", 1, Title("a", 1)) == first
    second = await log.announce("c", "r", 3, Title("c", 3))
    assert second.seq == 2
    assert await log.announce("c", "r", 2, Title("b", 2)) == second
    assert (await log.announce("c", "other", 1, Title("a", 1))).seq == 3


async def test_announcements_need_no_attempt(rig: Rig) -> None:
    """They may come between the batches of a running answer, even if it is cancelled or sealed."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    assert (await log.announce("c", "m", 1, Title("t", 1))).seq == 2
    assert (await log.append(claim, 1, 0, [chunk(1)])).first_seq == 3


async def test_old_records_are_forgotten(rig: Rig) -> None:
    """Records of announced rows and sealed answers do not pile up; those of running ones stay."""
    log = rig.log()
    running = await log.claim("c", "running", 0, LEASE)
    sealed = await log.claim("c", "sealed", 0, LEASE)
    await log.append(sealed, 0, 0, [complete(0, "sealed")])
    for start in range(0, 600, 100):
        await asyncio.gather(
            *(log.announce("c", f"r{n}", 1, Title("t", 1)) for n in range(start, start + 100))
        )
    assert (await log.claim("c", "sealed", 3, LEASE)).attempt == 4
    await log.append(running, 0, 0, [chunk(0, message_id="running")])
    top = (await log.read("c", None, 0, 0)).top
    assert (await log.announce("c", "r599", 1, Title("t", 1))).seq == top
    if isinstance(rig, RedisRig):
        with rig.client() as client:
            assert client.hlen(keys.keys("c")[1]) < 520


async def test_a_deleted_conversation_is_gone_for_everyone(rig: Rig) -> None:
    """GONE comes before every other result."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.delete("c")
    for call in (
        log.claim("c", "m", 0, LEASE),
        log.append(claim, 0, 0, [chunk(0)]),
        log.rejoin(claim, 1, LEASE),
        log.adopt(claim, Cursor(claim.epoch, 0), [], LEASE),
        log.announce("c", "r", 1, Title("t", 1)),
        log.renew(claim, LEASE),
        log.request_cancel("c", "m", "u"),
        log.read("c", None, 0, 1),
    ):
        with pytest.raises(Gone):
            await call
    await log.release(claim)
    await log.delete("c")


async def test_a_tombstone_lasts_for_its_time(rig: Rig) -> None:
    """Then the name is free, and nothing of the old log is left."""
    log = rig.log()
    old = await log.announce("c", "r", 1, Title("t", 1))
    log.tombstone_seconds = 0.3
    await log.delete("c")
    await rig.wait(0.3)
    page = await log.read("c", None, 0, 1)
    assert (page.epoch == old.epoch, page.top) == (False, 0)


async def test_a_log_keeps_the_latest_noted_time(rig: Rig) -> None:
    """None at first."""
    log = rig.log()
    assert await log.noted_time() is None
    for milliseconds in (1_800_000_000_000, 1_800_000_060_000):
        await log.note_time(milliseconds)
    assert await log.noted_time() == 1_800_000_060_000
