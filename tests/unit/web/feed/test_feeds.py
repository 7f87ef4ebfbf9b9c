"""web.feed.feeds: readers share reads of SQL, a change causes one, and a change without a hint is
found as well.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.overviews import Overview
from tokenwire.models.tables import Conversation
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.web.events import encoder as sse
from tokenwire.web.feed import feeds as module
from tokenwire.web.feed import routes as feed
from tokenwire.web.feed.feeds import FeedReader, FeedRoom, Feeds, _Shown
from tokenwire.web.problems import ApiProblem

PATIENCE_SECONDS = 20
NEVER = HeartbeatPace(3600, 3600)


class Rows:
    """Stands in for models.store.Store: conversations by user, newest last."""

    def __init__(self) -> None:
        self.owned: dict[str, list[str]] = {"ada": [], "bob": []}
        self.running: set[str] = set()
        self.archive: set[str] = set()
        self.reads = 0
        self.away = False
        self.errors: list[Exception] = []
        """Errors of the next answers, while the database works."""

    async def overviews(self, user_id: str, limit: int) -> list[Overview]:
        self.reads += 1
        newest = list(reversed(self.owned[user_id]))[:limit]
        await self._answer()  # the rows may be older than a change that comes meanwhile
        rows = [
            Conversation(id=name, user_id=user_id, created_at=0, updated_at=0) for name in newest
        ]
        return [
            Overview(
                row,
                "m",
                "streaming" if row.id in self.running else "complete",
                row.id in self.running,
            )
            for row in rows
        ]

    async def archived_among(self, user_id: str, conversation_ids: list[str]) -> dict[str, bool]:
        await self._answer()
        visible = dict.fromkeys(self.owned[user_id], False) | dict.fromkeys(self.archive, True)
        return {name: visible[name] for name in conversation_ids if name in visible}

    async def participants_among(self, conversation_ids: set[str]) -> set[str]:
        await self._answer()
        return {user for user, names in self.owned.items() if conversation_ids & set(names)}

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        if self.away:
            raise StoreUnavailable("away")


class Rig:
    """Feeds over rows and a log in memory."""

    def __init__(self) -> None:
        self.rows, self.log = Rows(), MemoryLog()
        self.feed = MemoryPubSub(self.log)
        self.hub = Hub(self.log, self.feed)

    @asynccontextmanager
    async def feeds(self, pace: HeartbeatPace = NEVER) -> AsyncIterator[Feeds]:
        await self.hub.start()
        made = Feeds(self.rows, self.hub, pace)  # type: ignore[arg-type]  # stands in for the store
        made.start()
        try:
            yield made
        finally:
            await made.aclose()
            await self.hub.aclose()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    return Rig()


async def told(reader: FeedReader) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return list(await anext(reader))


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not fact():
            await asyncio.sleep(0)


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (event["type"], event.get("conversation_id") or event["conversation"]["id"])
        for event in events
    ]


async def test_readers_of_one_user_share_their_reads(rig: Rig) -> None:
    """The change of another user costs them none."""
    async with (
        rig.feeds() as feeds,
        feeds.open("ada") as one,
        feeds.open("ada") as two,
        feeds.open("bob") as bob,
    ):
        for reader in (one, two, bob):
            assert (await told(reader))[0]["type"] == "snapshot"
        before = rig.rows.reads
        rig.rows.owned["ada"].append("c")
        await rig.log.touch("c")
        assert kinds(await told(one)) == kinds(await told(two)) == [("created", "c")]
        assert rig.rows.reads == before + 1


async def test_a_change_costs_only_those_who_can_see_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among hundreds of feeds, no other user's rows are read."""
    users = [f"user{number}" for number in range(300)]
    rig.rows.owned |= {user: [f"{user}'s"] for user in users}
    touched: list[str] = []

    class Counted(module.FeedRoom):
        def __getattribute__(self, name: str) -> object:
            if name in ("refresh", "doubt", "user_id", "now"):
                touched.append(object.__getattribute__(self, "user_id"))
            return object.__getattribute__(self, name)

    monkeypatch.setattr(module, "FeedRoom", Counted)
    async with rig.feeds() as feeds, AsyncExitStack() as opened:
        readers = {user: await opened.enter_async_context(feeds.open(user)) for user in users}
        for reader in readers.values():
            await told(reader)
        touched.clear()
        rig.rows.running.add("user7's")
        await rig.log.touch("user7's")
        assert kinds(await told(readers["user7"])) == [("running", "user7's")]
        assert set(touched) == {"user7"}
    assert feeds._shown._rooms == {}


