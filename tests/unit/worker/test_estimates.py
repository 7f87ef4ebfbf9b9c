"""worker.estimates: usage where no provider has told it."""

from streams import events
from worker.estimates import estimated_usage, tokens


def test_tokens_are_rounded_up() -> None:
    """A word is a token."""
    assert [tokens(chars) for chars in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_an_estimate_says_that_it_is_one() -> None:
    """The request is counted in tokens already, the answer in characters."""
    assert estimated_usage(7, 5) == events.Usage(7, 2, estimated=True)
