"""worker.retries: the table of protocol section 7 as a function."""

import pytest

from tokenwire.config.terms import AnswerTerms
from tokenwire.providers import base
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.retries import (
    Discard,
    Outlook,
    RetryLater,
    WorkersDied,
    code_of,
    deaths_in_a_row,
    decide,
    unheard,
)

RETRYABLE = [base.RateLimited, base.Unavailable, base.Interrupted]
FINAL = [
    base.QuotaExhausted,
    base.AuthenticationFailed,
    base.PermissionDenied,
    base.ModelNotFound,
    base.InvalidRequest,
    base.ContextLengthExceeded,
    base.ContentFiltered,
    base.AnswerTooLarge,
]


def no_jitter() -> float:
    return 0.0


MENDED = {*RETRYABLE, *FINAL} - {base.InvalidRequest, base.ContentFiltered, base.AnswerTooLarge}


@pytest.mark.parametrize("kind", [*RETRYABLE, *FINAL])
def test_another_model_answers_where_it_can(kind: type[base.ProviderError]) -> None:
    """In place of the end, with tries of its own, and at once."""
    other = Outlook(2, next_model="second")
    verdict = decide(kind("x"), other)
    if kind in MENDED:
        end = decide(kind("x"), Outlook(2))
        assert isinstance(end, Discard)
        assert verdict == RetryLater(end.code, 0, 0, "second", end.notify_operators)
    else:
        assert verdict == decide(kind("x"), Outlook(2))


def test_a_rate_limit_is_not_waited_for_if_another_model_can_answer() -> None:
    """Other errors that may pass are tried again with the same model first."""
    first = Outlook(0, next_model="second")
    assert decide(base.RateLimited("x"), first) == RetryLater("rate_limited", 0, 0, "second")
    for kind in (base.Unavailable, base.Interrupted):
        again = decide(kind("x"), first, jitter=no_jitter)
        assert again == decide(kind("x"), Outlook(0), jitter=no_jitter)


def test_bugs_of_ours_reach_no_other_model() -> None:
    outlook = Outlook(next_model="second")
    assert isinstance(decide(ValueError("x"), outlook), Discard)
    assert isinstance(decide(BudgetExhausted("x"), outlook), Discard)


@pytest.mark.parametrize("kind", RETRYABLE)
def test_retryable_errors_get_three_tries(kind: type[base.ProviderError]) -> None:
    """Two tries are followed by another one, the third by the end."""
    error = kind("x")
    assert [type(decide(error, Outlook(used))) for used in range(3)] == [
        RetryLater,
        RetryLater,
        Discard,
    ]
    assert decide(error, Outlook(2)).retryable  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", FINAL)
def test_final_errors_are_discarded_at_once(kind: type[base.ProviderError]) -> None:
    """What another try cannot mend is not tried again, and is not called retryable."""
    verdict = decide(kind("provider's own words with sk-secret"), Outlook(0))
    assert isinstance(verdict, Discard)
    assert not verdict.retryable
    assert "sk-secret" not in verdict.sentence


def test_rate_limits_wait_polynomially_longer() -> None:
    """n^4 + 2 seconds, without the jitter."""
    waits = [decide(base.RateLimited("x"), Outlook(used), jitter=no_jitter) for used in (0, 1)]
    assert [wait.delay_ms for wait in waits if isinstance(wait, RetryLater)] == [3000, 18000]


def test_a_longer_hint_wins() -> None:
    """Whichever is longer: the provider's hint or our own wait."""
    verdict = decide(base.RateLimited("x", retry_after_s=48), Outlook(0), jitter=no_jitter)
    assert isinstance(verdict, RetryLater)
    assert verdict.delay_ms == 48_000
    verdict = decide(base.RateLimited("x", retry_after_s=0.5), Outlook(0), jitter=no_jitter)
    assert isinstance(verdict, RetryLater)
    assert verdict.delay_ms == 3000


@pytest.mark.parametrize(
    ("terms", "delay_ms"),
    [(AnswerTerms(), 120_000), (AnswerTerms(max_retry_after_seconds=7.5), 7500)],
)
def test_an_endless_hint_is_not_waited_for(terms: AnswerTerms, delay_ms: int) -> None:
    """Nobody sits before a page for an hour: the provider is asked again sooner."""
    verdict = decide(
        base.RateLimited("x", retry_after_s=3600), Outlook(terms=terms), jitter=no_jitter
    )
    assert isinstance(verdict, RetryLater)
    assert verdict.delay_ms == delay_ms


@pytest.mark.parametrize(
    ("tries", "added", "left"),
    [
        (0, 0, 1),
        (0, 99, 1),
        (0, 100, 1),
        (1, 99, 2),
        (1, 100, 1),
        (2, 100, 2),
        (2, 250, 1),
        (2, 100_000, 1),
        (2, 99, None),
    ],
)
def test_an_attempt_gives_back_what_it_is_worth(tries: int, added: int, left: int | None) -> None:
    """Not everything for a few words: each request is billed the whole conversation."""
    verdict = decide(base.Interrupted("x"), Outlook(tries, added=added))
    assert (verdict.tries if isinstance(verdict, RetryLater) else None) == left


