"""client.following: what is remembered from one connection, or hole, to the next."""

from collections.abc import Mapping
from typing import Any

from client.following import Following, _Grant, _Link, _To
from client.transcript import Order, Transcript
from streams.positions import Position


async def test_a_grant_is_used_until_it_ends() -> None:
    """And no longer: a connection with a token that has expired would be refused."""
    asked = 0

    async def grant() -> Mapping[str, Any]:
        nonlocal asked
        asked += 1
        return {"url": "ws://here", "token": f"t{asked}", "expires_in": 100}

    following = Following(grant, grant)
    assert [(await following._renew(now)).token for now in (0.0, 69.0, 71.0, 100.0)] == ["t1", "t1", "t2", "t2"]


async def test_a_hole_that_was_filled_is_forgotten() -> None:
    """The patience with the next one begins anew."""

    async def renew() -> _Grant:
        raise AssertionError

    order = Order(Position("e", 0))
    link = _Link(None, _Grant("ws://here", "t", 1e9), _To(order, Transcript(), lambda _seq: None, lambda _state: None, renew))  # type: ignore[arg-type]
    for seq, waits in ((2, True), (1, False), (4, True), (3, False)):
        list(link._event({"type": "unknown", "seq": seq}))
        assert (link._hole is not None) == waits
