"""Tools in an attempt: what runs, what is announced, when the answer waits."""

from tests.mutants.mutant import Area, Mutant

CALLING = "tests/integration/attempt/test_calls.py"
_FILE = "worker/attempt/calling.py"

AREA = Area(
    "calling",
    (CALLING,),
    [
        Mutant(
            "one_users_calls_make_all_others_wait",
            "worker/tools/places.py",
            "self._waiting[user_id] = self._waiting.pop(user_id)",
            "pass",
            ("tests/unit/worker/tools/test_places.py",),
        ),
        Mutant(
            "one_user_takes_all_threads",
            "worker/tools/places.py",
            "if self._held[one] < self._most",
            "if self._held[one] < self._most * 2",
            ("tests/unit/worker/tools/test_places.py",),
        ),
        Mutant(
            "a_place_that_comes_too_late_is_lost",
            "worker/tools/places.py",
            "            else:  # it came at the same moment\n"
            "                self.give_back(user_id)\n",
            "",
            ("tests/unit/worker/tools/test_places.py",),
        ),
        Mutant(
            "who_has_left_gets_a_place",
            "worker/tools/places.py",
            "            if turn.cancelled():  # its task does not know yet\n"
            "                continue\n",
            "",
            ("tests/unit/worker/tools/test_places.py",),
        ),
        Mutant(
            "a_schema_that_took_too_long_is_tried_again",
            _FILE,
            "                self._slow.add(name)\n",
            "",
        ),
        Mutant(
            "checks_of_a_turn_have_no_end",
            _FILE,
            "async with asyncio.timeout_at(self._examines_until):",
            "async with asyncio.timeout_at(None):",
        ),
        Mutant(
            "a_loud_asker_takes_all_checks",
            "worker/schemas.py",
            "    await turn.acquire()\n",
            "",
            ("tests/unit/worker/test_schemas.py",),
        ),
        Mutant(
            "operators_wait_behind_strangers",
            "worker/schemas.py",
            "_OPERATORS_POOL.submit(check,",
            "_POOL.submit(check,",
            ("tests/unit/worker/test_schemas.py",),
        ),
        Mutant(
            "dear_checks_hold_up_others",
            "worker/schemas.py",
            "under_way = _SLOW_POOL.submit(",
            "under_way = _POOL.submit(",
            ("tests/unit/worker/test_schemas.py",),
        ),
        Mutant(
            "every_check_may_be_dear",
            "worker/schemas.py",
            "_POOL.submit(check, QUICK_SECONDS)",
            "_POOL.submit(check, CPU_SECONDS)",
            ("tests/unit/worker/test_schemas.py",),
        ),
        Mutant(
            "a_dear_check_waits_for_ever",
            "worker/schemas.py",
            "        async with asyncio.timeout(LONGEST_SECONDS):\n",
            "        async with asyncio.timeout(None):\n",
            ("tests/unit/worker/test_schemas.py",),
        ),
        Mutant(
            "an_unchecked_argument_ends_the_answer",
            _FILE,
            "            except schemas.BadSchema:\n",
            "            except schemas.Unchecked:\n",
        ),
        Mutant(
            "a_result_by_a_person_keeps_the_error",
            "models/call_states.py",
            '"result": decision.value, "error": None}',
            '"result": decision.value}',
        ),
        Mutant(
            "a_repeated_call_keeps_the_error",
            "models/call_states.py",
            'changes = {"state": "proposed", "error": None}',
            'changes = {"state": "proposed"}',
        ),
        Mutant(
            "a_document_may_have_any_depth",
            "worker/schemas.py",
            "Document(value) if is_shallow(value) else",
            "Document(value) if value is not None else",
            ("tests/unit/worker/test_schemas.py",),
        ),
        Mutant(
            "rows_that_are_late_take_an_outcome_back",
            _FILE,
            "        async with self._announcing:\n",
            "        if True:\n",
        ),
        Mutant(
            "an_answer_waits_in_front_of_a_post",
            _FILE,
            "        if await self._outlast(lambda: self._store.is_followed(work.row.id)):\n",
            "        if False:\n",
        ),
        Mutant(
            "a_post_leaves_questions_alone",
            "models/conversations.py",
            '    if row.status == "waiting" and await withdraw(session, row):\n',
            "    if False:\n",
        ),
        Mutant(
            "a_running_answer_does_not_notice_a_post",
            "models/conversations.py",
            "    await continue_answer(session, row)\n    return None\n",
            "    return None\n",
            ("tests/contracts/test_calls.py::test_a_post_is_noticed_before_a_park",),
        ),
        Mutant(
            "a_lost_run_stays_running",
            _FILE,
            "self._store.lose_calls(*self._who, self._unknown_ms)",
            "asyncio.sleep(0)",
        ),
        Mutant(
            "rounds_have_no_end",
            _FILE,
            "        return self._rounds >= self._terms.max_tool_rounds\n",
            "        return False\n",
        ),
        Mutant(
            "a_broken_turn_is_executed",
            "worker/attempt/run.py",
            "        if not isinstance(self._life.verdict, Finished):\n"
            "            return Settled()\n",
            "        if await self._calling.prove():\n            return Called()\n",
        ),
        Mutant(
            "a_later_attempt_forgets_the_calls",
            _FILE,
            '        return any(part.type == "tool_call" for part in parts[last_round(parts) :])\n',
            "        return False\n",
        ),
        Mutant(
            "a_second_run_gets_another_key",
            _FILE,
            "                context = self._context(mine.key, mine.runs)\n",
            '                context = self._context(f"{mine.key}{mine.runs}", mine.runs)\n',
        ),
        Mutant(
            "unlisted_answers_use_tools",
            "models/tool_choices.py",
            "    if not (listed or choices.all_of_server or choices.use is not None):\n",
            "    if False:\n",
        ),
        Mutant(
            "edited_arguments_are_ignored",
            _FILE,
            "call.ran_with or call.input",
            "call.input",
        ),
        Mutant(
            "readers_do_not_learn_of_approvals",
            "worker/attempt/rounds.py",
            '"expires_at", "approval", "ran_with"',
            '"expires_at", "ran_with"',
        ),
        Mutant(
            "a_cancel_forgets_what_a_tool_has_done",
            "worker/attempt/outcome.py",
            "        return any(differences(draft.answer, calls))\n",
            "        return False\n",
        ),
        Mutant(
            "a_deleted_answer_is_asked_for",
            _FILE,
            "                if not calls.rows:",
            "                if False:",
        ),
        Mutant(
            "an_attempt_that_wakes_up_stumbles_over_newer_calls",
            "worker/attempt/rounds.py",
            "        if call.number not in of_parts:\n",
            "        if False:\n",
            ("tests/unit/worker/attempt/test_rounds.py",),
        ),
    ],
)
