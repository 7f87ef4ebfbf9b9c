"""worker.runtime: what a worker process goes on with after an outage."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from tokenwire.config.settings import Settings
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import LogUnavailable
from tokenwire.worker import runtime
from tokenwire.worker.runtime import Runtime
from tokenwire.worker.tools.registry import Tools


class Away:
    """A pub/sub that cannot subscribe the first times."""

    def __init__(self, failures: int) -> None:
        self.failures, self.channels = failures, list[str]()

    async def start(self, deliver: Callable[..., None], subscribed: Callable[..., None]) -> None:
        return

    async def subscribe(self, channel: str) -> None:
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("away")
        self.channels.append(channel)


async def test_a_worker_that_starts_without_redis_hears_of_cancels_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or each of them would wait for the next renewal of a lease, for as long as the process
    lives.
    """
    monkeypatch.setattr(runtime, "CONTROL_PAUSE_SECONDS", 0.0)
    made, pubsub = (
        Runtime(cast("Settings", None), cast("Any", None), Tools({}), lambda _error, _facts: None),
        Away(3),
    )
    made._pubsub = pubsub  # type: ignore[assignment]  # as `open` would
    await made._listen()
    assert (pubsub.failures, pubsub.channels) == (0, [keys.CONTROL])