@pytest.mark.parametrize(
    ("deaths", "added", "left"), [(1, 0, 1), (5, 99, 5), (5, 100, 0), (0, 5_000, 0)]
)
def test_deaths_in_a_row_are_counted(deaths: int, added: int, left: int) -> None:
    """Until an attempt gets on, whether it died then or not."""
    assert deaths_in_a_row(deaths, added) == left


def test_deaths_are_no_fault_of_a_provider() -> None:
    """After too many of them operators are told, and the reader that it is our side."""
    verdict = decide(WorkersDied("8 workers died"), Outlook(0))
    assert isinstance(verdict, Discard)
    assert (verdict.code, verdict.retryable, verdict.notify_operators) == (
        "internal_error",
        False,
        True,
    )


def test_a_way_that_cost_nothing_is_no_try() -> None:
    """A run that could not be attached to: the next rung follows at once."""
    assert decide(
        base.Unavailable("gone", code=base.RUN_GONE), Outlook(2, free=True)
    ) == RetryLater("unavailable", 0, 2)
    assert isinstance(
        decide(base.Unavailable("gone", code=base.RUN_GONE), Outlook(2, free=True, stuck=True)),
        Discard,
    )


@pytest.mark.parametrize(("silent_s", "pause_ms"), [(0, 500), (60, 7_500), (3_000, 30_000)])
def test_a_connection_to_a_run_that_goes_on_is_no_try(silent_s: float, pause_ms: int) -> None:
    """It is attached to again, later the longer it has been silent."""
    error = base.Unavailable("cut", code="connection_lost")
    assert decide(error, Outlook(2, silent_s=silent_s), jitter=no_jitter) == RetryLater(
        "unavailable", pause_ms, 2
    )
    waits = decide(
        base.RateLimited("busy", retry_after_s=500), Outlook(2, silent_s=silent_s), jitter=no_jitter
    )
    assert waits == RetryLater("rate_limited", 120_000, 2)


@pytest.mark.parametrize(
    ("error", "says_nothing"),
    [
        (base.Unavailable("cut", code="connection_lost"), True),
        (base.Interrupted("silent", code="stalled"), True),
        (base.Unavailable("busy", code="overloaded", status=503), True),
        (base.RateLimited("busy", status=429), True),
        (base.Unavailable("an event is not readable", code="unreadable"), False),
        (base.Unavailable("the run failed", code="server_error"), False),
        (base.AuthenticationFailed("no", status=401), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_says_nothing_of_what_was_asked_for(error: Exception, says_nothing: bool) -> None:
    """A connection may fail while the run that was asked for goes on."""
    assert unheard(error) is says_nothing


def test_a_connection_that_the_pool_kept_too_long_is_tried_again_at_once() -> None:
    """Nothing is wrong with the provider. It is a try all the same, and the next one waits: who
    always hangs up is no stale connection.
    """
    error = base.Unavailable("closed", code=base.STALE_CONNECTION)
    assert decide(error, Outlook(0), jitter=no_jitter) == RetryLater("unavailable", 0, 1)
    assert decide(error, Outlook(1), jitter=no_jitter) == RetryLater("unavailable", 1000, 2)
    assert decide(error, Outlook(0, silent_s=0.0), jitter=no_jitter) == RetryLater(
        "unavailable", 0, 0
    )
    assert decide(error, Outlook(0, silent_s=80.0), jitter=no_jitter) == RetryLater(
        "unavailable", 10_000, 0
    )


def test_an_exhausted_budget_is_the_end_and_says_so() -> None:
    """With a code of its own; operators are told of what keeps costing."""
    verdict = decide(BudgetExhausted("20 requests"), Outlook(0))
    assert isinstance(verdict, Discard)
    assert (verdict.code, verdict.retryable, verdict.notify_operators) == (
        "budget_exhausted",
        False,
        True,
    )


def test_a_bug_is_ours_and_says_nothing() -> None:
    """An unknown exception becomes `internal_error`; its text is not shown."""
    verdict = decide(KeyError("secret"), Outlook(0))
    assert isinstance(verdict, Discard)
    assert verdict.code == "internal_error"
    assert "secret" not in verdict.sentence
    assert verdict.notify_operators


def test_a_providers_own_kind_of_error_counts_as_its_parent() -> None:
    """Adapters may refine the tree; the wire knows the tree alone."""

    class Throttled(base.RateLimited):
        pass

    assert code_of(Throttled("x")) == "rate_limited"
    assert isinstance(decide(Throttled("x"), Outlook(0)), RetryLater)
    assert isinstance(decide(Throttled("x"), Outlook(2)), Discard)


def test_codes_are_the_class_names_in_snake_case() -> None:
    """Codes are stable: they follow the names of protocol section 7."""
    assert [
        code_of(kind("x"))
        for kind in (base.RateLimited, base.ContextLengthExceeded, base.Unavailable)
    ] == [
        "rate_limited",
        "context_length_exceeded",
        "unavailable",
    ]
