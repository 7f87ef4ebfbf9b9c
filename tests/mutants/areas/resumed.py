"""Attempts that resume an answer: what may be lost with a worker, and what a run says again."""

from tests.mutants.mutant import Area, Mutant

LOST = ("tests/unit/worker/resume/test_continuation.py",)
DRAFT = ("tests/unit/worker/attempt/test_draft_parts.py",)
PLAN = ("tests/integration/test_pauses.py",)
FILES = ("tests/integration/attempt/test_files.py",)
HISTORY = ("tests/unit/providers/test_collected.py",)

AREA = Area(
    "resumed",
    (*LOST, *DRAFT, *PLAN, *FILES, *HISTORY),
    [
        Mutant(
            "the_present_turn_begins_with_the_answer",
            "worker/resume/continuation.py",
            "        return turn_start(self.answer.parts, self.proven)\n",
            "        return 0\n",
            (*LOST, *DRAFT),
        ),
        Mutant(
            "a_step_is_withdrawn_with_the_turn_behind_it",
            "worker/resume/continuation.py",
            "    return proven + follows\n",
            "    return proven\n",
            LOST,
        ),
        Mutant(
            "a_restart_withdraws_proven_parts",
            "worker/attempt/parts.py",
            "        start = self._turn_start\n",
            "        start = 0\n",
            DRAFT,
        ),
        Mutant(
            "a_step_belongs_to_the_turn_behind_it",
            "worker/attempt/parts.py",
            '        yield from self._open("step", fields, is_inside=False)\n'
            "        self._turn_start = len(self.answer.parts)\n",
            '        yield from self._open("step", fields, is_inside=False)\n',
            DRAFT,
        ),
        Mutant(
            "what_is_not_saved_counts_as_proven",
            "worker/attempt/work.py",
            "proven_parts=draft.proven,",
            "proven_parts=len(answer.parts),",
            PLAN,
        ),
        Mutant(
            "a_step_counts_as_proven",
            "worker/attempt/draft.py",
            "        self._queue(self._taken.step(message_ids))\n",
            "        self._queue(self._taken.step(message_ids))\n        self.proven = "
            "len(self._taken.answer.parts)\n",
            DRAFT,
        ),
        Mutant(
            "nobody_learns_what_is_proven",
            "worker/resume/takeover.py",
            "still_proven(answer.parts, row.proven_parts))",
            "0)",
            PLAN,
        ),
        Mutant(
            "what_is_withdrawn_stays_proven",
            "worker/resume/continuation.py",
            "        return 0\n    start = last_round",
            "        pass\n    start = last_round",
            LOST,
        ),
        Mutant(
            "half_of_a_paused_turn_goes_back",
            "worker/attempt/work.py",
            "                part.kept = None\n",
            "                pass\n",
            PLAN,
        ),
        Mutant(
            "a_continuation_repeats_the_turn_before",
            "worker/planning.py",
            "        turn = self.held.answer.parts[self.held.turn_start :]\n",
            "        turn = self.held.answer.parts\n",
            PLAN,
        ),
        Mutant(
            "seams_of_a_withdrawn_turn_stay",
            "worker/attempt/draft.py",
            "[seam for seam in self.seams if seam <= end]",
            "list(self.seams)",
            DRAFT,
        ),
        Mutant(
            "seams_of_a_proven_turn_go",
            "worker/attempt/draft.py",
            "[seam for seam in self.seams if seam <= end]",
            "[]",
            DRAFT,
        ),
        Mutant(
            "a_run_of_an_earlier_turn_is_attached_to",
            "worker/resume/continuation.py",
            "if run is None or run.parts < start or",
            "if run is None or",
            LOST,
        ),
        Mutant(
            "what_was_not_saved_is_not_lost",
            "worker/resume/continuation.py",
            "is_saved = was is not None and has_ended and was.equals(part)",
            "is_saved = was is None or (has_ended and was.equals(part))",
            LOST,
        ),
        Mutant(
            "what_has_changed_since_is_not_lost",
            "worker/resume/continuation.py",
            "is_saved = was is not None and has_ended and was.equals(part)",
            "is_saved = was is not None and has_ended",
            LOST,
        ),
        Mutant(
            "a_reasoning_behind_which_more_came_has_ended",
            "worker/resume/continuation.py",
            "has_ended = number not in reasonings[-1:] or number < run_parts",
            "has_ended = number != saved.open_reasoning or number < run_parts",
            LOST,
        ),
        Mutant(
            "no_reasoning_has_ended",
            "worker/resume/continuation.py",
            "number not in reasonings[-1:] or",
            "number not in reasonings or",
            LOST,
        ),
        Mutant(
            "what_a_run_is_behind_may_be_lost",
            "worker/resume/continuation.py",
            "number not in reasonings[-1:] or number < run_parts",
            "number not in reasonings[-1:]",
            LOST,
        ),
        Mutant(
            "what_is_kept_is_lost",
            "worker/resume/continuation.py",
            "if part.type in _KEEPING_TYPES and part.kept is None and not is_saved:",
            "if part.type in _KEEPING_TYPES and not is_saved:",
            LOST,
        ),
        Mutant(
            "texts_are_lost",
            "worker/resume/continuation.py",
            "if part.type in _KEEPING_TYPES and part.kept is None and not is_saved:",
            "if part.kept is None and not is_saved:",
            LOST,
        ),
        Mutant(
            "a_run_has_a_place_before_the_end_of_a_reasoning_has_come",
            "worker/attempt/parts.py",
            "return not (half or self._calls or self._reasoning is not None)",
            "return not (half or self._calls or self._reasoning_is_open)",
            DRAFT,
        ),
        Mutant(
            "a_run_has_a_place_behind_what_it_says_again",
            "worker/attempt/draft.py",
            "if self._catches_up and any(mine.kept != held.kept for mine, held in pairs):",
            "if False:",
            DRAFT,
        ),
        Mutant(
            "a_run_that_is_read_again_has_no_place",
            "worker/attempt/draft.py",
            "if self._catches_up and any(mine.kept != held.kept for mine, held in pairs):",
            "if self._catches_up:",
            DRAFT,
        ),
        Mutant(
            "a_file_that_readers_hold_is_stored_again",
            "worker/attempt/draft.py",
            "            file = self._taken.files.pop(number, None) if",
            "            file = self._taken.files.get(number) if",
            DRAFT,
        ),
        Mutant(
            "a_refused_file_is_shown_again",
            "worker/attempt/draft.py",
            '            if file is not None and "url" not in part.fields:\n',
            "            if False:\n",
            DRAFT,
        ),
        Mutant(
            "a_file_is_told_of_before_it_is_stored",
            "worker/attempt/writing.py",
            "            await self._store_files()\n",
            "",
            FILES,
        ),
        Mutant(
            "a_file_stands_for_another_one_of_its_number",
            "worker/attempt/writing.py",
            "                if self._draft.unstored_files().get(number) is not file:\n"
            "                    continue  # the answer started over meanwhile\n",
            "",
            FILES,
        ),
        Mutant(
            "what_was_abandoned_while_a_file_was_stored_is_appended",
            "worker/attempt/writing.py",
            "            if self._draft.idle:  # everything that waited was abandoned meanwhile\n"
            "                return\n",
            "",
            FILES,
        ),
        Mutant(
            "a_refused_file_has_an_address",
            "worker/attempt/writing.py",
            "                    self._draft.file_refused(number)\n",
            "                    self._draft.file_stored(number)\n",
            FILES,
        ),
        Mutant(
            "a_file_of_an_answer_that_is_not_ours_is_refused",
            "worker/attempt/writing.py",
            "        if digest is None:\n            raise _NotOurs\n        return True\n",
            "        return digest is not None\n",
            FILES,
        ),
        Mutant(
            "a_late_end_of_a_reasoning_is_another_reasoning",
            "providers/collected.py",
            "            self._unended = len(self._parts) - 1\n",
            "            self._unended = None\n",
            HISTORY,
        ),
    ],
)
