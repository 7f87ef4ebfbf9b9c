"""Whether real processes under aimed kills show what they are to show: bugs in calls, decisions and
steering, and holes in what is judged.
"""

from tests.mutants.mutant import Area, Mutant

_PROCESSES = ("tests/chaos/test_chaos.py::test_kills_at_each_point_of_a_call",)

AREA = Area(
    "chaos",
    (
        "tests/chaos/test_permissions.py",
        "tests/chaos/test_remarks.py",
        "tests/chaos/test_moments.py",
    ),
    [
        Mutant(
            "a_lost_run_begins_again",
            "models/calls.py",
            "changes = lost(repeatable=call.repeatable, ",
            "changes = lost(repeatable=True, ",
            _PROCESSES,
        ),
        Mutant(
            "a_second_decision_applies",
            "models/decisions.py",
            "            if not _awaited(row, call, decision):\n",
            "            if False:\n",
            _PROCESSES,
        ),
        Mutant(
            "what_steers_is_answered_as_well",
            "models/steering.py",
            "    end = update(Message).where(col(Message.id).in_(ended))\n",
            "    end = update(Message).where(col(Message.id).in_([]))\n",
            _PROCESSES,
        ),
        Mutant(
            "each_run_has_a_key_of_its_own",
            "worker/attempt/calling.py",
            "self._context(mine.key, mine.runs)",
            'self._context(f"{mine.key}.{mine.runs}", mine.runs)',
            _PROCESSES,
        ),
    ],
)
