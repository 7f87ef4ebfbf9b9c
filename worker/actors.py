"""The actors: ids in, a plain function called."""

import dramatiq

from worker.broker import QUEUE
from worker.enqueue import ACTOR
from worker.runtime import Runtime


def register(broker: dramatiq.Broker, runtime: Runtime) -> None:
    """Declare the actors on a broker; they run on `runtime`, which its middleware opens when the worker boots."""

    @dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)
    async def generate(message_id: str) -> None:
        await runtime.generate(message_id)