async def test_a_deletion_is_sent_after_all_participants_are_gone(rig: Rig) -> None:
    """Even for a conversation that is too old for the list by now."""
    rig.rows.owned["ada"] = ["old", *[f"c{number}" for number in range(module.LISTED - 1)]]
    async with rig.feeds() as feeds, feeds.open("ada") as reader:
        assert len((await told(reader))[0]["conversations"]) == module.LISTED
        rig.rows.owned["ada"].append("new")
        await rig.log.touch("new")
        assert kinds(await told(reader)) == [("created", "new")]
        rig.rows.owned["ada"].remove("c3")
        await rig.log.delete("c3")
        assert kinds(await told(reader)) == [
            ("deleted", "c3")
        ]  # `old` is back on the list without ever having been removed
        rig.rows.owned["ada"].remove("old")
        await rig.log.delete("old")
        assert kinds(await told(reader)) == [("deleted", "old")]


async def test_a_change_without_a_hint_is_found(rig: Rig) -> None:
    """By the regular read."""
    async with rig.feeds(HeartbeatPace(0.01, 0.01)) as feeds, feeds.open("ada") as reader:
        await told(reader)
        rig.rows.owned["ada"].append("c")
        while not (events := await told(reader)):
            pass
        assert kinds(events) == [("created", "c")]


async def test_a_break_of_the_feed_causes_reads(rig: Rig) -> None:
    """What was published meanwhile is lost."""
    async with rig.feeds() as feeds, feeds.open("ada") as reader:
        await told(reader)
        rig.feed.cut()
        rig.rows.owned["ada"].append("c")
        await rig.log.touch("c")
        rig.feed.mend()
        assert kinds(await told(reader)) == [("created", "c")]


async def test_redis_may_come_later(rig: Rig) -> None:
    """A feed works without it, and gets changes once Redis is there."""
    await rig.hub.start()
    rig.feed.cut()
    feeds = Feeds(rig.rows, rig.hub, NEVER)  # type: ignore[arg-type]  # stands in for the store
    feeds.start()
    async with feeds.open("ada") as reader:
        await told(reader)
        rig.rows.owned["ada"].append("c")
        rig.feed.mend()
        assert kinds(await told(reader)) == [("created", "c")]
    await feeds.aclose()
    await rig.hub.aclose()


async def test_without_the_database_no_feed_begins_and_running_ones_wait(rig: Rig) -> None:
    """The first read must succeed; a later one is repeated."""
    async with rig.feeds(HeartbeatPace(0.01, 0.01)) as feeds:
        rig.rows.away = True
        with pytest.raises(StoreUnavailable):
            async with feeds.open("ada"):
                pass
        rig.rows.away = False
        async with feeds.open("ada") as reader:
            await told(reader)
            rig.rows.away = True
            rig.rows.owned["ada"].append("c")
            await rig.log.touch("c")
            assert await told(reader) == []
            rig.rows.away = False
            while not (events := await told(reader)):
                pass
            assert kinds(events) == [("created", "c")]


async def test_a_late_reader_gets_only_the_difference(rig: Rig) -> None:
    """Not what came and went while it did not read."""
    async with rig.feeds() as feeds, feeds.open("ada") as reader:
        await told(reader)
        for _ in range(5):
            rig.rows.owned["ada"] = ["c"]
            before = rig.rows.reads
            await rig.log.touch("c")
            # A default binds it.
            await until(lambda before=before: rig.rows.reads > before)  # type: ignore[misc]
            rig.rows.owned["ada"] = []
            before = rig.rows.reads
            rig.log.tombstone_seconds = 0
            await rig.log.delete("c")
            # A default binds it.
            await until(lambda before=before: rig.rows.reads > before)  # type: ignore[misc]
        rig.rows.owned["ada"] = ["d"]
        await rig.log.touch("d")
        await until(lambda: [summary.id for summary in reader._room.now] == ["d"])
        assert kinds(await told(reader)) == [("created", "d")]


