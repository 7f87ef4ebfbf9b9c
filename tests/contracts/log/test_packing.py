"""Logs at rest are packed, and readers do not notice."""

import asyncio
from collections.abc import Callable

import pytest

from tests.contracts.log.rigs import (
    LEASE,
    REDIS,
    RESTARTABLE,
    RedisRig,
    Rig,
    answered,
    chunk,
    complete,
    numbers,
    redis_only,
    whole_log,
)
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Title
from tokenwire.streams.hub.log_cursor import resync_reason
from tokenwire.streams.log import keys
from tokenwire.streams.log.metrics import BLOCKS_DAMAGED
from tokenwire.streams.log.ports import Gone, Limits, Lost, Sealed


async def test_a_packed_log_reads_the_same(rig: Rig) -> None:
    """Byte for byte, from every cursor, with any limit; later events follow."""
    log = rig.log()
    before = await answered(log, 600)
    assert await log.pack("c") == 601
    assert await log.pack("c") == 0
    assert await whole_log(log) == before
    for after in (0, 1, 255, 256, 257, 511, 512, 513, 599, 600, 601):
        for limit in (1, 2, 300, 1000):
            page = await log.read("c", None, after, limit)
            assert [entry.data for entry in page.entries] == before[after : after + limit]
            assert (page.oldest, page.top) == (1, 601)
    assert (await log.announce("c", "r", 1, Title("t", 1))).seq == 602
    assert [entry.seq for entry in (await log.read("c", None, 599, 9)).entries] == [600, 601, 602]
    assert await log.pack("c") == 1
    assert numbers(await log.read("c", None, 600, 9)) == [601, 602]


async def test_callbacks_get_each_end_of_this_process(rig: Rig) -> None:
    """Not other events, refusals, or ends of another process."""
    log, other, told = rig.log(), rig.log(), []
    log.on_end(told.append)
    log.on_end(told.append)
    await answered(log, 3)
    assert told == ["c", "c"]
    with pytest.raises(Sealed):
        await log.claim("c", "m", 0, LEASE)
    if other is not log:  # logs in memory are one process
        claim = await other.claim("d", "n", 0, LEASE)
        await other.append(claim, 0, 0, [complete(0, "n")])
    assert told == ["c", "c"]


async def test_a_page_of_packed_events_is_bounded_in_bytes(rig: Rig) -> None:
    """Blocks are, too: a larger event is alone in its page."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(place, "x" * 100_000) for place in range(6)])
    await log.append(claim, 1, 0, [chunk(9, "y" * 700_000)])
    await log.append(claim, 2, 0, [complete(9)])
    before = await whole_log(log)
    assert await log.pack("c") == 8
    assert numbers(await log.read("c", None, 0, 9, 250_000)) == [1, 2]
    assert numbers(await log.read("c", None, 6, 9, 250_000)) == [7]
    assert numbers(await log.read("c", None, 0, 9, 1)) == [1]
    assert await whole_log(log) == before


async def test_events_above_a_floor_are_not_packed(rig: Rig) -> None:
    """A takeover reads them from the floor, perhaps several times."""
    log = rig.log()
    await answered(log, 10, "m1")
    claim = await log.claim("c", "m2", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0, message_id="m2")])
    await log.append(claim, 1, 12, [chunk(1, message_id="m2")])
    assert await log.pack("c") == 12
    await log.append(claim, 2, 13, [complete(2, "m2")])
    assert await log.pack("c") == 2
    assert len(await whole_log(log)) == 14


async def test_packed_blocks_are_trimmed_first_and_whole(rig: Rig) -> None:
    """The window's minimum of events stays; unpacked events go only after all blocks."""
    log = rig.log(Limits(max_events=400))
    await answered(log, 300, "m1")
    await log.pack("c")
    await answered(log, 200, "m2")
    assert (await log.read("c", None, 0, 0)).oldest == 1  # 256 fewer would be too few
    await answered(log, 200, "m3")
    page = await log.read("c", None, 0, 0)
    assert (page.oldest, page.top) == (303, 703)  # both blocks, then single events
    assert await log.pack("c") == 401
    await answered(log, 300, "m4")
    assert (await log.read("c", None, 0, 0)).oldest == 559
    assert len(await whole_log(log)) == 1004 - 558


