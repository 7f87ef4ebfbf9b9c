"""A rolling upgrade: scripts of this version and of the previous one, without forks and packing, on
the same keys.

The tests write the previous version's keys by hand, as its scripts did. `Before.can_go_on` lists
what those scripts rely on; it must hold after every call of today's scripts.
"""

import re
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from tests.contracts.log.rigs import LEASE, RedisRig, chunk, complete, numbers, whole_log
from tests.valkey import Valkey
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Reset, Start, Title, encode, stamp
from tokenwire.streams.hub.log_cursor import resync_reason
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import (
    Appended,
    Busy,
    CancelPending,
    Claim,
    Gone,
    Limits,
    Lost,
    Sealed,
)

EPOCH = "0a1b2c3d"
GENERATION = re.compile(r"(\d+) (\S+) (\d+) (\d+) (\d+) (\d+) ([01]) (\d+) (.*)")
"""Attempt, epoch, next batch, first and last seq of the last batch, lease, sealed, floor, who
cancelled.
"""


class Before:
    """The keys of conversation c, as the previous version writes and reads them."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.stream, self.state, self.floors, self.gone, self.packed = keys.keys("c")

    def begin_epoch(self, epoch: str = EPOCH, *, run: str | None = None) -> None:
        """A log begins, or begins again: all keys that this version knows are deleted or
        rewritten.
        """
        self.client.delete(self.stream, self.floors)
        fields = {
            "epoch": epoch,
            "run": self.run if run is None else run,
            "top": 0,
            "oldest": 1,
            "bytes": 0,
            "since": _now(),
        }
        self.client.hset(self.state, mapping=fields)

    @property
    def run(self) -> str:
        """The server's run id."""
        return str(self.client.info("server")["run_id"])

    def write(self, *events: AnyEvent) -> list[bytes]:
        """Append to the log; gives the stamped events."""
        written, now = [], _now()
        if self.number("oldest") > self.number("top"):
            self.client.hset(self.state, "since", now)
        for event in events:
            top = self.number("top") + 1
            written.append(stamp(top, encode(event)))
            self.client.xadd(self.stream, {"e": written[-1], "t": now}, id=f"{top}-0")
            self.client.hset(
                self.state, mapping={"top": top, "bytes": self.number("bytes") + len(written[-1])}
            )
        return written

    def answer(
        self,
        index: int,
        first: int,
        last: int,
        *,
        lease: float = LEASE,
        sealed: bool = False,
        floor: int = 0,
        by: str = "",
    ) -> None:
        """The record of m's first attempt, and its floor."""
        until = _now() + int(lease * 1000) if lease else 0
        text = f"1 {self.text('epoch')} {index} {first} {last} {until} {int(sealed)} {floor} {by}"
        self.client.hset(self.state, "g:m", text)
        if not sealed:
            self.client.zadd(self.floors, {"m": floor})

    def text(self, field: str) -> str:
        return str(self.client.hget(self.state, field).decode())

    def number(self, field: str) -> int:
        return int(self.text(field))

    def can_go_on(self) -> None:
        """All that scripts of the previous version rely on."""
        assert self.text("run") == self.run
        entries = self.client.xrange(self.stream)
        assert [name for name, _ in entries] == [
            b"%d-0" % seq for seq in range(self.number("oldest"), self.number("top") + 1)
        ]
        assert self.number("bytes") == sum(len(fields[b"e"]) for _, fields in entries)
        assert not entries or self.number("since") == int(entries[0][1][b"t"])
        for name, value in self.client.hgetall(self.state).items():
            if name.startswith(b"g:"):
                found = GENERATION.fullmatch(value.decode())
                assert found is not None
                held = self.client.zscore(self.floors, name[2:])
                if found[7] == "0" and found[2] == self.text("epoch"):
                    assert held == int(found[8])
            elif name.startswith(b"a:"):
                assert re.fullmatch(rb"\d+ \S+ \d+", value)
            elif name.startswith(b"c:"):
                assert re.fullmatch(rb"\d+ [01]", value)


def _now() -> int:
    return int(time.time() * 1000)


@pytest.fixture
async def rig(own_valkey: Valkey) -> AsyncIterator[RedisRig]:
    made = RedisRig(own_valkey.port, own_valkey)
    yield made
    await made.aclose()


@pytest.fixture
def before(rig: RedisRig) -> Iterator[Before]:
    with rig.client() as client:
        yield Before(client)


