"""Provider runs: which are to be ended, by whom, and how often that is tried."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "runs",
    (
        "tests/unit/worker/sweeper/test_run_ender.py",
        "tests/contracts/test_runs.py",
        "tests/integration/test_paid_runs.py",
    ),
    [
        Mutant(
            "a_cut_connection_to_a_run_is_a_try",
            "worker/attempt/failure.py",
            " if _goes_on(work, error) else None",
            " if False else None",
        ),
        Mutant(
            "a_run_is_attached_to_within_an_item",
            "worker/attempt/named_run.py",
            " and not (stream.stitching or stream.midway):",
            " and not stream.stitching:",
            ("tests/integration/attempt/test_writing.py",),
        ),
        Mutant(
            "a_response_may_be_resumed_within_a_message",
            "providers/openai_responses.py",
            "        self.midway = True\n",
            "",
            ("tests/unit/providers/test_decoding.py",),
        ),
        Mutant(
            "an_item_that_has_ended_is_still_open",
            "providers/openai_responses.py",
            "        self.midway = bool(self._open)\n",
            "",
            ("tests/unit/providers/test_decoding.py",),
        ),
        Mutant(
            "a_run_may_be_silent_for_ever",
            "worker/attempt/failure.py",
            "    return silent_s is not None and silent_s > longest\n",
            "    return False\n",
        ),
        Mutant(
            "a_run_that_never_was_is_looked_for_for_an_hour",
            "worker/attempt/failure.py",
            "LONGEST_SEARCH_SECONDS if is_away and not has_spoken else ",
            "",
        ),
        Mutant(
            "a_thinking_run_is_looked_for_for_minutes",
            "worker/attempt/failure.py",
            "LONGEST_SEARCH_SECONDS if is_away and not has_spoken",
            "LONGEST_SEARCH_SECONDS if True",
        ),
        Mutant(
            "the_silence_of_a_run_is_not_noted",
            "models/answers.py",
            """
                run_silent_since=func.coalesce(col(Message.run_silent_since), now_ms())
                if run_is_silent
                else None
            """,
            "run_silent_since=None",
        ),
        Mutant(
            "the_silence_of_a_run_begins_with_each_attempt",
            "models/answers.py",
            """
                run_silent_since=func.coalesce(col(Message.run_silent_since), now_ms())
                if run_is_silent
                else None
            """,
            "run_silent_since=now_ms() if run_is_silent else None",
        ),
        Mutant(
            "the_silence_of_a_run_outlasts_its_words",
            "worker/attempt/work.py",
            "None if draft.emitted else self.row.run_silent_since",
            "self.row.run_silent_since",
        ),
        Mutant(
            "a_run_that_says_what_nobody_can_read_is_kept",
            "worker/attempt/failure.py",
            "return attached and work.row.tries > 0 and not work.draft.emitted",
            "return False",
        ),
        Mutant(
            "a_run_that_never_began_is_waited_for",
            "worker/attempt/failure.py",
            'return asked and not answered and getattr(error, "no_run", False)',
            "return False",
        ),
        Mutant(
            "a_run_that_nobody_has_answered_for_is_forgotten",
            "worker/attempt/failure.py",
            'return asked and not answered and getattr(error, "no_run", False)',
            "return asked and not answered",
        ),
        Mutant(
            "requests_that_are_lost_on_their_way_are_no_tries",
            "worker/attempt/failure.py",
            "free=_is_gone(work, error, silent_s) and work.row.run_silent_since is None",
            "free=_is_gone(work, error, silent_s)",
        ),
        Mutant(
            "a_run_is_attached_to_behind_the_log",
            "worker/attempt/run_place.py",
            "(self._taken if idle else self._sent) or",
            "self._taken or",
            ("tests/unit/worker/attempt/test_run_place.py",),
        ),
        Mutant(
            "text_that_never_leaves_counts_as_taken",
            "worker/attempt/run_place.py",
            "        self._taken = self._sent\n",
            "        pass\n",
            ("tests/unit/worker/attempt/test_run_place.py",),
        ),
        Mutant(
            "a_stale_connection_is_waited_for",
            "worker/retries.py",
            "    if error.code == STALE_CONNECTION and used == 1:\n",
            "    if False:\n",
            ("tests/unit/worker/test_retries.py",),
        ),
        Mutant(
            "attaching_is_bounded_like_what_is_billed",
            "worker/asking.py",
            '(MAX_ATTACHES if rung == "attach" else MAX_ATTEMPTS)',
            "MAX_ATTEMPTS",
        ),
        Mutant(
            "attaching_is_not_bounded",
            "worker/asking.py",
            "if row.attempt - row.waits > (MAX_ATTACHES",
            "if row.attempt - row.waits > (10**9",
        ),
        Mutant(
            "waits_count_as_attempts",
            "worker/asking.py",
            "if row.attempt - row.waits > (MAX_ATTACHES",
            "if row.attempt > (MAX_ATTACHES",
            ("tests/integration/test_waiting.py",),
        ),
        Mutant(
            "a_waiting_answer_is_worked_on",
            "worker/runner.py",
            'if row.status == "waiting":',
            "if False:",
            ("tests/integration/test_waiting.py",),
        ),
        Mutant(
            "a_provider_that_is_away_is_asked_all_the_time",
            "worker/retries.py",
            "min(max(shortest_s, outlook.silent_s / 8), LONGEST_ATTACH_PAUSE_S)",
            "0.5",
            ("tests/unit/worker/test_retries.py",),
        ),
        Mutant(
            "a_run_is_tried_for_ever",
            "worker/sweeper/run_ender.py",
            "None if last else int(pause_seconds(run.tries) * 1000)",
            "int(pause_seconds(run.tries) * 1000)",
        ),
        Mutant(
            "operators_are_not_told_of_a_run_that_goes_on",
            "worker/sweeper/run_ender.py",
            "            self._notify_operators(error, facts)\n",
            "            pass\n",
        ),
        Mutant(
            "a_run_that_begins_after_its_end_goes_on",
            "worker/attempt/named_run.py",
            "lambda: self._store.note_run(name, self._model, self._message_id, self._attempt)",
            "self._store.now_ms",
        ),
        Mutant(
            "a_run_that_is_given_up_is_not_counted",
            "worker/sweeper/run_ender.py",
            '        RUNS_ENDED.labels("given_up" if last else "failed").inc()\n',
            "",
        ),
        Mutant(
            "a_run_is_left_before_it_has_a_name",
            "worker/attempt/intake.py",
            "        if self._stream is not None and self._stream.naming:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_name_is_waited_for_without_end",
            "worker/attempt/intake.py",
            "            asyncio.get_running_loop().call_later(NAMING_SECONDS, "
            "self._task.cancel)\n",
            "",
        ),
        Mutant(
            "an_end_waits_for_the_name_of_a_run",
            "worker/attempt/intake.py",
            "            self._lingers.set()\n",
            "            pass\n",
        ),
        Mutant(
            "a_name_that_comes_late_is_not_noted",
            "worker/attempt/run.py",
            "            await self._intake.closed()\n"
            "            await self.work.named_run.leave()\n",
            "            await self._intake.closed()\n",
        ),
        Mutant(
            "a_deploy_does_not_wait_for_a_name",
            "worker/attempt/lifecycle.py",
            "HandedOver:  _to(SETTLING, Act.LEAVE_PROVIDER, Act.AWAIT_PROVIDER, Act.SETTLE)",
            "HandedOver:  _to(SETTLING, Act.LEAVE_PROVIDER, Act.SETTLE)",
        ),
        Mutant(
            "a_run_that_ended_stays_on_the_list",
            "worker/sweeper/run_ender.py",
            "            await self._store.run_ended(run.message_id, run.run_id)\n",
            "",
        ),
        Mutant(
            "a_provider_that_hangs_is_asked_by_all_places",
            "worker/sweeper/run_ender.py",
            "            if key not in self._under_way:\n",
            "            if True:\n",
        ),
        Mutant(
            "pauses_between_tries_do_not_grow",
            "worker/sweeper/run_ender.py",
            "2.0 * 2.0**tries",
            "2.0",
        ),
        Mutant(
            "the_run_of_a_running_answer_is_ended",
            "models/runs.py",
            "not_(waits), ~holder.exists()",
            "not_(waits)",
        ),
        Mutant(
            "the_run_of_an_ended_answer_is_wanted",
            "models/runs.py",
            """
        col(Message.id) == col(ProviderRun.message_id), is_unfinished(Message), wanted
    """,
            "col(Message.id) == col(ProviderRun.message_id), wanted",
        ),
        Mutant(
            "a_run_that_nobody_goes_on_from_is_wanted",
            "models/runs.py",
            "        col(Message.run_id) == col(ProviderRun.run_id),\n",
            "        col(Message.run_id).is_not(None),\n",
        ),
        Mutant(
            "the_run_of_an_older_attempt_is_wanted",
            "models/runs.py",
            "and_(col(Message.attempt) == col(ProviderRun.attempt), col(Message.status) == "
            '"streaming")',
            'and_(col(Message.status) == "streaming")',
        ),
        Mutant(
            "a_run_that_was_begun_too_late_is_forgotten",
            "models/runs.py",
            """await session.execute(
                _run_upsert(session, run_id, model, checkpoint.message_id, checkpoint.attempt)
""",
            """if (await session.scalars(select(col(Message.id)).where(mine))).first() is not None:
                await session.execute(
                    _run_upsert(session, run_id, model, checkpoint.message_id, checkpoint.attempt)
    """,
        ),
        Mutant(
            "the_name_of_a_run_is_saved_by_any_attempt",
            "models/runs.py",
            "mine = is_held(checkpoint.message_id, checkpoint.attempt)",
            "mine = col(Message.id) == checkpoint.message_id",
        ),
        Mutant(
            "a_checkpoint_that_comes_late_forgets_the_run",
            "models/answers.py",
            '    _messages.c.saves <= bindparam("b_saves"),\n',
            '    bindparam("b_saves") >= 0,\n',
        ),
        Mutant(
            "the_name_of_a_run_that_comes_late_sets_the_text_back",
            "models/runs.py",
            ".where(mine, col(Message.saves) <= checkpoint.saves)",
            ".where(mine)",
        ),
        Mutant(
            "a_clock_that_was_set_back_delays_ends",
            "models/runs.py",
            "not_(waits)",
            "col(ProviderRun.due_at) <= now_ms()",
        ),
        Mutant(
            "two_try_to_end_a_run_at_once",
            "models/runs.py",
            "                col(ProviderRun.tries) == run.tries,\n",
            "",
        ),
        Mutant(
            "what_was_given_up_is_tried_again",
            "models/runs.py",
            "due_at=None if again_ms is None else now_ms() + again_ms",
            "due_at=now_ms() + (again_ms or 0)",
        ),
        Mutant(
            "a_try_is_not_counted",
            "models/runs.py",
            ".values(tries=run.tries + 1,",
            ".values(tries=run.tries,",
        ),
        Mutant(
            "a_run_that_is_not_due_is_tried",
            "models/runs.py",
            ", not_(waits), ~holder",
            ", ~holder",
        ),
        Mutant(
            "an_older_attempt_takes_a_run_back",
            "models/runs.py",
            "        where=col(ProviderRun.attempt) < row.excluded.attempt,\n",
            "",
        ),
        Mutant(
            "an_end_of_one_run_ends_all",
            "models/runs.py",
            """
                    col(ProviderRun.message_id) == message_id, col(ProviderRun.run_id) == run_id
                """,
            "col(ProviderRun.message_id) == message_id",
            ("tests/contracts/test_runs.py",),
        ),
        Mutant(
            "a_bug_in_an_adapter_is_no_try",
            "worker/sweeper/run_ender.py",
            "except Exception as error:  # noqa: BLE001 -- an adapter's, too: another try is due",
            "except ProviderError as error:",
            ("tests/unit/worker/sweeper/test_run_ender.py",),
        ),
    ],
)
