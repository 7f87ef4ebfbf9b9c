"""web/calls.py: each call of an answer has an id of its own, and keeps it."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tokenwire.protocol.fold import Part
from tokenwire.web.calls import CallIds

IDS = st.lists(st.sampled_from(["c", "c.1", "c.2", "c.1.", "", None]), max_size=6)


def call(name: str | None) -> Part:
    return Part("tool_call", {"id": name})


@example(["c", "c.2", "c"])
@given(IDS)
def test_ids_are_unique_and_do_not_depend_on_later_calls(given_ids: list[str | None]) -> None:
    """The first call of a provider's id keeps it."""
    parts = [Part("text", {}), *map(call, given_ids)]
    ids = CallIds()
    found = [ids.of(parts, number) for number in range(1, len(parts))]
    assert len(set(found)) == len(found)
    assert found == [CallIds().of(parts[: n + 1], n) for n in range(1, len(parts))]
    assert ids.of(parts, 0) == ""
    for place, name in enumerate(given_ids):
        if name and name not in found[:place]:
            assert found[place] == name


@given(IDS, IDS, st.integers(0, 6))
def test_ids_after_a_reset(before: list[str | None], after: list[str | None], keep: int) -> None:
    """As if nobody had asked before it."""
    ids, parts = CallIds(), [*map(call, before)]
    keep = min(keep, len(parts))
    asked = [ids.of(parts, number) for number in range(len(parts))]
    parts[keep:] = map(call, after)
    found = [ids.of(parts, number) for number in range(len(parts))]
    assert found == [CallIds().of(parts, number) for number in range(len(parts))]
    assert found[:keep] == asked[:keep]


def test_each_part_is_read_once() -> None:
    """However many calls an answer has."""
    reads: list[Any] = []

    class Counted(list[Part]):
        def __getitem__(self, at: Any) -> Any:
            reads.append(at)
            return super().__getitem__(at)

    ids, parts = CallIds(), Counted(call(f"c{number}") for number in range(1000))
    assert [ids.of(parts, number) for number in range(1000)][-1] == "c999"
    assert len(reads) < 2 * 1000
