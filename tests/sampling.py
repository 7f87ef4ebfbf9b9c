"""A sample of the cases of a test: `make test` runs so many of them, spread over all.

A test says how many with the mark `sampled`. Its other cases are marked `long`: `make test-all`
runs them, and so does a run without QUICK.
"""

import os
from collections.abc import Sequence

import pytest


@pytest.hookimpl(tryfirst=True)  # before cases are selected by their marks
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """pytest's hook: mark the cases that are in no sample."""
    if os.environ.get("QUICK") != "yes":
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled") and not item.get_closest_marker("long"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for alike in cases.values():
        (number,) = alike[0].get_closest_marker("sampled").args  # type: ignore[union-attr]
        chosen = spread(number, len(alike))
        for place, item in enumerate(alike):
            if place not in chosen:
                item.add_marker("long")


def spread(number: int, count: int) -> set[int]:
    """So many places among `count`: the first, the last, and others at equal distances."""
    if number >= count:
        return set(range(count))
    if number == 1:
        return {0}
    return {round(step * (count - 1) / (number - 1)) for step in range(number)}
