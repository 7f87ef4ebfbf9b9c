"""What a site looks at before anything is judged."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import site as module
from tests.chaos.load import Stream
from tests.chaos.script import script
from tests.chaos.site import Site


async def test_an_end_that_is_announced_again_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a start of Redis each recent end counts as unannounced for some seconds. A stream that
    was never posted has no row to wait for.
    """
    looks = iter([False, False, True])
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(module, "calls", lambda _url: [])
    monkeypatch.setattr(module, "decisions", lambda _url: [])
    monkeypatch.setattr(module, "steered", lambda _url: {})
    monkeypatch.setattr(module, "rows", lambda _url: {"m": {"terminal_announced": next(looks)}})
    stream, refused = (
        Stream(script(1, 10), "prefix", message_id="m"),
        Stream(script(2, 10), "prefix"),
    )
    read: list[Stream] = []

    async def read_log(stream: Stream) -> None:
        read.append(stream)

    load: Any = SimpleNamespace(streams=[stream, refused], read_log=read_log)
    cluster: Any = SimpleNamespace(database_url="sqlite:///nowhere")
    nobody: Any = None
    await Site(cluster, nobody, nobody, {}).look(load)
    assert (stream.row, refused.row, read) == ({"terminal_announced": True}, {}, [stream, refused])
