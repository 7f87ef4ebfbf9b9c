"""Tails are opened, shared and released without lost events or leftovers."""

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


async def test_a_reconnected_feed_refreshes_all_lists(rig: Rig) -> None:
    """Messages published meanwhile are lost."""
    heard: list[str | None] = []
    await rig.hub.watch_changes(heard.append)
    await rig.log.touch("c")
    await turn()
    rig.pubsub.cut()
    rig.pubsub.mend()
    await rig.log.touch("d")
    await turn()
    assert heard == ["c", None, "d"]


async def test_an_event_between_subscription_and_read_is_not_lost(rig: Rig) -> None:
    """An opening tail reads again for events that arrived before it knew its cursor."""
    opening = asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    written = [await rig.write(1)]
    while not opening.done():
        written.append(await rig.write(1))
        await asyncio.sleep(0)
    tail = await opening
    await turn()
    assert tail.top == written[-1]


async def test_a_deleted_conversation_wakes_readers_and_stays_gone(rig: Rig) -> None:
    """Later readers learn it, too."""
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
    await until(lambda: not rig.hub._open_tails)
    assert (await rig.hub.open("c")).gone


async def test_the_last_release_ends_the_subscription_after_a_grace(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that returns within it finds the same tail; later nothing is left."""
    tail, same = await rig.hub.open("c"), await rig.hub.open("c")
    rig.hub.release(tail)
    rig.hub.release(same)
    assert await rig.hub.open("c") is tail
    await turn()
    monkeypatch.setattr(hub_module, "GRACE_SECONDS", 0)
    await rig.hub.open("c")
    rig.hub.release(tail)
    await turn()
    assert rig.hub._open_tails, "another reader is there"
    rig.hub.release(tail)
    await rig.hub.open("c")
    await turn()
    assert rig.hub._open_tails, "somebody came back within the grace"
    rig.hub.release(tail)
    rig.hub.release(tail)  # a second release does no harm
    await until(lambda: not rig.hub._open_tails)
    assert rig.pubsub._channels == set()
    assert not rig.hub._by_channel
    assert await rig.hub.open("c") is not tail


async def test_opening_without_a_feed_fails_and_leaves_nothing(rig: Rig) -> None:
    """Waiting readers get the error; the next opening may succeed."""
    rig.pubsub.cut()
    results = await asyncio.gather(rig.hub.open("c"), rig.hub.open("c"), return_exceptions=True)
    assert [type(result) for result in results] == [LogUnavailable, LogUnavailable]
    assert not rig.hub._open_tails
    rig.pubsub.mend()
    assert (await rig.hub.open("c")).top == 0


async def test_a_cancelled_opening_affects_no_other(rig: Rig) -> None:
    """One of two waiting readers leaves."""
    first, second = asyncio.create_task(rig.hub.open("c")), asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    first.cancel()
    tail = await second
    with pytest.raises(asyncio.CancelledError):
        await first
    rig.hub.release(tail)
    assert rig.hub._open_tails["c"].users == 0


async def test_an_opening_that_all_cancel_leaves_nothing(rig: Rig) -> None:
    """Neither a tail nor a subscription that nobody would release."""
    opening = asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    assert rig.hub._open_tails
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await turn()
    assert not rig.hub._open_tails
    assert rig.pubsub._channels == set()


async def test_events_before_the_subscription_are_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is read after the subscription: earlier events are in the log, later ones are
    delivered.
    """
    subscribe = rig.pubsub.subscribe

    async def just_too_late(channel: str) -> None:
        await rig.write(1)
        await subscribe(channel)

    monkeypatch.setattr(rig.pubsub, "subscribe", just_too_late)
    tail = await rig.hub.open("c")
    assert tail.top == 1


async def test_closing_the_hub_ends_everything(rig: Rig) -> None:
    """No task and no subscription is left."""
    tail = await rig.hub.open("c")
    tail.catch_up()
    await rig.hub.aclose()
    await turn()
    assert not rig.hub._open_tails
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_removed_users_are_known_even_if_the_message_was_lost(rig: Rig) -> None:
    """At the opening, at a message on the channel, and after a break in which it was lost."""
    await rig.log.revoke("c", "ada")
    tail = await rig.hub.open("c")
    assert tail.revoked == {"ada"}
    woken: list[frozenset[str]] = []
    tail.listen(lambda: woken.append(tail.revoked))
    await rig.log.revoke("c", "bob")
    await turn()
    assert woken == [{"ada", "bob"}]
    rig.pubsub.cut()
    await rig.log.readmit("c", "ada")
    await turn()
    assert tail.revoked == {"ada", "bob"}
    rig.pubsub.mend()
    await turn()
    assert tail.revoked == {"bob"}
    assert woken[-1] == {"bob"}


async def test_an_outage_while_removed_users_are_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read again until it succeeds."""
    tail = await rig.hub.open("c")
    monkeypatch.setattr(hub_module, "FIRST_PAUSE_SECONDS", 0.001)
    rig.log.go_down()
    tail.take(keys.ACCESS)
    await turn()
    rig.log.come_back()
    await rig.log.revoke("c", "bob")
    await until(lambda: tail.revoked == {"bob"})
