"""One attempt of a worker: run.py, reading.py, writing.py, generation.py, runner.py."""

from tests.mutants.mutant import Area, Mutant

_DEADLY = ("tests/unit/worker/test_probation.py", "tests/integration/test_deadly_answers.py")
_TAKEOVERS = ("tests/integration/sweeper/test_takeovers.py",)

AREA = Area(
    "attempt",
    (
        "tests/unit/worker/attempt/test_draft.py",
        "tests/unit/worker/resume/test_continuation.py",
        "tests/integration/attempt",
        "tests/integration/sweeper",
    ),
    [
        Mutant(
            "what_a_provider_quotes_is_logged",
            "worker/attempt/run.py",
            "        self._keep_back(error)\n",
            "",
            ("tests/integration/test_answer_lines.py",),
        ),
        Mutant(
            "the_code_of_an_error_quotes",
            "worker/discretion.py",
            "error.code and without_quotes(error.code, texts)",
            "error.code",
            ("tests/unit/worker/test_discretion.py",),
        ),
        Mutant(
            "what_a_title_is_made_of_is_logged",
            "worker/titles.py",
            "        keep_back(error, [question.content[:EXCERPT_CHARS], answer.content[:EXCERPT_CHARS]])\n",
            "",
            ("tests/unit/worker/test_titles.py",),
        ),
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
            "worker/attempt/run.py",
            "            self._writer.lose()\n",
            "            pass\n",
        ),
        Mutant(
            "no_back_pressure",
            "worker/attempt/intake.py",
            "        if self._writer.full:\n",
            "        if False:\n",
        ),
        Mutant(
            "back_pressure_never_ends",
            "worker/attempt/writing.py",
            "            self._grown()\n            self._room.set()\n",
            "            self._grown()\n",
        ),
        Mutant(
            "flush_drops_half_a_character",
            "worker/attempt/draft.py",
            "self._push(self._text_cleaner.flush(), reasoning=False)",
            "self._text_cleaner.flush()",
        ),
        Mutant(
            "offsets_in_code_points_within_a_batch",
            "worker/attempt/draft.py",
            "                    text_end += utf16_length(content)\n",
            "                    text_end += len(content)\n",
        ),
        Mutant(
            "reasoning_offsets_in_code_points_within_a_batch",
            "worker/attempt/draft.py",
            "                    reasoning_end += utf16_length(content)\n",
            "                    reasoning_end += len(content)\n",
        ),
        Mutant(
            "offsets_in_code_points_between_batches",
            "worker/attempt/draft.py",
            "            self._text_end += utf16_length(event.content)\n",
            "            self._text_end += len(event.content)\n",
        ),
        Mutant(
            "a_broken_stream_shows_half_a_character",
            "worker/attempt/run.py",
            "        if isinstance(verdict, Finished):\n            self.generation.flush()",
            "        if True:\n            self.generation.flush()",
        ),
        Mutant(
            "a_run_is_ended_by_who_leaves_it",
            "worker/attempt/intake.py",
            "                stream.keep()  # a run",
            "                pass  # a run",
        ),
        Mutant(
            "the_name_of_a_run_waits_for_text",
            "worker/attempt/intake.py",
            "        await self._note_run(stream, stream.cursor)\n        async for",
            "        async for",
        ),
        Mutant(
            "an_end_without_proof_is_complete",
            "worker/attempt/intake.py",
            "        if self._generation.finish is None:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_hand_over_outranks_a_cancel",
            "worker/attempt/run.py",
            """(
            self._verdict is None
            or isinstance(verdict, Disowned)
            or (isinstance(verdict, CancelAsked) and not self._disowned)
        )""",
            "self._verdict is None or isinstance(verdict, Disowned) or False",
        ),
        Mutant(
            "the_lease_is_renewed_after_its_release",
            "worker/attempt/run.py",
            "        self._keeper.cancel()\n        await self._outlast(lambda: self._services.log.release(self._writer.claim))",
            "        await self._outlast(lambda: self._services.log.release(self._writer.claim))",
        ),
        Mutant(
            "a_run_that_cannot_be_held_keeps_an_answer_from_going_on",
            "worker/closing.py",
            """    yield (
""",
            """    (
""",
        ),
        Mutant(
            "what_cannot_be_held_keeps_an_answer_from_going_on",
            "worker/closing.py",
            "    yield replace(runless, tool_calls=None, kept=None, reported=None)\n",
            "",
        ),
        Mutant(
            "operators_are_not_told_of_what_cannot_be_held",
            "worker/attempt/run.py",
            '            except (Unstorable, StatementFailed) as error:\n                self._tell_operators(error, "internal_error")\n',
            "            except (Unstorable, StatementFailed):\n                pass\n",
        ),
        Mutant(
            "a_limit_of_a_row_keeps_an_answer_from_going_on",
            "worker/attempt/run.py",
            "            except (Unstorable, StatementFailed) as error:\n                self._tell",
            "            except Unstorable as error:\n                self._tell",
        ),
        Mutant(
            "a_limit_of_a_row_keeps_an_answer_from_ending",
            "worker/attempt/run.py",
            "        except (Unstorable, StatementFailed) as error:\n            ending",
            "        except Unstorable as error:\n            ending",
        ),
        Mutant(
            "a_number_beyond_all_columns_is_a_place_in_a_run",
            "providers/fields.py",
            "    if not -(2**63) <= value < 2**63:\n",
            "    if False:\n",
            ("tests/integration/test_paid_runs.py",),
        ),
        Mutant(
            "the_lease_is_not_released",
            "worker/attempt/run.py",
            "        self._keeper.cancel()\n        await self._outlast(lambda: self._services.log.release(self._writer.claim))",
            "        self._keeper.cancel()",
        ),
        Mutant(
            "the_next_in_line_is_not_started",
            "worker/attempt/run.py",
            """
                self._services.store, self._services.jobs, self._row.conversation_id
            """,
            'self._services.store, self._services.jobs, "nobody"',
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
            "row.deaths, row.started_with = deaths_in_a_row(row.deaths, kept - row.started_with), kept",
            "row.deaths, row.started_with = 0, kept",
            _TAKEOVERS,
        ),
        Mutant(
            "deaths_after_progress_add_up",
            "worker/retries.py",
            "return 0 if added >= PROGRESS_CHARS else counted",
            "return counted",
            _TAKEOVERS,
        ),
        Mutant(
            "a_death_is_a_try",
            "worker/runner.py",
            "        if crashed:\n            facts",
            "        if crashed:\n            row.tries += 1\n            facts",
            _TAKEOVERS,
        ),
        Mutant(
            "text_that_is_dropped_was_progress",
            "worker/runner.py",
            "row.started_with = deaths_in_a_row(row.deaths, kept - row.started_with), kept",
            "row.started_with = deaths_in_a_row(row.deaths, size - row.started_with), kept",
            _TAKEOVERS,
        ),
        Mutant(
            "an_answer_kills_workers_for_ever",
            "worker/runner.py",
            "if row.deaths >= MAX_DEATHS:",
            "if False:",
            _TAKEOVERS,
        ),
        Mutant(
            "deaths_before_an_attempt_begins_are_free",
            "worker/runner.py",
            "    if row.deaths > MAX_DEATHS:",
            "    if False:",
            _TAKEOVERS,
        ),
        Mutant(
            "deaths_are_counted_after_what_may_kill",
            "models/answers.py",
            "            .values(deaths=col(Message.deaths) + died)\n",
            "",
            _TAKEOVERS,
        ),
        Mutant(
            "an_outage_is_a_death",
            "worker/runner.py",
            "survived=message_id in self._waiting",
            "survived=False",
            _TAKEOVERS,
        ),
        Mutant(
            "an_end_reads_what_kills",
            "worker/closing.py",
            "recover_anyway if row.deaths <= DEADLY else restate",
            "recover_anyway",
            _TAKEOVERS,
        ),
        Mutant(
            "an_end_after_deaths_does_not_ask_what_was_seen",
            "worker/internal.py",
            "DEADLY = MAX_DEATHS + 2",
            "DEADLY = MAX_DEATHS",
            _TAKEOVERS,
        ),
        Mutant(
            "suspects_do_not_wait",
            "worker/runner.py",
            "if not self._probation.admits(message_id, row.deaths):",
            "if not self._probation.admits(message_id, 0):",
            _DEADLY,
        ),
        Mutant(
            "two_suspects_at_a_time",
            "worker/probation.py",
            "        if self._taken_by is not None:\n            return False\n",
            "",
            _DEADLY,
        ),
        Mutant(
            "a_suspect_that_has_ended_keeps_the_place",
            "worker/runner.py",
            "            await self._claim_and_run(row)\n        finally:\n            self._probation.leave(message_id)\n",
            "            await self._claim_and_run(row)\n        finally:\n            pass\n",
            _DEADLY,
        ),
        Mutant(
            "a_suspect_keeps_the_place_while_it_lives",
            "worker/probation.py",
            "return added >= PROGRESS_CHARS or outlived(lived_seconds)",
            "return added >= PROGRESS_CHARS",
            _DEADLY,
        ),
        Mutant(
            "a_suspect_that_gets_on_keeps_the_place",
            "worker/probation.py",
            "return added >= PROGRESS_CHARS or outlived(lived_seconds)",
            "return outlived(lived_seconds)",
            _DEADLY,
        ),
        Mutant(
            "who_outlives_probation_stays_a_suspect",
            "worker/runner.py",
            "            if probation.outlived(lived):\n",
            "            if False:\n",
            _DEADLY,
        ),
        Mutant(
            "probation_is_over_at_once",
            "worker/probation.py",
            "return lived_seconds >= PROBATION_SECONDS",
            "return True",
            _DEADLY,
        ),
        Mutant(
            "deaths_are_not_stored",
            "models/answers.py",
            "deaths=deaths, started_with=started_with",
            "started_with=started_with",
            _TAKEOVERS,
        ),
        Mutant(
            "a_word_pays_for_a_try",
            "worker/retries.py",
            "used = max(1, tries + 1 - added // PROGRESS_CHARS)",
            "used = 1 if added else tries + 1",
            ("tests/unit/worker/test_retries.py",),
        ),
        Mutant(
            "a_reset_keeps_calls_without_a_result",
            "worker/attempt/draft.py",
            '        self._tool_calls = [call for call in self._tool_calls if "result" in call]\n',
            "",
        ),
        Mutant(
            "what_an_attached_run_repeats_is_said_twice",
            "worker/attempt/draft.py",
            """clean, self._known_text = (
                clean[self._known_text :],
                max(0, self._known_text - len(clean)),
            )""",
            "pass",
        ),
        Mutant(
            "a_batch_that_is_out_changes",
            "worker/attempt/draft.py",
            "        if not self._out:\n            text_end, reasoning_end",
            "        if True:\n            text_end, reasoning_end",
        ),
        Mutant(
            "a_piece_longer_than_an_event",
            "worker/attempt/draft.py",
            """(
                isinstance(last, _Waiting)
                and last.reasoning == reasoning
                and last.size + len(piece) <= PIECE_CHARS
            )""",
            "isinstance(last, _Waiting) and last.reasoning == reasoning and True",
        ),
        Mutant(
            "who_ends_late_hides_the_next_attempt",
            "worker/runner.py",
            """(
                self._running.get(row.id) is attempt
            )""",
            "row.id in self._running",
            ("tests/integration/sweeper/test_jobs.py",),
        ),
        Mutant(
            "a_look_is_taken_without_end",
            "worker/attempt/run.py",
            "                await self._looked_for.wait()\n        self._looked_for.clear()\n",
            "                await self._looked_for.wait()\n",
            ("tests/integration/attempt/test_stops.py",),
        ),
        Mutant(
            "what_takes_us_long_is_silence_of_the_provider",
            "worker/attempt/intake.py",
            "self._listening, self._heard = True, clock()",
            "self._listening = True",
            ("tests/integration/attempt/test_stops.py",),
        ),
        Mutant(
            "room_that_was_there_once_is_there_for_ever",
            "worker/attempt/writing.py",
            "        self._room.clear()\n",
            "",
            ("tests/integration/attempt/test_writing.py",),
        ),
        Mutant(
            "what_sql_covers_of_a_lost_log_counts_in_the_next",
            "worker/attempt/writing.py",
            "self.index, self._covered = 0, 0",
            "self.index = 0",
            ("tests/integration/attempt/test_writing.py",),
        ),
        Mutant(
            "what_equals_withdrawn_items_is_a_repetition",
            "worker/resume/kept.py",
            "        self._again.clear()\n",
            "",
            ("tests/unit/worker/resume/test_kept.py",),
        ),
        Mutant(
            "withdrawn_items_take_room",
            "worker/resume/kept.py",
            "self._entries, self._size, self._whole, self.changed = [], 0, True, True",
            "self._entries, self._whole, self.changed = [], True, True",
            ("tests/unit/worker/resume/test_kept.py",),
        ),
        Mutant(
            "what_changes_during_a_save_counts_as_saved",
            "worker/resume/kept.py",
            "self.changed = entries != self._entries",
            "self.changed = False",
            ("tests/unit/worker/resume/test_kept.py",),
        ),
    ],
)
