"""What is found and made good when nobody works at it: sweeper, verdicts, endings by others, takeover."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "sweeper",
    (
        "tests/unit/worker/test_sweeps.py",
        "tests/unit/worker/test_takeover.py",
        "tests/integration/test_sweeper.py",
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
            '        log_line.info("terminal event left to whoever claimed it since", message_id=claim.message_id)\n        return\n',
            '        log_line.info("terminal event left to whoever claimed it since", message_id=claim.message_id)\n',
        ),
        Mutant(
            "an_end_that_was_announced_late_starts_nobody",
            "worker/sweeper.py",
            "await closing.start_next(self._services.store, self._services.jobs, row.conversation_id)",
            "await asyncio.sleep(0)",
        ),
        Mutant(
            "a_cancelled_answer_starts_nobody",
            "worker/closing.py",
            "            await end_cancelled(store, log, row, by)\n            await start_next(store, jobs, row.conversation_id)\n",
            "            await end_cancelled(store, log, row, by)\n",
        ),
        Mutant(
            "a_closing_that_failed_keeps_its_claim",
            "worker/closing.py",
            "        with contextlib.suppress(ports.LogError):\n            await log.release(claim)\n        raise",
            "        raise",
        ),
        Mutant(
            "a_fenced_worker_s_end_is_announced_by_nobody",
            "worker/closing.py",
            "            await _announce_of(store, log, claim)\n            return",
            "            await log.release(claim)\n            return",
        ),
        Mutant("a_removal_is_told_by_nobody", "worker/sweeper.py", "            self._revoke,\n", ""),
        Mutant(
            "another_server_is_not_told_of_removals",
            "models/sweeps.py",
            '"revoked_at").values(told=False)',
            '"revoked_at").values(told=True)',
        ),
        Mutant(
            "who_takes_part_again_is_shut_out",
            "worker/revocations.py",
            "    if not await store.note_revocation(conversation_id, user_id, told=True):\n",
            "    if await store.note_revocation(conversation_id, user_id, told=True) is None:\n",
            ("tests/contracts/test_revocations.py",),
        ),
        Mutant(
            "who_is_removed_again_is_let_in",
            "worker/revocations.py",
            "    if await store.note_revocation(conversation_id, user_id, told=False):\n",
            "    if await store.note_revocation(conversation_id, user_id, told=False) is None:\n",
            ("tests/contracts/test_revocations.py",),
        ),
        Mutant(
            "a_removal_that_was_undone_counts_as_told",
            "worker/revocations.py",
            "user_id, told=False)",
            "user_id, told=True)",
            ("tests/contracts/test_revocations.py",),
        ),
        Mutant(
            "a_live_lease_is_not_asked_for",
            "worker/sweeper.py",
            "if not taken])",
            "])",
        ),
        Mutant(
            "no_wait_after_an_outage",
            "worker/sweeper.py",
            '                log_line.warning("sweep put off", error=repr(error))\n                self._wait_one_lease()\n',
            '                log_line.warning("sweep put off", error=repr(error))\n',
        ),
        Mutant(
            "a_frozen_worker_is_waited_for",
            "worker/closing.py",
            "    claim = await log.claim(row.conversation_id, row.id, row.attempt, CLOSING_LEASE_SECONDS, True)\n    async",
            "    claim = await log.claim(row.conversation_id, row.id, row.attempt, CLOSING_LEASE_SECONDS)\n    async",
        ),
        Mutant(
            "only_the_first_page_is_swept",
            "worker/sweeper.py",
            "            if len(page) < PAGE:\n",
            "            if page:\n",
        ),
        Mutant(
            "a_row_that_fails_stops_the_sweep",
            "worker/sweeper.py",
            '            except Exception as error:  # noqa: BLE001 -- see above\n                failed("sweep", error)\n',
            '            except KeyError as error:\n                failed("sweep", error)\n',
        ),
        Mutant(
            "a_log_left_over_stays",
            "worker/closing.py",
            "    await store.delete_conversation(conversation_id)\n    try:\n",
            "    await store.delete_conversation(conversation_id)\n    await store.log_deleted(conversation_id)\n    try:\n",
        ),
        Mutant(
            "starts_are_not_counted",
            "models/generations.py",
            "starts=col(Message.starts) + 1, updated_at",
            "starts=col(Message.starts), updated_at",
        ),
        Mutant(
            "a_drain_looks_at_attempts_alone",
            "worker/runner.py",
            "        if not self._jobs:\n            return True\n",
            "        if not self._running:\n            return True\n",
        ),
        Mutant(
            "the_checkpoint_of_another_epoch_counts_its_seq",
            "worker/takeover.py",
            "    shared = page.reached(known.epoch, known.held.seq)\n",
            "    shared = known.held.seq\n",
        ),
        Mutant(
            "a_new_log_is_not_given_the_text",
            "worker/takeover.py",
            "            if found.epoch == claim.epoch and found.survived == found.newest:\n",
            "            if found.epoch == claim.epoch:\n",
        ),
        Mutant(
            "only_one_page_is_folded",
            "worker/takeover.py",
            "        if after >= page.top:\n",
            "        if after:\n",
        ),
    ],
)
