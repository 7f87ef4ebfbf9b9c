"""Pure: decides what follows a failed attempt. `decide` returns `RetryLater` or `Discard`.

| error | decision |
|---|---|
| RateLimited | retry after the provider's hint (up to a limit) or n^4 + 2 s, whichever is longer |
| Unavailable, Interrupted | retry after a short back-off, at once after a stale connection |
| any other ProviderError | discard: `error`, with a sentence that may be shown to anyone |
| anything else | discard as `internal_error`: a bug of ours, reported, dead letter |

An answer has at most `MAX_TRIES` tries. An attempt earns back one try for each `PROGRESS_CHARS`
that it added. A few words are no progress, because each request is billed for the whole
conversation again. `costs` limits what all requests may cost.

A connection that breaks or falls silent is no try while the provider's own run can be attached to:
the run is paid for, and continues. `LONGEST_SILENCE_SECONDS` limits how long it may send nothing.

The death of a worker is no try: it is rarely the answer's fault. But some answers kill their
workers (memory, a bug in C code). So deaths in a row are counted separately. After
`deaths.MAX_DEATHS` of them without progress, no further worker is put at risk: `WorkersDied`.

WorkersDied
  raised for an answer that has killed so many workers: a bug of ours.

An answer of which nothing is there yet may get another model (`fallback` in the catalogue) in place
of its end, after one of the errors in `MENDED_BY_ANOTHER`. After a rate limit it does so at once:
another model need not wait.

Rejected: another model behind text of the first one (their words do not fit together, and what a
provider signed is of no use to another); counting deaths as tries (deploys, or crashes that other
answers cause, would end a healthy answer); a limit on tries alone (an answer that progresses a
little each time would be billed without end).
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol.events import INTERNAL_ERROR
from tokenwire.providers.base import (
    NOT_HEARD,
    STALE_CONNECTION,
    AnswerTooLarge,
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    Interrupted,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unavailable,
    UnsupportedParameter,
)
from tokenwire.worker.attempt.costs import BudgetExhausted

MAX_TRIES = 3
PROGRESS_CHARS = 100
LONGEST_SILENCE_SECONDS = 3600.0
"""How long a provider's run may give nothing before it is given up. Models think for half an hour
without a word; no reader waits for a run that has said nothing for an hour."""
LONGEST_SEARCH_SECONDS = 600.0
"""The same for a run without any output whose server is away: it may never have begun."""
LONGEST_ATTACH_PAUSE_S = 30.0
"""The longest pause before a run is attached to again. Attaching costs nothing."""

_SENTENCES: dict[type[ProviderError], str] = {
    RateLimited: "The model is busy. Please try again in a moment.",
    Unavailable: "The model's provider could not be reached. Please try again.",
    Interrupted: "The answer was interrupted. What had arrived is kept.",
    QuotaExhausted: "The provider's quota is used up.",
    AuthenticationFailed: "The provider refused this service's credentials.",
    PermissionDenied: "This service may not use that model.",
    ModelNotFound: "The provider does not know that model.",
    InvalidRequest: "The provider could not accept this conversation.",
    ContextLengthExceeded: "The conversation is too long for this model.",
    ContentFiltered: "The provider's content filter refused this request.",
    AnswerTooLarge: "The answer is too large to be taken. What had arrived is kept.",
    BudgetExhausted: "The answer was broken off too often. What had arrived is kept.",
}


MENDED_BY_ANOTHER = (
    RateLimited,
    Unavailable,
    Interrupted,
    QuotaExhausted,
    AuthenticationFailed,
    PermissionDenied,
    ModelNotFound,
    ContextLengthExceeded,
)
"""Errors that say nothing against the question: another model may answer it."""


class WorkersDied(Exception):
    """Too many workers in a row died with this answer, without progress."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try again in `delay_ms`. `tries` are used up, this one included. `model`: takes the place of
    the answer's model. `notify_operators`: a person must act all the same.
    """

    code: str
    delay_ms: int
    tries: int
    model: str | None = None
    notify_operators: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
    """End the answer.

    `retryable`: asking again later makes sense. `notify_operators`: a person must act.
    """

    code: str
    sentence: str
    retryable: bool
    notify_operators: bool


_BUG = Discard(
    INTERNAL_ERROR["code"], INTERNAL_ERROR["error"], retryable=False, notify_operators=True
)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of an attempt that failed.

    - `tries`: used before this attempt.
    - `added`: characters that this attempt added and the next one keeps.
    - `stuck`: there is text, and no way to resume it or to start over.
    - `free`: the provider got no request.
    - `silent_s`: only the connection failed; its run has sent nothing for so many seconds.
    - `next_model`: may answer instead: there is no text yet, and no run goes on.
    """

    tries: int = 0
    added: int = 0
    stuck: bool = False
    free: bool = False
    silent_s: float | None = None
    next_model: str | None = None
    terms: AnswerTerms = field(default_factory=AnswerTerms)


