"""How far back a log reaches: floors, which it never cuts, and the limits of its window."""

from tests.contracts.log.rigs import LEASE, Rig, chunk, complete, numbers
from tokenwire.protocol.events import Title
from tokenwire.streams.log.ports import Limits


async def test_a_floor_starts_at_the_top_and_rises_with_checkpoints(rig: Rig) -> None:
    """A reader of SQL starts at the lowest floor of the running answers, or at the top."""
    log = rig.log()
    await log.announce("c", "r", 1, Title("t", 1))
    claim = await log.claim("c", "m", 0, LEASE)
    assert (await log.read("c", None, 0, 0)).floor == 1
    await log.append(claim, 0, 0, [chunk(0), chunk(1)])
    await log.append(claim, 1, 2, [chunk(2)])
    page = await log.read("c", None, 0, 0)
    assert (page.floor, page.cursor.seq) == (2, 2)
    await log.append(claim, 2, 1, [chunk(3)])  # a checkpoint never moves it back
    assert (await log.read("c", None, 0, 0)).floor == 2
    await log.append(claim, 3, 4, [complete(4)])
    page = await log.read("c", None, 0, 0)
    assert (page.floor, page.cursor.seq) == (None, 6)


async def test_a_takeover_keeps_the_floor(rig: Rig) -> None:
    """What the first attempt wrote and SQL does not hold yet stays above the second one's floor."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0), chunk(1), chunk(2)])
    await log.append(claim, 1, 2, [chunk(3)])
    await log.release(claim)
    await log.claim("c", "m", 1, LEASE)
    assert (await log.read("c", None, 0, 0)).floor == 2


async def test_a_floor_is_never_beyond_the_top(rig: Rig) -> None:
    """A `covered` of another epoch, or a bug, cannot hide events."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 999, [chunk(0)])
    assert (await log.read("c", None, 0, 0)).floor == 1


async def test_the_lowest_floor_counts(rig: Rig) -> None:
    """With two running answers, readers start where both are complete."""
    log = rig.log()
    first = await log.claim("c", "m1", 0, LEASE)
    await log.append(first, 0, 0, [chunk(0, message_id="m1")])
    second = await log.claim("c", "m2", 0, LEASE)
    await log.append(second, 0, 0, [chunk(0, message_id="m2")])
    assert (await log.read("c", None, 0, 0)).floor == 0
    await log.append(first, 1, 2, [complete(1, "m1")])
    assert (await log.read("c", None, 0, 0)).floor == 1


async def test_the_window_counts_events_and_is_cut_in_steps(rig: Rig) -> None:
    """The log holds at least `max_events`, at most a sixteenth more, and has no hole."""
    log = rig.log(Limits(max_events=32))
    claim = await log.claim("c", "m", 0, LEASE)
    for index in range(20):
        await log.append(claim, index, index * 5, [chunk(i) for i in range(5)])
        page = await log.read("c", None, 0, 0)
        held = page.top - page.oldest + 1
        assert min(page.top, 32) <= held <= 34
        assert numbers(await log.read("c", None, page.oldest - 1, 1000)) == list(
            range(page.oldest, page.top + 1)
        )


async def test_the_window_counts_bytes(rig: Rig) -> None:
    """`max_bytes` holds for events of any size."""
    log = rig.log(Limits(max_bytes=10_000))
    claim = await log.claim("c", "m", 0, LEASE)
    covered = 0
    for index in range(40):
        covered = (await log.append(claim, index, covered, [chunk(0, "y" * (index * 40))])).last_seq
    page = await log.read("c", None, (await log.read("c", None, 0, 0)).oldest - 1, 1000)
    assert sum(len(entry.data) for entry in page.entries) <= 10_000 * 17 / 16
    assert page.oldest > 1
    assert page.entries[-1].seq == page.top == 40


async def test_the_window_counts_time(rig: Rig) -> None:
    """Events older than `max_seconds` are deleted at the next write."""
    log = rig.log(Limits(max_seconds=3))
    for number in range(3):
        await log.announce("c", f"r{number}", 1, Title("t", 1))
        if number < 2:
            await rig.wait(1.7)
    assert (await log.read("c", None, 0, 0)).oldest == 2


async def test_nothing_above_a_floor_is_cut(rig: Rig) -> None:
    """What SQL does not hold stays, however much it is; it goes once SQL covers it."""
    log = rig.log(Limits(max_events=16))
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(i) for i in range(60)])
    assert (await log.read("c", None, 0, 0)).oldest == 1
    await log.append(claim, 1, 20, [chunk(60)])
    assert (await log.read("c", None, 0, 0)).oldest == 21
    await log.append(claim, 2, 61, [complete(61)])
    page = await log.read("c", None, 0, 0)
    assert (page.oldest, page.top) == (47, 62)


async def test_a_forgotten_log_is_a_new_epoch(rig: Rig) -> None:
    """All keys of a log expire together, `max_seconds` after the last write; a read does not
    prolong them.
    """
    log = rig.log(Limits(max_seconds=1))
    before = await log.announce("c", "r", 1, Title("t", 1))
    await rig.wait(1.2)
    page = await log.read("c", before.epoch, 1, 10)
    assert (page.epoch == before.epoch, page.top, page.oldest) == (False, 0, 1)
