"""Single routes: their answers and notifications."""

from tests.mutants.mutant import Area, Mutant

CALLS = "tests/unit/web/api/test_calls.py"

AREA = Area(
    "routes",
    ("tests/unit/web/openai/test_routes.py", "tests/unit/web/api/test_participants.py"),
    [
        Mutant(
            "a_last_page_says_that_more_follows",
            "web/openai/routes.py",
            '"has_more": end < len(ids)',
            '"has_more": end <= len(ids)',
            ("tests/unit/web/openai/test_routes.py",),
        ),
        Mutant(
            "who_was_removed_keeps_the_list",
            "web/api/participants.py",
            "        await delivery.touch_lists(services, "
            'conversation_id)\n\n\n@router.get("/invitations",',
            '\n\n@router.get("/invitations",',
            ("tests/unit/web/api/test_participants.py",),
        ),
        Mutant(
            "requests_of_a_socket_add_up",
            "web/aisdk/socket.py",
            "            task.add_done_callback(lambda _: self._tasks.pop(request_id, None))\n",
            "",
            ("tests/integration/test_chat_socket.py::test_finished_requests_make_room",),
        ),
        Mutant(
            "a_key_is_of_any_answer",
            "web/api/routes.py",
            'route = f"POST /api/messages/{message_id}/regenerate"',
            'route = "POST /api/messages/regenerate"',
            ("tests/unit/web/aisdk/test_chat.py",),
        ),
        Mutant(
            "a_decided_answer_has_no_job",
            "web/api/calls.py",
            "    if decided.queued:",
            "    if False:",
            (CALLS,),
        ),
        Mutant(
            "who_was_too_late_is_not_shown_the_decision",
            "web/problems.py",
            ', "decision": decision_view(error.record)}',
            "}",
            (CALLS,),
        ),
        Mutant(
            "a_socket_tells_each_refusal_as_a_bug",
            "web/aisdk/socket.py",
            'else problem_of(error, path="/api/chat/ws")',
            "else None",
            ("tests/integration/test_chat_socket.py",),
        ),
        Mutant(
            "a_part_has_many_addresses",
            "web/api/calls.py",
            '"0|[1-9][0-9]*", text):',
            '".*", text):',
            (CALLS,),
        ),
        Mutant(
            "a_wrong_choice_names_members_of_a_union",
            "web/api/shapes.py",
            "    ChoiceMode | NamedTool,\n    _refused_as(",
            "    ChoiceMode | NamedTool,\n    str(",
            ("tests/unit/web/api/test_tools.py",),
        ),
        Mutant(
            "arguments_are_forgotten",
            "web/api/calls.py",
            "    elif body.arguments is not None:\n        value",
            "    elif False:\n        value",
            (CALLS,),
        ),
        Mutant(
            "a_dialect_is_forgotten",
            "web/app.py",
            '"aisdk", "feed",',
            '"aisdk",',
            ("tests/unit/web/test_app.py",),
        ),
        Mutant(
            "the_length_of_a_name_is_not_documented",
            "web/aisdk/requests.py",
            '"minLength": 1, "maxLength": MAX_ID',
            '"minLength": 1',
            ("tests/unit/web/test_openapi.py",),
        ),
    ],
)
