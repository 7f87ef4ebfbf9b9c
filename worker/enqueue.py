"""Enqueues jobs, for web processes and host applications. It imports no code of providers."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import redis
from dramatiq import Message

from tokenwire.worker.broker import QUEUE, WakingBroker, make_broker, now_ms

T = TypeVar("T")
GENERATE, TITLE = "generate", "title"
"""Names of the actors."""
CONNECTIONS = 32


class JobsUnavailable(Exception):
    """Redis did not accept the job. The sweeper finds its row later."""


class Jobs:
    """Enqueues jobs. `redis_url`: the broker's address."""

    def __init__(self, redis_url: str, broker: WakingBroker | None = None) -> None:
        self._broker = broker or make_broker(redis_url, threads=CONNECTIONS)

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        """Enqueue the job that makes this answer, after `delay_ms`. Raises JobsUnavailable."""
        await self._ask(self.generate_now, message_id, delay_ms)

    def generate_now(self, message_id: str, delay_ms: int | None = None) -> None:
        """`generate` for synchronous code. Raises redis.RedisError."""
        self._enqueue(GENERATE, message_id, delay_ms)

    async def title(self, message_id: str) -> None:
        """Enqueue the job that names the conversation of this answer. Raises JobsUnavailable."""
        await self._ask(self._enqueue, TITLE, message_id, None)

    def _enqueue(self, actor: str, message_id: str, delay_ms: int | None) -> None:
        message: Message[None] = Message(
            queue_name=QUEUE, actor_name=actor, args=(message_id,), kwargs={}, options={}
        )
        self._broker.enqueue(message, delay=delay_ms)

    async def waiting(self, message_ids: Sequence[str]) -> dict[str, int]:
        """The messages of these whose job waits for a worker, and since when (ms).

        Raises JobsUnavailable.
        """
        return await self._ask(self._broker.waiting, message_ids)

    async def held(self, message_ids: Sequence[str]) -> set[str]:
        """The messages of these that have a job in the queue itself. Raises JobsUnavailable."""
        return await self._ask(self._broker.held, message_ids)

    def now_ms(self) -> int:
        """The present time by the clock of `waiting`, in ms."""
        return now_ms()

    async def lead(self, name: str, seconds: float) -> bool:
        """Ask to be the active sweeper for the next `seconds`. Returns whether this succeeded.

        Raises JobsUnavailable.
        """
        return await self._ask(self._broker.lead, name, int(seconds * 1000))

    async def _ask(self, question: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.to_thread(question, *arguments)
        except redis.RedisError as error:
            raise JobsUnavailable(str(error)) from error

    async def aclose(self) -> None:
        """Close the broker's connections."""
        await asyncio.to_thread(self._broker.close)
