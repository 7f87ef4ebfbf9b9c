"""What web processes and host applications call to have a generation run: names and arguments, no provider code."""

import asyncio

import redis
from dramatiq import Message

from worker.broker import QUEUE, WakingBroker, make_broker

ACTOR = "generate"
CONNECTIONS = 32


class JobsUnavailable(Exception):
    """Redis did not take the job; the row stands in SQL and is found later."""


class Jobs:
    """Enqueues jobs. `redis_url`: the broker's address."""

    def __init__(self, redis_url: str, broker: WakingBroker | None = None) -> None:
        self._broker = broker or make_broker(redis_url, threads=CONNECTIONS)

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        """Run the generation of this assistant message, at once or after `delay_ms`. Raises JobsUnavailable."""
        try:
            await asyncio.to_thread(self.generate_now, message_id, delay_ms)
        except redis.RedisError as error:
            raise JobsUnavailable(str(error)) from error

    def generate_now(self, message_id: str, delay_ms: int | None = None) -> None:
        """The same from code that is not asynchronous. Raises redis.RedisError."""
        message: Message[None] = Message(queue_name=QUEUE, actor_name=ACTOR, args=(message_id,), kwargs={}, options={})
        self._broker.enqueue(message, delay=delay_ms)

    async def aclose(self) -> None:
        """Close the broker's connections."""
        await asyncio.to_thread(self._broker.close)
