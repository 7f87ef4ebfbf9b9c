"""Pure: what follows a failed attempt. `decide` turns an error into `RetryLater` or `Discard`.

| error | decision |
|---|---|
| RateLimited | retry after the provider's hint (up to a limit) or n^4 + 2 s, whichever is longer |
| Unavailable, Interrupted | retry after a short back-off, at once after a stale connection |
| any other ProviderError | discard: `error`, with a sentence that may be shown to anyone |
| anything else | discard as `internal_error`: a bug of ours, reported, dead letter |

Tries are counted, at most `MAX_TRIES`. An attempt gives back what it is worth: one try for each
`PROGRESS_CHARS` that it added. A few words are no progress, because every request is billed the
whole conversation again. `costs` bounds what all requests may cost.

A connection that breaks or falls silent is no try while the provider's own run can be attached to:
the run is paid, and goes on. How long it may go on without a word is bounded
(`LONGEST_SILENCE_SECONDS`).

The death of a worker is no try: it is rarely the answer's fault. But some answers kill whoever
writes them (memory, a bug in C code). So deaths in a row are counted apart. After
`internal.MAX_DEATHS` of them without progress, no other worker is put at risk: `WorkersDied`.

WorkersDied
  raised for an answer that has killed so many workers: a bug of ours.
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
)
from tokenwire.worker.attempt.costs import BudgetExhausted

MAX_TRIES = 3
PROGRESS_CHARS = 100
LONGEST_SILENCE_SECONDS = 3600.0
"""How long a provider's run may give nothing before it is given up. Models think for half an hour
without a word; no reader waits for a run that has said nothing for an hour."""
LONGEST_SEARCH_SECONDS = 600.0
"""The same for a run that never said anything while its server is away: it may not have begun."""
LONGEST_ATTACH_PAUSE_S = 30.0
"""The longest pause before a run is attached to again: to fetch what it has said costs nothing."""

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
    BudgetExhausted: "The answer was broken off too often. What had arrived is kept.",
}


class WorkersDied(Exception):
    """Worker after worker died over this answer, and none of them got on with it."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try again in `delay_ms`; `tries` have been used up, this one included."""

    code: str
    delay_ms: int
    tries: int


@dataclass(frozen=True, slots=True)
class Discard:
    """End the answer.

    `retryable`: asking again later makes sense; `notify_operators`: a person must act.
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
    """What an attempt has left behind when it failed.

    - `tries`: used before this attempt.
    - `added`: characters that this attempt added and the next one will keep.
    - `stuck`: there is text, and no way to resume it or to start over.
    - `free`: nothing was asked of the provider.
    - `silent_s`: only the connection failed, to a run that has said nothing for so long.
    """

    tries: int = 0
    added: int = 0
    stuck: bool = False
    free: bool = False
    silent_s: float | None = None
    terms: AnswerTerms = field(default_factory=AnswerTerms)


def code_of(error: BaseException) -> str:
    """The stable wire code of an error: `rate_limited`; `internal_error` if it is no provider's."""
    if not isinstance(error, ProviderError):
        return "internal_error"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", _known(error).__name__).lower()


def _known(error: ProviderError) -> type[ProviderError]:
    """The class of the tree that an error of a provider's own subclass belongs to."""
    return next((kind for kind in type(error).__mro__ if kind in _SENTENCES), Unavailable)


def decide(
    error: BaseException,
    outlook: Outlook,
    jitter: Callable[[], float] = random.random,
) -> RetryLater | Discard:
    """What to do after `error`: what the first of `_RULES` says that applies, or the end."""
    if not isinstance(error, ProviderError):
        return _BUG
    for rule in _RULES:
        if (retry := rule(error, outlook, jitter)) is not None:
            return retry
    return Discard(
        code_of(error),
        _SENTENCES[_known(error)],
        retryable=error.retryable,
        notify_operators=_needs_a_person(error),
    )


def _ask_otherwise(
    error: ProviderError, outlook: Outlook, _jitter: Callable[[], float]
) -> RetryLater | None:
    """Nothing was asked of the provider: another way is tried at once."""
    if not outlook.free or outlook.stuck:
        return None
    return RetryLater(code_of(error), 0, outlook.tries)


def _attach_again(
    error: ProviderError, outlook: Outlook, jitter: Callable[[], float]
) -> RetryLater | None:
    """The run goes on: it is attached to after an eighth of its silence so far.

    So soon after a cut, and seldom while the provider is away.
    """
    if outlook.silent_s is None:
        return None
    shortest_s = 0.0 if error.code == STALE_CONNECTION else 0.5
    pause_s = min(max(shortest_s, outlook.silent_s / 8), LONGEST_ATTACH_PAUSE_S)
    return _later(error, pause_s, outlook.tries, outlook, jitter)


def _ask_again(
    error: ProviderError, outlook: Outlook, jitter: Callable[[], float]
) -> RetryLater | None:
    """A try is left: after a polynomial pause for rate limits, a doubling one for the rest."""
    used = max(1, outlook.tries + 1 - outlook.added // PROGRESS_CHARS)
    if not error.retryable or outlook.stuck or used >= MAX_TRIES:
        return None
    pause_s = float(used**4 + 2) if isinstance(error, RateLimited) else 0.5 * 2 ** (used - 1)
    if error.code == STALE_CONNECTION and used == 1:
        pause_s = 0.0
    return _later(error, pause_s, used, outlook, jitter)


_RULES = (_ask_otherwise, _attach_again, _ask_again)


def _later(
    error: ProviderError, pause_s: float, tries: int, outlook: Outlook, jitter: Callable[[], float]
) -> RetryLater:
    """After our pause or the provider's hint, whichever is longer, and some more by chance."""
    hint_s = min(error.retry_after_s or 0.0, outlook.terms.max_retry_after_seconds)
    delay_s = max(hint_s, pause_s) + pause_s * 0.25 * jitter()
    return RetryLater(code_of(error), int(delay_s * 1000), tries)


def unheard(error: BaseException) -> bool:
    """Whether it says nothing of the run: a connection broke, or the provider is overloaded."""
    if isinstance(error, RateLimited):
        return True
    return isinstance(error, Unavailable | Interrupted) and (
        error.code in NOT_HEARD or (error.status or 0) >= 500
    )


def deaths_in_a_row(counted: int, added: int) -> int:
    """The count after an attempt that added so many characters: progress begins it anew."""
    return 0 if added >= PROGRESS_CHARS else counted


def _needs_a_person(error: ProviderError) -> bool:
    return isinstance(
        error,
        (QuotaExhausted, AuthenticationFailed, PermissionDenied, ModelNotFound, BudgetExhausted),
    )
