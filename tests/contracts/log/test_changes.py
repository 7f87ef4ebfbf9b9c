"""All kinds of log publish changes of conversation lists alike."""

import asyncio

from tests.contracts.log.rigs import LEASE, Rig, chunk, complete
from tokenwire.protocol.events import Title
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.log import keys


async def test_changes_of_lists_are_published(rig: Rig) -> None:
    """Announced rows and titles, ends, deletions and explicit changes: each once, with the
    conversation's id.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    name = Title("A name", 2)
    assert await rig.published(keys.CHANGES, lambda: log.announce("c", "c", 2, name)) == [b"c"]
    assert await rig.published(keys.CHANGES, lambda: log.announce("c", "c", 2, name)) == []
    assert await rig.published(keys.CHANGES, lambda: log.append(claim, 0, 0, [chunk(0)])) == []
    assert await rig.published(keys.CHANGES, lambda: log.append(claim, 1, 0, [complete(1)])) == [
        b"c"
    ]
    assert await rig.published(keys.CHANGES, lambda: log.append(claim, 1, 0, [complete(1)])) == []
    assert await rig.published(keys.CHANGES, lambda: log.touch("c")) == [b"c"]
    assert await rig.published(keys.CHANGES, lambda: log.delete("c")) == [b"c"]


async def test_a_hub_passes_changes_and_breaks_on(rig: Rig) -> None:
    """Each id as it comes, even of conversations without readers."""
    log = rig.log()
    hub = Hub(log, rig.pubsub())
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    await hub.start()
    try:
        await hub.watch_changes(heard.put_nowait)
        await log.touch("a{b}c")
        await log.announce("d", "d", 1, Title("D", 1))
        async with asyncio.timeout(10):
            assert [await heard.get(), await heard.get()] == ["a{b}c", "d"]
    finally:
        await hub.aclose()
        await log.aclose()