async def test_packed_bytes_count_with_their_packed_size(rig: Rig) -> None:
    """So a log at rest holds more answers in the same memory."""
    kept: list[int] = []
    for name, packed in (("c1", False), ("c2", True)):
        log = rig.log(Limits(max_bytes=100_000))
        for number in range(8):
            await answered(log, 256, f"m{number}", name)
            if packed:
                await log.pack(name)
        page = await log.read(name, None, 0, 0)
        kept.append(page.top - page.oldest + 1)
    assert kept[0] < kept[1] == 8 * 257


async def test_packed_events_go_when_they_are_too_old(rig: Rig) -> None:
    """A block is as old as its newest event."""
    log = rig.log(Limits(max_seconds=1))
    await answered(log, 3, "m1")
    await log.pack("c")
    await rig.wait(0.6)
    await log.announce("c", "r1", 1, Title("t", 1))
    assert (await log.read("c", None, 0, 0)).oldest == 1
    await log.pack("c")
    await rig.wait(0.6)
    await log.announce("c", "r2", 1, Title("t", 1))
    assert (await log.read("c", None, 0, 0)).oldest == 5


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_a_packed_log_forks_like_any_other(rig: Rig) -> None:
    """Cursors in packed events stay valid over any number of restarts; later answers continue and
    are packed, too.
    """
    log = rig.log()
    before = await answered(log, 300)
    old = await log.read("c", None, 0, 0)
    await log.pack("c")
    for _ in range(18):
        await rig.restart()
        page = await log.read("c", None, 0, 0)
        assert (page.oldest, page.top) == (1, 301)
    assert page.epoch != old.epoch
    assert await whole_log(log) == before
    claim = await log.claim("c", "m2", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0, message_id="m2")])
    await rig.restart()
    claim = await log.rejoin(claim, 1, LEASE)
    await log.append(claim, 1, 0, [complete(1, "m2")])
    assert await log.pack("c") == 2
    assert (await whole_log(log))[:301] == before
    assert numbers(await log.read("c", claim.epoch, 200, 500)) == list(range(201, 304))


async def test_a_packed_log_that_is_deleted_or_lost_leaves_nothing(rig: Rig) -> None:
    """Neither after a tombstone nor in a log that begins again."""
    log = rig.log()
    for end in ("delete", "lose"):
        await answered(log, 300)
        await log.pack("c")
        log.tombstone_seconds = 0.3
        await (log.delete("c") if end == "delete" else rig.lose())
        if isinstance(rig, RedisRig):
            with rig.client() as client:
                assert not client.exists(keys.keys("c")[4])
        await rig.wait(0.3)
        page = await log.read("c", None, 0, 9)
        assert (page.oldest, page.top, page.entries) == (1, 0, [])
        assert len(await answered(log, 20)) == 21
        await log.delete("c")
        await rig.wait(0.3)
    log.tombstone_seconds = LEASE
    await log.delete("c")
    with pytest.raises(Gone):
        await log.pack("c")


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_packing_frees_memory_and_lives_no_longer_than_the_log(rig: Rig) -> None:
    """The stream is empty, the blocks are a tenth of its size, and both expire together."""
    log = rig.log()
    before = await answered(log, 1500)
    with redis_only(rig).client() as client:
        names = keys.keys("c")
        await log.pack("c")
        assert (client.xlen(names[0]), client.xlen(names[4])) == (0, 6)
        assert (
            sum(len(fields[b"z"]) for _, fields in client.xrange(names[4]))
            < sum(map(len, before)) / 8
        )
        lives = [client.pttl(names[place]) for place in (0, 1, 4)]
        assert max(lives) - min(lives) < 100


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_blocks_that_do_not_meet_the_stream_are_ignored(rig: Rig) -> None:
    """An earlier version trims only the stream, or blocks are lost: then the log begins where the
    stream does.
    """
    log = rig.log()
    for broken in ("trimmed", "deleted"):
        name = f"c-{broken}"
        await answered(log, 300, "m1", name)
        await log.pack(name)
        await answered(log, 5, "m2", name)
        stream, state, _, _, packed = keys.keys(name)
        with redis_only(rig).client() as client:
            if broken == "trimmed":
                client.xtrim(stream, minid="303-0", approximate=False)
                client.hset(state, "oldest", 303)
            else:
                client.delete(packed)
        first = 303 if broken == "trimmed" else 302
        assert (await log.read(name, None, 0, 0)).oldest == first
        assert len(await whole_log(log, name)) == 308 - first
        assert await log.pack(name) == 308 - first
        assert len(await whole_log(log, name)) == 308 - first


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_two_that_pack_at_once_pack_once(rig: Rig) -> None:
    """The second learns that the log has changed; nothing is lost or doubled."""
    one, two = rig.log(), rig.log()
    before = await answered(one, 900)
    done = await asyncio.gather(one.pack("c"), two.pack("c"), return_exceptions=True)
    assert all(isinstance(outcome, int | Lost) for outcome in done)
    await one.pack("c")
    assert await whole_log(two) == before


