"""worker/sweeper/revocations.py on both databases: in any order of events, the log ends with what
the rows say of a user.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tokenwire.models.errors import TooManyParticipants
from tokenwire.models.store import Store
from tokenwire.models.sweeps import Due
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.sweeper import revocations

ME, YOU = "me", "you"
NOW = Due(0, 0, 0, 0, 0, 0)


class Between(MemoryLog):
    """A slow log: other changes come first."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, Callable[[], Awaitable[Any]]] = {}

    async def revoke(self, conversation_id: str, user_id: str) -> None:
        await self._let("revoke")
        await super().revoke(conversation_id, user_id)

    async def readmit(self, conversation_id: str, user_id: str) -> None:
        await self._let("readmit")
        await super().readmit(conversation_id, user_id)

    async def _let(self, step: str) -> None:
        other = self.first.pop(step, None)
        if other is not None:
            await other()


@pytest.fixture
async def log() -> AsyncIterator[Between]:
    opened = Between()
    yield opened
    await opened.aclose()


async def invited(store: Store) -> str:
    name = (await store.create_conversation(ME)).id
    await store.invite(name, ME, YOU, 9, 9)
    return name


async def accept(store: Store, log: MemoryLog, name: str) -> None:
    await store.accept_invitation(name, YOU)
    await revocations.take_back(store, log, name, YOU)


async def remove(store: Store, log: MemoryLog, name: str) -> None:
    await store.remove_participant(name, YOU)
    await revocations.revoke(store, log, name, YOU)


async def test_a_second_removal_during_the_return_counts(store: Store, log: Between) -> None:
    """Otherwise the log would end with the return, and the tokens would be valid again."""
    name = await invited(store)
    log.first["readmit"] = lambda: remove(store, log, name)
    await accept(store, log, name)
    assert await log.revoked(name) == {YOU}


async def test_a_return_during_the_removal_counts(store: Store, log: Between) -> None:
    """The other way round."""
    name = await invited(store)
    await accept(store, log, name)

    async def again() -> None:
        await store.invite(name, ME, YOU, 9, 9)
        await accept(store, log, name)

    log.first["revoke"] = again
    await remove(store, log, name)
    assert await log.revoked(name) == set()


async def test_changes_that_overtake_each_other(store: Store, log: Between) -> None:
    """Each step is overtaken by the next."""
    name = await invited(store)

    async def again() -> None:
        await store.invite(name, ME, YOU, 9, 9)
        log.first["readmit"] = lambda: remove(store, log, name)
        await accept(store, log, name)

    log.first["readmit"] = lambda: remove(store, log, name)
    log.first["revoke"] = again
    await accept(store, log, name)
    assert await log.revoked(name) == {YOU}


async def test_the_sweeper_completes_an_interrupted_change(store: Store, log: Between) -> None:
    """The return has overwritten an announced removal, and the process dies before it announces the
    second removal.
    """
    name = await invited(store)

    async def removed_and_then_gone() -> None:
        await remove(store, log, name)
        log.first["revoke"] = _ends

    log.first["readmit"] = removed_and_then_gone
    with pytest.raises(_Ended):
        await accept(store, log, name)
    assert await log.revoked(name) == set()
    (row,) = await store.unannounced_revocations(NOW, "", 9)
    await revocations.revoke(store, log, row.conversation_id, row.user_id)
    assert await log.revoked(name) == {YOU}


class _Ended(Exception):
    """The process has died."""


async def _ends() -> None:
    raise _Ended


async def test_simultaneous_invitations_share_the_limit(store: Store) -> None:
    """As many succeed as there are places, on both databases."""
    name = (await store.create_conversation(ME)).id
    invited = await asyncio.gather(
        *(store.invite(name, ME, f"user{number}", 5, 100) for number in range(12)),
        return_exceptions=True,
    )
    assert [type(one) for one in invited if one is not None] == [TooManyParticipants] * 8
    assert len(await store.invited(name)) == 4
