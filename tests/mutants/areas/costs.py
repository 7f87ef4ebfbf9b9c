"""What one answer may cost."""

from tests.mutants.mutant import Area, Mutant

_FILE = "worker/costs.py"

AREA = Area(
    "costs",
    ("tests/unit/worker/test_costs.py",),
    [
        Mutant("the_first_request_is_refused", _FILE, "cost > 0 and number > 1 and", "cost > 0 and"),
        Mutant("attaching_is_refused", _FILE, "return cost > 0 and number > 1", "return number > 1"),
        Mutant("one_request_too_many", _FILE, "number > self.requests or", "number > self.requests + 1 or"),
        Mutant("what_comes_up_is_not_counted", _FILE, "billed + cost > self.input_tokens", "billed > self.input_tokens"),
        Mutant("attaching_is_billed", _FILE, "cls(asked, before, 0 if attaches else asked)", "cls(asked, before, asked)"),
        Mutant("what_is_gone_on_from_is_free", _FILE, "0 if going_on is None or attaches else len(going_on.text)", "0"),
        Mutant("a_request_that_was_not_answered_is_billed", _FILE, "if not self.cost or not (answered or usage):", "if not self.cost:"),
        Mutant("what_the_provider_said_is_not_believed", _FILE, "(said if said is not None else self.cost)", "self.cost"),
        Mutant(
            "tokens_are_rounded_down",
            "worker/estimates.py",
            "return -(-chars // CHARS_PER_TOKEN)",
            "return chars // CHARS_PER_TOKEN",
            ("tests/unit/worker/test_estimates.py",),
        ),
        Mutant(
            "what_a_fence_cancels_costs_nothing",
            "worker/closing.py",
            "    if row.usage is not None or not (held.text or held.reasoning):\n",
            "    if True:\n",
            ("tests/integration/test_sweeper.py",),
        ),
        Mutant("a_killed_worker_s_request_was_free", _FILE, "else asked if number > 1 else 0", "else 0"),
    ],
)
