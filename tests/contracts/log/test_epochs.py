"""Servers that lost data: logs begin again or fork, and attempts continue in them."""

import pytest

from tests.contracts.log.rigs import (
    LEASE,
    NEW_EPOCHS,
    REDIS,
    RESTARTABLE,
    SHORT_LEASE,
    MemoryRig,
    RedisRig,
    Rig,
    chunk,
    complete,
    numbers,
    redis_only,
)
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Title
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import Busy, Claim, Fenced, Lost, Sealed


async def test_a_log_that_is_lost_begins_again(rig: Rig) -> None:
    """Nothing of the old log is left: no fork and no claim."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0), chunk(1)])
    await rig.lose()
    page = await log.read("c", claim.epoch, 2, 10)
    assert page.epoch != claim.epoch
    assert (page.oldest, page.top, page.floor, page.entries, page.forks) == (1, 0, None, [], {})
    for call in (
        log.append(claim, 1, 0, [chunk(2)]),
        log.renew(claim, LEASE),
        log.rejoin(claim, 1, LEASE),
    ):
        with pytest.raises(Lost):
            await call


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_a_restart_forks(rig: Rig) -> None:
    """The log continues under another name: seq, entries and floor stay, and cursors of the old
    name are valid up to the fork.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0), chunk(1)])
    await log.append(claim, 1, 1, [chunk(2)])
    before = await log.read("c", None, 0, 10)
    await rig.restart()
    page = await log.read("c", claim.epoch, 0, 10)
    assert (page.epoch == claim.epoch, page.forks) == (False, {claim.epoch: 3})
    assert (page.oldest, page.top, page.floor, page.entries) == (1, 3, 1, before.entries)
    assert await log.read("c", page.epoch, 0, 10) == page
    assert numbers(await log.read("c", claim.epoch, 2, 10)) == [3]
    await log.announce("c", "r", 1, Title("t", 1))
    assert numbers(await log.read("c", claim.epoch, 3, 10)) == [4]
    assert (
        numbers(await log.read("c", claim.epoch, 4, 10)) == []
    )  # it is not the 4 that the old name had, or would have had
    await log.announce("c", "r", 2, Title("t", 2))
    assert numbers(await log.read("c", claim.epoch, 4, 10)) == []


