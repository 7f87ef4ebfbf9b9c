"""Tails are opened, shared, let go of: nothing is missed on the way, nothing is left behind."""

import asyncio

import pytest

from tests.unit.streams.hub.rig import Rig, turn, until
from tokenwire.streams.hub import hub as hub_module
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import Gone, LogUnavailable


async def test_readers_share_one_tail_and_one_read(rig: Rig) -> None:
    """A thousand opens at once cost one subscription and one read."""
    tails = await asyncio.gather(*(rig.hub.open("c") for _ in range(1000)))
    assert len(set(map(id, tails))) == 1
    assert rig.log.reads == 1


async def test_a_reconnected_feed_tells_lists_that_anything_may_have_changed(rig: Rig) -> None:
    """What was published meanwhile is known to nobody."""
    heard: list[str | None] = []
    await rig.hub.watch_changes(heard.append)
    await rig.log.touch("c")
    await turn()
    rig.feed.cut()
    rig.feed.mend()
    await rig.log.touch("d")
    await turn()
    assert heard == ["c", None, "d"]


async def test_an_event_between_subscription_and_read_is_not_lost(rig: Rig) -> None:
    """A tail that is still opening reads again for what arrived before it knew where it stands."""
    opening = asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    written = [await rig.write(1)]
    while not opening.done():
        written.append(await rig.write(1))
        await asyncio.sleep(0)
    tail = await opening
    await turn()
    assert tail.top == written[-1]


async def test_a_deleted_conversation_is_told_and_stays_gone(rig: Rig) -> None:
    """Readers are woken; whoever opens it later learns it too."""
    tail = await rig.hub.open("c")
    woken: list[bool] = []
    tail.listen(lambda: woken.append(tail.gone))
    await rig.log.delete("c")
    await turn()
    assert woken == [True]
    with pytest.raises(Gone):
        await tail.refresh()
    assert woken == [True]
    rig.hub.release(tail)
    await until(lambda: not rig.hub._held)
    assert (await rig.hub.open("c")).gone


async def test_the_last_release_ends_the_subscription_after_a_grace(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who comes back within it finds the same tail; later, nothing is left."""
    tail, same = await rig.hub.open("c"), await rig.hub.open("c")
    rig.hub.release(tail)
    rig.hub.release(same)
    assert await rig.hub.open("c") is tail
    await turn()
    monkeypatch.setattr(hub_module, "GRACE_SECONDS", 0)
    await rig.hub.open("c")
    rig.hub.release(tail)
    await turn()
    assert rig.hub._held, "another reader is there"
    rig.hub.release(tail)
    await rig.hub.open("c")
    await turn()
    assert rig.hub._held, "somebody came back within the grace"
    rig.hub.release(tail)
    rig.hub.release(tail)  # once too often does no harm
    await until(lambda: not rig.hub._held)
    assert rig.feed._channels == set()
    assert not rig.hub._by_channel
    assert await rig.hub.open("c") is not tail


async def test_opening_without_a_feed_fails_and_leaves_nothing(rig: Rig) -> None:
    """Whoever waits is told; the next one may succeed."""
    rig.feed.cut()
    results = await asyncio.gather(rig.hub.open("c"), rig.hub.open("c"), return_exceptions=True)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]
    assert not rig.hub._held
    rig.feed.mend()
    assert (await rig.hub.open("c")).top == 0


async def test_an_opening_that_is_given_up_harms_no_other(rig: Rig) -> None:
    """One of two waiting readers goes away."""
    first, second = asyncio.create_task(rig.hub.open("c")), asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    first.cancel()
    tail = await second
    with pytest.raises(asyncio.CancelledError):
        await first
    rig.hub.release(tail)
    assert rig.hub._held["c"].users == 0


async def test_an_opening_that_everybody_gives_up_leaves_nothing(rig: Rig) -> None:
    """Neither a tail nor a subscription that nobody would ever release."""
    opening = asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    assert rig.hub._held
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await turn()
    assert not rig.hub._held
    assert rig.feed._channels == set()


async def test_what_happens_just_before_the_subscription_is_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is read when the subscription stands: what was published before it is in the log, what comes after it is heard."""
    subscribe = rig.feed.subscribe

    async def just_too_late(channel: str) -> None:
        await rig.write(1)
        await subscribe(channel)

    monkeypatch.setattr(rig.feed, "subscribe", just_too_late)
    tail = await rig.hub.open("c")
    assert tail.top == 1


async def test_closing_the_hub_ends_everything(rig: Rig) -> None:
    """No task and no subscription is left."""
    tail = await rig.hub.open("c")
    tail.catch_up()
    await rig.hub.aclose()
    await turn()
    assert not rig.hub._held
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_who_may_not_follow_is_known_even_if_the_word_was_lost(rig: Rig) -> None:
    """At the opening, at a word on the channel, and after a break in which that word was missed."""
    await rig.log.revoke("c", "ada")
    tail = await rig.hub.open("c")
    assert tail.revoked == {"ada"}
    woken: list[frozenset[str]] = []
    tail.listen(lambda: woken.append(tail.revoked))
    await rig.log.revoke("c", "bob")
    await turn()
    assert woken == [{"ada", "bob"}]
    rig.feed.cut()
    await rig.log.restore("c", "ada")
    await turn()
    assert tail.revoked == {"ada", "bob"}
    rig.feed.mend()
    await turn()
    assert tail.revoked == {"bob"}
    assert woken[-1] == {"bob"}


async def test_an_outage_while_it_is_asked_who_may_follow(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again until there is an answer."""
    tail = await rig.hub.open("c")
    monkeypatch.setattr(hub_module, "FIRST_PAUSE_SECONDS", 0.001)
    rig.log.go_down()
    tail.take(keys.ACCESS)
    await turn()
    rig.log.come_back()
    await rig.log.revoke("c", "bob")
    await until(lambda: tail.revoked == {"bob"})
