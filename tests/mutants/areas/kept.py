"""Kept values: what is stored of them, what is lost with a worker, and what that costs."""

from tests.mutants.mutant import Area, Mutant

PURE = ("tests/unit/protocol/test_kept.py",)
PARTS = ("tests/unit/worker/attempt/test_parts.py",)
HISTORY = ("tests/unit/worker/test_history.py",)
PLAN = ("tests/unit/worker/resume/test_continuation.py",)
WORKER = ("tests/integration/test_kept.py",)

AREA = Area(
    "kept",
    (*PURE, *PARTS, *HISTORY, *PLAN, *WORKER),
    [
        Mutant(
            "what_databases_refuse_is_stored_as_it_is",
            "protocol/kept.py",
            "        if not _is_storable(value):\n            return _as_json(value)\n",
            "",
            PURE,
        ),
        Mutant(
            "a_name_that_databases_refuse_is_stored_as_it_is",
            "protocol/kept.py",
            "return out if all(map(_is_storable, value)) else _as_json(value)",
            "return out",
            PURE,
        ),
        Mutant(
            "a_value_that_looks_escaped_becomes_another",
            "protocol/kept.py",
            '_ESCAPED: Final = re.compile(r"\\$+(text|json)")',
            '_ESCAPED: Final = re.compile(r"\\$+(text)")',
            PURE,
        ),
        Mutant(
            "a_value_may_be_nested_for_ever",
            "protocol/kept.py",
            "        if depth < 0:\n            raise ValueError",
            "        if False:\n            raise ValueError",
            PURE,
        ),
        Mutant(
            "infinity_goes_back",
            "protocol/kept.py",
            "json.dumps(value, allow_nan=False)",
            "json.dumps(value)",
            PURE,
        ),
        Mutant(
            "searches_cost_nothing",
            "protocol/kept.py",
            "        self._budget.left -= ",
            "        _ = ",
            PURE,
        ),
        Mutant(
            "each_value_has_a_budget_of_its_own",
            "worker/attempt/parts.py",
            "text, self._searches)",
            "text)",
            ("tests/unit/worker/attempt/test_parts.py",),
        ),
        Mutant(
            "one_loss_costs_the_whole_answer",
            "protocol/kept.py",
            "if n in steps or _has_ended(part))",
            "if n in steps)",
            WORKER,
        ),
        Mutant(
            "a_result_ends_its_call",
            "protocol/kept.py",
            'part.fields.get("state") in CALL_ENDED',
            'bool(part.fields.get("result"))',
            PURE,
        ),
        Mutant(
            "a_step_behind_results_begins_nothing",
            "protocol/kept.py",
            'if part.type == "step" and has_results:',
            "if False:",
            PURE,
        ),
        Mutant(
            "a_pause_tears_its_turn",
            "protocol/kept.py",
            'part.type == "step" and has_results',
            'part.type == "step"',
            PURE,
        ),
        Mutant(
            "a_dropped_part_is_not_lost",
            "protocol/kept.py",
            'return lost or bool(part.fields.get("dropped"))',
            "return lost",
            PURE,
        ),
        Mutant(
            "a_loss_at_the_end_of_a_turn_is_none",
            "protocol/kept.py",
            "LOST.items() <= part.kept.items()",
            "LOST == part.kept",
            PURE,
        ),
        Mutant(
            "who_goes_on_keeps_nothing",
            "worker/planning.py",
            "            if self._continues:\n                draft.end_turn()\n",
            "",
            WORKER,
        ),
        Mutant(
            "the_end_of_a_turn_is_not_noted",
            "worker/attempt/parts.py",
            "                yield KeptOfPart(number, part.kept)\n                return\n",
            "                return\n",
            (*PARTS, *WORKER),
        ),
        Mutant(
            "another_turn_keeps_nothing",
            "worker/attempt/parts.py",
            "parts, self._keeps = self.answer.parts, True",
            "parts = self.answer.parts",
            PARTS,
        ),
        Mutant(
            "a_loss_in_another_turn_counts",
            "worker/attempt/parts.py",
            "for number in turns(parts)[-1])",
            "for number in range(len(parts)))",
            PARTS,
        ),
        Mutant(
            "a_loss_with_a_worker_is_silent",
            "worker/runner.py",
            "if lost := planned.newly_lost:",
            "if lost := []:",
            WORKER,
        ),
        Mutant(
            "each_attempt_warns_again",
            "worker/planning.py",
            "return [number for number in now if number not in before]",
            "return list(now)",
            WORKER,
        ),
        Mutant(
            "an_empty_reasoning_is_no_loss",
            "worker/resume/continuation.py",
            'is_empty = part.type == "reasoning" and part.units == 0',
            "is_empty = False",
            PLAN,
        ),
        Mutant(
            "every_reasoning_is_a_loss",
            "worker/resume/continuation.py",
            'is_empty = part.type == "reasoning" and part.units == 0',
            'is_empty = part.type == "reasoning"',
            PLAN,
        ),
        Mutant(
            "operators_are_not_warned_of_what_is_not_kept",
            "worker/attempt/outcome.py",
            "        self._warn_of_loss()\n",
            "",
            WORKER,
        ),
        Mutant(
            "half_a_character_goes_back_as_another",
            "protocol/kept.py",
            "    json.dumps(json.loads(text), ensure_ascii=False).encode()\n",
            "",
            PURE,
        ),
    ],
)
