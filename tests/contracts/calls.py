"""An answer with tool calls, as an attempt leaves it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from tests.databases import sql
from tokenwire.models.answers import Checkpoint
from tokenwire.models.calls import NewCall
from tokenwire.models.conversations import Post
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.parts import StoredPart
from tokenwire.models.store import Store
from tokenwire.models.tables import CallRow, Message
from tokenwire.models.unsaved import PartsToSave

ME = "me"
DAY = 86_400_000
State = Literal["proposed", "awaiting_approval", "awaiting_client", "invalid", "failed"]


def call(number: int, state: State = "proposed", **fields: Any) -> NewCall:
    """A call of a turn; one that awaits a decision does so for a day."""
    runs_at = "client" if state == "awaiting_client" else "server"
    waits = {"expires_in_ms": DAY} if state.startswith("awaiting") else {}
    made = NewCall(number, f"c{number}", "pay", '{"euros": 5}', runs_at, state, **waits)
    return replace(made, **fields)


def checkpoint(message_id: str, attempt: int, parts: int, saves: int = 1) -> Checkpoint:
    """An answer with that many calls."""
    rows = [
        StoredPart(number, "tool_call", '{"euros": 5}', {"id": f"c{number}", "name": "pay"}, None)
        for number in range(parts)
    ]
    changes = PartsToSave(tuple(rows), None)
    return Checkpoint(
        message_id,
        attempt,
        "",
        "",
        "e1",
        5,
        saves=saves,
        part_count=parts,
        proven_parts=parts,
        changes=changes,
    )


@dataclass
class Asked:
    """An answer and the conversation that it stands in."""

    store: Store
    conversation_id: str
    id: str

    async def row(self) -> Message:
        row = await self.store.message(self.id)
        assert row is not None
        return row

    async def calls(self) -> list[CallRow]:
        return await self.store.calls_of(self.id)

    async def states(self) -> list[str]:
        return [row.state for row in await self.calls()]

    async def prove(self, *calls: NewCall, attempt: int = 1) -> None:
        assert await self.store.prove_turn(checkpoint(self.id, attempt, len(calls)), calls)

    async def park(self, store: Store | None = None, attempt: int = 1, **fields: Any) -> str:
        """Park as an attempt does that has just read the row."""
        row = await self.row()
        saved = checkpoint(self.id, attempt, row.part_count, saves=9)
        rev = fields.get("calls_rev", row.calls_rev)
        return await (store or self.store).park(saved, 7, rev)

    async def set(self, table: str, **values: Any) -> None:
        """Set columns of the answer, or of its calls."""
        assigned = ", ".join(f"{name} = :{name}" for name in values)
        name = "id" if table == "messages" else "message_id"
        async with self.store.writing() as session:
            query = sql(f"UPDATE {table} SET {assigned} WHERE {name} = :message")
            await session.execute(query, values | {"message": self.id})


async def asked(store: Store, *calls: NewCall) -> Asked:
    """An answer whose first attempt has proven a turn with these calls."""
    conversation = await store.create_conversation(ME)
    made = await store.post(Post(conversation.id, ME, "hi", "m"))
    answer = Asked(store, conversation.id, made.assistant_message.id)
    assert await store.begin_attempt(answer.id, 1, "m")
    if calls:
        await answer.prove(*calls)
    return answer


async def waiting(store: Store, *calls: NewCall) -> Asked:
    """The same, parked."""
    answer = await asked(store, *(calls or [call(0, "awaiting_approval")]))
    assert await answer.park() == "parked"
    return answer


async def raced(*acts: Awaitable[Any]) -> list[Any]:
    """Results and errors of acts at the same time."""
    return list(await asyncio.gather(*acts, return_exceptions=True))


class LostCommits:
    """Commits of a store's next transactions that succeed, and whose answers are lost."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.left, self._writing = 0, store.writing
        patch.setattr(store, "writing", self._lossy)

    @asynccontextmanager
    async def _lossy(self) -> AsyncIterator[AsyncSession]:
        async with self._writing() as session:
            yield session
        if self.left:
            self.left -= 1
            raise StoreUnavailable("the answer of a COMMIT is lost")
