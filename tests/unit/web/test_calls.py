"""web/calls.py: each call of an answer has an id of its own, and keeps it."""

from hypothesis import example, given
from hypothesis import strategies as st

from tokenwire.protocol.fold import Part
from tokenwire.web.calls import call_id

IDS = st.lists(st.sampled_from(["c", "c.1", "c.2", "c.1.", "", None]), max_size=6)


@example(["c", "c.2", "c"])
@given(IDS)
def test_ids_are_unique_and_do_not_depend_on_later_calls(given_ids: list[str | None]) -> None:
    """The first call of a provider's id keeps it."""
    parts = [Part("text", {}), *(Part("tool_call", {"id": name}) for name in given_ids)]
    found = [call_id(parts, number) for number in range(1, len(parts))]
    assert len(set(found)) == len(found)
    assert found == [call_id(parts[: n + 1], n) for n in range(1, len(parts))]
    for place, name in enumerate(given_ids):
        if name and name not in found[:place]:
            assert found[place] == name
