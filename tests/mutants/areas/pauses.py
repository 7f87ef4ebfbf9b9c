"""Paused turns of a provider, and answers that hold too much."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "pauses",
    (
        "tests/unit/worker/resume/test_continuation.py",
        "tests/unit/worker/attempt/test_parts.py",
        "tests/integration/test_pauses.py",
        "tests/integration/test_kept.py",
    ),
    [
        Mutant(
            "a_paused_turn_ends_its_answer",
            "worker/attempt/run.py",
            "Paused() if await self._resumes() else",
            "Paused() if False else",
        ),
        Mutant(
            "resumptions_are_not_bounded",
            "worker/attempt/billing.py",
            "        if is_over_budget(self._terms, bill.number, bill.before, bill.cost):\n",
            "        if False:\n",
        ),
        Mutant(
            "a_resumption_is_not_billed",
            "worker/attempt/billing.py",
            "        self.bill = bill\n        if self._begun:\n            self._draft",
            "        self.bill = self.bill if self._begun else bill\n        if self._begun:\n"
            "            self._draft",
        ),
        Mutant(
            "the_next_attempt_does_not_know_of_the_pause",
            "worker/resume/continuation.py",
            'return Plan("resume" if held.proven else "fresh")',
            'return Plan("fresh")',
        ),
        Mutant(
            "a_resumption_leaves_a_seam",
            "worker/planning.py",
            'is_new_request = self.run is None and self.plan.rung != "resume"',
            "is_new_request = self.run is None",
        ),
        Mutant(
            "a_turn_is_sent_back_twice",
            "worker/attempt/run.py",
            "        self._request = request\n",
            "        self._request = self.work.question = request\n",
        ),
        Mutant(
            "a_part_of_a_turn_is_sent_back",
            "worker/resume/continuation.py",
            "lost = any(is_lost(part) for part in turn)",
            "lost = False",
            ("tests/unit/worker/resume/test_continuation.py",),
        ),
        Mutant(
            "who_goes_on_keeps_half_of_what_was_too_much",
            "worker/attempt/parts.py",
            "self._keeps = not any(is_lost(parts[number]) for number in turns(parts)[-1])",
            "self._keeps = True",
            ("tests/integration/test_kept.py",),
        ),
        Mutant(
            "the_usage_of_a_resumption_replaces_the_first",
            "worker/attempt/draft.py",
            "self.reported = self.reported.next_request()",
            "pass",
        ),
    ],
)
