"""Host names, strict HTTP, and tasks that must not die."""

from tests.mutants.mutant import Area, Mutant

_STRICT = ("tests/unit/web/http/test_strict.py", "tests/integration/test_strict_http.py")
_TASKS = ("tests/unit/config/test_background.py",)

AREA = Area(
    "edge",
    ("tests/unit/web/http/test_hosts.py",),
    [
        Mutant(
            "any_host_is_answered",
            "web/http/hosts.py",
            "return not self._strict or self.known(header)",
            "return True",
        ),
        Mutant(
            "a_name_that_ends_like_ours_is_ours",
            "web/http/hosts.py",
            ' == "localhost" or name.endswith(".localhost"',
            '.endswith("localhost"',
        ),
        Mutant(
            "any_address_is_local",
            "web/http/hosts.py",
            "return ip_address(name).is_loopback",
            "return bool(ip_address(name))",
        ),
        Mutant(
            "sockets_are_not_asked_for_their_host",
            "web/http/middleware.py",
            '== "lifespan',
            '!= "http',
        ),
        Mutant(
            "upper_case_is_another_name",
            "web/http/hosts.py",
            '(found["six"] or found["name"]).lower()',
            '(found["six"] or found["name"])',
        ),
        Mutant(
            "an_unknown_name_is_handed_out",
            "web/http/hosts.py",
            "        if not self.known(header):\n",
            "        if False:\n",
        ),
        Mutant(
            "two_hosts_are_fine",
            "web/http/strict.py",
            """
        len(hosts) > 1
        or (not hosts and version == "1.1")
        or not all(_HOST.fullmatch(host) for host in hosts)
    """,
            'not hosts and version == "1.1") or not all(_HOST.fullmatch(host) for host in hosts',
            _STRICT,
        ),
        Mutant(
            "no_host_is_fine",
            "web/http/strict.py",
            '(not hosts and version == "1.1")',
            "False",
            _STRICT,
        ),
        Mutant(
            "any_transfer_coding_is_fine",
            "web/http/strict.py",
            '[coding.lower() for coding in codings] != [b"chunked"]',
            "False",
            _STRICT,
        ),
        Mutant(
            "any_number_of_headers",
            "web/http/strict.py",
            " or self._lines > self.head.headers:",
            ":",
            _STRICT,
        ),
        Mutant(
            "a_head_of_any_length",
            "web/http/strict.py",
            "if self._head > self.head.size or self._lines",
            "if self._lines",
            _STRICT,
        ),
        Mutant(
            "a_proxys_connection_is_closed_as_it_is_used_again",
            "web/http/connections.py",
            "            self.timeout_keep_alive = PROXY_IDLE_SECONDS\n",
            "            pass\n",
            (
                (
                    "tests/integration/test_admission.py::test_the_connection_of_a_proxy_stays_o"
                    "pen_"
                    "longer"
                ),
            ),
        ),
        Mutant(
            "trailers_become_headers",
            "web/http/strict.py",
            "        if not self._head_is_read:\n",
            "        if True:\n",
            _STRICT,
        ),
        Mutant(
            "what_is_not_read_to_its_end_grows",
            "web/http/strict.py",
            "not self.transport.is_closing()",
            "False",
            _STRICT,
        ),
        Mutant(
            "a_task_that_failed_is_not_run_again",
            "config/background.py",
            "        await asyncio.sleep(pause.next())\n",
            "        return\n",
            _TASKS,
        ),
        Mutant(
            "a_failure_is_not_counted",
            "config/background.py",
            "        TASK_FAILURES.labels(name).inc()\n",
            "",
            _TASKS,
        ),
        Mutant(
            "every_failure_is_logged",
            "config/background.py",
            "if now - self._logged.get(name, -LOG_SECONDS) < LOG_SECONDS:",
            "if False:",
            _TASKS,
        ),
        Mutant(
            "pauses_do_not_grow",
            "config/pauses.py",
            "min(self._next * 2, self._longest)",
            "self._next",
            _TASKS,
        ),
        Mutant(
            "a_task_that_ended_is_not_missed",
            "config/background.py",
            "        for call in self._when_ended:\n            call()\n",
            "",
            _TASKS,
        ),
        Mutant(
            "a_cancellation_from_elsewhere_ends_a_task",
            "config/background.py",
            "            if _cancelled():\n                raise\n            "
            "_report.failure(name, error)",
            "            raise",
            _TASKS,
        ),
        Mutant(
            "headers_of_a_connection_add_up",
            "web/http/strict.py",
            "self._head, self._lines, self._head_is_read = 0, 0, False",
            "self._head, self._head_is_read = 0, False",
            ("tests/unit/web/http/test_strict.py",),
        ),
        Mutant(
            "unlogged_failures_are_told_again_and_again",
            "config/background.py",
            "self._silent.pop(name, 0)",
            "self._silent.get(name, 0)",
            ("tests/unit/config/test_background.py",),
        ),
        Mutant(
            "a_replay_keeps_the_process_for_itself",
            "web/http/streaming.py",
            "            await asyncio.sleep(0)\n",
            "            pass\n",
            ("tests/unit/web/http/test_streaming.py",),
        ),
        Mutant(
            "a_refused_socket_is_an_error_of_ours",
            "web/http/sockets.py",
            "self.handshake_complete = True",
            "pass",
            ("tests/integration/test_admission_sockets.py",),
        ),
    ],
)
