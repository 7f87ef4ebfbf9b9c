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
            "await asyncio.sleep(max(error.retry_after, self._jitter() * 0.5 * 2 ** (TRIES - tries)))",
            "await asyncio.sleep(self._jitter() * 0.5 * 2 ** (TRIES - tries))",
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
    ],
)
