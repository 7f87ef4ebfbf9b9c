"""tokenwire.js and the page's other modules that need no browser, in Node."""

from tests.mutants.mutant import Area, Mutant

_FILE = "web/page/static/tokenwire.js"
_STREAM = "web/page/static/resumable-fetch.js"
_LINK = "web/page/static/link.js"
_STREAMS = ("tests/js/test_javascript.py::test_in_node[streams.test.mjs]",)
_PAGE = ("tests/js/test_javascript.py::test_in_node[page.test.mjs]",)
_MARKDOWN = ("tests/js/test_javascript.py::test_in_node[markdown.test.mjs]",)

AREA = Area(
    "page_client",
    (
        "tests/js/test_javascript.py::test_in_node[link.test.mjs]",
        "tests/js/test_javascript.py::test_in_node[tokenwire.test.mjs]",
    ),
    [
        Mutant(
            "no_end_to_the_patience_with_a_hole",
            _FILE,
            'else if (!this.#timers.hole) this.#after("hole", PATIENCE_MS, () => this.end(0));',
            "",
        ),
        Mutant(
            "no_patience_with_a_hole",
            _FILE,
            'else if (!this.#timers.hole) this.#after("hole", PATIENCE_MS, () => this.end(0));',
            "else this.end(0);",
        ),
        Mutant(
            "the_patience_begins_anew_with_each_event",
            _FILE,
            'else if (!this.#timers.hole) this.#after("hole", PATIENCE_MS, () => this.end(0));',
            'else this.#after("hole", PATIENCE_MS, () => this.end(0));',
        ),
        Mutant(
            "a_hole_that_was_filled_still_ends_it",
            _FILE,
            'else if (!this.order.waiting) this.#after("hole", null);\n    else if',
            "else if (this.order.waiting && true) if",
        ),
        Mutant("no_bound_on_what_waits", _FILE, "    if (this.order.overfull) this.end(0);\n    else if", "    if"),
        Mutant("no_hello_timeout", _FILE, "silence: HELLO_MS }", "silence: 1e9 }"),
        Mutant("live_is_not_checked", _FILE, "      if (!this.#agrees(frame)) return;\n      this.liveSince", "      this.liveSince"),
        Mutant("heartbeats_are_not_checked", _FILE, "heartbeat: (frame) => this.#agrees(frame),", "heartbeat: () => {},"),
        Mutant(
            "earlier_pages_overwrite_what_is_newer",
            _FILE,
            "for (const row of messages) if (!this.#byId.has(row.id)) this.#place(fresh(row));",
            "for (const row of messages) this.#place(fresh(row));",
        ),
        Mutant(
            "failures_are_not_reset_by_a_steady_connection",
            _FILE,
            "          if (link.liveSince && Date.now() - link.liveSince > STEADY_MS) this.#failures = 0;\n",
            "",
        ),
        Mutant(
            "failures_are_not_reset_by_progress",
            _FILE,
            "    if (!this.transcript.apply(event)) return false;\n    this.#failures = 0;\n",
            "    if (!this.transcript.apply(event)) return false;\n",
        ),
        Mutant("what_comes_again_is_applied_again", _FILE, "if (next.seq <= this.seq) continue;", ""),
        Mutant("the_silence_that_the_server_names_is_ignored", _FILE, "      this.#heard();\n      if (epoch", "      if (epoch"),
        Mutant("the_epoch_is_not_checked", _FILE, "        this.order.fork(epoch);", "        "),
        Mutant("rows_know_of_events_that_a_fork_lost", _FILE, "        this.to.forked(this.order.seq);\n", ""),
        Mutant(
            "a_heartbeat_of_another_epoch_is_fine",
            _FILE,
            "if (epoch === this.order.epoch && seq === this.order.seq) return true;",
            "if (seq === this.order.seq) return true;",
        ),
        Mutant(
            "silence_is_never_noticed",
            _FILE,
            'this.#after("silence", this.silence, () => this.end(0));',
            "",
        ),
        Mutant("a_token_is_never_renewed_in_time", _FILE, "(grant.until - Date.now()) * 0.8", "(grant.until - Date.now()) * 8"),
        Mutant(
            "a_token_is_renewed_once",
            _FILE,
            "refreshed: ({ expires_in }) => this.#renewIn(expires_in * 800),",
            "refreshed: () => {},",
        ),
        Mutant("a_refresh_that_failed_is_not_tried_again", _FILE, "        this.#renewIn(10_000);\n", ""),
        Mutant(
            "what_was_shown_shrinks_when_rows_are_read_again",
            _FILE,
            "show(message, hasEnded(message) ? null : before?.content);",
            "show(message, null);",
        ),
        Mutant("what_was_shown_longer_stays_after_live", _FILE, "          this.transcript.release();\n", ""),
        Mutant("a_checksum_is_not_looked_at", _FILE, "&& crc32(message.applied) === event.crc32;", ";"),
        Mutant("a_wrong_checksum_reads_without_end", _FILE, "if (!proven && !this.#doubted.has(message.id)) return", "if (!proven) return"),
        Mutant(
            "events_that_the_row_holds_are_applied_again",
            _FILE,
            "if (!message || event.seq <= message.seq) return true;",
            "if (!message) return true;",
        ),
        Mutant("a_lower_rev_revises", _FILE, "else if (row.rev > held.rev) this.#revise(held, row);", "else this.#revise(held, row);"),
        Mutant(
            "a_row_takes_away_text_of_an_answer",
            _FILE,
            "const { content, reasoning, tool_calls, seq, status,",
            "const { reasoning, tool_calls, seq, status,",
        ),
        Mutant("what_was_replaced_comes_back", _FILE, "    if (this.#replaced.has(row.id)) return;\n", ""),
        Mutant(
            "a_grant_is_used_after_its_end",
            _FILE,
            "if (!(this.#grant?.until > Date.now())) await this.#renew();",
            "if (!this.#grant) await this.#renew();",
        ),
        Mutant("retry_after_is_ignored", _FILE, "const delay = Math.max(delay_ms, after * 1000);", "const delay = delay_ms;"),
        Mutant("an_unknown_seq_counts_as_an_event", _FILE, "Number.isSafeInteger(frame?.seq) && typeof", "typeof"),
        Mutant("a_closed_subscription_goes_on", _FILE, "    this.#hangUp(0);\n    this.#hurry();", "    this.#hurry();"),
        Mutant(
            "what_waits_of_a_lost_log_is_shown",
            "web/page/static/tokenwire.js",
            "    this.epoch = epoch;\n    this.#pending = [];\n",
            "    this.epoch = epoch;\n",
        ),
        Mutant(
            "breaks_of_a_stream_add_up",
            _STREAM,
            "failures = bytes.length ? 0 : failures;",
            "",
            _STREAMS,
        ),
        Mutant(
            "refusals_of_a_feed_add_up",
            "web/page/static/feed.js",
            "    this.#failures = 0;\n",
            "",
            _STREAMS,
        ),
        Mutant(
            "sources_go_with_a_resync",
            "web/page/static/tokenwire.js",
            "message.sources = before?.sources ?? [];",
            "message.sources = [];",
        ),
        Mutant(
            "a_loop_that_was_left_hears_on",
            "web/page/static/tokenwire.js",
            "    } finally {\n      this.#hearers.delete(hearer);\n    }",
            "    } finally {\n    }",
        ),
        Mutant(
            "a_closed_subscription_waits_on",
            "web/page/static/tokenwire.js",
            "    this.#hangUp(0);\n    this.#hurry();\n",
            "    this.#hangUp(0);\n",
        ),
        Mutant("what_waits_twice_waits_twice", _FILE, "> first(event)) at--;", ">= first(event)) at--;"),
        Mutant("the_conversation_is_not_held", _FILE, "    this.conversation = { ...conversation };\n", ""),
        Mutant("nothing_ever_runs", _FILE, '=== "assistant" && !hasEnded(message));', '=== "assistant" && hasEnded(message));'),
        Mutant("reasoning_of_rows_is_dropped", _FILE, 'reasoning: row.reasoning ?? "",', 'reasoning: "",'),
        Mutant("what_went_into_a_tool_is_dropped", _FILE, '  if ("arguments" in rest) held.arguments = rest.arguments;\n', ""),
        Mutant(
            "what_was_read_is_shown_after_the_close",
            _FILE,
            "    if (this.#closed) return;\n    this.transcript.load",
            "    this.transcript.load",
        ),
        Mutant("answers_of_the_api_are_refusals", _FILE, "    if (answer.ok) return answer.json();\n", ""),
        Mutant("a_row_without_seq_has_none", _FILE, "Math.min(row.seq ?? 0, seq)", "Math.min(row.seq, seq)"),
        Mutant(
            "a_hole_in_the_text_is_passed_over", _FILE, "!this.to.event(ready)) return this.end(4410);", "!this.to.event(ready)) return;"
        ),
        Mutant("a_stream_that_is_over_is_asked_for_again", _STREAM, "    if (again.status === 204) return false;\n", "", _STREAMS),
        Mutant("a_stream_goes_on_from_its_beginning", _STREAM, '(last === null ? {} : { "last-event-id": last })', "{}", _STREAMS),
        Mutant(
            "an_event_without_an_id_forgets_the_last",
            _STREAM,
            "/^id: ?(.+)$/m.exec(block)?.[1] ?? last;",
            "/^id: ?(.+)$/m.exec(block)?.[1];",
            _STREAMS,
        ),
        Mutant("errors_are_resumed_as_streams", _STREAM, "      !response.ok ||\n", "", _STREAMS),
        Mutant(
            "pages_are_resumed_as_streams", _STREAM, ' ||\n      !/event-stream/.test(response.headers.get("content-type"))', "", _STREAMS
        ),
        Mutant(
            "a_stream_without_a_signal_ends_with_its_connection",
            _STREAM,
            "if (init.signal?.aborted) return controller.error(error);\n          lost",
            "if (init.signal.aborted) return controller.error(error);\n          lost",
            _STREAMS,
        ),
        Mutant("a_refusal_of_a_stream_is_asked_again", _STREAM, "init.signal?.aborted || error.final", "init.signal?.aborted", _STREAMS),
        Mutant(
            "a_stream_is_asked_for_without_end", _STREAM, "          if (failures >= tries) return controller.error(lost);\n", "", _STREAMS
        ),
        Mutant("what_is_no_whole_event_is_progress", _STREAM, "bytes.length ? 0 : failures;", "0;", _STREAMS),
        Mutant("a_character_in_two_pieces_is_two", _STREAM, "decoder.decode(bytes, { stream: true })", "decoder.decode(bytes)", _STREAMS),
        Mutant("half_a_character_outlives_its_connection", _STREAM, "    decoder.decode();\n", "", _STREAMS),
        Mutant(
            "a_wait_is_not_counted_down",
            _LINK,
            '    if (this.name === "reconnecting" && this.#until)\n      this.#timer = setInterval(() => this.#draw(), 1000);\n',
            "",
            _PAGE,
        ),
        Mutant("a_wait_that_is_over_is_counted_on", _LINK, "seconds > 0;", "seconds >= 0;", _PAGE),
        Mutant("every_wait_is_the_networks_fault", _LINK, 'name === "reconnecting" && !navigator.onLine', 'name === "reconnecting"', _PAGE),
        Mutant("a_count_goes_on_behind_the_page", _LINK, "    clearInterval(this.#timer);\n", "", _PAGE),
        Mutant(
            "the_deepest_headings_are_dropped",
            "web/page/static/markdown.js",
            "Number(token.tag[1]) + 2, 6)",
            "Number(token.tag[1]) + 2, 7)",
            _MARKDOWN,
        ),
        Mutant(
            "words_become_typography", "web/page/static/markdown.js", "linkify: true }", "linkify: true, typographer: true }", _MARKDOWN
        ),
        Mutant("lines_become_breaks", "web/page/static/markdown.js", "linkify: true }", "linkify: true, breaks: true }", _MARKDOWN),
        Mutant(
            "addresses_of_people_become_links", "web/page/static/markdown.js", "md.linkify.set({ fuzzyEmail: false });\n", "", _MARKDOWN
        ),
        Mutant("what_may_help_again_is_not_known", "web/page/static/api.js", "|| this.status >= 500;", "|| this.status > 500;", _PAGE),
        Mutant("a_key_is_not_sent", "web/page/static/api.js", '  if (key) headers["Idempotency-Key"] = key;\n', "", _PAGE),
        Mutant(
            "a_problem_is_not_told_in_its_words",
            "web/page/static/api.js",
            "[told.detail, told.title].find(",
            "[told.title, told.detail].find(",
            _PAGE,
        ),
        Mutant(
            "what_is_hidden_at_first_is_shown",
            "web/page/static/dom.js",
            'else if (value === true) element.setAttribute(name, "");',
            "",
            _PAGE,
        ),
        Mutant("a_retry_is_not_counted_down", "web/page/static/message_views.js", "retry.due ??= now", "retry.due = now", _PAGE),
    ],
)
