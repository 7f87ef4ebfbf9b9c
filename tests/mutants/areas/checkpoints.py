"""Checkpoints of many answers in one statement, and the one that the database refuses."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "checkpoints",
    ("tests/integration/test_checkpoints.py", "tests/integration/test_hundred.py"),
    [
        Mutant(
            "one_poisoned_answer_keeps_all_from_being_saved",
            "worker/halves.py",
            "            await by_halves(items[:half], work, refused)\n            await "
            "by_halves(items[half:], work, refused)\n",
            "            pass\n",
        ),
        Mutant(
            "a_poisoned_answer_is_tried_each_second_beside_others",
            "worker/checkpoints.py",
            "        self._apart[attempt] = clock() + REFUSED_PAUSE_SECONDS\n",
            "",
        ),
        Mutant(
            "a_poisoned_answer_is_never_tried_again",
            "worker/checkpoints.py",
            "if clock() >= when]:",
            "if False]:",
        ),
        Mutant(
            "what_was_not_saved_counts_as_saved",
            "worker/checkpoints.py",
            "            for attempt in attempts:\n                attempt.not_saved()\n",
            "",
        ),
        Mutant(
            "an_outage_is_somebody_s_poison",
            "worker/halves.py",
            "    except StoreUnavailable:\n        raise\n",
            "",
        ),
        Mutant(
            "a_refusal_is_not_counted",
            "worker/checkpoints.py",
            "        CHECKPOINTS_REFUSED.inc()\n",
            "",
        ),
        Mutant(
            "growth_does_not_bring_a_checkpoint_forward",
            "worker/checkpoints.py",
            "            self._early.set()\n",
            "            pass\n",
        ),
        Mutant(
            "a_poisoned_answer_brings_all_forward",
            "worker/checkpoints.py",
            """(
            attempt.uncheckpointed >= self._chars
            and attempt not in self._apart
            and attempt not in self._locked
        )""",
            "attempt.uncheckpointed >= self._chars",
        ),
        Mutant(
            "a_locked_answer_brings_all_forward",
            "worker/checkpoints.py",
            """(
            attempt.uncheckpointed >= self._chars
            and attempt not in self._apart
            and attempt not in self._locked
        )""",
            "attempt.uncheckpointed >= self._chars and attempt not in self._apart",
        ),
        Mutant(
            "a_locked_row_keeps_all_from_being_saved",
            "models/database.py",
            ".with_for_update(skip_locked=True, key_share=True)",
            ".with_for_update(key_share=True)",
        ),
        Mutant(
            "a_locked_row_counts_as_saved",
            "worker/checkpoints.py",
            "                attempt.not_saved()\n                self._locked.add(attempt)\n",
            "                attempt.saved(item)\n",
        ),
        Mutant(
            "a_lock_is_an_outage",
            "models/failures.py",
            "        return GivenUp(",
            "        return StoreUnavailable(",
        ),
        Mutant(
            "checkpoints_without_a_pause",
            "worker/checkpoints.py",
            "            await asyncio.sleep(max(0.0, MIN_PAUSE_SECONDS - (clock() - started)))\n",
            "",
        ),
        Mutant(
            "growth_that_was_saved_brings_the_next_one_forward",
            "worker/checkpoints.py",
            "            pass\n        self._early.clear()\n",
            "            pass\n",
        ),
        Mutant(
            "who_was_locked_once_never_grows_again",
            "worker/checkpoints.py",
            "        self._locked.clear()\n",
            "",
            ("tests/integration/test_checkpoints.py",),
        ),
    ],
)
