"""worker.attempt.usage: the sum of the usage of all requests of an answer, with estimates for
missing reports.
"""

import pytest

from tokenwire.protocol import events
from tokenwire.worker.attempt.usage import Reported, tokens


def test_tokens_are_rounded_up() -> None:
    """A word is a token."""
    assert [tokens(chars) for chars in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_no_usage_is_not_zero_usage() -> None:
    """Tokens that were thought alone are no usage either: what went in and came out is missing."""
    assert Reported().total() is None
    assert Reported().corrected({"reasoning_tokens": 3}).total() is None


def test_a_request_corrects_itself_and_adds_to_those_before() -> None:
    """Field by field; a field that only some have said is the sum of those."""
    reported = (
        Reported()
        .corrected({"input_tokens": 5, "output_tokens": 1})
        .corrected({"output_tokens": 9, "cached_tokens": 2})
    )
    assert reported.total() == events.Usage(5, 9, 2)
    reported = reported.next_request()
    assert reported.total() == events.Usage(5, 9, 2)
    assert reported.corrected({"input_tokens": 7, "reasoning_tokens": 4}).total() == events.Usage(
        12, 9, 2, 4
    )


@pytest.mark.parametrize(
    "reported", [Reported(), Reported({"input_tokens": 1}, {"output_tokens": 2})]
)
def test_a_row_keeps_it(reported: Reported) -> None:
    """Nothing at all is nothing in the row."""
    assert Reported.of(reported.stored()) == reported
    assert (reported.stored() is None) is (reported == Reported())


def test_an_estimate_stands_for_the_request_that_reported_nothing() -> None:
    """And says that it is one; those before it count as they reported."""
    assert Reported().with_estimate(7, 5) == events.Usage(7, 2, estimated=True)
    assert Reported({"input_tokens": 3, "output_tokens": 3}).with_estimate(7, 5) == events.Usage(
        10, 5, estimated=True
    )


def test_what_was_reported_needs_no_estimate() -> None:
    """However little it is."""
    assert Reported().corrected({"input_tokens": 3}).with_estimate(7, 5) == events.Usage(3, 0)
