"""Who may work on an answer: claims, leases, and how a cancel ends both."""

import pytest

from tests.contracts.log.rigs import LEASE, SHORT_LEASE, RedisRig, Rig, chunk, complete
from tokenwire.streams.log.ports import (
    ENDING_SECONDS,
    HEARD_SECONDS,
    UNHEARD_SECONDS,
    Busy,
    CancelPending,
    Fenced,
    Gone,
    Sealed,
)


async def test_a_live_lease_keeps_others_out_until_it_ends(rig: Rig) -> None:
    """BUSY while the lease is valid, for anybody; afterwards the next claim has the next attempt
    number.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, SHORT_LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m", 7, SHORT_LEASE)
    await rig.wait(SHORT_LEASE)
    assert (await log.claim("c", "m", claim.attempt, SHORT_LEASE)).attempt == 2


async def test_renewal_prolongs_a_lease(rig: Rig) -> None:
    """A renewed lease outlives its first span."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, SHORT_LEASE)
    assert await log.renew(claim, LEASE) is None
    await rig.wait(SHORT_LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)


async def test_release_frees_only_ones_own_lease(rig: Rig) -> None:
    """A successor need not wait; a predecessor cannot take the lease from it."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await log.release(old)
    await log.claim("c", "m", 1, LEASE)
    await log.release(old)
    with pytest.raises(Busy):
        await log.claim("c", "m", 2, LEASE)


async def test_the_attempt_exceeds_what_sql_and_the_log_know(rig: Rig) -> None:
    """attempt = max(both) + 1."""
    log = rig.log()
    claim = await log.claim("c", "m", 4, LEASE)
    assert claim.attempt == 5
    await log.release(claim)
    assert (await log.claim("c", "m", 2, LEASE)).attempt == 6


async def test_a_cancel_stops_everything_but_the_terminal_event(rig: Rig) -> None:
    """The worker learns who cancelled at its next append or renewal."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    assert await log.request_cancel("c", "m", "ann (1)\n") is True
    assert await log.request_cancel("c", "m", "bob") is True
    with pytest.raises(CancelPending) as caught:
        await log.append(claim, 1, 0, [chunk(1)])
    assert caught.value.by == "ann (1)\n"
    assert await log.renew(claim, LEASE) == "ann (1)\n"
    assert (
        await log.append(claim, 0, 0, [chunk(0)])
    ).last_seq == 1  # a repetition is recognised before anything is refused
    assert (await log.append(claim, 1, 0, [complete(1)])).last_seq == 2


async def test_a_cancel_before_the_claim_is_remembered(rig: Rig) -> None:
    """Later attempts learn of it, too."""
    log = rig.log()
    assert await log.request_cancel("c", "m", "ann") is True
    claim = await log.claim("c", "m", 0, LEASE)
    assert claim.attempt == 1
    for _ in range(2):
        assert await log.renew(claim, LEASE) == "ann"
        await log.release(claim)
        claim = await log.claim("c", "m", 0, LEASE)


async def test_a_worker_that_ignores_a_cancel_is_not_waited_for(rig: Rig) -> None:
    """A frozen worker keeps its lease; after a moment the lease is taken to end the answer, and the
    fence stops the worker.
    """
    log = rig.log()
    frozen = await log.claim("c", "m", 0, LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)
    assert await log.request_cancel("c", "m", "ann") is True
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)
    await rig.wait(UNHEARD_SECONDS)
    # a second request does not restart the wait
    assert await log.request_cancel("c", "m", "ann") is True
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)
    closer = await log.claim("c", "m", 1, LEASE, True)
    assert closer.attempt == 2
    with pytest.raises(Fenced):
        await log.append(frozen, 0, 0, [chunk(0)])
    with pytest.raises(Fenced):
        await log.renew(frozen, LEASE)
    await log.append(closer, 0, 0, [complete(0)])
    with pytest.raises(Sealed):
        await log.claim("c", "m", 2, LEASE, True)


