"""Pure: what follows from the failure of an attempt.

`retries.decide` decides by the error. This module knows what the attempt has seen of its provider's
run. A run is attached to for as long as it may go on: until its provider says that it is over or
gone, it is silent for too long, or what it says fails each time.
"""

from tokenwire.providers.base import RUN_GONE
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.attempt.work import Work
from tokenwire.worker.resume.continuation import KEEPING, plan
from tokenwire.worker.retries import (
    LONGEST_SEARCH_SECONDS,
    LONGEST_SILENCE_SECONDS,
    Discard,
    RetryLater,
    decide,
    unheard,
)


def follow_up(work: Work, error: BaseException, lived_seconds: float) -> RetryLater | Discard:
    """What to do after `error`. A run that is not to be attached to any more is forgotten."""
    row, draft, terms, billing = work.row, work.draft, work.terms, work.billing
    gone = getattr(error, "code", None) == RUN_GONE
    silent_s = (
        _silent_seconds(work, lived_seconds) if _can_attach(work) and unheard(error) else None
    )
    if (
        gone
        or work.run.over
        or _attached_in_vain(work, error, silent_s)
        or _never_begun(work, error)
    ):
        draft.forget_run()
    attaches = terms.best == "attach" and draft.run is not None
    verdict = decide(
        error,
        row.tries,
        added=draft.added if terms.best in KEEPING else 0,
        stuck=plan(terms.best, draft.answer, paused=work.paused).rung == "none",
        # Else a connection to it broke, and it had never begun: that was a try.
        free=gone and row.run_silent_since is None,
        silent_s=None if draft.run is None else silent_s,
        longest_wait_s=terms.longest_wait_seconds,
    )
    if isinstance(verdict, RetryLater) and billing.forbids_another(free=attaches):
        return decide(BudgetExhausted("no further request"), row.tries)
    return verdict


def _can_attach(work: Work) -> bool:
    draft = work.draft
    attachable = draft.run is not None
    chosen = plan(work.terms.best, draft.answer, attachable=attachable, paused=work.paused)
    return chosen.rung == "attach"


def _silent_seconds(work: Work, lived_seconds: float) -> float:
    """For how long the run has given nothing, in this attempt and those before it."""
    since = work.row.run_silent_since
    before = 0 if since is None else max(0, work.row.updated_at - since) / 1000
    return 0.0 if work.draft.emitted else before + lived_seconds


def _attached_in_vain(work: Work, error: BaseException, silent_s: float | None) -> bool:
    """`silent_s`: only the connection failed, and the run goes on.

    What the run itself says may be worth nothing, every time.
    """
    if silent_s is None:
        return work.billing.bill.cost == 0 and work.row.tries > 0 and not work.draft.emitted
    run = work.draft.run
    heard = run is not None and bool(run.cursor)  # 0: nothing behind its beginning
    away = getattr(error, "status", None) is not None
    longest = LONGEST_SEARCH_SECONDS if away and not heard else LONGEST_SILENCE_SECONDS
    return silent_s > longest


def _never_begun(work: Work, error: BaseException) -> bool:
    """A run whose name is our own choice has it before it is asked for.

    It may go on unless the error proves that it does not.
    """
    asked, answered = work.billing.bill.cost > 0, work.draft.answered
    return asked and not answered and getattr(error, "no_run", False)
