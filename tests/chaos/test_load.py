"""What a run of streams is asked about afterwards."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.load import Load, Stream
from tests.chaos.provider import Asked
from tests.chaos.script import script


@pytest.mark.parametrize(
    ("ended", "whole", "found"),
    [
        pytest.param(5.0, False, [1.5], id="handed over"),
        pytest.param(9.0, False, [], id="woke up after the next attempt had begun"),
        pytest.param(None, False, [], id="runs"),
        pytest.param(5.0, True, [], id="answered to its end"),
    ],
)
def test_the_next_attempt_is_measured_where_one_was_handed_over(
    ended: float | None, whole: bool, found: list[float]
) -> None:
    """From the end of the interrupted request to the first chunk of the attempt that began after
    it.
    """
    nothing: Any = None
    watcher: Any = SimpleNamespace(first_chunks={1: 2.0, 2: 6.5})
    asked = [Asked(1, 0, 0, began=1.0, ended=ended, whole=whole), Asked(1, 0, 0, began=6.0)]
    provider: Any = SimpleNamespace(asked=asked)
    load = Load(
        nothing,
        provider,
        "",
        {},
        1,
        1,
        (1, 1),
        streams=[Stream(script(1, 10), "prefix", watchers=[watcher])],
    )
    assert load.handovers() == found
