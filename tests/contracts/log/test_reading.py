"""Pages of a log, its readers, and who may read it."""

from tests.contracts.log.rigs import LEASE, Rig, chunk, numbers
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import Limits


async def test_pages_follow_each_other(rig: Rig) -> None:
    """A page holds at most `limit` events after the given seq; pages join without a hole."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(i) for i in range(10)])
    seen: list[int] = []
    while page := numbers(await log.read("c", claim.epoch, seen[-1] if seen else 0, 4)):
        assert len(page) <= 4
        seen += page
    assert seen == list(range(1, 11))


async def test_a_page_is_bounded_in_bytes(rig: Rig) -> None:
    """However many events are requested; a larger event comes alone. Pages still join."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    for index in range(7):
        await log.append(claim, index, 0, [chunk(0, "y" * 1000) for _ in range(10)])
    await log.append(claim, 7, 0, [chunk(0, "z" * 9000)])
    size = len((await log.read("c", None, 0, 1)).entries[0].data)
    assert numbers(await log.read("c", None, 0, 100, size)) == [1]
    assert numbers(await log.read("c", None, 70, 100, 1)) == [71]
    assert len(numbers(await log.read("c", None, 0, 100))) == 71
    seen: list[int] = []
    while page := await log.read("c", claim.epoch, len(seen), 100, 5000):
        if not page.entries:
            break
        assert sum(len(entry.data) for entry in page.entries) <= 5000 or len(page.entries) == 1
        seen += numbers(page)
    assert seen == list(range(1, 72))


async def test_an_impossible_cursor_gives_no_events_and_the_reason(rig: Rig) -> None:
    """Trimmed, ahead, or of another epoch: epoch, oldest and top tell which."""
    log = rig.log(Limits(max_events=16))
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(i) for i in range(40)])
    await log.append(claim, 1, 40, [chunk(40)])
    for epoch, after in ((claim.epoch, 3), (claim.epoch, 42), ("other", 40), (claim.epoch, 41)):
        page = await log.read("c", epoch, after, 10)
        assert (page.epoch, page.oldest, page.top, page.entries) == (claim.epoch, 26, 41, [])
    assert numbers(await log.read("c", claim.epoch, 25, 3)) == [26, 27, 28]


async def test_an_empty_log_has_an_epoch(rig: Rig) -> None:
    """An empty conversation has a cursor and keeps it."""
    log = rig.log()
    page = await log.read("c", None, 0, 10)
    assert (page.oldest, page.top, page.floor, page.entries) == (1, 0, None, [])
    assert (await log.read("c", None, 0, 10)).epoch == page.epoch
    assert str(page.cursor) == f"{page.epoch}:0"


async def test_readers_are_seen(rig: Rig) -> None:
    """A subscription to the conversation's channel is a reader; one to another channel is not."""
    log, pubsub = rig.log(), rig.pubsub()
    await pubsub.start(lambda _messages: None, lambda _channel: None)
    assert await log.has_readers("c") is False
    await pubsub.subscribe(keys.channel("c"))
    assert (await log.has_readers("c"), await log.has_readers("d")) == (True, False)
    await pubsub.aclose()


async def test_a_removed_user_is_known_and_announced(rig: Rig) -> None:
    """Until their tokens have expired or they come back; servers of the log's readers are
    notified.
    """
    log = rig.log()
    assert await log.revoked("c") == set()
    log.tombstone_seconds = 0.5
    told = await rig.published(keys.channel("c"), lambda: log.revoke("c", "ada b\u00fc"))
    assert told == [keys.ACCESS]
    log.tombstone_seconds = 60
    await log.revoke("c", "bob")
    assert await log.revoked("c") == {"ada b\u00fc", "bob"}
    assert await log.revoked("d") == set()
    await rig.wait(0.6)
    assert await log.revoked("c") == {"bob"}
    assert await rig.published(keys.channel("c"), lambda: log.readmit("c", "bob")) == [keys.ACCESS]
    assert await log.revoked("c") == set()


async def test_a_read_conversation_counts_as_watched_for_a_while(rig: Rig) -> None:
    """Without any subscription; another conversation does not."""
    log = rig.log()
    await log.note_interest("c", 60)
    await log.note_interest("e", 0.05)
    assert (await log.has_readers("c"), await log.has_readers("d")) == (True, False)
    await rig.wait(0.1)
    assert (await log.has_readers("c"), await log.has_readers("e")) == (True, False)
