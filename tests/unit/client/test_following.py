"""client.following: what is remembered from one connection, or hole, to the next."""

from collections.abc import Mapping
from typing import Any

from tokenwire.client.errors import RequestFailed
from tokenwire.client.following import (
    RENEW_AGAIN_SECONDS,
    Following,
    _DatedGrant,
    _Link,
    _LinkContext,
)
from tokenwire.client.transcript import Order, Transcript
from tokenwire.config.clock import clock
from tokenwire.protocol.cursors import Cursor


async def test_a_grant_is_used_until_it_ends() -> None:
    """And no longer: a connection with a token that has expired would be refused."""
    asked = 0

    async def grant() -> Mapping[str, Any]:
        nonlocal asked
        asked += 1
        return {"url": "ws://here", "token": f"t{asked}", "expires_in": 100}

    following = Following(grant, grant)
    assert [(await following._renew(now)).token for now in (0.0, 69.0, 71.0, 100.0)] == [
        "t1",
        "t1",
        "t2",
        "t2",
    ]


async def test_a_hole_that_was_filled_is_forgotten() -> None:
    """The patience with the next one begins anew."""

    async def renew() -> _DatedGrant:
        raise AssertionError

    order = Order(Cursor("e", 0))
    link = _Link(
        None,
        _DatedGrant("ws://here", "t", 1e9),
        _LinkContext(order, Transcript(), lambda _seq: None, lambda _state: None, renew),
    )  # type: ignore[arg-type]
    for seq, waits in ((2, True), (1, False), (4, True), (3, False)):
        list(link._event({"type": "unknown", "seq": seq}))
        assert (link._hole is not None) == waits


async def test_a_renewal_that_failed_is_tried_again_after_a_pause() -> None:
    """An API that is away is not asked a hundred times a second."""
    asked = 0

    async def renew() -> _DatedGrant:
        nonlocal asked
        asked += 1
        raise RequestFailed(503, "unavailable", "away")

    to = _LinkContext(
        Order(Cursor("e", 0)), Transcript(), lambda _seq: None, lambda _state: None, renew
    )
    link = _Link(None, _DatedGrant("ws://here", "t", clock()), to)  # type: ignore[arg-type]
    for _ in range(3):
        await link._on_time(clock())
    assert asked == 1
    assert 0 < link._renew_at - clock() <= RENEW_AGAIN_SECONDS