CLAIM = Claim("c", "m", EPOCH, 1)
BEGINNING: list[AnyEvent] = [Start("m", 1, "demo"), chunk(0), chunk(1)]


def begun(before: Before, **record: object) -> list[bytes]:
    """An attempt of the previous version has written two batches."""
    before.begin_epoch()
    written = before.write(*BEGINNING)
    before.answer(2, 3, 3, **record)  # type: ignore[arg-type]
    return written


# --- today's scripts on keys of the version before ---


async def test_an_older_answer_is_read_written_and_ended(rig: RedisRig, before: Before) -> None:
    """By the same attempt: a repeated batch lands once, and a cursor stays valid."""
    log = rig.log()
    written = begun(before, floor=1)
    page = await log.read("c", EPOCH, 0, 9)
    assert (page.epoch, page.oldest, page.top, page.floor, page.forks) == (EPOCH, 1, 3, 1, {})
    assert [entry.data for entry in page.entries] == written
    assert await log.leased("c", "m")
    assert await log.append(CLAIM, 1, 0, [chunk(1)]) == Appended(EPOCH, 3, 3)
    assert await log.append(CLAIM, 2, 3, [chunk(2)]) == Appended(EPOCH, 4, 4)
    assert await log.renew(CLAIM, LEASE) is None
    before.can_go_on()
    assert await log.append(CLAIM, 3, 3, [complete(3)]) == Appended(EPOCH, 5, 5)
    assert (await whole_log(log))[:3] == written
    before.can_go_on()


async def test_an_older_answer_of_a_dead_worker_is_taken_over(
    rig: RedisRig, before: Before
) -> None:
    """After its lease, with its floor: SQL holds no more than that."""
    log = rig.log()
    begun(before, floor=1)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)
    before.answer(2, 3, 3, lease=0, floor=1)
    claim = await log.claim("c", "m", 1, LEASE)
    assert claim == Claim("c", "m", EPOCH, 2)
    page = await log.read("c", EPOCH, 1, 9)
    assert (page.floor, numbers(page)) == (1, [2, 3])
    assert (await log.append(claim, 0, 1, [chunk(2, attempt=2)])).first_seq == 4
    before.can_go_on()


async def test_an_older_end_is_an_end_and_is_packed(rig: RedisRig, before: Before) -> None:
    """Nothing follows it, and the log at rest reads the same."""
    log = rig.log()
    written = begun(before, sealed=True, lease=0)
    with pytest.raises(Sealed):
        await log.claim("c", "m", 1, LEASE)
    with pytest.raises(Sealed):
        await log.append(CLAIM, 2, 0, [chunk(2)])
    assert not await log.request_cancel("c", "m", "me")
    assert await log.pack("c") == 3
    assert await whole_log(log) == written
    before.can_go_on()


async def test_an_older_cancel_reaches_the_worker(rig: RedisRig, before: Before) -> None:
    """A dead worker is waited for until its lease ends, since the time of the request was not
    noted.
    """
    log = rig.log()
    begun(before, by="me")
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, disobeyed=True)
    with pytest.raises(CancelPending):
        await log.append(CLAIM, 2, 0, [chunk(2)])
    assert await log.renew(CLAIM, LEASE) == "me"
    before.can_go_on()
    before.answer(2, 3, 3, lease=0, by="me")
    claim = await log.claim("c", "m", 1, LEASE, disobeyed=True)
    await log.append(claim, 0, 0, [complete(2, attempt=2)])
    before.can_go_on()


async def test_a_row_is_not_announced_again_after_an_upgrade(rig: RedisRig, before: Before) -> None:
    """Unless it has changed since."""
    log = rig.log()
    before.begin_epoch()
    before.write(Title("t", 1))
    before.client.hset(before.state, "a:r", f"1 {EPOCH} 1")
    assert await log.announce("c", "r", 1, Title("t", 1)) == Cursor(EPOCH, 1)
    assert await log.announce("c", "r", 2, Title("u", 2)) == Cursor(EPOCH, 2)
    before.can_go_on()


async def test_a_restart_of_the_server_keeps_older_data(rig: RedisRig, before: Before) -> None:
    """Older cursors stay valid, the attempt continues, and the previous version can read what it
    writes.
    """
    log = rig.log()
    before.begin_epoch(run="another")
    before.write(*BEGINNING)
    before.answer(2, 3, 3)
    page = await log.read("c", EPOCH, 1, 9)
    assert (page.forks, numbers(page)) == ({EPOCH: 3}, [2, 3])
    with pytest.raises(Lost):
        await log.append(CLAIM, 2, 0, [chunk(2)])
    claim = await log.rejoin(CLAIM, 2, LEASE)
    assert (await log.append(claim, 2, 0, [chunk(2)])).first_seq == 4
    before.can_go_on()


