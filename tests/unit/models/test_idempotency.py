"""models.idempotency: when two bodies count as the same."""

from tokenwire.models.idempotency import Idempotency


def test_without_a_key_nothing_is_repeated() -> None:
    """Nothing is stored."""
    assert Idempotency.of(None, "POST /x", {"a": 1}) is None


def test_the_order_of_members_does_not_matter() -> None:
    """At any depth. The order of a list matters, and so does each value."""
    one = Idempotency.of("k", "POST /x", {"a": 1, "b": {"c": [1, 2], "d": "ü"}})
    assert one == Idempotency.of("k", "POST /x", {"b": {"d": "ü", "c": [1, 2]}, "a": 1})
    assert one is not None
    assert len(one.body_hash) == 64
    others = [{"a": 1, "b": {"c": [2, 1], "d": "ü"}}, {"a": 1, "b": {"c": [1, 2], "d": "u"}}, None]
    assert one not in [Idempotency.of("k", "POST /x", other) for other in others]