async def be_another(rig: Rig, lost: int = 0) -> None:
    """Another server that lacks the last events of c: the effect of a restart without one."""
    if isinstance(rig, RedisRig):
        stream, state, *_ = keys.keys("c")
        with rig.client() as client:
            ends = client.xrevrange(stream, count=lost) if lost else []
            for name, fields in ends:
                client.xdel(stream, name)
                client.hincrby(state, "bytes", -len(fields[b"e"]))
            client.hincrby(state, "top", -len(ends))
            client.hset(state, "run", "another")
    else:
        assert isinstance(rig, MemoryRig)
        assert rig.only is not None
        known = rig.only._states["c"]
        known.top -= lost
        for _ in range(lost):
            known.size -= len(known.kept.pop().entry.data)
        await rig.restart()


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_a_later_fork_shortens_all_earlier_ones(rig: Rig) -> None:
    """What the third server lost was the second's and the first's too."""
    log = rig.log()
    for number in range(1, 6):
        first = (await log.announce("c", "r", number, Title("t", number))).epoch
    await be_another(rig)
    second = (await log.announce("c", "r", 6, Title("t", 6))).epoch
    await be_another(rig, lost=3)
    page = await log.read("c", None, 0, 10)
    assert (page.top, page.forks) == (3, {first: 3, second: 3})
    assert numbers(await log.read("c", first, 4, 10)) == []
    assert numbers(await log.read("c", first, 2, 10)) == [3]


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_a_log_with_an_inconsistent_end_begins_again(rig: Rig) -> None:
    """Nobody knows what was lost. What it knows of answers stays, and forbids nothing that must
    continue.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0), chunk(1), chunk(2)])
    stream, state, *_ = keys.keys("c")
    with redis_only(rig).client() as client:
        client.xdel(stream, "3-0")
        client.hset(state, "run", "another")
    page = await log.read("c", claim.epoch, 0, 10)
    assert (page.top, page.floor, page.entries, page.forks) == (0, None, [], {})
    adopted, appended = await log.adopt(claim, Cursor(page.epoch, 0), [chunk(0, "xxx")], LEASE)
    assert (adopted.attempt, appended.first_seq) == (1, 1)


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_several_forks_are_remembered(rig: Rig) -> None:
    """Each earlier name keeps its own seq; of many, the newest sixteen are known."""
    log = rig.log()
    first = (await log.announce("c", "r", 1, Title("t", 1))).epoch
    names = [first]
    for count in range(2, 20):
        await be_another(rig)
        names.append((await log.announce("c", "r", count, Title("t", count))).epoch)
    page = await log.read("c", None, 0, 10)
    assert page.epoch == names.pop()
    assert page.forks == {name: seq for seq, name in list(enumerate(names, 1))[-16:]}


@pytest.mark.parametrize(("rig", "how"), NEW_EPOCHS, indirect=["rig"])
async def test_every_claim_of_an_older_epoch_is_lost(rig: Rig, how: str) -> None:
    """Even if nothing is missing: a later claim may have been lost, so SQL decides who is
    current.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await getattr(rig, how)()
    for call in (
        log.append(claim, 1, 0, [chunk(1)]),
        log.append(claim, 0, 0, [chunk(0)]),
        log.renew(claim, LEASE),
    ):
        with pytest.raises(Lost):
            await call


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_an_attempt_that_lost_nothing_continues(rig: Rig) -> None:
    """Nothing is written, batch numbers continue, and a batch whose reply was lost is
    recognised.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    landed = await log.append(claim, 1, 0, [chunk(1)])
    await rig.restart()
    for beyond in (0, 3):
        with pytest.raises(Lost):
            await log.rejoin(claim, beyond, LEASE)
    with pytest.raises(Lost):  # events of `adopt` are missing, of which no index tells
        await log.rejoin(claim, 2, LEASE, landed.last_seq + 1)
    for index in (1, 2, 1):  # the last one repeats itself
        again = await log.rejoin(claim, index, LEASE, landed.last_seq)
    assert (again.attempt, again.epoch == claim.epoch) == (1, False)
    repeated = await log.append(again, 1, 0, [chunk(1)])
    assert (repeated.first_seq, repeated.last_seq) == (landed.first_seq, landed.last_seq)
    assert (await log.append(again, 2, 2, [chunk(2)])).first_seq == 3
    assert (await log.read("c", None, 0, 0)).floor == 2
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_an_attempt_that_continues_has_a_new_lease(rig: Rig) -> None:
    """However long the fork took, nobody takes its answer."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.release(claim)
    await be_another(rig)
    await log.rejoin(claim, 0, LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_an_end_whose_reply_was_lost_is_recognised_after_a_fork(rig: Rig) -> None:
    """Its batch is the last one: only this one may be repeated."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [complete(0)])
    await rig.restart()
    again = await log.rejoin(claim, 0, LEASE)
    assert (await log.append(again, 0, 0, [complete(0)])).first_seq == 1
    with pytest.raises(Sealed):
        await log.rejoin(Claim("c", "m", claim.epoch, 2), 0, LEASE)
    assert await log.leased("c", "m") is False


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_only_the_newest_attempt_rejoins(rig: Rig) -> None:
    """An older attempt is fenced; one that the log does not know is lost."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await log.release(old)
    new = await log.claim("c", "m", 1, LEASE)
    await rig.restart()
    with pytest.raises(Fenced):
        await log.rejoin(old, 0, LEASE)
    with pytest.raises(Lost):
        await log.rejoin(Claim("c", "m", new.epoch, 3), 0, LEASE)
    assert (await log.rejoin(new, 0, LEASE)).attempt == 2


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_rejoining_renews_the_lease(rig: Rig) -> None:
    """The old one ran out while the server was away; nobody takes the answer meanwhile."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, SHORT_LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await rig.restart()
    await rig.wait(SHORT_LEASE)
    await log.rejoin(claim, 1, LEASE)
    assert await log.leased("c", "m")
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)


@pytest.mark.parametrize(("rig", "how"), NEW_EPOCHS, indirect=["rig"])
async def test_a_worker_adopts_its_answer_in_the_new_epoch(rig: Rig, how: str) -> None:
    """After LOST: it sends what readers lack, then batches from index 0 under the same attempt."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0, "Hel")])
    await getattr(rig, how)()
    page = await log.read("c", None, 0, 0)
    adopted, appended = await log.adopt(
        claim, Cursor(page.epoch, page.top), [chunk(3, "lo"), chunk(5, "!")], LEASE
    )
    assert (adopted.attempt, adopted.epoch) == (1, page.epoch)
    assert (appended.first_seq, appended.last_seq) == (page.top + 1, page.top + 2)
    assert numbers(await log.read("c", adopted.epoch, page.top, 10)) == [page.top + 1, page.top + 2]
    assert (await log.read("c", None, 0, 0)).floor == 0
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)
    await log.append(adopted, 0, 0, [chunk(6)])
    await log.append(adopted, 1, 4, [complete(7)])