Blocks = list[tuple[bytes, dict[bytes, bytes]]]


def _flipped(blocks: Blocks) -> None:
    data = bytearray(blocks[1][1][b"z"])
    data[len(data) // 2] ^= 1
    blocks[1][1][b"z"] = bytes(data)


def _cut(blocks: Blocks) -> None:
    blocks[1][1][b"z"] = blocks[1][1][b"z"][:-3]


def _another(blocks: Blocks) -> None:
    blocks[1][1][b"z"] = blocks[0][1][b"z"]


def _miscounted(blocks: Blocks) -> None:
    blocks[1][1][b"n"] = b"3"


def _not_a_number(blocks: Blocks) -> None:
    blocks[1][1][b"n"] = b"many"


def _missing(blocks: Blocks) -> None:
    del blocks[1]


def _last_missing(blocks: Blocks) -> None:
    del blocks[2]


def harm(rig: RedisRig, damage: Callable[[Blocks], None]) -> None:
    """Replace the conversation's blocks with damaged ones."""
    packed = keys.keys("c")[4]
    with rig.client() as client:
        blocks = client.xrange(packed)
        damage(blocks)
        client.delete(packed)
        for entry_id, fields in blocks:
            client.xadd(packed, fields, id=entry_id)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "damage", [_flipped, _cut, _another, _miscounted, _not_a_number, _missing, _last_missing]
)
@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_a_damaged_block_is_a_resync(
    rig: Rig, damage: Callable[[Blocks], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Rows hold its text: readers begin after the packed events, operators are notified once, and
    the log continues.
    """
    log = rig.log()
    before = await answered(log, 700)
    await log.pack("c")
    after = await answered(log, 3, "m2")
    harm(redis_only(rig), damage)
    counted = BLOCKS_DAMAGED._value.get()
    old = await log.read("c", None, 0, 0)
    for _ in range(2):
        page = await log.read("c", old.epoch, 300, 1000)
        assert (page.oldest, page.top, page.entries) == (702, 705, [])
        assert resync_reason(Cursor(old.epoch, 300), page) == "trimmed"
    assert await whole_log(log) == after[701:]
    assert BLOCKS_DAMAGED._value.get() == counted + 1
    assert [
        record.levelname
        for record in caplog.records
        if record.name == "tokenwire.streams.log.redis"
    ] == ["ERROR"]
    assert await log.pack("c") == 4
    assert await whole_log(log) == after[701:]
    assert before == after[:701]


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_damage_is_reported_once(rig: Rig) -> None:
    """The second process that finds it sees that it was handled."""
    one, two = rig.log(), rig.log()
    await answered(one, 600)
    await one.pack("c")
    harm(redis_only(rig), _cut)
    counted = BLOCKS_DAMAGED._value.get()
    await two.read("d", None, 0, 0)  # opens the connection
    pages = await asyncio.gather(*(log.read("c", None, 256, 9) for log in (one, two)))
    assert [(page.oldest, page.entries) for page in pages] == [(602, [])] * 2
    assert BLOCKS_DAMAGED._value.get() == counted + 1


@pytest.mark.parametrize("damage", [_not_a_number, _last_missing])
@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_a_damaged_block_does_not_block_trimming(
    rig: Rig, damage: Callable[[Blocks], None]
) -> None:
    """A worker that appends finds it before any reader does: its answer is not affected."""
    log = rig.log(Limits(max_events=800))
    await answered(log, 700)
    await log.pack("c")
    harm(redis_only(rig), damage)
    await answered(log, 700, "m2")
    page = await log.read("c", None, 0, 0)
    assert (page.oldest, page.top, len(await whole_log(log))) == (702, 1402, 701)
