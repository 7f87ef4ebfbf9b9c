"""The chat page in Chromium: what it must have forgotten when something happens for the second
time.
"""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "page",
    ("tests/e2e/test_page_again.py",),
    [
        Mutant(
            "hidden_labels_lengthen_the_page",
            "web/page/static/style.css",
            "  position: relative; /* or hidden",
            "  /* or hidden",
            ("tests/e2e/test_page_faults.py",),
        ),
        Mutant(
            "a_draft_stays_where_a_conversation_began",
            "web/page/static/composer.js",
            "    this.forget(this.#place);\n    this.#place = id;",
            "    this.#place = id;",
        ),
        Mutant(
            "a_tool_that_comes_again_is_not_shown",
            "web/page/static/part_views.js",
            "this.#views.splice(alike < 0 ? seen.length : alike)",
            "this.#views.slice(alike < 0 ? seen.length : alike)",
        ),
        Mutant(
            "what_the_feed_told_of_is_paged_in_again",
            "web/page/static/sidebar.js",
            "this.#shown.push(...conversations.filter(({ id }) => !known.has(id)));",
            "this.#shown.push(...conversations);",
        ),
        Mutant(
            "a_stale_list_replaces_what_was_heard",
            "web/page/static/sidebar.js",
            "if (before === this.#changes) this.#take(page);\n"
            "    else this.#next ??= page.next ?? null;",
            "this.#take(page);",
            ("tests/e2e/test_page.py::test_a_list_read_before_a_post_does_not_remove_it",),
        ),
        Mutant(
            "a_stop_that_failed_stays",
            "web/page/static/app.js",
            "  if (asked || place !== here) return;\n  place.stopping = false;\n  show();",
            "  if (asked || place !== here) return;\n  show();",
        ),
        Mutant(
            "an_answer_is_made_again_once",
            "web/page/static/app.js",
            "  });\n  place.again = false;\n}",
            "  });\n}",
        ),
        Mutant(
            "a_loss_of_the_connection_is_said_once",
            "web/page/static/app.js",
            "    here.lost = false;\n",
            "",
        ),
        Mutant(
            "blocks_that_were_withdrawn_are_not_drawn_again",
            "web/page/static/markdown.js",
            "    this.#env = {};\n    this.#open = [];\n",
            "    this.#env = {};\n",
        ),
        Mutant(
            "a_definition_at_the_end_makes_no_links_of_earlier_words",
            "web/page/static/markdown.js",
            "const whole = done && defines(text);",
            "const whole = done && defines(this.#settled);",
        ),
        Mutant(
            "a_loss_that_begins_with_a_short_wait_is_not_said",
            "web/page/static/app.js",
            "state.delay_ms > 2000 && !here.lost) {\n    here.lost = true;",
            "!here.lost) {\n    here.lost = true;\n    if (state.delay_ms > 2000)",
        ),
        Mutant(
            "a_dialog_remembers_that_it_was_confirmed",
            "web/page/static/app.js",
            '  dialog.returnValue = "";\n',
            "",
        ),
        Mutant(
            "a_title_begins_as_nothing",
            "web/page/static/app.js",
            '  byId("rename-title").value = named()?.title || firstWords();\n',
            "",
        ),
        Mutant(
            "after_another_try_the_keyboard_is_nowhere",
            "web/page/static/app.js",
            "    if (place === here) (composer.focus(), list.follow());\n",
            "",
        ),
        Mutant(
            "a_stop_under_way_looks_like_none",
            "web/page/static/composer.js",
            '"aria-disabled", String(stopping)',
            '"aria-disabled", "false"',
        ),
        Mutant(
            "an_input_method_sends",
            "web/page/static/composer.js",
            " || event.isComposing || event.keyCode === 229)",
            " || event.isComposing)",
        ),
        Mutant(
            "an_input_method_sends_by_its_own_name",
            "web/page/static/composer.js",
            " || event.isComposing || ",
            " || ",
        ),
        Mutant(
            "first_words_are_forgotten",
            "web/page/static/sidebar.js",
            '    keep("names", [...this.#names].slice(-NAMES_MAX));\n',
            "",
        ),
        Mutant(
            "a_model_that_thinks_does_not_say_so",
            "web/page/static/part_views.js",
            'growing ? "Reasoning …" : "Reasoning"',
            '"Reasoning"',
        ),
        Mutant(
            "nothing_can_be_copied",
            "web/page/static/message_views.js",
            "    this.copy.hidden = done && !message.content;\n",
            "",
        ),
        Mutant(
            "a_copy_is_not_what_was_written",
            "web/page/static/message_views.js",
            "copyText(this.message.content)",
            "copyText(this.prose.textContent)",
        ),
        Mutant(
            "a_block_of_code_cannot_be_copied",
            "web/page/static/messages.js",
            "  if (!button) return;\n",
            "  return;\n",
        ),
        Mutant(
            "each_chunk_draws_everything",
            "web/page/static/app.js",
            'new Set(["chunk", "reasoning",',
            'new Set(["reasoning",',
            ("tests/e2e/test_page_parts.py::test_a_long_conversation_is_not_redrawn",),
        ),
        Mutant(
            "a_post_that_was_given_up_is_lost",
            "web/page/static/app.js",
            "  composer.giveBack(place.id, post.content);\n",
            "",
        ),
        Mutant(
            "what_comes_back_is_written_over_a_draft",
            "web/page/static/composer.js",
            "this.prompt.value || this.write(text);",
            "this.write(text);",
        ),
        Mutant(
            "a_page_that_may_not_follow_says_nothing",
            "web/page/static/app.js",
            '  else tell("This page may not follow the conversation any longer.", retry);\n',
            "",
        ),
        Mutant(
            "a_page_that_is_looked_at_waits_on",
            "web/page/static/app.js",
            "document.hidden || (here.watch?.wake(), refresh())",
            "document.hidden || refresh()",
        ),
        Mutant(
            "ones_own_message_is_news",
            "web/page/static/app.js",
            " && message.user_id && message.user_id !== me)\n",
            " && message.user_id)\n",
        ),
        Mutant(
            "a_choice_that_was_refused_stays",
            "web/page/static/app.js",
            "  if (!kept) composer.choose(named()?.model);\n",
            "",
        ),
        Mutant(
            "a_choice_is_for_one_conversation",
            "web/page/static/app.js",
            '  keep("model", model);\n',
            "",
        ),
        Mutant(
            "an_estimate_is_told_as_a_count",
            "web/page/static/message_views.js",
            '${usage.estimated ? "about " : ""}',
            "",
        ),
        Mutant(
            "any_key_closes_the_drawer",
            "web/page/static/sidebar.js",
            'key === "Escape" && !WIDE.matches && ',
            "!WIDE.matches && ",
            ("tests/e2e/test_page.py::test_a_phone_never_scrolls_sideways",),
        ),
        Mutant(
            "the_drawer_stays_over_what_was_chosen",
            "web/page/static/sidebar.js",
            '    this.element.addEventListener("click", ({ target }) => target.closest("a") && '
            "this.open(false));\n",
            "",
            ("tests/e2e/test_page.py::test_a_phone_never_scrolls_sideways",),
        ),
        Mutant(
            "the_drawer_is_always_open",
            "web/page/static/sidebar.js",
            'toggle("open", drawer && wanted)',
            'toggle("open", drawer)',
            ("tests/e2e/test_page.py::test_a_phone_never_scrolls_sideways",),
        ),
        Mutant(
            "a_state_that_is_not_known_is_shown",
            "web/page/static/part_views.js",
            'STATES[state] ?? ""',
            "STATES[state] ?? state",
            ("tests/e2e/test_page_parts.py::test_parts_keep_their_order_over_a_reload",),
        ),
        Mutant(
            "files_of_other_servers_are_asked_for",
            "web/page/static/part_views.js",
            "if (!/^\\/(?!\\/)/.test(url)) return",
            "if (!url) return",
            ("tests/e2e/test_page_parts.py::test_parts_keep_their_order_over_a_reload",),
        ),
    ],
)
