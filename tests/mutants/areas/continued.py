"""Chats of the AI SDK: streams that end at `wait`, and clients that continue them."""

from tests.mutants.mutant import Area, Mutant

_CHATS = "tests/integration/test_chat_tools.py"
_CONTINUED = "web/aisdk/continued.py"
_ENCODER = "web/aisdk/encoder.py"
_POSTS = "web/aisdk/posts.py"
_UNIT = "tests/unit/web/aisdk/test_continued.py"

AREA = Area(
    "continued",
    (_CHATS,),
    [
        Mutant(
            "the_stream_does_not_end_at_wait",
            "web/aisdk/stream.py",
            '        if answer.status != "waiting":\n            return []\n',
            "        return []\n",
        ),
        Mutant(
            "a_wait_that_is_over_ends_the_stream",
            "web/aisdk/stream.py",
            "if is_open and _is_shown(calls, answer)",
            "if is_open",
        ),
        Mutant(
            "a_checkpoint_hides_the_wait_from_a_page_that_comes",
            "worker/attempt/run.py",
            "return 0 if ends or parks else",
            "return 0 if ends else",
        ),
        Mutant(
            "a_cancelled_answer_pauses",
            "web/aisdk/stream.py",
            "row is not None and row.cancel_by is None",
            "row is not None",
        ),
        Mutant(
            "a_decision_about_an_unknown_call_is_dropped",
            _CONTINUED,
            '            raise BadDecision(f"The answer has no call {part.tool_call_id}.")\n',
            "            return None\n",
        ),
        Mutant(
            "an_output_for_a_call_that_awaits_none_is_dropped",
            _CONTINUED,
            "            if not _is_over(call, decision):\n",
            "            if False:\n",
        ),
        Mutant(
            "edited_arguments_are_approved",
            _CONTINUED,
            'decision.kind == "approve" and not _is_same_input',
            "False and not _is_same_input",
        ),
        Mutant(
            "an_approval_may_name_another_tool",
            _CONTINUED,
            "        if part.name != call.name:\n",
            "        if False:\n",
            (_UNIT,),
        ),
        Mutant(
            "of_two_decisions_the_first_counts",
            _CONTINUED,
            "wanted.setdefault(number, decision) != decision:",
            "wanted.setdefault(number, decision) is None:",
            (_UNIT,),
        ),
        Mutant(
            "the_largest_integers_cannot_be_approved",
            _CONTINUED,
            "    if isinstance(value, str) and _BEYOND_64_BITS.fullmatch(value):\n",
            "    if False:\n",
            (_UNIT,),
        ),
        Mutant(
            "decisions_apply_before_all_are_checked",
            _POSTS,
            "    for _, decision in wanted:\n        require_result(",
            "    await _decide(services, user, row, wanted)\n"
            "    for _, decision in wanted:\n        require_result(",
        ),
        Mutant(
            "a_second_decision_is_an_error",
            _POSTS,
            "            except NotAwaited:\n                continue\n",
            "            except NotFound:\n                continue\n",
        ),
        Mutant(
            "a_late_decision_leaves_the_question_open",
            _POSTS,
            "                queued = await services.store.expire_calls(row.id) or queued\n",
            "                continue\n",
        ),
        Mutant(
            "a_client_gets_again_what_it_holds",
            _CONTINUED,
            "        there.reset(_end_of_turn(there.parts, last))\n",
            "        there.reset(0)\n        return there\n",
        ),
        Mutant(
            "a_result_of_the_front_end_is_not_confirmed",
            _CONTINUED,
            "    if shown.provider_executed and part",
            "    if part",
        ),
        Mutant(
            "a_torn_turn_is_shown_twice",
            _CONTINUED,
            "        return last in self.message.left\n",
            "        return False\n",
        ),
        Mutant(
            "an_approved_call_counts_as_answered_only",
            _ENCODER,
            "        if was_approved(fields) and not call.approved:\n",
            "        if False and not call.approved:\n",
        ),
        Mutant(
            "a_front_end_executes_tools_of_the_server",
            _ENCODER,
            'is_ours = call.over or part.fields.get("runs_at") == "server"',
            "is_ours = call.over",
            ("tests/unit/web/aisdk/test_encoder.py",),
        ),
        Mutant(
            "a_call_is_executed_before_its_turn_is_proven",
            _ENCODER,
            'if state == "proposed" and "runs_at" not in part.fields and not self.answer.ended:',
            "if False:",
            ("tests/unit/web/aisdk/test_encoder.py",),
        ),
    ],
)
