"""worker.broker, the part without a server: what a process does that does not hear of jobs."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from tokenwire.worker import broker
from tokenwire.worker.broker import POLL_SECONDS, Waker


def test_a_wake_up_channel_that_is_lost_is_sought_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each time everybody is woken once: what was enqueued meanwhile was not heard of."""
    tried, slept, heard = 0, list[float](), 0

    class Away:
        def pubsub(self, **_options: Any) -> Any:
            nonlocal tried, heard
            tried, heard = tried + 1, heard + event.is_set()
            event.clear()
            if tried == 4:
                waker.stop()
            raise redis.ConnectionError("away")

    waker = Waker(cast("redis.Redis", Away()))
    event = waker.register()
    monkeypatch.setattr(broker, "time", SimpleNamespace(sleep=slept.append))
    waker._stay_awake()
    assert (tried, slept, heard) == (4, [POLL_SECONDS] * 4, 3)
