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
            "self._hole = (self._hole or _now() + PATIENCE_SECONDS) if self._order.waiting else None",
            "self._hole = (self._hole or _now() + PATIENCE_SECONDS) if self._order.waiting else self._hole",
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
            "            await asyncio.gather(self._step, return_exceptions=True)\n        await self._changes.aclose()\n",
            "            await asyncio.gather(self._step, return_exceptions=True)\n",
            ("tests/integration/test_python_client.py",),
        ),
        Mutant(
            "an_answer_that_was_stopped_still_waits_for_a_try",
            "client/transcript.py",
            'message.status, message.retry, message.usage = event["type"], None, event.get("usage")',
            'message.status, message.usage = event["type"], event.get("usage")',
            ("tests/unit/client/test_transcript.py",),
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
            '        self._order = Order(parse(snapshot["cursor"]))\n        self._applied = self._order.seq\n',
            '        self._order = Order(parse(snapshot["cursor"]))\n',
            ("tests/integration/test_python_client.py",),
        ),
        Mutant(
            "a_source_is_told_of_twice",
            "client/transcript.py",
            """all(
        held["url"] != event["url"] for held in message.sources
    )""",
            "True",
            ("tests/unit/client/test_transcript.py",),
        ),
        Mutant(
            "what_was_replaced_comes_back",
            "client/transcript.py",
            '        elif row["rev"] > held.rev:\n            self._revise(held, row)\n',
            '        elif row["rev"] > held.rev:\n            self._revise(held, row)\n        else:\n            return held\n',
            ("tests/unit/client/test_transcript.py",),
        ),
    ],
)
