"""The Python client."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "client",
    ("tests/unit/client", "tests/integration/test_python_client.py"),
    [
        Mutant(
            "refused_tokens_of_a_whole_day_add_up",
            "client/following.py",
            "self.state, self._refused = state, 0  #",
            "self.state = state  #",
        ),
        Mutant(
            "a_late_part_begins_an_answer",
            "client/transcript.py",
            'if event["type"] != "start":',
            'if event["type"] not in ("start", "part"):',
            ("tests/unit/client/test_vectors.py",),
        ),
        Mutant(
            "a_standstill_ends_the_connection",
            "client/following.py",
            "if text is None and due != self._renew_at:",
            "if False:",
            ("tests/integration/test_python_client.py",),
        ),
        Mutant(
            "a_server_s_wait_is_ignored",
            "client/api.py",
            """
                    max(error.retry_after, self._jitter() * 0.5 * 2 ** (TRIES - tries))
                """,
            "self._jitter() * 0.5 * 2 ** (TRIES - tries)",
        ),
        Mutant(
            "what_waits_of_a_lost_log_is_applied",
            "client/transcript.py",
            "        self.epoch = epoch\n        self._pending.clear()\n",
            "        self.epoch = epoch\n",
        ),
        Mutant(
            "a_grant_that_has_expired_is_used",
            "client/following.py",
            "if self._grant is None or self._grant.until - ahead_seconds <= now:",
            "if self._grant is None or ahead_seconds:",
            ("tests/unit/client/test_following.py",),
        ),
        Mutant(
            "a_hole_that_was_filled_still_ends_it",
            "client/following.py",
            "self._hole = (self._hole or clock() + HOLE_SECONDS) if self._order.waiting else None",
            "self._hole = (self._hole or clock() + HOLE_SECONDS) if self._order.waiting else "
            "self._hole",
            ("tests/unit/client/test_following.py",),
        ),
        Mutant(
            "failures_of_steady_connections_add_up",
            "client/following.py",
            "                    self._failures = 0\n",
            "                    pass\n",
            ("tests/integration/test_python_client.py",),
        ),
        Mutant(
            "who_leaves_stays_connected",
            "client/following.py",
            "            await asyncio.gather(self._step, return_exceptions=True)\n        "
            "await self._changes.aclose()\n",
            "            await asyncio.gather(self._step, return_exceptions=True)\n",
            ("tests/integration/test_python_client.py",),
        ),
        Mutant(
            "a_renewal_that_failed_is_tried_again_without_end",
            "client/following.py",
            "        self._renew_at = now + RENEW_AGAIN_SECONDS\n        try:",
            "        try:",
            ("tests/unit/client/test_following.py",),
        ),
        Mutant(
            "rows_are_read_and_the_position_stays",
            "client/following.py",
            '        self._order = Order(parse(snapshot["cursor"]))\n        self._applied = '
            "self._order.seq\n",
            '        self._order = Order(parse(snapshot["cursor"]))\n',
            ("tests/integration/test_python_client.py",),
        ),
        Mutant(
            "a_row_without_text_ends_its_answer",
            "client/transcript.py",
            'status = "queued" if bare and row["status"] in ENDED else row["status"]',
            'status = row["status"]',
            ("tests/unit/client",),
        ),
        Mutant(
            "what_was_replaced_comes_back",
            "client/transcript.py",
            '        elif row["rev"] > held.rev:\n',
            '        elif row["rev"] <= held.rev:\n            return held\n        else:\n',
            ("tests/unit/client",),
        ),
        Mutant(
            "what_was_shown_shrinks_when_rows_are_read_again",
            "client/transcript.py",
            "            self._keep(before.shown)\n",
            "            self._keep(None)\n",
            ("tests/unit/client",),
        ),
        Mutant(
            "what_was_shown_longer_outlives_a_reset",
            "client/transcript.py",
            "self._keep(None if isinstance(decoded, events.Reset) else self._longer)",
            "self._keep(self._longer)",
            ("tests/unit/client",),
        ),
        Mutant(
            "an_end_that_is_not_proven_reads_without_end",
            "client/transcript.py",
            "believed = message.id in self._doubted",
            "believed = False",
            ("tests/unit/client",),
        ),
        Mutant(
            "an_end_without_a_row_is_believed",
            "client/transcript.py",
            'if not believed and event["type"] in ENDED and message.ordinal == math.inf:',
            "if False:",
            ("tests/unit/client",),
        ),
        Mutant(
            "an_end_that_is_not_proven_is_proven",
            "client/transcript.py",
            "self.proven = not believe",
            "self.proven = True",
            ("tests/unit/client",),
        ),
        Mutant(
            "a_hole_is_passed_over",
            "client/transcript.py",
            "        except ValueError:\n            return False\n",
            "        except ValueError:\n            return True\n",
            ("tests/unit/client",),
        ),
        Mutant(
            "events_that_the_row_holds_are_applied_again",
            "client/transcript.py",
            'event["seq"] <= message.seq or ',
            "",
            ("tests/unit/client",),
        ),
        Mutant(
            "failures_do_not_lengthen_the_wait",
            "client/transcript.py",
            "if longest is None or failures:",
            "if longest is None:",
            ("tests/unit/client",),
        ),
        Mutant(
            "who_subscribes_late_comes_back_with_everybody",
            "protocol/frames.py",
            "LATE = 4408, Advice.BACK_OFF",
            "LATE = 4408, Advice.RECONNECT",
            ("tests/unit/client", "tests/unit/protocol/test_frames.py"),
        ),
        Mutant(
            "a_row_ends_an_answer",
            "client/transcript.py",
            'if not self.ended and row["status"] not in ENDED:',
            "if not self.ended:",
            ("tests/unit/client",),
        ),
    ],
)
