"""Pure: adds up the cost of an attempt's requests and of the answer's earlier attempts."""

from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol import events
from tokenwire.providers.base import Request
from tokenwire.worker.attempt.costs import Bill, BudgetExhausted, is_over_budget
from tokenwire.worker.attempt.draft import Draft


class Billing:
    """The bill of an answer. `billed`, `requests`: tokens and requests of its earlier attempts.

    The bill changes with each request. The draft holds the token counts that a request reports.
    """

    def __init__(self, terms: AnswerTerms, draft: Draft, billed: int | None, requests: int) -> None:
        self._terms, self._draft, self._noted = terms, draft, billed
        self._earlier = max(requests, min(draft.attempt - 1, 1))
        """A first request is not noted: the row shows that its attempt began."""
        self.bill = Bill(0, 0, billed or 0, 0)
        self._begun = False

    def count(self, request: Request) -> None:
        """Count another request: the attempt's first one, or after the last one was answered.

        Raises BudgetExhausted. Then nothing has changed.
        """
        bill = (
            self.bill.following(request, self._reported)
            if self._begun
            else Bill.of(request, self._earlier, self._noted)
        )
        if is_over_budget(self._terms, bill.number, bill.before, bill.cost):
            raise BudgetExhausted(f"request {bill.number}, {bill.before} input tokens billed")
        self.bill = bill
        if self._begun:
            self._draft.next_request()
        elif bill.cost:
            self._draft.count_lost(bill.before)
        self._begun = True

    def forbids_another(self, *, free: bool) -> bool:
        """Whether another request is over budget. `free`: it attaches to a run."""
        cost = 0 if free else self.bill.asked
        return is_over_budget(self._terms, self.bill.number + 1, self.billed, cost)

    @property
    def to_note(self) -> Bill | None:
        """The bill to save before the request is sent. None: the row's attempt shows it."""
        return self.bill if self.bill.number > 1 and self.bill.cost else None

    @property
    def billed(self) -> int:
        """Input tokens of the answer so far, reported or estimated."""
        return self.bill.settled(self._reported, answered=self._draft.answered)

    @property
    def _reported(self) -> int | None:
        return self._draft.reported.now.get("input_tokens")

    def usage(self, *, stopped: bool) -> events.Usage | None:
        """The usage for the terminal event. `stopped`: the provider was not done."""
        draft = self._draft
        if not (stopped and draft.emitted):
            return draft.reported.total()
        # These include the text before this attempt.
        counted = draft.reported.before or draft.reported.lost
        chars = draft.unreported if counted else draft.answer.units
        return draft.reported.with_estimate(self.bill.asked, chars)
