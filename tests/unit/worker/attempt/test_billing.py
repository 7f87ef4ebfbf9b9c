"""worker.attempt.billing: what a stopped answer of several requests costs."""

from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.providers import base
from tokenwire.providers.history import HistoryMessage
from tokenwire.worker.attempt.billing import Billing
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.resume.continuation import Held

ASKED, CHARS = 100, 4000
REQUEST = base.Request((HistoryMessage("user", "x" * 4 * ASKED),))


class Attempt:
    """A first request that reported its tokens, and a second one."""

    def __init__(self) -> None:
        self.draft = Draft(Held(Answer("m"), 0, 0), 1)
        self.billing = Billing(AnswerTerms(), self.draft, None, 0)
        self.billing.count(REQUEST)
        self.draft.add(events.Start("m", 1, "x"))
        self.takes(base.TextDelta("a" * CHARS), base.UsageDelta(ASKED, 1000))

    def takes(self, *deltas: base.Delta) -> None:
        """Their events are in the log."""
        self.draft.take(deltas)
        self.draft.flush()
        while not self.draft.idle:
            self.draft.acknowledged(self.draft.seq + len(self.draft.batch()))

    @property
    def usage(self) -> events.Usage | None:
        return self.billing.usage(stopped=True)


def test_a_round_that_has_reported_is_paid_once() -> None:
    """The second request is estimated by its own text, also before there is any."""
    attempt = Attempt()
    attempt.takes(base.Finish("tool_calls"))
    attempt.draft.prove()
    attempt.billing.count(REQUEST)
    attempt.draft.step()
    assert attempt.usage == events.Usage(2 * ASKED, 1000, estimated=True)
    attempt.takes(base.TextDelta("b" * 40))
    assert attempt.usage == events.Usage(2 * ASKED, 1010, estimated=True)


def test_text_that_was_taken_back_stays_paid() -> None:
    """A request for a repair begins from nothing, and is estimated by its own text."""
    attempt = Attempt()
    attempt.billing.count(REQUEST)
    attempt.draft.withdraw()
    attempt.takes(base.TextDelta("b" * 40))
    assert attempt.usage == events.Usage(2 * ASKED, 1010, estimated=True)


def test_a_request_that_reported_nothing_is_estimated_with_the_next() -> None:
    """Its text is paid as well."""
    attempt = Attempt()
    attempt.billing.count(REQUEST)
    attempt.takes(base.TextDelta("b" * 40))
    attempt.billing.count(REQUEST)
    attempt.takes(base.TextDelta("c" * 40))
    assert attempt.usage == events.Usage(2 * ASKED, 1020, estimated=True)
