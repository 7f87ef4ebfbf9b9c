"""What the sweeper finds and repairs: verdicts, endings by others, takeovers."""

from tests.mutants.mutant import Area, Mutant

CLOSED = "tests/integration/sweeper/test_closed_calls.py"
EXPIRY = "tests/integration/sweeper/test_expiry.py"

AREA = Area(
    "sweeper",
    (
        "tests/unit/worker/sweeper/test_sweeps.py",
        "tests/unit/worker/resume/test_takeover.py",
        "tests/unit/worker/sweeper/test_repeats.py",
        "tests/integration/sweeper",
    ),
    [
        Mutant(
            "an_end_is_announced_to_a_new_log_without_its_text",
            "worker/closing.py",
            "    there = claim.epoch == ending.epoch\n",
            "    there = True\n",
        ),
        Mutant(
            "an_end_that_finds_its_claim_lost_is_dropped",
            "worker/closing.py",
            "                there = False\n",
            "                return\n",
        ),
        Mutant(
            "a_fenced_announcement_counts_as_made",
            "worker/closing.py",
            """        return
    except (ports.Sealed, ports.Gone):
""",
            """    except (ports.Sealed, ports.Gone):
""",
        ),
        Mutant(
            "an_end_that_was_announced_late_starts_nobody",
            "worker/sweeper/sweeper.py",
            "await closing.start_next(self._services.store, self._services.jobs, "
            "row.conversation_id)",
            "await asyncio.sleep(0)",
        ),
        Mutant(
            "an_expired_question_has_no_job",
            "worker/sweeper/sweeper.py",
            "            await services.jobs.generate(message_id)\n",
            "",
            (EXPIRY,),
        ),
        Mutant(
            "nobody_expires_calls",
            "worker/sweeper/sweeper.py",
            '            "expired_calls": self._expire_calls,\n',
            "",
            (EXPIRY,),
        ),
        Mutant(
            "an_end_does_not_announce_decisions",
            "worker/resume/takeover.py",
            "found.survived == found.newest and shown is newest",
            "found.survived == found.newest",
            (CLOSED,),
        ),
        Mutant(
            "a_decision_during_an_end_is_lost",
            "worker/closing.py",
            "replace(ending, calls_rev=calls_rev)",
            "ending",
            (CLOSED,),
        ),
        Mutant(
            "a_cancelled_answer_starts_nobody",
            "worker/closing.py",
            "            await end_cancelled(store, log, row, by)\n            await "
            "start_next(store, jobs, row.conversation_id)\n",
            "            await end_cancelled(store, log, row, by)\n",
        ),
        Mutant(
            "a_closing_that_failed_keeps_its_claim",
            "worker/closing.py",
            "        await give_back(log, claim)\n        raise",
            "        raise",
        ),
        Mutant(
            "a_fenced_worker_s_end_is_announced_by_nobody",
            "worker/closing.py",
            "            await _announce_of(store, log, claim)\n            return",
            "            await log.release(claim)\n            return",
        ),
        Mutant(
            "a_removal_is_told_by_nobody",
            "worker/sweeper/sweeper.py",
            '            "unannounced_revocations": self._revoke,\n',
            "",
        ),
        Mutant(
            "another_server_is_not_told_of_removals",
            "models/sweeps.py",
            '"revoked_at", {"announced": False})',
            '"revoked_at", {"announced": True})',
        ),
        Mutant(
            "who_takes_part_again_is_shut_out",
            "worker/sweeper/revocations.py",
            "    if not await store.note_revocation(conversation_id, user_id, announced=True):\n",
            "    if await store.note_revocation(conversation_id, user_id, "
            "announced=True) is None:\n",
            ("tests/contracts/test_revocations.py",),
        ),
        Mutant(
            "who_is_removed_again_is_let_in",
            "worker/sweeper/revocations.py",
            "    if await store.note_revocation(conversation_id, user_id, announced=False):\n",
            "    if await store.note_revocation(conversation_id, user_id, "
            "announced=False) is None:\n",
            ("tests/contracts/test_revocations.py",),
        ),
        Mutant(
            "a_removal_that_was_undone_counts_as_told",
            "worker/sweeper/revocations.py",
            "user_id, announced=False)",
            "user_id, announced=True)",
            ("tests/contracts/test_revocations.py",),
        ),
        Mutant(
            "an_idle_round_makes_every_step",
            "worker/sweeper/sweeper.py",
            "        return [name for name in self._steps if name in found]\n",
            "        return list(self._steps)\n",
        ),
        Mutant(
            "a_bug_in_one_query_keeps_all_from_being_asked",
            "worker/sweeper/sweeper.py",
            '            failed("sweep", error)\n            return list(self._steps)\n',
            '            failed("sweep", error)\n            return []\n',
        ),
        Mutant(
            "nobody_asks_whether_an_answer_waits",
            "models/sweeps.py",
            '        "heads": waiting,\n',
            "",
        ),
        Mutant(
            "a_loss_reaches_back_a_quarter_of_an_hour_at_most",
            "worker/sweeper/repeats.py",
            "now if known is None else known",
            "now",
            ("tests/unit/worker/sweeper/test_repeats.py",),
        ),
        Mutant(
            "a_leader_forgets_how_far_a_loss_reaches_back",
            "worker/sweeper/repeats.py",
            "        if server is None:\n            if",
            "        if True:\n            if",
            ("tests/unit/worker/sweeper/test_repeats.py",),
        ),
        Mutant(
            "a_live_lease_is_not_asked_for",
            "worker/sweeper/sweeper.py",
            "if not taken])",
            "])",
        ),
        Mutant(
            "no_wait_after_an_outage",
            "worker/sweeper/sweeper.py",
            '        log_line.warning("sweep put off", error=repr(error))\n        '
            "self._wait_one_lease()\n",
            '        log_line.warning("sweep put off", error=repr(error))\n',
        ),
        Mutant(
            "a_frozen_worker_is_waited_for",
            "worker/closing.py",
            """    try:
        claim = await log.claim(
            row.conversation_id, row.id, row.attempt, CLOSING_LEASE_SECONDS, True
        )
    except ports.LogError:
""",
            """    try:
        claim = await log.claim(row.conversation_id, row.id, row.attempt, CLOSING_LEASE_SECONDS)
    except ports.LogError:
""",
        ),
        Mutant(
            "only_the_first_page_is_swept",
            "worker/sweeper/sweeper.py",
            "            if len(page) < SWEEP_PAGE:\n",
            "            if page:\n",
        ),
        Mutant(
            "a_row_that_fails_stops_the_sweep",
            "worker/sweeper/sweeper.py",
            "    except Exception as error:  # noqa: BLE001 -- a bug, or one row's own\n       "
            ' failed("sweep", error)\n',
            '    except KeyError as error:\n        failed("sweep", error)\n',
        ),
        Mutant(
            "a_locked_row_is_an_outage",
            "worker/sweeper/sweeper.py",
            """        raise
    except GivenUp as error:
        log_line.warning(
""",
            """        raise
    except ZeroDivisionError as error:
        log_line.warning(
""",
        ),
        Mutant(
            "a_round_waits_for_what_is_announced_late",
            "worker/sweeper/sweeper.py",
            "            self._begin(name, self._steps[name])\n",
            "            await self._begin(name, self._steps[name])\n",
        ),
        Mutant(
            "conversations_are_announced_one_after_the_other",
            "worker/sweeper/sweeper.py",
            "            await _all(self._bulk, self._announce_in_order, [list(group) for _, "
            "group in rows])\n",
            "            for _, group in rows:\n                await "
            "self._announce_in_order(list(group))\n",
        ),
        Mutant(
            "one_slow_query_stops_every_step",
            "worker/sweeper/sweeper.py",
            """        except GivenUp as error:
""",
            """        except ZeroDivisionError as error:
""",
        ),
        Mutant(
            "an_outage_of_a_look_stops_judgement",
            "worker/sweeper/sweeper.py",
            'log_line.warning("recent changes are not announced again yet", error=repr(error))',
            "self._wait_one_lease()",
        ),
        Mutant(
            "only_the_first_page_is_announced_again",
            "worker/sweeper/repeats.py",
            """
                    if len(page) == REPEAT_PAGE
                   """,
            " if False",
        ),
        Mutant(
            "what_was_locked_is_not_announced_again",
            "worker/sweeper/repeats.py",
            "            if not self._left:\n",
            "            if True:\n",
        ),
        Mutant(
            "a_log_left_over_stays",
            "worker/closing.py",
            "    await store.delete_conversation(conversation_id)\n    try:\n",
            "    await store.delete_conversation(conversation_id)\n    await "
            "store.log_deleted(conversation_id)\n    try:\n",
        ),
        Mutant(
            "starts_are_not_counted",
            "models/answers.py",
            """                starts=col(Message.starts) + 1,
""",
            """                starts=col(Message.starts),
""",
        ),
        Mutant(
            "a_drain_looks_at_attempts_alone",
            "worker/running.py",
            "        if not self._jobs:\n            return True\n",
            "        if not self._attempts:\n            return True\n",
        ),
        Mutant(
            "the_checkpoint_of_another_epoch_counts_its_seq",
            "worker/resume/takeover.py",
            "    shared = page.reached(known.epoch, known.held.seq)\n",
            "    shared = known.held.seq\n",
        ),
        Mutant(
            "a_new_log_is_not_given_the_text",
            "worker/resume/takeover.py",
            "            if found.epoch == claim.epoch and is_there:\n",
            "            if found.epoch == claim.epoch and shown is newest:\n",
        ),
        Mutant(
            "only_one_page_is_folded",
            "worker/resume/takeover.py",
            "        if after >= page.top:\n",
            "        if after:\n",
        ),
        Mutant(
            "a_drain_believes_an_older_job",
            "worker/running.py",
            "        self._emptied.clear()\n",
            "",
            ("tests/integration/sweeper/test_jobs.py",),
        ),
        Mutant(
            "leases_of_before_a_pause_are_believed",
            "worker/sweeper/sweeper.py",
            "            if self.holds_back:\n                raise Deposed\n            await "
            "self._enqueue(",
            "            await self._enqueue(",
            ("tests/integration/sweeper/test_rounds.py",),
        ),
        Mutant(
            "a_title_model_that_hangs",
            "worker/titles.py",
            "except (ProviderError, TimeoutError) as error:",
            "except ProviderError as error:",
            ("tests/integration/sweeper/test_titles.py",),
        ),
        Mutant(
            "a_leader_without_a_database_stays",
            "worker/sweeper/sweeper.py",
            "            self._leads_from = clock() + STAND_BACK_SECONDS\n",
            "            pass\n",
            ("tests/integration/sweeper/test_leadership.py",),
        ),
        Mutant(
            "who_stood_back_never_leads_again",
            "worker/sweeper/sweeper.py",
            "        if clock() < self._leads_from:\n",
            "        if self._leads_from:\n",
            ("tests/integration/sweeper/test_leadership.py",),
        ),
        Mutant(
            "lately_in_seconds",
            "worker/sweeper/repeats.py",
            "LATELY_MS = 15 * 60 * 1000",
            "LATELY_MS = 15 * 60",
            ("tests/unit/worker/sweeper/test_repeats.py",),
        ),
        Mutant(
            "a_title_that_was_told_is_told_again",
            "worker/announcing.py",
            "    await store.mark_title_announced(row.id, row.rev)\n",
            "",
            ("tests/integration/sweeper/test_titles.py",),
        ),
        Mutant(
            "an_end_in_the_rows_keeps_its_claim",
            "worker/closing.py",
            "            await give_back(log, claim)\n\n\nasync def _calls_of",
            "\n\nasync def _calls_of",
            ("tests/integration/sweeper/test_ends.py",),
        ),
        Mutant(
            "what_was_sent_before_an_outage_is_not_noted",
            "worker/sweeper/sweeper.py",
            """await by_halves(
                sent, lambda ids: self._services.store.mark_enqueued(*ids), self._leave_alone
    """,
            """pass
        await by_halves(
            sent, lambda ids: self._services.store.mark_enqueued(*ids), self._leave_alone
""",
        ),
        Mutant(
            "a_row_that_was_announced_is_announced_again",
            "worker/announcing.py",
            "    await store.mark_announced(row.id, row.rev)\n",
            "",
            ("tests/unit/worker/test_announcing.py",),
        ),
        Mutant(
            "a_row_is_noted_that_the_log_did_not_take",
            "worker/announcing.py",
            '    except ports.Gone:\n        log_line.info("nothing to announce in a deleted '
            'conversation", message_id=row.id)',
            "    except ports.LogError:\n        pass",
            ("tests/unit/worker/test_announcing.py",),
        ),
        Mutant(
            "a_deleted_conversation_is_announced_for_ever",
            "worker/announcing.py",
            '    except ports.Gone:\n        log_line.info("nothing to announce in a deleted '
            'conversation", conversation_id=row.id)',
            "    except ports.Busy:\n        pass",
            ("tests/unit/worker/test_announcing.py",),
        ),
    ],
)