# --- the version before on today's keys ---


async def test_the_previous_version_can_continue_after_every_call(
    rig: RedisRig, before: Before
) -> None:
    """Its scripts find all that they rely on, packed and forked logs included."""
    log = rig.log(Limits(max_events=20))
    for number in range(4):
        name = f"m{number}"
        await log.announce("c", f"r{number}", 1, Title("t", 1))
        before.can_go_on()
        claim = await log.claim("c", name, 0, LEASE)
        before.can_go_on()
        await log.append(claim, 0, 0, [chunk(place, message_id=name) for place in range(9)])
        before.can_go_on()
        await rig.restart()
        claim = await log.rejoin(claim, 1, LEASE)
        before.can_go_on()
        page = await log.read("c", None, 0, 0)
        claim, _ = await log.adopt(
            claim, Cursor(page.epoch, page.top), [Reset(name, 1, 0, 0, 0)], LEASE
        )
        before.can_go_on()
        await log.request_cancel("c", name, "me")
        before.can_go_on()
        await log.append(claim, 0, 0, [complete(0, name)])
        before.can_go_on()
        await log.pack("c")
        before.can_go_on()


async def test_the_previous_version_restarts_a_packed_and_forked_log(
    rig: RedisRig, before: Before
) -> None:
    """If it meets a restarted server first: every reader notices, and a running answer is sent
    again.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, BEGINNING)
    await rig.restart()
    claim = await log.rejoin(claim, 1, LEASE)
    other = await log.claim("c", "n", 0, LEASE)
    await log.append(claim, 1, 0, [complete(2)])
    await log.pack("c")
    old = await log.read("c", None, 0, 0)
    before.begin_epoch()
    page = await log.read("c", None, 0, 9)
    assert (page.oldest, page.top, page.entries, page.forks.keys() & {old.epoch, *old.forks}) == (
        1,
        0,
        [],
        set(),
    )
    assert [resync_reason(Cursor(epoch, 0), page) for epoch in (old.epoch, *old.forks)] == [
        "epoch",
        "epoch",
    ]
    with pytest.raises(Lost):
        await log.append(other, 0, 0, [chunk(0, message_id="n")])
    with pytest.raises(Lost):
        await log.rejoin(other, 0, LEASE)
    adopted, _ = await log.adopt(
        other, Cursor(page.epoch, 0), [Reset("n", 1, 0, 0, 0), chunk(0, message_id="n")], LEASE
    )
    await log.append(adopted, 0, 0, [complete(1, "n")])
    with pytest.raises(Sealed):
        await log.claim("c", "m", 1, LEASE)
    assert await log.pack("c") == 3
    assert len(await whole_log(log)) == 3
    before.can_go_on()


async def test_the_previous_version_adopts_an_attempt_after_a_fork(
    rig: RedisRig, before: Before
) -> None:
    """It starts over in the forked log; its record works for workers and readers of this
    version.
    """
    log = rig.log()
    begun(before)
    await rig.restart()
    forked = (await log.read("c", None, 0, 0)).epoch
    assert before.text("epoch") == forked
    before.write(Reset("m", 1, 0, 0, 0), chunk(0, "xx"))
    before.answer(0, 4, 5, floor=3)
    assert numbers(await log.read("c", EPOCH, 3, 9)) == [4, 5]
    claim = Claim("c", "m", forked, 1)
    assert (await log.append(claim, 0, 0, [chunk(2)])).first_seq == 6
    before.can_go_on()


async def test_the_previous_version_deletes_a_packed_conversation(
    rig: RedisRig, before: Before
) -> None:
    """It leaves the blocks, which it does not know; they never become part of another log."""
    log = rig.log()
    begun(before, sealed=True, lease=0)
    await log.pack("c")
    before.client.delete(before.stream, before.state, before.floors)
    before.client.set(before.gone, "1", px=200)
    with pytest.raises(Gone):
        await log.read("c", EPOCH, 0, 9)
    assert 0 < before.client.pttl(before.packed) <= Limits().max_seconds * 1000
    await rig.wait(0.2)
    page = await log.read("c", None, 0, 9)
    assert (page.oldest, page.top, page.entries) == (1, 0, [])
    assert not before.client.exists(before.packed)
