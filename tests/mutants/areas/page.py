"""The chat page in Chromium: what it must have forgotten when something happens for the second time."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "page",
    ("tests/e2e/test_page_again.py",),
    [
        Mutant(
            "a_draft_stays_where_a_conversation_began",
            "web/static/composer.js",
            "    this.forget(this.#place);\n    this.#place = id;",
            "    this.#place = id;",
        ),
        Mutant(
            "a_tool_that_comes_again_is_not_shown",
            "web/static/message_views.js",
            "use.element.remove(), this.#uses.delete(id);",
            "use.element.remove();",
        ),
        Mutant(
            "what_the_feed_told_of_is_paged_in_again",
            "web/static/sidebar.js",
            "this.#shown.push(...conversations.filter(({ id }) => !known.has(id)));",
            "this.#shown.push(...conversations);",
        ),
        Mutant(
            "a_stop_that_failed_stays",
            "web/static/app.js",
            "  if (asked || place !== here) return;\n  place.stopping = false;\n  show();",
            "  if (asked || place !== here) return;\n  show();",
        ),
        Mutant(
            "an_answer_is_made_again_once",
            "web/static/app.js",
            "  });\n  place.again = false;\n}",
            "  });\n}",
        ),
        Mutant(
            "a_loss_of_the_connection_is_said_once",
            "web/static/app.js",
            "    here.lost = false;\n",
            "",
        ),
        Mutant(
            "blocks_that_were_withdrawn_are_not_drawn_again",
            "web/static/markdown.js",
            "    this.#env = {};\n    this.#open = [];\n",
            "    this.#env = {};\n",
        ),
        Mutant(
            "a_definition_at_the_end_makes_no_links_of_earlier_words",
            "web/static/markdown.js",
            "const whole = done && defines(text);",
            "const whole = done && defines(this.#settled);",
        ),
        Mutant(
            "a_loss_that_begins_with_a_short_wait_is_not_said",
            "web/static/app.js",
            "state.delay_ms > 2000 && !here.lost) {\n    here.lost = true;",
            "!here.lost) {\n    here.lost = true;\n    if (state.delay_ms > 2000)",
        ),
    ],
)
