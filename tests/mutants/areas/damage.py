"""Rows that a working database cannot handle: what counts as an outage, and how an unreadable
answer ends.
"""

from tests.mutants.mutant import Area, Mutant

_KINDS = ("tests/unit/models/test_failures.py",)
_ROWS = ("tests/integration/test_damaged_rows.py",)

AREA = Area(
    "damage",
    (*_KINDS, *_ROWS),
    [
        Mutant(
            "a_damaged_row_is_an_outage",
            "models/failures.py",
            """(
        state.startswith(_OUTAGES)
        if state
        else isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError)
    """,
            "isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError",
            (*_KINDS, "tests/integration/test_checkpoints.py"),
        ),
        Mutant(
            "a_damaged_page_of_sqlite_is_an_outage",
            "models/failures.py",
            "sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,",
            "sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT,",
            _KINDS,
        ),
        Mutant("a_full_disk_is_a_row_s", "models/failures.py", '"53", "57",', '"57",', _KINDS),
        Mutant(
            "a_database_that_is_read_only_is_a_bug", "models/failures.py", '"25006", ', "", _KINDS
        ),
        Mutant(
            "a_lock_of_sqlite_is_a_row_s",
            "models/failures.py",
            "    return code & 0xFF in",
            "    return code in",
            _KINDS,
        ),
        Mutant(
            "a_session_that_was_ended_is_a_row_s",
            "models/failures.py",
            "error.connection_invalidated or ",
            "",
            _KINDS,
        ),
        Mutant(
            "a_server_that_ends_sessions_is_a_row_s",
            "models/failures.py",
            '{"FATAL", "PANIC"}',
            "set[str]()",
            _KINDS,
        ),
        Mutant(
            "what_a_driver_quotes_is_told",
            "models/failures.py",
            "({_name(error.orig)})",
            "({error.orig})",
            _KINDS,
        ),
        Mutant(
            "what_a_driver_quotes_is_logged",
            "models/database.py",
            "isinstance(named, Unstorable | StatementFailed)",
            "isinstance(named, Unstorable)",
            _ROWS,
        ),
        Mutant(
            "an_answer_that_cannot_be_read_never_ends",
            "worker/runner.py",
            "            await fail_to_read(self._services, message_id, error)\n",
            "",
            _ROWS,
        ),
        Mutant(
            "an_answer_that_cannot_be_read_ends_at_once",
            "worker/starts.py",
            "    if await store.count_start(message_id) <= MAX_FAILED_STARTS:\n        return\n",
            "    await store.count_start(message_id)\n",
            _ROWS,
        ),
        Mutant(
            "what_waits_behind_it_waits_on",
            "worker/starts.py",
            "        await closing.start_next(store, services.jobs, conversation_id)\n",
            "        pass\n",
            _ROWS,
        ),
        Mutant(
            "what_has_ended_ends_again",
            "models/answers.py",
            """            update(Message)
            .where(col(Message.id) == message_id, _unfinished)
            .values(
""",
            """            update(Message)
            .where(
                col(Message.id) == message_id,
            )
            .values(
""",
            _ROWS,
        ),
        Mutant(
            "a_value_that_is_lost_keeps_its_answer_from_ending",
            "models/quotas.py",
            "uncounted_on(session, _UNCOUNTED, StatementFailed, GivenUp)",
            "uncounted_on(session, _UNCOUNTED, GivenUp)",
            _ROWS,
        ),
        Mutant(
            "a_value_that_is_lost_keeps_its_conversation",
            "models/quotas.py",
            "    async with uncounted_on(session, _UNCOUNTED, StatementFailed):\n",
            "    async with uncounted_on(session, _UNCOUNTED):\n",
            _ROWS,
        ),
        Mutant(
            "operators_hear_of_a_row_when_it_has_ended",
            "worker/starts.py",
            """    services.notify_operators(error, facts_of(error, _CODE, message_id))
    conversation_id = await store.end_unread(message_id, INTERNAL_ERROR)
""",
            """    conversation_id = await store.end_unread(message_id, INTERNAL_ERROR)
    services.notify_operators(error, facts_of(error, _CODE, message_id))
""",
            _ROWS,
        ),
        Mutant(
            "operators_hear_of_a_row_time_and_again",
            "models/answers.py",
            "mine = update(Message).where(col(Message.id) == message_id, _unfinished)",
            "mine = update(Message).where(col(Message.id) == message_id)",
            _ROWS,
        ),
        Mutant(
            "a_damaged_row_is_a_bug",
            "web/problems.py",
            '    errors.StatementFailed: ("damaged", DAMAGED),\n',
            "",
            ("tests/unit/web/test_bad_input.py",),
        ),
        Mutant(
            "every_job_waits_for_an_outage",
            "worker/runner.py",
            "        if message_id in self._waiting:",
            "        if False:",
            _ROWS,
        ),
        Mutant(
            "who_waited_once_never_waits_again",
            "worker/runner.py",
            "            self._waiting.discard(message_id)\n",
            "            pass\n",
            _ROWS,
        ),
        Mutant(
            "one_text_that_cannot_be_read_hides_a_page",
            "models/sweeps.py",
            """        (Message.id, Message.conversation_id, Message.ordinal),
""",
            """        (Message.id, Message.conversation_id, Message.ordinal, Message.content),
""",
            _ROWS,
        ),
        Mutant(
            "a_cancelled_answer_that_cannot_be_read_stays",
            "worker/sweeper/sweeper.py",
            """await self._enqueue(
                [row]
            )""",
            "pass",
            _ROWS,
        ),
        Mutant(
            "one_row_keeps_all_jobs_from_being_noted",
            "worker/halves.py",
            "            await by_halves(items[:half], work, refused)\n            await "
            "by_halves(items[half:], work, refused)\n",
            "            pass\n",
            _ROWS,
        ),
        Mutant(
            "a_row_that_cannot_be_written_has_a_job_each_round",
            "worker/sweeper/sweeper.py",
            " if row.message_id not in self._apart]",
            "]",
            _ROWS,
        ),
        Mutant(
            "a_row_that_could_not_be_written_has_no_job_again",
            "worker/sweeper/sweeper.py",
            " if clock() < until}",
            "}",
            _ROWS,
        ),
    ],
)
