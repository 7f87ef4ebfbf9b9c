"""What one answer may cost."""

from tests.mutants.mutant import Area, Mutant

_FILE = "worker/attempt/costs.py"

AREA = Area(
    "costs",
    (
        "tests/unit/worker/attempt/test_costs.py",
        "tests/unit/worker/attempt/test_usage.py",
        "tests/integration/test_usage.py",
    ),
    [
        Mutant(
            "what_was_lost_is_free",
            "worker/attempt/billing.py",
            "            self._draft.count_lost(bill.before)\n",
            "            pass\n",
        ),
        Mutant(
            "what_was_reported_is_lost_too",
            "worker/planning.py",
            ' or "input_tokens" in Reported.of(row.reported).now:\n',
            ":\n",
        ),
        Mutant(
            "all_requests_cost_by_the_last_prices",
            "worker/attempt/usage.py",
            "        return replace(self, before=_sum(self.before, self.now), now={})\n",
            "        return replace(self, now=_sum(self.before, self.now), before={})\n",
        ),
        Mutant(
            "a_part_of_the_cost_passes_for_all",
            "worker/attempt/usage.py",
            '        found.pop("cost", None)\n',
            "        pass\n",
        ),
        Mutant(
            "a_dead_worker_takes_its_prices_along",
            "worker/attempt/usage.py",
            '            found["prices"] = asdict(self.prices)\n',
            "            pass\n",
        ),
        Mutant(
            "reasoning_is_free_where_output_excludes_it",
            "protocol/prices.py",
            "        if self.output_excludes_reasoning:\n",
            "        if False:\n",
            ("tests/unit/providers/test_cost.py",),
        ),
        Mutant(
            "a_cached_token_is_paid_twice",
            "protocol/prices.py",
            "        if not self.input_excludes_cached:\n",
            "        if self.input_excludes_cached:\n",
            ("tests/unit/providers/test_cost.py",),
        ),
        Mutant(
            "the_first_request_is_refused",
            _FILE,
            "if number <= 1 or cost <= 0:",
            "if cost <= 0:",
        ),
        Mutant(
            "attaching_is_refused",
            _FILE,
            "if number <= 1 or cost <= 0:",
            "if number <= 1:",
        ),
        Mutant(
            "one_request_too_many",
            _FILE,
            "number > terms.max_requests_per_answer",
            "number > terms.max_requests_per_answer + 1",
        ),
        Mutant(
            "what_comes_up_is_not_counted",
            _FILE,
            "billed + cost > terms",
            "billed > terms",
        ),
        Mutant(
            "attaching_is_billed",
            _FILE,
            "asked, before, 0 if attaches else asked)",
            "asked, before, asked)",
        ),
        Mutant(
            "what_is_gone_on_from_is_free",
            _FILE,
            "0 if going_on is None or attaches else len(going_on.text)",
            "0",
        ),
        Mutant(
            "what_answers_held_was_free_for_a_killed_worker",
            "worker/closing.py",
            "    if row.parts_kept and row.model == model:\n",
            "    if not row:\n",
        ),
        Mutant(
            "what_answers_held_is_free",
            _FILE,
            "                yield value\n",
            "                pass\n",
        ),
        Mutant(
            "calls_of_tools_are_free",
            _FILE,
            "                yield from (name, text)\n                if kept",
            "                if kept",
        ),
        Mutant(
            "results_of_calls_are_free_for_a_killed_worker",
            "worker/closing.py",
            '                yield from (call["name"], outcome[0])\n',
            "                pass\n",
        ),
        Mutant(
            "another_model_gets_what_is_kept",
            "worker/closing.py",
            "    if row.parts_kept and row.model == model:\n",
            "    if row.parts_kept:\n",
        ),
        Mutant("tools_are_free", _FILE, "+ tools + json_chars", "+ json_chars"),
        Mutant("the_schema_is_free", _FILE, " + json_chars(request.schema)", ""),
        Mutant(
            "a_request_that_was_not_answered_is_billed",
            _FILE,
            "if not self.cost or not (answered or reported is not None):",
            "if not self.cost:",
        ),
        Mutant(
            "what_the_provider_said_is_not_believed",
            _FILE,
            "(reported if reported is not None else self.cost)",
            "self.cost",
        ),
        Mutant(
            "tokens_are_rounded_down",
            "worker/attempt/usage.py",
            "return -(-chars // CHARS_PER_TOKEN)",
            "return chars // CHARS_PER_TOKEN",
        ),
        Mutant(
            "what_a_fence_cancels_costs_nothing",
            "worker/closing.py",
            "    if not units:\n",
            "    if True:\n",
        ),
        Mutant(
            "a_killed_worker_s_request_was_free",
            _FILE,
            "return asked if earlier else 0",
            "return 0",
        ),
        Mutant("to_attach_is_a_request", _FILE, "earlier + (not attaches)", "earlier + 1"),
        Mutant(
            "the_last_request_alone_counts",
            "worker/attempt/usage.py",
            "        found = _sum(self.before, self.now)\n",
            "        found = dict(self.now)\n",
        ),
        Mutant(
            "a_request_that_says_it_twice_is_billed_twice",
            "worker/attempt/usage.py",
            "self._priced({**self.now, **usage})",
            "self._priced(_sum(self.now, usage))",
        ),
        Mutant(
            "a_run_that_is_attached_to_is_billed_again",
            "worker/planning.py",
            "        if self.run is None:\n            reported =",
            "        if True:\n            reported =",
        ),
        Mutant(
            "what_was_withdrawn_is_not_billed",
            "worker/planning.py",
            "            reported=reported,\n",
            "            reported=reported if self.plan.keeps else Reported(),\n",
        ),
        Mutant(
            "what_was_reported_is_not_checkpointed",
            "worker/attempt/work.py",
            "            reported=draft.reported.stored(),\n",
            "",
        ),
        Mutant(
            "a_fence_forgets_what_was_reported",
            "worker/closing.py",
            "    reported, units = Reported.of(row.reported), ",
            "    reported, units = Reported(), ",
        ),
    ],
)