def code_of(error: BaseException) -> str:
    """The stable wire code of an error: `rate_limited`, for example.

    `internal_error` if it is no provider's."""
    if not isinstance(error, ProviderError):
        return "internal_error"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", _known(error).__name__).lower()


def _known(error: ProviderError) -> type[ProviderError]:
    """The class of our own error tree that the error's class belongs to."""
    return next((kind for kind in type(error).__mro__ if kind in _SENTENCES), Unavailable)


def _sentence(error: ProviderError) -> str:
    """For everyone: nothing of a provider's words is in it."""
    if isinstance(error, UnsupportedParameter):
        return error.message
    return _SENTENCES[_known(error)]


def decide(
    error: BaseException,
    outlook: Outlook,
    jitter: Callable[[], float] = random.random,
) -> RetryLater | Discard:
    """What to do after `error`: the result of the first of `_RULES` that applies, or `Discard`."""
    if not isinstance(error, ProviderError):
        return _BUG
    for rule in _RULES:
        if (retry := rule(error, outlook, jitter)) is not None:
            return retry
    return Discard(
        code_of(error),
        _sentence(error),
        retryable=error.retryable,
        notify_operators=_needs_a_person(error),
    )


def _ask_otherwise(
    error: ProviderError, outlook: Outlook, _jitter: Callable[[], float]
) -> RetryLater | None:
    """The provider got no request: try another way at once."""
    if not outlook.free or outlook.stuck:
        return None
    return RetryLater(code_of(error), 0, outlook.tries)


def _attach_again(
    error: ProviderError, outlook: Outlook, jitter: Callable[[], float]
) -> RetryLater | None:
    """The run continues: attach to it again after an eighth of its silence so far.

    The pause is short after a cut, and long while the provider is away.
    """
    if outlook.silent_s is None:
        return None
    shortest_s = 0.0 if error.code == STALE_CONNECTION else 0.5
    pause_s = min(max(shortest_s, outlook.silent_s / 8), LONGEST_ATTACH_PAUSE_S)
    return _later(error, pause_s, outlook.tries, outlook, jitter)


def _ask_again(
    error: ProviderError, outlook: Outlook, jitter: Callable[[], float]
) -> RetryLater | None:
    """A try is left: use it after a pause, polynomial for rate limits, doubling for the rest."""
    used = max(1, outlook.tries + 1 - outlook.added // PROGRESS_CHARS)
    if not error.retryable or outlook.stuck or used >= MAX_TRIES:
        return None
    pause_s = float(used**4 + 2) if isinstance(error, RateLimited) else 0.5 * 2 ** (used - 1)
    if error.code == STALE_CONNECTION and used == 1:
        pause_s = 0.0
    return _later(error, pause_s, used, outlook, jitter)


def _ask_another(
    error: ProviderError, outlook: Outlook, _jitter: Callable[[], float]
) -> RetryLater | None:
    """Another model, whose tries are counted anew."""
    if outlook.next_model is None or not isinstance(error, MENDED_BY_ANOTHER):
        return None
    notify = _needs_a_person(error)
    return RetryLater(code_of(error), 0, 0, outlook.next_model, notify)


def _ask_another_at_once(
    error: ProviderError, outlook: Outlook, jitter: Callable[[], float]
) -> RetryLater | None:
    return _ask_another(error, outlook, jitter) if isinstance(error, RateLimited) else None


_RULES = (_ask_otherwise, _ask_another_at_once, _attach_again, _ask_again, _ask_another)


def _later(
    error: ProviderError, pause_s: float, tries: int, outlook: Outlook, jitter: Callable[[], float]
) -> RetryLater:
    """Retry after our pause or the provider's hint, whichever is longer, plus some jitter."""
    hint_s = min(error.retry_after_s or 0.0, outlook.terms.max_retry_after_seconds)
    delay_s = max(hint_s, pause_s) + pause_s * 0.25 * jitter()
    return RetryLater(code_of(error), int(delay_s * 1000), tries)


def unheard(error: BaseException) -> bool:
    """Whether the error says nothing about the run: a connection broke, or an overload."""
    if isinstance(error, RateLimited):
        return True
    return isinstance(error, Unavailable | Interrupted) and (
        error.code in NOT_HEARD or (error.status or 0) >= 500
    )


def deaths_in_a_row(counted: int, added: int) -> int:
    """The count after an attempt that added so many characters. Progress resets it to 0."""
    return 0 if added >= PROGRESS_CHARS else counted


def _needs_a_person(error: ProviderError) -> bool:
    return isinstance(
        error,
        (QuotaExhausted, AuthenticationFailed, PermissionDenied, ModelNotFound, BudgetExhausted),
    )
