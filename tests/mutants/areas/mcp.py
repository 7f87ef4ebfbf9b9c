"""MCP servers: what they may do, and what a broken call means."""

from tests.mutants.mutant import Area, Mutant

ANSWERS = ("tests/unit/worker/tools/test_mcp_answers.py",)
LIES = "tests/integration/tools/test_mcp_lies.py"
SERVERS = "tests/integration/tools/test_mcp_servers.py"
REGISTRY = ("tests/unit/worker/tools/test_registry.py",)
CATALOGUE = ("tests/unit/providers/test_catalogue_mcp.py",)


def lies(test: str) -> tuple[str, ...]:
    """One test about servers that lie."""
    return (f"{LIES}::{test}",)


AREA = Area(
    "mcp",
    (*ANSWERS, LIES, *REGISTRY, *CATALOGUE),
    [
        Mutant(
            "a_call_that_was_sent_has_failed",
            "worker/tools/mcp/gate.py",
            "return self.unsent or not self.handed",
            "return True",
            lies("test_what_an_answer_means"),
        ),
        Mutant(
            "a_broken_connection_has_sent_nothing",
            "worker/tools/mcp/http.py",
            "isinstance(error, _UNSENT), True",
            "True, True",
            lies("test_what_an_answer_means"),
        ),
        Mutant(
            "a_broken_connection_costs_all_calls",
            "worker/tools/mcp/http.py",
            "        except httpx2.TransportError as error:\n            sending.unsent",
            "        except httpx2.PoolTimeout as error:\n            sending.unsent",
            lies("test_a_broken_connection_costs_no_other_call"),
        ),
        Mutant(
            "any_error_is_a_refusal",
            "worker/tools/mcp/server.py",
            "if error.code in answers.REFUSALS:",
            "if error.code not in (PARSE_ERROR,):",
            lies("test_what_an_answer_means"),
        ),
        Mutant(
            "redirects_are_followed",
            "worker/tools/mcp/http.py",
            "max_redirects=0",
            "max_redirects=5",
            lies("test_a_redirect_is_not_followed"),
        ),
        Mutant(
            "a_body_has_no_limit",
            "worker/tools/mcp/http.py",
            "self._most is not None and size > self._most",
            "self._most == 0",
            lies("test_fifty_megabytes_are_not_held"),
        ),
        Mutant(
            "a_server_may_ask_without_end",
            "worker/tools/mcp/gate.py",
            "if self._requests > MAX_REQUESTS:",
            "if self._requests > 1000 * MAX_REQUESTS:",
            lies("test_its_requests_are_refused_and_bounded"),
        ),
        Mutant(
            "secrets_in_arguments_are_logged",
            "providers/catalogue.py",
            "_options(spec.args), ",
            "",
            CATALOGUE,
        ),
        Mutant(
            "a_server_repeats_its_key",
            "worker/tools/mcp/server.py",
            "answer = without_secrets(whole, self._secrets)",
            "answer = without_secrets(whole, ())",
            lies("test_what_it_was_given_is_not_passed_on"),
        ),
        Mutant(
            "a_list_repeats_the_key",
            "worker/tools/mcp/server.py",
            "without_secrets([*entries], self._secrets)",
            "[*entries]",
            lies("test_what_it_was_given_is_no_part_of_its_tools"),
        ),
        Mutant(
            "an_error_repeats_the_key",
            "worker/tools/mcp/server.py",
            "message = without_secrets(error.message, secrets)",
            "message = error.message",
            lies("test_what_it_was_given_is_not_passed_on"),
        ),
        Mutant(
            "pages_have_no_end",
            "worker/tools/mcp/server.py",
            "for _ in range(MAX_PAGES):",
            "for _ in range(9 * MAX_PAGES):",
            lies("test_pages_without_end_and_without_a_tool"),
        ),
        Mutant(
            "a_tool_that_is_gone_is_called",
            "worker/tools/mcp/server.py",
            "        if name not in self.tools:\n",
            "        if not name:\n",
            lies("test_a_tool_that_is_gone_fails_by_name"),
        ),
        Mutant(
            "strangers_learn_who_asks",
            "worker/tools/mcp/server.py",
            "    if spec.identity:\n",
            "    if spec.name:\n",
            lies("test_what_the_server_gets"),
        ),
        Mutant(
            "nobody_is_asked_by_default",
            "providers/spec.py",
            "approve: Names = True",
            "approve: Names = False",
            lies("test_its_hints_count_for_nothing"),
        ),
        Mutant(
            "any_tool_is_repeated",
            "worker/tools/mcp/server.py",
            "self._spec.may_repeat(one.tool)",
            "True",
            lies("test_its_hints_count_for_nothing"),
        ),
        Mutant(
            "a_list_gives_any_number_of_tools",
            "worker/tools/mcp/answers.py",
            "elif len(found.tools) == MAX_TOOLS:",
            "elif len(found.tools) == 9 * MAX_TOOLS:",
            lies("test_a_list_that_never_ends"),
        ),
        Mutant(
            "images_vanish",
            "worker/tools/mcp/answers.py",
            "    only_text = len(texts) == len(blocks)\n",
            "    only_text = True\n",
            ANSWERS,
        ),
        Mutant(
            "a_server_takes_the_name_of_another_tool",
            "worker/tools/registry.py",
            "        if name.startswith(server.prefix):\n",
            "        if name == server.prefix:\n",
            REGISTRY,
        ),
        Mutant(
            "a_list_of_approvals_frees_tools_of_tomorrow",
            "providers/spec.py",
            "if isinstance(names, list) and self.tools is None:",
            "if isinstance(names, list) and self.tools == []:",
            CATALOGUE,
        ),
        Mutant(
            "a_server_gets_the_secrets_of_its_worker",
            "worker/tools/mcp/stdio.py",
            "env=get_default_environment() | dict(spec.env)",
            "env=dict(os.environ) | dict(spec.env)",
            (f"{SERVERS}::test_it_gets_no_secret_of_the_worker",),
        ),
    ],
)
