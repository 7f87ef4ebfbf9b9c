"""One attempt of a worker: run.py, reading.py, writing.py, generation.py, runner.py."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "attempt",
    (
        "tests/unit/worker/test_generation.py",
        "tests/unit/worker/test_continuation.py",
        "tests/integration/attempt",
        "tests/integration/sweeper",
    ),
    [
        Mutant(
            "two_answers_of_a_conversation_at_once",
            "worker/runner.py",
            "return await self._services.store.blocked_by(row.id) is not None",
            "return False",
        ),
        Mutant(
            "a_retry_that_is_not_due_runs",
            "worker/runner.py",
            "            await self._services.jobs.generate(row.id, left_ms)\n            return True\n",
            "            pass\n",
        ),
        Mutant(
            "the_keeper_ignores_a_lost_claim",
            "worker/run.py",
            "            self._writer.lose()\n",
            "            pass\n",
        ),
        Mutant(
            "no_back_pressure",
            "worker/reading.py",
            "            if self._writer.full:\n",
            "            if False:\n",
        ),
        Mutant(
            "back_pressure_never_ends",
            "worker/writing.py",
            "            self._grown()\n            self._room.set()\n",
            "            self._grown()\n",
        ),
        Mutant(
            "flush_drops_half_a_character",
            "worker/generation.py",
            "self._push(self._text_cleaner.flush(), reasoning=False)",
            "self._text_cleaner.flush()",
        ),
        Mutant(
            "offsets_in_code_points_within_a_batch",
            "worker/generation.py",
            "                    text_end += utf16_length(content)\n",
            "                    text_end += len(content)\n",
        ),
        Mutant(
            "reasoning_offsets_in_code_points_within_a_batch",
            "worker/generation.py",
            "                    reasoning_end += utf16_length(content)\n",
            "                    reasoning_end += len(content)\n",
        ),
        Mutant(
            "offsets_in_code_points_between_batches",
            "worker/generation.py",
            "            self._text_end += utf16_length(event.content)\n",
            "            self._text_end += len(event.content)\n",
        ),
        Mutant(
            "a_broken_stream_shows_half_a_character",
            "worker/run.py",
            "        if isinstance(verdict, Finished):\n            self.generation.flush()",
            "        if True:\n            self.generation.flush()",
        ),
        Mutant(
            "a_run_is_ended_by_who_leaves_it",
            "worker/reading.py",
            "                stream.keep()  # a run",
            "                pass  # a run",
        ),
        Mutant(
            "the_name_of_a_run_waits_for_text",
            "worker/reading.py",
            "        await self._note_run(stream, stream.cursor)\n        async for",
            "        async for",
        ),
        Mutant(
            "an_end_without_proof_is_complete",
            "worker/reading.py",
            "        if self._generation.finish is None:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_hand_over_outranks_a_cancel",
            "worker/run.py",
            "or (isinstance(verdict, Stopped) and not self._disowned):",
            "or False:",
        ),
        Mutant(
            "the_lease_is_renewed_after_its_release",
            "worker/run.py",
            "        self._keeper.cancel()\n        await self._outlast(lambda: self._services.log.release(self._writer.claim))",
            "        await self._outlast(lambda: self._services.log.release(self._writer.claim))",
        ),
        Mutant(
            "the_lease_is_not_released",
            "worker/run.py",
            "        self._keeper.cancel()\n        await self._outlast(lambda: self._services.log.release(self._writer.claim))",
            "        self._keeper.cancel()",
        ),
        Mutant(
            "the_next_in_line_is_not_started",
            "worker/run.py",
            "lambda: closing.start_next(self._services.store, self._services.jobs, self._row.conversation_id)",
            "lambda: closing.start_next(self._services.store, self._services.jobs, 'nobody')",
        ),
        Mutant(
            "a_seam_is_not_noted",
            "worker/runner.py",
            "            seams.append(utf16_length(held.text))\n",
            "            pass\n",
        ),
        Mutant(
            "what_is_withdrawn_is_not_told",
            "worker/runner.py",
            '    if chosen.rung != "fresh":\n',
            "    if False:\n",
        ),
        Mutant(
            "deaths_without_progress_are_free",
            "worker/runner.py",
            "row.tries = used_up(row.tries, size - row.started_with)",
            "row.tries = 0",
        ),
        Mutant(
            "a_word_pays_for_a_try",
            "worker/retries.py",
            "return max(0, tries + 1 - added // PROGRESS_CHARS)",
            "return 0 if added else tries + 1",
            ("tests/unit/worker/test_retries.py",),
        ),
        Mutant(
            "a_reset_keeps_calls_without_a_result",
            "worker/generation.py",
            '        self._tool_calls = [call for call in self._tool_calls if "result" in call]\n',
            "",
        ),
        Mutant(
            "what_an_attached_run_repeats_is_said_twice",
            "worker/generation.py",
            "            clean, self._known_text = clean[self._known_text :], max(0, self._known_text - len(clean))\n",
            "            pass\n",
        ),
        Mutant(
            "a_batch_that_is_out_changes",
            "worker/generation.py",
            "        if not self._out:\n            text_end, reasoning_end",
            "        if True:\n            text_end, reasoning_end",
        ),
        Mutant(
            "a_piece_longer_than_an_event",
            "worker/generation.py",
            "and last.size + len(piece) <= PIECE_CHARS:",
            "and True:",
        ),
    ],
)
