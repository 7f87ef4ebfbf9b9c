"""Which tools an answer may use; tools of clients, and of the program that asks."""

from tests.mutants.mutant import Area, Mutant

CHOICES = "tests/integration/attempt/test_choices.py"
API = "tests/unit/web/api/test_tools.py"
PARAMETERS = "tests/unit/web/test_parameters.py"
NAMES = "tests/unit/web/test_tool_names.py"
REPORTS = "tests/contracts/test_tool_names.py"
QUOTAS = "tests/contracts/test_quotas.py"
_CALLING = "worker/attempt/calling.py"

AREA = Area(
    "choices",
    (CHOICES, "tests/unit/models/test_tool_choices.py"),
    [
        Mutant(
            "a_tool_that_is_not_allowed_runs",
            _CALLING,
            "        tool = self._work.tools.on_server(call.name)\n",
            "        tool = self._toolbox.tools[call.name]\n",
        ),
        Mutant(
            "a_tool_that_is_not_allowed_is_examined",
            _CALLING,
            '        tool = self._work.tools.tools.get(part.fields["name"])\n',
            '        tool = self._toolbox.tools.get(part.fields["name"])\n',
        ),
        Mutant(
            "a_request_adds_what_a_conversation_leaves_out",
            "models/tool_choices.py",
            "    for only in (*lists, choices.use):\n",
            "    for only in (choices.use,) if choices.use else lists:\n",
        ),
        Mutant(
            "a_post_brings_a_tool_of_the_servers_name",
            "web/contents.py",
            "        tool_choices.require_free_names(found, usable(found))\n",
            "",
            (NAMES,),
        ),
        Mutant(
            "a_function_has_the_name_of_a_tool_of_the_server",
            "web/openai/posts.py",
            "    require_own_names(question.tools, usable)\n",
            "",
            (NAMES,),
        ),
        Mutant(
            "a_tool_that_is_left_out_keeps_its_name",
            "web/offers.py",
            "        lists = (spec.tools if spec else None, allowed)\n",
            "        lists = (None, None)\n",
            (NAMES,),
        ),
        Mutant(
            "names_of_tools_live_for_ever",
            "streams/tool_names.py",
            'f"({seconds - LIFE_SECONDS}", "+inf"',
            '"-inf", "+inf"',
            (REPORTS,),
        ),
        Mutant(
            "names_of_tools_stay_on_the_server",
            "streams/tool_names.py",
            '"-inf", seconds - LIFE_SECONDS)',
            '"-inf", 0)',
            (REPORTS,),
        ),
        Mutant(
            "an_outage_ends_the_report_of_tools",
            "streams/tool_names.py",
            "        except (redis.RedisError, OSError, TimeoutError) as error:\n",
            "        except ValueError as error:\n",
            (REPORTS,),
        ),
        Mutant(
            "a_choice_holds_for_each_turn",
            "worker/attempt/work.py",
            "    return None if start else question.tool_choice\n",
            "    return question.tool_choice\n",
        ),
        Mutant(
            "calls_run_though_none_was_chosen",
            _CALLING,
            ' or work.tools.choice == "none"',
            "",
        ),
        Mutant(
            "an_outcome_is_awaited_that_nobody_can_give",
            _CALLING,
            "is_asked = not self._work.tools.choices.unattended",
            "is_asked = True",
        ),
        Mutant(
            "an_approval_is_awaited_that_nobody_can_give",
            _CALLING,
            '            case "nobody":\n',
            '            case "no one":\n',
        ),
        Mutant(
            "a_call_of_the_program_that_asks_is_claimed",
            "worker/attempt/rounds.py",
            ' and call.runs_at == "server"',
            "",
        ),
        Mutant(
            "a_call_of_the_program_that_asks_forbids_to_wait",
            "models/calls.py",
            " if not left_to_caller(call)}",
            "}",
        ),
        Mutant(
            "the_model_is_asked_without_the_results_of_the_program",
            _CALLING,
            '"left" if calls.are_left else "ended"',
            '"ended"',
        ),
        Mutant(
            "a_client_gets_arguments_that_do_not_fit",
            _CALLING,
            "SchemaReader(tool.parameters, asker=self._work.user_id, was_checked=True)\n",
            "SchemaReader({}, asker=self._work.user_id, was_checked=True)\n",
        ),
        Mutant(
            "a_value_that_cannot_be_read_allows_all",
            "models/tool_choices.py",
            "        return NOTHING_ALLOWED\n",
            "        return NO_CHOICES\n",
        ),
        Mutant(
            "a_model_lacks_a_tool_silently",
            "worker/tools/registry.py",
            "            if name not in found and not name.startswith(prefixes):\n",
            "            if False:\n",
            ("tests/unit/worker/tools/test_registry.py",),
        ),
        Mutant(
            "a_client_answers_a_call_twice",
            "models/decisions.py",
            "            if not _awaited(row, call, decision):\n",
            '            if not _awaited(row, call, decision) and call.runs_at != "client":\n',
            (f"{API}::test_a_client_answers_a_call_once",),
        ),
        Mutant(
            "any_participant_changes_tools",
            "web/api/routes.py",
            '{"instructions", "tools", "schema_", "options"}',
            '{"instructions"}',
            (f"{API}::test_only_the_owner_changes_tools_and_schema",),
        ),
        Mutant(
            "answers_ignore_the_options_of_their_conversation",
            "models/conversations.py",
            "options={**conversation.options, **post.options}",
            "options=post.options",
            (PARAMETERS,),
        ),
        Mutant(
            "options_of_a_conversation_come_first",
            "models/conversations.py",
            "options={**conversation.options, **post.options}",
            "options={**post.options, **conversation.options}",
            (PARAMETERS,),
        ),
        Mutant(
            "a_post_chooses_no_model",
            "web/api/routes.py",
            "services.offers.require(body.model or conversation.model)",
            "services.offers.require(conversation.model)",
            (PARAMETERS,),
        ),
        Mutant(
            "the_options_of_a_conversation_are_not_checked",
            "web/api/routes.py",
            "options = {**(conversation.options or {}), **body.parameters}",
            "options = body.parameters",
            (PARAMETERS,),
        ),
        Mutant(
            "a_key_of_another_answer_ignores_its_model",
            "web/api/routes.py",
            "again.model_dump(exclude_none=True) or None",
            "None",
            (PARAMETERS,),
        ),
        Mutant(
            "answers_ignore_the_schema_of_their_conversation",
            "models/conversations.py",
            "                post = replace(post, response_schema=conversation.response_schema)\n",
            "                pass\n",
            (f"{API}::test_a_conversation_has_tools_and_a_schema",),
        ),
        Mutant(
            "tools_of_requests_cost_nothing",
            "models/quotas.py",
            "    + octets(col(Message.tools))\n",
            "",
            (f"{QUOTAS}::test_what_a_request_says_about_tools_counts",),
        ),
        Mutant(
            "a_schema_of_a_conversation_costs_nothing",
            "models/quotas.py",
            "    + octets(col(Conversation.tools))\n"
            "    + octets(col(Conversation.response_schema))\n"
            "    + octets(col(Conversation.options))\n)\nshown",
            ")\nshown",
            (f"{QUOTAS}::test_tools_and_a_schema_count_as_they_change",),
        ),
        Mutant(
            "a_schema_of_a_client_tool_is_not_checked",
            "web/contents.py",
            "require_usable(*(each.parameters for each in brought), user=user)\n",
            "require_usable(user=user)\n",
            (f"{API}::test_tools_that_cannot_be_used_are_refused",),
        ),
        Mutant(
            "an_unknown_name_is_left_out_silently",
            "worker/asking.py",
            "    if usable.refusal is not None and not row.rounds:\n",
            "    if False:\n",
        ),
    ],
)
