"""SQL: compare-and-set, order, transactions; on SQLite and PostgreSQL."""

from tests.mutants.mutant import Area, Mutant

_CHECKPOINT = """    _messages.c.attempt == bindparam("b_attempt"),
    _messages.c.saves <= bindparam("b_saves"),
    is_unfinished(_messages.c),
"""

_LISTS = ("tests/contracts/test_lists.py",)

AREA = Area(
    "store",
    (
        "tests/contracts/test_ownership.py",
        "tests/contracts/test_store.py",
        "tests/contracts/test_pages.py",
        "tests/unit/models",
    ),
    [
        Mutant(
            "a_post_is_not_counted",
            "models/conversations.py",
            "            count_rows(conversation, len(made))\n",
            "",
            _LISTS,
        ),
        Mutant(
            "a_regenerated_answer_is_not_counted",
            "models/chats.py",
            "            count_rows(conversation, 1)\n",
            "",
            _LISTS,
        ),
        Mutant(
            "replaced_messages_count",
            "models/conversation_rows.py",
            "    conversation.message_count -= ",
            "    _ = ",
            _LISTS,
        ),
        Mutant(
            "messages_taken_in_count",
            "models/steering.py",
            "    if gone:\n",
            "    if False:\n",
            ("tests/contracts/test_steering.py",),
        ),
        Mutant(
            "a_response_counts_nothing",
            "models/responses.py",
            "        message_count=len(question.turns) + 1,\n",
            "",
            ("tests/contracts/test_responses.py",),
        ),
        Mutant(
            "wrong_counts_stay",
            "models/recount.py",
            "                await conversation_rows.amend_count(session, one)\n",
            "                pass\n",
            _LISTS,
        ),
        Mutant(
            "an_archive_is_everybodys",
            "models/participants.py",
            "                col(Participant.user_id) == user_id,\n            )\n"
            "            .values(archived_at",
            "            )\n            .values(archived_at",
            _LISTS,
        ),
        Mutant(
            "the_archive_stands_in_the_list",
            "models/overviews.py",
            "                col(Participant.archived_at).is_(None),\n",
            "",
            _LISTS,
        ),
        Mutant(
            "hand_back_by_any_attempt",
            "models/answers.py",
            "is_held(checkpoint.message_id, checkpoint.attempt)",
            "col(Message.id) == checkpoint.message_id, _unfinished",
        ),
        Mutant(
            "hand_back_of_an_ended_answer",
            "models/answers.py",
            "is_held(checkpoint.message_id, checkpoint.attempt)",
            "col(Message.id) == checkpoint.message_id, col(Message.attempt) == checkpoint.attempt",
        ),
        Mutant(
            "a_long_conversation_goes_in_one_transaction",
            "models/deletions.py",
            "                if not await _delete_newest(session, conversation_id):\n",
            "                if conversation_id:\n",
            ("tests/contracts/test_deletions.py",),
        ),
        Mutant(
            "what_has_expired_goes_in_one_transaction",
            "models/deletions.py",
            "        if group and total + rows > ROWS_AT_A_TIME:\n",
            "        if False:\n",
            ("tests/contracts/test_deletions.py",),
        ),
        Mutant(
            "what_is_locked_keeps_everything",
            "models/deletions.py",
            "            passed_over.add(ids[0])\n            return 0\n",
            "            raise\n",
            ("tests/contracts/test_deletions.py",),
        ),
        Mutant(
            "a_page_that_is_deleted_is_not_given_back",
            "models/deletions.py",
            "    await give_back(session, [conversation_id], ids)\n",
            "",
            ("tests/contracts/test_deletions.py",),
        ),
        Mutant(
            "one_kind_that_fails_keeps_the_others",
            "web/housekeeping.py",
            '            log_line.warning("expired data was not deleted", error=repr(error))\n',
            "            return\n",
            ("tests/unit/web/test_housekeeping.py",),
        ),
        Mutant(
            "everybody_is_first_in_line",
            "models/sweeps.py",
            "        .order_by(col(inner.ordinal))\n",
            "        .order_by(col(inner.ordinal).desc())\n",
        ),
        Mutant(
            "an_answer_ends_twice",
            "models/answers.py",
            "is_held(ending.message_id, ending.attempt)",
            "col(Message.id) == ending.message_id, col(Message.attempt) == ending.attempt",
        ),
        Mutant(
            "any_attempt_ends_an_answer",
            "models/answers.py",
            "is_held(ending.message_id, ending.attempt)",
            "col(Message.id) == ending.message_id, _unfinished",
        ),
        Mutant(
            "writes_of_sqlite_begin_deferred",
            "models/engines.py",
            '"BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN"',
            '"BEGIN"',
        ),
        Mutant(
            "a_commit_of_unknown_outcome_is_not_looked_up",
            "models/answers.py",
            "            if await self._ended_by(ending):\n                return True\n        "
            "    if await",
            "            if await",
        ),
        Mutant(
            "checkpoints_of_any_attempt",
            "models/answers.py",
            _CHECKPOINT,
            _CHECKPOINT.replace(
                'attempt == bindparam("b_attempt")', 'attempt > 0, bindparam("b_attempt") > 0'
            ),
        ),
        Mutant(
            "checkpoints_of_what_has_ended",
            "models/answers.py",
            _CHECKPOINT,
            _CHECKPOINT.replace("    is_unfinished(_messages.c),\n", ""),
        ),
        Mutant(
            "an_attempt_is_taken_twice",
            "models/answers.py",
            "col(Message.attempt) < attempt, ready",
            "col(Message.attempt) <= attempt, ready",
        ),
        Mutant(
            "whoever_stands_behind_blocks",
            "models/answers.py",
            "col(Message.ordinal) < col(mine.ordinal), _unfinished",
            "col(Message.ordinal) != col(mine.ordinal), _unfinished",
        ),
        Mutant(
            "what_was_superseded_is_sent_to_the_model",
            "models/threads.py",
            "        col(Message.ordinal) < ordinal,\n        "
            "col(Message.superseded_by).is_(None),\n",
            "        col(Message.ordinal) < ordinal,\n",
        ),
        Mutant(
            "the_last_who_cancels_is_named",
            "models/answers.py",
            "cancel_by=func.coalesce(col(Message.cancel_by), by)",
            "cancel_by=by",
        ),
        Mutant(
            "a_retry_of_an_ended_answer",
            "models/answers.py",
            "is_held(message_id, attempt)",
            "col(Message.id) == message_id, col(Message.attempt) == attempt",
        ),
        Mutant(
            "marks_go_backward",
            "models/answers.py",
            "await self._change(message_id, col(Message.announced_rev) < rev, announced_rev=rev)",
            "await self._change(message_id, announced_rev=rev)",
        ),
        Mutant(
            "reads_that_need_several_statements_see_several_states",
            "models/database.py",
            'isolation_level="REPEATABLE READ"',
            'isolation_level="READ COMMITTED"',
        ),
        Mutant(
            "an_expired_key_still_counts",
            "models/idempotency.py",
            "    await session.execute(delete(IdempotencyKey).where(*mine, expired))\n",
            "",
            ("tests/contracts/test_store.py",),
        ),
        Mutant(
            "a_key_goes_for_any_body",
            "models/idempotency.py",
            "if stored.body_hash != idempotency.body_hash:",
            "if False:",
            ("tests/contracts/test_store.py",),
        ),
        Mutant(
            "the_order_of_members_makes_another_body",
            "models/idempotency.py",
            ', order="sorted"',
            "",
            ("tests/unit/models/test_idempotency.py",),
        ),
        Mutant(
            "a_clients_name_hides_a_row",
            "models/conversation_rows.py",
            "col(Message.superseded_by).is_not(None), col(Message.id) != name",
            "col(Message.superseded_by).is_not(None), col(Message.ordinal).desc()",
            ("tests/contracts/test_chats.py",),
        ),
        Mutant(
            "a_superseded_row_hides_the_new_one",
            "models/conversation_rows.py",
            ".order_by(col(Message.superseded_by).is_not(None), ",
            ".order_by(",
            ("tests/contracts/test_chats.py",),
        ),
        Mutant(
            "a_post_is_repeated_by_a_superseded_row",
            "models/conversations.py",
            "query.where(col(Message.superseded_by).is_(None))",
            "query",
            ("tests/contracts/test_chats.py",),
        ),
        Mutant(
            "a_superseded_question_is_the_last",
            "models/chats.py",
            """
            col(Message.role) == "user",
            col(Message.superseded_by).is_(None),""",
            ' col(Message.role) == "user"',
            ("tests/contracts/test_chats.py",),
        ),
        Mutant(
            "a_deletion_that_redis_was_not_told_is_forgotten",
            "models/deletions.py",
            """
            DeletedConversation,
            (DeletedConversation.id,),
            old,
            col(DeletedConversation.log_deleted),
        """,
            "DeletedConversation, (DeletedConversation.id,), old",
            ("tests/contracts/test_deletions.py::test_a_deletion_is_kept_until_redis_knows_it",),
        ),
        Mutant(
            "locks_of_sqlite_are_waited_for_by_default",
            "models/database.py",
            "        tune_sqlite(engine.sync_engine, timeout_seconds)",
            "        tune_sqlite(engine.sync_engine)",
            ("tests/unit/models/test_database.py",),
        ),
        Mutant(
            "checkpoints_of_an_attempt_hide_the_next_one_s",
            "models/answers.py",
            """saves=0,
                """,
            "",
            ("tests/contracts/test_ownership.py",),
        ),
        Mutant(
            "starts_before_a_deploy_count_on",
            "models/answers.py",
            """
                **checkpoint_values(checkpoint),
                status="queued",
                billed_input=billed_input,
                starts=0,
            """,
            '**checkpoint_values(checkpoint), status="queued", billed_input=billed_input',
            ("tests/contracts/test_ownership.py",),
        ),
    ],
)
