"""How web processes and host applications have an answer made: names and ids, no provider code."""

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
    """Redis did not take the job; the row stands in SQL and is found later."""


class Jobs:
    """Enqueues jobs. `redis_url`: the broker's address."""

    def __init__(self, redis_url: str, broker: WakingBroker | None = None) -> None:
        self._broker = broker or make_broker(redis_url, threads=CONNECTIONS)

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        """Have this answer made, at once or after `delay_ms`. Raises JobsUnavailable."""
        await self._ask(self.generate_now, message_id, delay_ms)

    def generate_now(self, message_id: str, delay_ms: int | None = None) -> None:
        """The same from code that is not asynchronous. Raises redis.RedisError."""
        self._enqueue(GENERATE, message_id, delay_ms)

    async def title(self, message_id: str) -> None:
        """Name the conversation of this ended answer, if it has no title. Raises
        JobsUnavailable.
        """
        await self._ask(self._enqueue, TITLE, message_id, None)

    def _enqueue(self, actor: str, message_id: str, delay_ms: int | None) -> None:
        message: Message[None] = Message(
            queue_name=QUEUE, actor_name=actor, args=(message_id,), kwargs={}, options={}
        )
        self._broker.enqueue(message, delay=delay_ms)

    async def waiting(self, message_ids: Sequence[str]) -> dict[str, int]:
        """Of these messages, those whose job waits for a worker, and since when (ms). Raises
        JobsUnavailable.
        """
        return await self._ask(self._broker.waiting, message_ids)

    async def held(self, message_ids: Sequence[str]) -> set[str]:
        """Of these messages, those that the queue itself has a job for. Raises JobsUnavailable."""
        return await self._ask(self._broker.held, message_ids)

    def now_ms(self) -> int:
        """The clock by which `waiting` tells since when."""
        return now_ms()

    async def lead(self, name: str, seconds: float) -> bool:
        """Whether this process's sweeper is the active one for the next seconds. Raises
        JobsUnavailable.
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
