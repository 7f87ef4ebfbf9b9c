"""The chat page: what a person reads of a call before deciding, and what may be a link."""

from tests.mutants.mutant import Area, Mutant

_VERBATIM = "web/page/static/verbatim.js"
_VIEWS = "web/page/static/part_views.js"
_MARKDOWN = ("tests/js/test_javascript.py::test_in_node[markdown.test.mjs]",)
_PAGE = ("tests/js/test_javascript.py::test_in_node[page.test.mjs]",)
_CALLS = "tests/e2e/test_page_calls.py"
_EXACT = (f"{_CALLS}::test_the_card_has_exactly_what_the_tool_gets",)
_NAME = (f"{_CALLS}::test_a_call_that_asks_has_the_name_of_its_tool",)
_LONG = (f"{_CALLS}::test_a_long_input_says_that_there_is_more",)

AREA = Area(
    "page_calls",
    ("tests/js/test_javascript.py::test_in_node[verbatim.test.mjs]",),
    [
        Mutant(
            "numbers_are_read",
            _VERBATIM,
            "isJson(text) ? indented(text) : text",
            "isJson(text) ? JSON.stringify(JSON.parse(text), null, 2) : text",
        ),
        Mutant(
            "what_is_no_json_is_laid_out",
            _VERBATIM,
            "isJson(text) ? indented(text) : text",
            "indented(text)",
        ),
        Mutant(
            "a_quote_in_a_string_ends_it",
            _VERBATIM,
            r'"(?:[^"\\]|\\.)*"|',
            r'"[^"]*"|',
        ),
        Mutant(
            "every_level_is_indented",
            _VERBATIM,
            "Math.min(depth, DEEPEST)",
            "depth",
        ),
        Mutant("turns_of_direction_are_not_seen", _VERBATIM, r"\p{Cf}", ""),
        Mutant("controls_are_not_seen", _VERBATIM, r"\p{Cc}", ""),
        Mutant("fillers_are_not_seen", _VERBATIM, r"\p{Default_Ignorable_Code_Point}", ""),
        Mutant("blanks_look_like_spaces", _VERBATIM, r"\p{Z}\u2800", ""),
        Mutant("half_a_character_is_escaped", _VERBATIM, "replace(/[^]/g,", "replace(/[^]/gu,"),
        Mutant(
            "a_return_alone_is_the_end_of_a_line",
            _VERBATIM,
            r"(?! |\t|\r?\n)",
            r"(?! |\t|\r|\n)",
        ),
        Mutant("an_input_is_shown_as_it_is", _VIEWS, ": laidOut(input)", ": input", _EXACT),
        Mutant(
            "an_edit_begins_with_what_is_not_seen",
            "web/page/static/questions.js",
            '? laidOut(input) : "";',
            '? input : "";',
            _EXACT,
        ),
        Mutant(
            "a_title_is_shown_as_it_is", _VIEWS, "visible(title || name)", "title || name", _EXACT
        ),
        Mutant("results_are_shown_as_they_are", _VIEWS, "visible(text))", "text)", _EXACT),
        Mutant(
            "a_call_that_asks_has_only_a_title",
            _VIEWS,
            "this.#tool.hidden = !title || this.question.element.hidden;\n",
            "\n",
            _NAME,
        ),
        Mutant(
            "a_name_stays_behind_the_question",
            _VIEWS,
            "this.#tool.hidden = !title || this.question.element.hidden;",
            "this.#tool.hidden = !title;",
            _NAME,
        ),
        Mutant(
            "a_long_name_leaves_the_page",
            "web/page/static/style.css",
            ".use .use-tool code {\n  overflow-wrap: anywhere;\n  white-space: normal;\n}\n",
            "",
            _NAME,
        ),
        Mutant(
            "a_long_input_looks_short",
            _VIEWS,
            "scrollHeight > clientHeight ? this.#input.textContent.length : 0",
            "0",
            _LONG,
        ),
        Mutant(
            "every_input_looks_long",
            _VIEWS,
            "scrollHeight > clientHeight ?",
            "scrollHeight >= clientHeight ?",
            _LONG,
        ),
        Mutant(
            "a_narrower_window_is_not_noticed",
            _VIEWS,
            "    new ResizeObserver(() => this.#measure()).observe(this.#input);\n",
            "",
            _LONG,
        ),
        Mutant(
            "a_reader_of_the_screen_does_not_hear_of_more",
            "web/page/static/questions.js",
            ', "aria-describedby": this.#extent.id',
            "",
            _LONG,
        ),
        Mutant(
            "a_question_without_an_end",
            "web/page/static/questions.js",
            "timeOf(until)",
            "timeOf(Date.now())",
            ("tests/e2e/test_page_calls.py::test_two_tabs_decide_and_the_tool_runs_once",),
        ),
        Mutant(
            "a_user_in_an_address_is_a_link",
            "web/page/static/addresses.js",
            r"[^/?#@\\\s]+",
            r"[^/?#\\\s]+",
            _PAGE,
        ),
        Mutant(
            "markdown_links_to_users",
            "web/page/static/markdown.js",
            "(url) => isLink(url) || ",
            "(url) => /^https?:/i.test(url) || ",
            _MARKDOWN,
        ),
        Mutant(
            "users_in_bare_addresses_are_hosts",
            "web/page/static/markdown.js",
            "urlAuth: true",
            "urlAuth: false",
            _MARKDOWN,
        ),
        Mutant(
            "ends_of_lines_in_addresses_are_links",
            "web/page/static/addresses.js",
            "!UNSAFE.test(address) && ",
            "",
            _PAGE,
        ),
        Mutant(
            "what_is_no_address_is_a_link",
            "web/page/static/addresses.js",
            " && URL.canParse(address)",
            "",
            _PAGE,
        ),
    ],
)
