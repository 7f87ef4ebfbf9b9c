"""tokenwire.js, in Node."""

from tests.mutants.mutant import Area, Mutant

_FILE = "web/static/tokenwire.js"

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
            "web/static/tokenwire.js",
            "    this.epoch = epoch;\n    this.#pending = [];\n",
            "    this.epoch = epoch;\n",
        ),
        Mutant(
            "breaks_of_a_stream_add_up",
            "web/static/resumable-fetch.js",
            "failures = bytes.length ? 0 : failures;",
            "",
            ("tests/js/test_javascript.py",),
        ),
        Mutant(
            "refusals_of_a_feed_add_up",
            "web/static/feed.js",
            "    this.#failures = 0;\n",
            "",
            ("tests/js/test_javascript.py",),
        ),
    ],
)
