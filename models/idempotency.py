"""A request that is repeated with the same Idempotency-Key changes nothing: it gets the rows that
the first one made.

The key is claimed in the transaction that writes the rows, so that of two requests at once the
second waits for the first. A key is remembered for `KEY_LIFE_MS`, with a hash of what was asked.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.database import now_ms
from tokenwire.models.dialects import insert
from tokenwire.models.errors import KeyReused, NotFound
from tokenwire.models.steering import answer_to
from tokenwire.models.tables import IdempotencyKey, Message

KEY_LIFE_MS = 24 * 3600 * 1000
"""How long an Idempotency-Key is remembered."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Identifies a repeated request: key, route (method and path) and a hash of its body."""

    key: str
    route: str
    body_hash: str

    @classmethod
    def of(cls, key: str | None, route: str, value: Any) -> "Idempotency | None":
        """None without a key. `value`: what was understood of the body, as JSON values.

        The hash is of the value and not of the bytes: spaces and the order of members make no
        other body.
        """
        return None if key is None else cls(key, route, _hash(value))

    @classmethod
    def of_body(cls, route: str, value: Any) -> "Idempotency":
        """The body in place of a key, for what must not happen twice, and clients that send none.

        Only a body that names what it changes can stand for itself.
        """
        body_hash = _hash(value)
        return cls(body_hash, route, body_hash)


def _hash(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


async def claim_key(
    session: AsyncSession, user_id: str, idempotency: Idempotency, made: dict[str, str]
) -> dict[str, str]:
    """`made` itself if the key is new (it is stored with it), else what was stored. A concurrent
    twin waits here for the first. Raises KeyReused for another body."""
    mine = (
        col(IdempotencyKey.user_id) == user_id,
        col(IdempotencyKey.route) == idempotency.route,
        col(IdempotencyKey.key) == idempotency.key,
    )
    expired = col(IdempotencyKey.created_at) < now_ms() - KEY_LIFE_MS
    await session.execute(delete(IdempotencyKey).where(*mine, expired))
    row = insert(session, IdempotencyKey).values(
        user_id=user_id,
        route=idempotency.route,
        key=idempotency.key,
        body_hash=idempotency.body_hash,
        made=made,
        created_at=now_ms(),
    )
    new = await session.execute(row.on_conflict_do_nothing().returning(col(IdempotencyKey.key)))
    if new.first() is not None:
        return made
    stored = (await session.scalars(select(IdempotencyKey).where(*mine))).one()
    if stored.body_hash != idempotency.body_hash:
        raise KeyReused(idempotency.key)
    return stored.made


async def rows_of_key(session: AsyncSession, made: Mapping[str, str]) -> tuple[Message, Message]:
    """The user's message and the answer to it that a key has made. Raises NotFound if one is gone.

    Whether the user may still see them is the caller's question.
    """
    answer = await session.get(Message, made["assistant"])
    user = None if answer is None else await session.get(Message, answer.parent_id)
    if answer is None or user is None:
        raise NotFound("message")
    return user, await answer_to(session, user, answer)
