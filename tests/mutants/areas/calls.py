"""Tool calls in rows: a run needs a permission, a decision applies once, no decision is missed."""

from tests.mutants.mutant import Area, Mutant

CALLS = "tests/contracts/test_calls.py"
DECISIONS = "tests/contracts/test_decisions.py"
DYING = ("tests/integration/attempt/test_dying.py::test_a_worker_dies_after_any_effect[once-some]",)

AREA = Area(
    "calls",
    (CALLS, DECISIONS),
    [
        Mutant(
            "a_call_that_runs_is_taken_back",
            "worker/attempt/calling.py",
            "if claimed and call.number not in self._running:",
            "if claimed:",
            DYING,
        ),
        Mutant(
            "calls_of_a_dead_worker_are_forgotten",
            "worker/attempt/calling.py",
            'return any(part.type == "tool_call" for part in parts[last_round(parts) :])',
            "return False",
            DYING,
        ),
        Mutant(
            "what_awaits_approval_is_claimed",
            "models/calls.py",
            """                col(CallRow.state) == "proposed",
                col(CallRow.runs_at)""",
            "                col(CallRow.runs_at)",
            (f"{CALLS}::test_who_may_not_claim",),
        ),
        Mutant(
            "a_cancelled_call_is_claimed",
            "models/calls.py",
            "if row is None or row.cancel_by is not None:",
            "if row is None:",
            (f"{CALLS}::test_who_may_not_claim",),
        ),
        Mutant(
            "any_run_is_finished",
            "models/calls.py",
            "col(CallRow.attempt) == attempt, col(CallRow.runs) == runs",
            "col(CallRow.attempt) == attempt, col(CallRow.runs) > 0",
            (f"{CALLS}::test_a_late_result_of_an_earlier_run_is_refused",),
        ),
        Mutant(
            "a_fenced_attempt_finishes",
            "models/calls.py",
            """            row = await lock_held(session, message_id, attempt)
            if row is None:
                return False
            mine""",
            """            row = await lock_answer(session, message_id)
            mine""",
            (f"{CALLS}::test_a_fenced_attempt_finishes_nothing",),
        ),
        Mutant(
            "an_attempt_loses_its_own_runs",
            "models/calls.py",
            'call.state == "running" and call.attempt != attempt',
            'call.state == "running"',
            (f"{CALLS}::test_what_becomes_of_a_lost_run",),
        ),
        Mutant(
            "a_park_misses_a_decision",
            "models/calls.py",
            'row.status != "streaming" or row.cancel_by or row.calls_rev != calls_rev',
            'row.status != "streaming" or row.cancel_by',
            (f"{CALLS}::test_a_park_sees_a_decision_that_leaves_other_questions",),
        ),
        Mutant(
            "an_answer_parks_before_its_runs",
            "models/calls.py",
            'and not states & {"proposed", "running"}',
            "",
            (f"{CALLS}::test_when_an_attempt_does_not_park",),
        ),
        Mutant(
            "a_proof_is_repeated",
            "models/calls.py",
            "int(bool(new))",
            "int(bool(calls))",
            (f"{CALLS}::test_a_repeated_proof_changes_nothing",),
        ),
        Mutant(
            "a_worker_begins_a_waiting_answer",
            "models/answers.py",
            "ready = _unfinished if closes else",
            "ready = _unfinished if attempt else",
            (f"{CALLS}::test_a_parked_answer_holds_nothing",),
        ),
        Mutant(
            "an_end_leaves_its_calls",
            "models/answers.py",
            "            if rounds:\n",
            "            if rounds < 0:\n",
            (f"{CALLS}::test_the_end_closes_calls",),
        ),
        Mutant(
            "calls_of_the_caller_are_withdrawn",
            "models/call_rows.py",
            '(status, finish_reason) == ("complete", "tool_calls")',
            "not status",
            (f"{CALLS}::test_calls_of_the_caller_stay",),
        ),
        Mutant(
            "waiting_answers_take_room",
            "models/quotas.py",
            "TooManyUnfinished, mine, not_(waits)",
            "TooManyUnfinished, mine",
            (f"{CALLS}::test_waiting_answers_have_a_limit_of_their_own",),
        ),
        Mutant(
            "results_are_free",
            "models/quotas.py",
            " + octets(col(CallRow.result)",
            " + 0 * octets(col(CallRow.result)",
            (f"{CALLS}::test_calls_count_at_the_end_of_their_answer",),
        ),
        Mutant(
            "a_late_decision_counts",
            "models/decisions.py",
            "if call.expires_at is not None and call.expires_at <= now:",
            "if False:",
            (f"{DECISIONS}::test_when_nobody_waits_for_a_decision",),
        ),
        Mutant(
            "a_cancelled_answer_takes_decisions",
            "models/decisions.py",
            "row.status in UNFINISHED and row.cancel_by is None and",
            "row.status in UNFINISHED and",
            (f"{DECISIONS}::test_when_nobody_waits_for_a_decision",),
        ),
        Mutant(
            "any_participant_decides",
            "models/decisions.py",
            "if user_id not in found:",
            "if not found:",
            (f"{DECISIONS}::test_who_may_decide",),
        ),
        Mutant(
            "a_repeated_request_allows_another_run",
            "models/decisions.py",
            " and decision.runs in (None, call.runs)",
            "",
            (f"{DECISIONS}::test_a_second_repeat_needs_a_second_question",),
        ),
        Mutant(
            "a_decision_leaves_the_answer_waiting",
            "models/call_rows.py",
            '{"status": "queued", "updated_at": now_ms()} if waits else {}',
            '{"updated_at": now_ms()} if waits else {}',
            (f"{DECISIONS}::test_a_decision_queues_the_answer",),
        ),
        Mutant(
            "a_turn_looks_at_its_conversation",
            "models/calls.py",
            "            session.add_all([_row_of",
            "            await session.execute(proof)\n            session.add_all([_row_of",
            ("tests/contracts/test_calls.py::test_no_act_waits_for_the_conversation",),
        ),
        Mutant(
            "an_act_is_not_counted",
            "models/call_rows.py",
            "calls_rev=col(Message.calls_rev) + 1",
            "calls_rev=col(Message.calls_rev)",
            (f"{DECISIONS}::test_a_decision_queues_the_answer",),
        ),
        Mutant(
            "calls_expire_early",
            "models/decisions.py",
            "if state and call.expires_at is not None and call.expires_at <= now:",
            "if state and call.expires_at is not None:",
            (f"{DECISIONS}::test_time_runs_out",),
        ),
        Mutant(
            "questions_are_taken_back_while_a_call_runs",
            "models/decisions.py",
            'if not asked or any(call.state == "running" for call in calls):',
            "if not asked:",
            (f"{DECISIONS}::test_when_no_question_is_taken_back",),
        ),
    ],
)
