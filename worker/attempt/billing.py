"""Pure: what the requests of one attempt cost, on top of those of the answer's earlier attempts."""

from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol import events
from tokenwire.providers.base import Request
from tokenwire.worker.attempt.costs import Bill, BudgetExhausted, is_over_budget
from tokenwire.worker.attempt.draft import Draft


class Billing:
    """`billed`, `requests`: input tokens and requests that the row notes of earlier attempts.

    The bill changes with each request; what a request reports of its tokens stands in the draft.
    """

    def __init__(self, terms: AnswerTerms, draft: Draft, billed: int | None, requests: int) -> None:
        self._terms, self._draft, self._noted = terms, draft, billed
        self._earlier = max(requests, min(draft.attempt - 1, 1))
        """A first request is not noted: its attempt was begun."""
        self.bill = Bill(0, 0, billed or 0, 0)

    def begin(self, request: Request) -> None:
        """The attempt's first request. Raises BudgetExhausted."""
        self.bill = bill = Bill.of(request, self._earlier, self._noted)
        if is_over_budget(self._terms, bill.number, bill.before, bill.cost):
            raise BudgetExhausted(f"request {bill.number}, {bill.before} input tokens billed")

    def resume(self, request: Request) -> bool:
        """Another request, after the last one was answered. False: it would be too much."""
        bill = self.bill.following(request, self._reported)
        if is_over_budget(self._terms, bill.number, bill.before, bill.cost):
            return False
        self.bill = bill
        self._draft.next_request()
        return True

    def forbids_another(self, *, free: bool) -> bool:
        """Whether the answer may not be asked for once more. `free`: a run is attached to."""
        cost = 0 if free else self.bill.asked
        return is_over_budget(self._terms, self.bill.number + 1, self.billed, cost)

    @property
    def to_note(self) -> Bill | None:
        """What is saved before the request is sent (None: nothing, its attempt was begun)."""
        return self.bill if self.bill.number > 1 and self.bill.cost else None

    @property
    def billed(self) -> int:
        """Input tokens of the answer, as far as is known."""
        return self.bill.settled(self._reported, answered=self._draft.answered)

    @property
    def _reported(self) -> int | None:
        return self._draft.reported.now.get("input_tokens")

    def usage(self, *, stopped: bool) -> events.Usage | None:
        """For the end of the answer, as on the wire. `stopped`: before its provider was done."""
        draft = self._draft
        if not (stopped and draft.emitted):
            return draft.reported.total()
        reported = bool(draft.reported.before)  # of the text before this attempt, too
        chars = draft.added if reported else draft.answer.units
        return draft.reported.with_estimate(self.bill.asked, chars)