@pytest.mark.parametrize("hears", ["append", "renew"])
async def test_a_worker_that_knows_of_a_cancel_has_time_to_end_the_answer(
    rig: Rig, hears: str
) -> None:
    """A second notice gives it no more time, nor does a renewal of its lease."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.request_cancel("c", "m", "ann")
    if hears == "append":
        with pytest.raises(CancelPending):
            await log.append(claim, 0, 0, [chunk(0)])
    else:
        await log.renew(claim, LEASE)
    await rig.wait(UNHEARD_SECONDS)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)
    await log.renew(claim, LEASE)
    await rig.wait(HEARD_SECONDS - UNHEARD_SECONDS + 0.01)
    assert (await log.claim("c", "m", 1, LEASE, True)).attempt == 2


async def test_the_time_of_a_worker_counts_from_the_request(rig: Rig) -> None:
    """Whenever it learns of the cancel: readers have waited since the request."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.request_cancel("c", "m", "ann")
    await rig.wait(UNHEARD_SECONDS - 0.05)
    assert await log.renew(claim, LEASE) == "ann"
    await rig.wait(HEARD_SECONDS - UNHEARD_SECONDS + 0.06)
    assert (await log.claim("c", "m", 1, LEASE, True)).attempt == 2


async def test_two_that_end_a_cancelled_answer_do_not_fence_each_other(rig: Rig) -> None:
    """A claim to end the answer has a time of its own. A worker that claims it has the rest and is
    notified.
    """
    log = rig.log()
    await log.request_cancel("c", "m", "ann")
    await log.claim("c", "m", 0, LEASE)
    await rig.wait(UNHEARD_SECONDS)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)
    await rig.wait(HEARD_SECONDS - UNHEARD_SECONDS + 0.01)
    assert (await log.claim("c", "m", 1, LEASE, True)).attempt == 2
    await rig.wait(HEARD_SECONDS)
    with pytest.raises(Busy):
        await log.claim("c", "m", 2, LEASE, True)
    await rig.wait(ENDING_SECONDS - HEARD_SECONDS + 0.01)
    assert (await log.claim("c", "m", 2, LEASE, True)).attempt == 3


async def test_a_worker_that_claims_a_cancelled_answer_late_may_end_it(
    rig: Rig,
) -> None:
    """Nobody has ended it in time, so this worker may."""
    log = rig.log()
    await log.request_cancel("c", "m", "ann")
    await rig.wait(HEARD_SECONDS + 0.01)
    await log.claim("c", "m", 0, LEASE)
    await rig.wait(HEARD_SECONDS)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)


async def test_leases_from_before_a_set_back_clock_have_expired(rig: Rig) -> None:
    """Otherwise they would hold for an hour, and a cancel would wait as long."""
    log = rig.log()
    await log.claim("c", "m", 0, LEASE)
    await log.claim("c", "n", 0, LEASE)
    await log.request_cancel("c", "n", "ann")
    await rig.set_clock_back(3600.0)
    assert not await log.leased("c", "m")
    assert (await log.claim("c", "m", 1, LEASE)).attempt == 2
    assert (await log.claim("c", "n", 1, LEASE, True)).attempt == 2


async def test_a_cancel_names_its_user(rig: Rig) -> None:
    """A request without a user names nobody."""
    with pytest.raises(ValueError, match="who"):
        await rig.log().request_cancel("c", "m", "")


async def test_a_lease_is_visible_while_it_lives(rig: Rig) -> None:
    """And only then."""
    log = rig.log()
    assert await log.leased("c", "m") is False
    claim = await log.claim("c", "m", 0, SHORT_LEASE)
    assert await log.leased("c", "m") is True
    await rig.wait(SHORT_LEASE)
    assert await log.leased("c", "m") is False
    await log.renew(claim, LEASE)
    assert await log.leased("c", "m") is True
    await log.append(claim, 0, 0, [complete(0)])
    assert await log.leased("c", "m") is False
    await log.delete("c")
    with pytest.raises(Gone):
        await log.leased("c", "m")


@pytest.mark.parametrize("rig", ["valkey"], indirect=True)
async def test_the_note_of_a_cancel_is_deleted_at_the_end(rig: RedisRig) -> None:
    """Otherwise every cancelled answer would leave a field in its conversation."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.request_cancel("c", "m", "me")
    with rig.client() as client:
        (state,) = client.keys("*:state")
        assert client.hexists(state, "c:m")
        await log.append(claim, 0, 0, [complete()])
        assert not client.hexists(state, "c:m")
