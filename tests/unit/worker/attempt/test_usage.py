"""worker.attempt.usage: the sum of the usage of all requests of an answer, with estimates for
missing reports.
"""

from dataclasses import replace

import pytest

from tokenwire.models import shapes
from tokenwire.protocol import events
from tokenwire.protocol.prices import Prices
from tokenwire.worker.attempt.usage import Reported, tokens

CHEAP = Prices(input=10**9, output=2 * 10**9, cached=10**9, written=10**9)
"""1000 and 2000 nanos for a token."""
DEAR = Prices(input=10**12, output=10**12, cached=10**12, written=10**12)


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
    "reported",
    [
        Reported(),
        Reported({"input_tokens": 1}, {"output_tokens": 2}),
        Reported(prices=CHEAP),
        Reported({}, {"input_tokens": 1, "cost": 2}, {"input_tokens": 3}, DEAR),
    ],
)
def test_a_row_keeps_it(reported: Reported) -> None:
    """Nothing at all is nothing in the row."""
    assert Reported.of(reported.stored()) == reported
    assert shapes.reported(reported.stored()) == reported.stored()
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


def cost(reported: Reported) -> float | None:
    found = reported.total()
    assert found is not None
    return found.cost


def test_each_request_costs_by_its_own_prices() -> None:
    """Another model may take over in between."""
    reported = Reported(prices=CHEAP).corrected({"input_tokens": 10, "output_tokens": 1})
    assert cost(reported) == 12e-6
    reported = reported.corrected({"output_tokens": 5})
    assert cost(reported) == 20e-6
    reported = replace(reported.next_request(), prices=DEAR).corrected({"input_tokens": 1})
    assert cost(reported) == 1.02e-3


def test_one_request_without_a_price_hides_the_cost() -> None:
    """A part of it would look like all of it. Tokens still add up."""
    free = Reported().corrected({"input_tokens": 10, "output_tokens": 1})
    assert free.total() == events.Usage(10, 1)
    mixed = replace(free.next_request(), prices=CHEAP).corrected({"input_tokens": 1})
    assert mixed.total() == events.Usage(11, 1)
    later = replace(mixed.next_request(), prices=CHEAP).corrected({"input_tokens": 1})
    assert later.total() == events.Usage(12, 1)
    assert free.with_estimate(1, 1) == events.Usage(10, 1)


def test_an_estimate_has_a_price() -> None:
    found = Reported(prices=CHEAP).with_estimate(10, 8)
    assert found == events.Usage(10, 2, cost=14e-6, estimated=True)


def test_a_request_that_was_lost_is_estimated() -> None:
    """Its worker died, or its connection broke, before it reported: it was billed all the same."""
    lost = Reported({"input_tokens": 5, "output_tokens": 5, "cost": 1000}, prices=CHEAP)
    lost = lost.with_lost(15, 8)
    assert lost.lost == {"input_tokens": 10, "output_tokens": 2, "cost": 14_000}
    now = lost.corrected({"input_tokens": 1, "output_tokens": 1})
    assert now.total() == events.Usage(16, 8, cost=18e-6, estimated=True)
    assert lost.with_estimate(10, 8) == events.Usage(25, 9, cost=29e-6, estimated=True)


def test_what_was_reported_is_not_lost() -> None:
    """Or lost already."""
    reported = Reported({"input_tokens": 15, "output_tokens": 5})
    assert reported.with_lost(15, 80) is reported
    lost = Reported().with_lost(15, 8)
    assert lost.with_lost(15, 8) is lost


def test_without_any_report_a_whole_answer_has_no_usage() -> None:
    """What was lost alone would look like all of it."""
    assert Reported().with_lost(15, 8).total() is None
