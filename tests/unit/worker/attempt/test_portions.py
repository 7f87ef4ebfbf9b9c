"""What came at once is taken in portions, in order, whole."""

from itertools import groupby

from tokenwire.providers.base import Delta, KeptDelta, ReasoningDelta, TextDelta, ToolCallEnd
from tokenwire.worker.attempt.portions import MAX_CHARS, MAX_DELTAS, portions

ITEM = KeptDelta("openai.chat", "odd", {"x": 1})


def test_nothing_is_lost_or_changed() -> None:
    batch: list[Delta] = [
        TextDelta("a" * 3),
        ITEM,
        *[ReasoningDelta("b")] * 1200,
        TextDelta("é" * (2 * MAX_CHARS + 7)),
        ToolCallEnd(0),
        ITEM,
    ]
    given = [delta for portion in portions(batch) for delta in portion]
    assert [
        (kind, "".join(getattr(delta, "text", "-") for delta in found))
        for kind, found in groupby(given, type)
    ] == [
        (kind, "".join(getattr(delta, "text", "-") for delta in found))
        for kind, found in groupby(batch, type)
    ]


def test_a_portion_is_quickly_taken() -> None:
    """Few deltas, little text; one call, whose arguments are parsed; some items, which are written
    as JSON.
    """
    for batch, most in (
        ([TextDelta("x")] * 5000, MAX_DELTAS),
        ([TextDelta("x" * 1000)] * 5000, MAX_CHARS // 1000),
        ([ITEM] * 5000, 20),
        ([ToolCallEnd(at) for at in range(1000)], 1),
        ([TextDelta("x" * 10 * MAX_CHARS)], 1),
    ):
        sizes = [len(portion) for portion in portions(batch)]
        assert max(sizes) <= most
        assert len(sizes) > 1
    assert all(
        len(delta.text) <= MAX_CHARS
        for portion in portions([TextDelta("x" * 10 * MAX_CHARS)])
        for delta in portion
    )  # type: ignore[union-attr]


def test_a_small_batch_is_one_portion() -> None:
    """So is nothing at all none."""
    assert [list(portion) for portion in portions([TextDelta("a"), ITEM, ToolCallEnd(0)])] == [
        [TextDelta("a"), ITEM, ToolCallEnd(0)]
    ]
    assert list(portions([])) == []