async def test_the_end_of_the_process_ends_all_feeds(rig: Rig) -> None:
    """Both waiting and late ones; nothing is left behind."""
    async with rig.feeds() as feeds:
        async with feeds.open("ada") as reader:
            await told(reader)
            feeds.stop()
            with pytest.raises(StopAsyncIteration):
                await told(reader)
        async with feeds.open("ada") as late:
            with pytest.raises(StopAsyncIteration):
                await told(late)
        assert feeds._rooms == {}


async def test_a_feed_outlives_an_unexpected_error(rig: Rig) -> None:
    """Of the read itself, and of the query for the affected users: later changes are still sent."""
    async with rig.feeds() as feeds, feeds.open("ada") as reader:
        await told(reader)
        rig.rows.owned["ada"].append("first")
        rig.rows.errors = [ValueError("whose")]
        feeds.changed("first")
        await until(lambda: not rig.rows.errors)
        rig.rows.errors = [ValueError("look")]
        feeds.changed(None)
        await until(lambda: not rig.rows.errors)
        feeds.changed("first")
        [event] = await told(reader)
        assert (event["type"], event["conversation"]["id"]) == ("created", "first")


async def test_an_unexpected_error_of_the_first_read_is_raised(rig: Rig) -> None:
    """The caller gets it at once instead of waiting for ever."""
    rig.rows.errors = [ValueError("a bug")]
    async with rig.feeds() as feeds:
        with pytest.raises(ValueError, match="a bug"):
            async with asyncio.timeout(PATIENCE_SECONDS), feeds.open("ada"):
                pass


async def test_a_doubt_costs_one_read(rig: Rig) -> None:
    """A change during a read causes one more read, not one after every later read."""
    rig.rows.owned["ada"] = ["c"]
    async with rig.feeds() as feeds, feeds.open("ada") as reader:
        await told(reader)
        await until(lambda: reader._room not in feeds._shown.reading)
        before = rig.rows.reads
        reader._room.doubt({"c"})
        reader._room.refresh()
        await until(lambda: rig.rows.reads == before + 2)
        for _ in range(50):  # long enough for many more
            await asyncio.sleep(0)
        reads = rig.rows.reads
        reader._room._doubtful = set()  # a bug here would read on while the failure is reported
        assert reads == before + 2


async def test_a_change_during_a_read_causes_another_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read may have missed it."""
    read, go_on, overviews = asyncio.Event(), asyncio.Event(), rig.rows.overviews

    async def slowly(user_id: str, limit: int) -> list[Overview]:
        found = await overviews(user_id, limit)
        read.set()
        await go_on.wait()
        return found

    async with rig.feeds() as feeds, feeds.open("ada") as reader:
        await told(reader)
        monkeypatch.setattr(rig.rows, "overviews", slowly)
        reader._room.refresh()
        await read.wait()
        rig.rows.owned["ada"].append("late")
        reader._room.refresh()
        go_on.set()
        assert kinds(await told(reader)) == [("created", "late")]


async def test_a_reader_that_leaves_during_a_read_leaves_nothing(rig: Rig) -> None:
    """Otherwise every later change would go to a feed without readers."""
    async with rig.feeds() as feeds:
        async with feeds.open("ada") as reader:
            await told(reader)
            async with (
                feeds._reads,
                feeds._reads,
                feeds._reads,
                feeds._reads,
            ):  # the read has to wait
                reader._room.refresh()
                await until(lambda: reader._room in feeds._shown.reading)
                reader._room.close()
        assert feeds._shown.reading == set()


async def test_a_feed_ends_with_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports this and sends nothing more."""
    monkeypatch.setattr(feed, "RECHECK_SECONDS", 0.0)

    def refuse(_request: object) -> str:
        raise ApiProblem("unauthenticated", "The token is not valid.")

    async def events() -> AsyncIterator[list[dict[str, Any]]]:
        for number in range(3):
            yield [{"type": "created", "number": number}]

    services: Any = SimpleNamespace(identify=refuse)
    changes: Any = events()
    said = [piece async for piece in feed._stream(services, services, changes)]
    assert said[1:] == [sse.comment("expired")]


async def test_a_room_that_is_left_during_a_change_ends(rig: Rig) -> None:
    """Otherwise it would read on for nobody."""
    rows: Any = rig.rows
    room = FeedRoom(rows, "ada", NEVER, asyncio.Semaphore(1), _Shown())
    await room.first_read()
    await asyncio.sleep(0)
    room.refresh()
    room.close()
    async with asyncio.timeout(20):
        await asyncio.wait({room._reading})
    assert room._reading.cancelled()
