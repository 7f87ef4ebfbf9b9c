"""The command connection: pipelines, scripts that the server lost, servers that cannot serve."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "wire",
    ("tests/unit/streams/log/test_wire.py", "tests/integration/streams/test_log_faults.py"),
    [
        Mutant(
            "no_reconnect_after_a_failover",
            "streams/log/wire.py",
            "reconnect = _settle_error(call, error) or reconnect",
            "_settle_error(call, error)",
        ),
        Mutant(
            "noscript_ends_the_pipeline",
            "streams/log/wire.py",
            "                self._waiting.appendleft(call)\n",
            "                self._waiting.appendleft(call)\n                break\n",
        ),
        Mutant(
            "noscript_is_not_sent_again",
            "streams/log/wire.py",
            "                self._known.clear()\n                self._waiting.appendleft(call)\n",
            "                self._known.clear()\n",
        ),
        Mutant(
            "noscript_forgets_one_try_only",
            "streams/log/wire.py",
            "                self._known.clear()\n                self._waiting.appendleft(call)\n",
            "                self._waiting.appendleft(call)\n",
        ),
        Mutant(
            "scripts_are_believed_known_on_a_new_connection",
            "streams/log/wire.py",
            "            self._known.clear()\n            await connection.connect()",
            "            await connection.connect()",
        ),
        Mutant(
            "passing_errors_are_the_callers",
            "streams/log/wire.py",
            "    if passing:\n        _fail([call], error)",
            "    if not passing:\n        _fail([call], error)",
        ),
        Mutant(
            "cancelled_calls_are_sent",
            "streams/log/wire.py",
            "if not call.future.done():  # its caller was cancelled",
            "if call is not None:  # its caller was cancelled",
        ),
        Mutant(
            "an_append_is_sent_once",
            "streams/log/redis.py",
            "                if self._wire.closed:\n                    raise\n",
            "                raise\n",
        ),
        Mutant(
            "a_hung_up_server_is_not_noticed_before_a_write",
            "streams/log/wire.py",
            """(
            connection.is_connected and await connection.can_read()
        )""",
            "False",
        ),
    ],
)
