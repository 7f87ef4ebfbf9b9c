"""Batches of an attempt: fence, order, repetition, and what is published of them."""

import asyncio
import json

import pytest

from tests.contracts.log.rigs import LEASE, Rig, chunk, complete, numbers
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Start
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import Claim, Fenced, Lost, Sealed


async def test_seq_has_no_holes_and_is_in_the_data(rig: Rig) -> None:
    """Events of all batches are numbered 1, 2, 3 ..., and each carries its number."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    first = await log.append(claim, 0, 0, [Start("m", 1, "demo"), chunk(0, "Hé😀")])
    second = await log.append(claim, 1, 0, [chunk(4, 'a"\\b')])
    assert (first.first_seq, first.last_seq) == (1, 2)
    assert (second.first_seq, second.last_seq) == (3, 3)
    page = await log.read("c", claim.epoch, 0, 10)
    assert [json.loads(entry.data) for entry in page.entries] == [
        {"seq": 1, "type": "start", "message_id": "m", "attempt": 1, "model": "demo"},
        {
            "seq": 2,
            "type": "chunk",
            "message_id": "m",
            "attempt": 1,
            "offset": 0,
            "part": 0,
            "content": "Hé😀",
        },
        {
            "seq": 3,
            "type": "chunk",
            "message_id": "m",
            "attempt": 1,
            "offset": 4,
            "part": 0,
            "content": 'a"\\b',
        },
    ]
    assert numbers(page) == [1, 2, 3]


async def test_a_repeated_batch_lands_once_and_gives_its_first_result(rig: Rig) -> None:
    """A batch of unknown outcome may be sent again."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    result = await log.append(claim, 1, 0, [chunk(1), chunk(2)])
    assert await log.append(claim, 1, 0, [chunk(1), chunk(2)]) == result
    assert (await log.read("c", None, 0, 10)).top == 3


async def test_a_batch_out_of_order_is_lost(rig: Rig) -> None:
    """A batch that is neither the next nor the last one finds no matching claim."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await log.append(claim, 1, 0, [chunk(1)])
    for index in (0, 3):
        with pytest.raises(Lost):
            await log.append(claim, index, 0, [chunk(9)])
    assert (await log.read("c", None, 0, 10)).top == 2


async def test_an_older_attempt_is_fenced_and_a_newer_one_is_lost(rig: Rig) -> None:
    """Only the current attempt may append."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await log.append(old, 0, 0, [chunk(0)])
    await log.release(old)
    new = await log.claim("c", "m", 1, LEASE)
    assert new.attempt == 2
    for index in (0, 1):  # also a repetition of its own batch
        with pytest.raises(Fenced):
            await log.append(old, index, 0, [chunk(0)])
    with pytest.raises(Fenced):
        await log.renew(old, LEASE)
    unheard_of = Claim("c", "m", new.epoch, 3)
    with pytest.raises(Lost):
        await log.append(unheard_of, 0, 0, [chunk(0)])
    with pytest.raises(Lost):
        await log.renew(unheard_of, LEASE)
    assert (await log.append(new, 0, 0, [chunk(1, attempt=2)])).first_seq == 2


async def test_without_a_claim_an_append_is_lost(rig: Rig) -> None:
    """Without a claim nothing can be written."""
    log = rig.log()
    page = await log.read("c", None, 0, 0)
    with pytest.raises(Lost):
        await log.append(Claim("c", "m", page.epoch, 1), 0, 0, [chunk(0)])


async def test_a_terminal_event_seals_once(rig: Rig) -> None:
    """After the terminal event nothing is accepted; its repetition gives its first result."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    assert (await log.read("c", None, 0, 0)).running
    await log.append(claim, 0, 0, [chunk(0)])
    result = await log.append(claim, 1, 1, [complete(1)])
    assert await log.append(claim, 1, 1, [complete(1)]) == result
    for events in ([chunk(1)], [complete(1)]):
        with pytest.raises(Sealed):
            await log.append(claim, 2, 0, events)
    with pytest.raises(Sealed):
        await log.renew(claim, LEASE)
    with pytest.raises(Sealed):
        await log.claim("c", "m", 5, LEASE)
    with pytest.raises(Sealed):
        await log.adopt(claim, Cursor(claim.epoch, 2), [chunk(1)], LEASE)
    assert await log.request_cancel("c", "m", "u") is False
    page = await log.read("c", None, 0, 10)
    assert (page.top, page.running, page.floor) == (2, False, None)


async def test_invalid_batches_are_refused_before_they_are_sent(rig: Rig) -> None:
    """An empty batch, or a terminal event with others."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    for events in ([], [chunk(0), complete(1)]):
        with pytest.raises(ValueError, match=r"batch|terminal"):
            await log.append(claim, 0, 0, events)


async def test_conversations_are_independent(rig: Rig) -> None:
    """Each conversation has its own seq and epoch."""
    log = rig.log()
    one, two = await asyncio.gather(log.claim("c1", "m", 0, LEASE), log.claim("c2", "m", 0, LEASE))
    await asyncio.gather(*(log.append(claim, 0, 0, [chunk(0)]) for claim in (one, two)))
    assert one.epoch != two.epoch
    assert [(await log.read(c, None, 0, 9)).top for c in ("c1", "c2", "c3")] == [1, 1, 0]


async def test_what_is_appended_is_published(rig: Rig) -> None:
    """`<epoch>:<seq>:<json>` on the conversation's channel, once even if the batch is sent
    twice.
    """
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)

    async def act() -> None:
        await log.append(claim, 0, 0, [chunk(0), chunk(1)])
        await log.append(claim, 0, 0, [chunk(0), chunk(1)])

    heard = await rig.published(keys.channel("c"), act)
    page = await log.read("c", None, 0, 10)
    assert heard == [
        b"%b:%d:%b" % (claim.epoch.encode(), entry.seq, entry.data) for entry in page.entries
    ]
    assert len(heard) == 2


async def test_deletion_and_cancel_are_published(rig: Rig) -> None:
    """Readers get `gone`, workers get `cancel <message id>`."""
    log = rig.log()
    assert await rig.published(keys.CONTROL, lambda: log.request_cancel("c", "m", "u")) == [
        b"cancel m"
    ]
    assert await rig.published(keys.channel("c"), lambda: log.delete("c")) == [b"gone"]


async def test_a_refused_batch_is_not_published(rig: Rig) -> None:
    """A refusal writes and publishes nothing."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    assert await rig.published(keys.channel("c"), lambda: log.append(claim, 5, 0, [chunk(0)])) == []
