"""The Dramatiq actors: each takes an id and calls a plain function."""

import dramatiq

from tokenwire.worker.broker import QUEUE
from tokenwire.worker.enqueue import GENERATE, TITLE
from tokenwire.worker.runtime import Runtime


def register(broker: dramatiq.Broker, runtime: Runtime) -> None:
    """Declare the actors on a broker. They run on `runtime`, which opens when the worker boots."""

    @dramatiq.actor(broker=broker, actor_name=GENERATE, queue_name=QUEUE)
    async def generate(message_id: str) -> None:
        await runtime.generate(message_id)

    @dramatiq.actor(broker=broker, actor_name=TITLE, queue_name=QUEUE)
    async def title(message_id: str) -> None:
        await runtime.title(message_id)
