"""Decides what follows the failure of an attempt.

`retries.decide` decides by the error. This module adds what the attempt has seen of its provider's
run. Attempts attach to a run until its provider reports that it is over or gone, it is silent for
too long, or its output fails each time.
"""

from tokenwire.providers.base import RUN_GONE
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.resume.continuation import KEEPING, plan
from tokenwire.worker.retries import (
    LONGEST_SEARCH_SECONDS,
    LONGEST_SILENCE_SECONDS,
    Discard,
    Outlook,
    RetryLater,
    decide,
    unheard,
)


def follow_up(
    work: AttemptWork, error: BaseException, lived_seconds: float
) -> RetryLater | Discard:
    """What to do after `error`. Forgets the run if no attempt should attach to it any more."""
    silent_s = _silent_seconds(work, lived_seconds) if _goes_on(work, error) else None
    if any(is_forgotten(work, error, silent_s) for is_forgotten in _FORGOTTEN):
        work.draft.forget_run()
    verdict = decide(error, _outlook(work, error, silent_s))
    if isinstance(verdict, RetryLater) and work.billing.forbids_another(free=_attaches(work)):
        return decide(BudgetExhausted("no further request"), Outlook(work.row.tries))
    return verdict


def _outlook(work: AttemptWork, error: BaseException, silent_s: float | None) -> Outlook:
    draft = work.draft
    return Outlook(
        tries=work.row.tries,
        added=draft.added if work.best_rung in KEEPING else 0,
        stuck=plan(work.best_rung, draft.held).rung == "none",
        # Otherwise a connection broke and the run had never begun. That was a try.
        free=_is_gone(work, error, silent_s) and work.row.run_silent_since is None,
        silent_s=None if draft.run is None else silent_s,
        next_model=None if draft.run or draft.held.answer.parts else work.next_model,
        terms=work.services.terms,
    )


def _attaches(work: AttemptWork) -> bool:
    return work.best_rung == "attach" and work.draft.run is not None


def _goes_on(work: AttemptWork, error: BaseException) -> bool:
    """Whether only the connection failed, so that the run can be attached to again."""
    attachable = work.draft.run is not None
    chosen = plan(work.best_rung, work.draft.held, attachable=attachable)
    return chosen.rung == "attach" and unheard(error)


def _silent_seconds(work: AttemptWork, lived_seconds: float) -> float:
    """Seconds since the run last sent anything, in this attempt and earlier ones."""
    since = work.row.run_silent_since
    before = 0 if since is None else max(0, work.row.updated_at - since) / 1000
    return 0.0 if work.draft.emitted else before + lived_seconds


# --- when a run is forgotten; `silent_s` is None unless the run continues (`_goes_on`) ---


def _is_gone(_work: AttemptWork, error: BaseException, _silent_s: float | None) -> bool:
    """Whether the provider does not know the run."""
    return getattr(error, "code", None) == RUN_GONE


def _is_over(work: AttemptWork, _error: BaseException, _silent_s: float | None) -> bool:
    """Whether the provider has reported the end of the run."""
    return work.named_run.over


def _is_silent_for_too_long(
    work: AttemptWork, error: BaseException, silent_s: float | None
) -> bool:
    """Whether the run is silent for too long. A run without any output gets less time."""
    run = work.draft.run
    has_spoken = run is not None and run.cursor not in (None, 0)  # 0: nothing behind its beginning
    is_away = getattr(error, "status", None) is not None
    longest = LONGEST_SEARCH_SECONDS if is_away and not has_spoken else LONGEST_SILENCE_SECONDS
    return silent_s is not None and silent_s > longest


def _fails_each_time(work: AttemptWork, _error: BaseException, silent_s: float | None) -> bool:
    """Whether attaching worked, but the run's output failed at least twice."""
    attached = silent_s is None and work.billing.bill.cost == 0
    return attached and work.row.tries > 0 and not work.draft.emitted


def _never_began(work: AttemptWork, error: BaseException, _silent_s: float | None) -> bool:
    """Whether the error proves that the run never began.

    A run whose name we choose has its name before the request.
    """
    asked, answered = work.billing.bill.cost > 0, work.draft.answered
    return asked and not answered and getattr(error, "no_run", False)


_FORGOTTEN = (_is_gone, _is_over, _is_silent_for_too_long, _fails_each_time, _never_began)
