"""The sweeper: rows, deletions and removals that the log has not been told, or has lost."""

import asyncio

import pytest
from sqlalchemy import text

from tests.integration.sweeper.rig import Rig, sweeping, until
from tests.integration.worker_rig import events_of, kinds
from tokenwire.models.conversations import Post
from tokenwire.protocol import events
from tokenwire.protocol.cursors import Cursor
from tokenwire.streams.log.ports import Gone
from tokenwire.worker import closing
from tokenwire.worker.sweeper import revocations


async def test_rows_that_were_never_announced(rig: Rig) -> None:
    """A post while Redis was away: both rows reach the log."""
    await rig.age(announced_rev=0)
    await rig.sweeper.sweep()
    await rig.sweeper.sweep()
    assert kinds(await events_of(rig.log, rig.row)) == ["MessageEvent", "MessageEvent"]


async def test_late_announcements_delay_nobody(rig: Rig) -> None:
    """After a failover thousands of rows are announced. Meanwhile a dead worker's answer is taken
    over and another is cancelled.
    """
    announcing = asyncio.Event()

    async def never(*_arguments: object) -> Cursor:
        announcing.set()
        await asyncio.Event().wait()
        raise AssertionError

    rig.log.announce = never  # type: ignore[method-assign]
    conversation = await rig.store.create_conversation("me")
    other = (await rig.store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message
    await rig.store.mark_enqueued(rig.row.id, other.id)
    await rig.age(announced_rev=0, enqueued_at=await rig.store.now_ms() + 4_000)
    async with sweeping(rig):
        await announcing.wait()
        await rig.store.request_cancel(other.id, "me")
        await rig.die("", "So far")
        await rig.age(enqueued_at=1)
        await until(lambda: rig.jobs.sent == [(rig.row.id, None)])
        while (row := await rig.store.message(other.id)) is None or row.status != "cancelled":
            await asyncio.sleep(0.01)


async def test_announcements_are_ordered_within_a_conversation_only(
    rig: Rig,
) -> None:
    """A reader gets the question before the answer; a slow conversation delays no other."""
    names = [rig.row.conversation_id]
    for _ in range(3):
        names.append((await rig.store.create_conversation("me")).id)
        await rig.store.post(Post(names[-1], "me", "hi", "m"))
    await rig.age(announced_rev=0)
    announce, told, together = rig.log.announce, list[tuple[str, str]](), asyncio.Event()

    async def meet(conversation_id: str, row_id: str, rev: int, event: events.AnyEvent) -> Cursor:
        assert isinstance(event, events.MessageEvent)
        told.append((conversation_id, event.message["role"]))
        if len({name for name, _ in told}) == len(names):
            together.set()
        await together.wait()
        return await announce(conversation_id, row_id, rev, event)

    rig.log.announce = meet  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        await rig.sweeper.sweep()
    assert [[role for name, role in told if name == conversation] for conversation in names] == [
        ["user", "assistant"]
    ] * 4


async def test_a_deletion_without_redis_is_completed(rig: Rig) -> None:
    """Redis was away when the conversation was deleted: its log is deleted when Redis is back, and
    readers are notified.
    """
    await rig.log.announce(rig.row.conversation_id, "r", 1, events.Title("t", 1))
    rig.log.go_down()
    await closing.delete_conversation(rig.store, rig.log, rig.row.conversation_id)
    rig.log.come_back()
    async with rig.store.writing() as session:
        await session.execute(
            text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000")
        )
    heard: list[bytes] = []
    rig.log.listen(lambda _channel, payload: heard.append(payload))
    await rig.sweeper.sweep()
    await rig.sweeper.sweep()
    assert heard.count(b"gone") == 1
    with pytest.raises(Gone):
        await rig.log.read(rig.row.conversation_id, None, 0, 0)


async def test_a_removal_without_redis_is_completed(rig: Rig) -> None:
    """And repeated on a new server: the user's open readers end on every process."""
    name = rig.row.conversation_id
    await rig.store.invite(name, "me", "you", 9, 9)
    await rig.store.accept_invitation(name, "you")
    rig.log.go_down()
    await rig.store.remove_participant(name, "you")
    await revocations.revoke_or_leave(rig.store, rig.log, name, "you")
    rig.log.come_back()
    assert await rig.log.revoked(name) == set()
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE revocations SET revoked_at = revoked_at - 60000"))
    await rig.sweeper.sweep()
    assert await rig.log.revoked(name) == {"you"}
    rig.log.restart(lose_data=True)
    await rig.sweeper.sweep()
    assert await rig.log.revoked(name) == set()
    await rig.sweeper._check_server()
    await rig.sweeper.sweep()
    assert await rig.log.revoked(name) == {"you"}


async def test_a_deletion_is_repeated_on_a_new_server(rig: Rig) -> None:
    """Otherwise a remaining log could still be read with a valid token."""
    await rig.log.announce(rig.row.conversation_id, "r", 1, events.Title("t", 1))
    await closing.delete_conversation(rig.store, rig.log, rig.row.conversation_id)
    rig.log.restart(lose_data=True)
    await rig.log.read(rig.row.conversation_id, None, 0, 9)
    async with rig.store.writing() as session:
        await session.execute(
            text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000")
        )
    await rig.sweeper._check_server()
    await rig.sweeper.sweep()
    with pytest.raises(Gone):
        await rig.log.read(rig.row.conversation_id, None, 0, 0)


async def test_a_complete_deletion_leaves_the_sweeper_nothing(rig: Rig) -> None:
    """Rows and log went together."""
    await closing.delete_conversation(rig.store, rig.log, rig.row.conversation_id)
    async with rig.store.writing() as session:
        await session.execute(
            text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000")
        )
    heard: list[bytes] = []
    rig.log.listen(lambda _channel, payload: heard.append(payload))
    await rig.sweeper.sweep()
    assert heard == []