async def test_an_adoption_may_be_empty(rig: Rig) -> None:
    """Its reply then names the end of the log."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    adopted, nothing = await log.adopt(claim, Cursor(claim.epoch, 1), [], LEASE)
    assert (nothing.first_seq, nothing.last_seq) == (2, 1)
    assert (await log.append(adopted, 0, 0, [chunk(1)])).first_seq == 2


async def test_an_adoption_fails_if_the_log_has_changed(rig: Rig) -> None:
    """If the answer was written to since the read, or the log is another one, it must be read
    again.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await log.announce("c", "r", 1, Title("t", 1))  # other messages do not matter
    await log.release(claim)
    new = await log.claim("c", "m", 1, LEASE)
    for seen in (Cursor(new.epoch, 0), Cursor("other", 2)):
        with pytest.raises(Lost):
            await log.adopt(new, seen, [chunk(1, attempt=2)], LEASE)
    _, appended = await log.adopt(new, Cursor(new.epoch, 1), [chunk(1, attempt=2)], LEASE)
    assert appended.first_seq == 3
    with pytest.raises(Lost):  # a late copy
        await log.adopt(new, Cursor(new.epoch, 1), [chunk(1, attempt=2)], LEASE)


async def test_an_answer_that_has_ended_is_not_adopted(rig: Rig) -> None:
    """Its attempt gets SEALED, and nothing follows the end."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [complete(0)])
    with pytest.raises(Sealed):
        await log.adopt(claim, Cursor(claim.epoch, 1), [chunk(0)], LEASE)
    assert (await log.read("c", None, 0, 0)).top == 1


async def test_adoption_is_refused_to_an_older_attempt(rig: Rig) -> None:
    """A worker that was replaced in the new epoch stays out."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await rig.lose()
    new = await log.claim("c", "m", 1, LEASE)
    with pytest.raises(Fenced):
        await log.adopt(old, Cursor(new.epoch, 0), [chunk(0)], LEASE)
    assert (await log.append(new, 0, 0, [chunk(0, attempt=2)])).first_seq == 1


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_seals_and_fences_survive_a_restart_with_data(rig: Rig) -> None:
    """Records of answers can only make the fence stricter."""
    log = rig.log()
    ended = await log.claim("c", "m1", 0, LEASE)
    await log.append(ended, 0, 0, [complete(0, "m1")])
    running = await log.claim("c", "m2", 6, LEASE)
    await rig.restart()
    with pytest.raises(Sealed):
        await log.claim("c", "m1", 1, LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m2", 0, LEASE)
    await log.release(running)
    assert (await log.claim("c", "m2", 0, LEASE)).attempt == 8
