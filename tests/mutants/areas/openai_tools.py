"""Tools in OpenAI's dialect: whose calls they are, and where results go."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "openai_tools",
    ("tests/unit/web/openai/test_turns.py", "tests/unit/web/openai/test_tools.py"),
    [
        Mutant(
            "a_function_of_the_caller_waits_for_a_client",
            "web/openai/tools.py",
            '"runs_at": "caller",',
            '"runs_at": "client",',
        ),
        Mutant(
            "an_unproven_function_may_be_executed",
            "web/openai/items.py",
            'return head.functions is not None and "runs_at" not in call.fields',
            "return False",
            ("tests/unit/web/openai/test_encoder.py",),
        ),
        Mutant(
            "a_call_of_the_server_ends_before_its_result",
            "web/openai/items.py",
            "        return state not in CALL_ENDED\n",
            '        return state == "streaming"\n',
            ("tests/unit/web/openai/test_encoder.py", "tests/unit/web/openai/test_replay.py"),
        ),
        Mutant(
            "calls_of_the_server_are_in_chats",
            "web/openai/completions.py",
            "    return is_open and head.is_function(call)",
            "    return is_open",
            ("tests/unit/web/openai/test_encoder.py",),
        ),
        Mutant(
            "results_do_not_reach_the_provider",
            "worker/context.py",
            '    if row.role == "tool":',
            "    if False:",
        ),
        Mutant(
            "a_result_of_any_call_is_taken",
            "web/openai/turns.py",
            "call = self._open.pop(name, None)",
            'call = self._open.pop(name, PastCall(name, "f"))',
        ),
        Mutant(
            "a_result_that_is_missing_is_not_missed",
            "web/openai/turns.py",
            "        if missing := next(iter(self._required), None):",
            "        if missing := None:",
        ),
        Mutant(
            "a_result_has_the_name_of_the_client",
            "web/openai/turns.py",
            "            open_[name] = PastCall(known,",
            "            open_[name] = PastCall(name,",
        ),
        Mutant(
            "items_of_others_can_be_referred_to",
            "web/openai/posts.py",
            "row = await services.store.visible_message(row_id, user)",
            "row = await services.store.message(row_id)",
        ),
        Mutant(
            "foreign_servers_are_ours",
            "web/openai/tools.py",
            '    if tool.get("server_label") != SERVER_LABEL:',
            "    if False:",
        ),
        Mutant(
            "calls_in_chats_wait_for_approval",
            "web/openai/tools.py",
            "unattended=offer.server,",
            "unattended=False,",
        ),
    ],
)
