"""The demo model: calls and documents that fit."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "demo",
    ("tests/unit/providers/test_demo_calls.py", "tests/unit/providers/test_instances.py"),
    [
        Mutant(
            "a_repair_forgets_the_question",
            "providers/demo_calls.py",
            "    if prompt.startswith(REPAIR_BEGINS):\n",
            "    if False:\n",
        ),
        Mutant(
            "a_choice_of_none_is_ignored",
            "providers/demo_calls.py",
            'if not tools or choice == "none" or',
            "if not tools or",
        ),
        Mutant(
            "a_typo_calls_another_tool",
            "providers/demo_calls.py",
            "    if text_of_typo(request) is not None:\n        return []\n",
            "",
        ),
        Mutant(
            "arguments_with_a_typo_are_made_up",
            "providers/demo_calls.py",
            'if prompt[cue.end() :].startswith("{") and',
            "if False and",
        ),
        Mutant(
            "rounds_never_end",
            "providers/demo_calls.py",
            "    done = _rounds(since)\n",
            "    done = 0\n",
        ),
        Mutant(
            "a_repaired_document_is_a_misfit_again",
            "providers/demo_calls.py",
            '("!misfit" in prompt and not repairs)',
            '"!misfit" in prompt',
        ),
        Mutant(
            "a_schema_may_recurse",
            "providers/instances.py",
            "        if self._values > MAX_VALUES:\n",
            "        if False:\n",
        ),
        Mutant(
            "any_pattern_is_tried",
            "providers/instances.py",
            "        if _SLOW.search(pattern) or len(pattern) > _LONG or "
            "len(_CHOICES.findall(pattern)) > 4:\n",
            "        if False:\n",
        ),
    ],
)
