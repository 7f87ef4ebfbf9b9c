"""`make run`: the start of processes, their restart, and the stop."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "launcher",
    ("tests/unit/launcher", "tests/integration/launcher"),
    [
        Mutant(
            "it_is_running_without_workers",
            "launcher/launch.py",
            "return all(file.exists() for file in self._ready.values())",
            "return True",
        ),
        Mutant(
            "tools_lose_their_keys",
            "launcher/environment.py",
            ', "TOOLS_": _WORKER}',
            "}",
            ("tests/unit/launcher/test_environment.py",),
        ),
        Mutant(
            "what_a_process_forked_stays",
            "launcher/child.py",
            "            if number is signal.SIGKILL:\n                self._kill_group()\n",
            "",
        ),
        Mutant(
            "a_process_that_ended_is_not_started_again",
            "launcher/child.py",
            "        while not self._stopping.is_set():\n            began",
            "        if not self._stopping.is_set():\n            began",
        ),
        Mutant(
            "a_process_that_fails_at_once_is_started_without_a_pause",
            "launcher/child.py",
            "quick_ends = quick_ends + 1 if clock() - began < _STEADY_SECONDS else 0",
            "quick_ends = 0",
        ),
        Mutant(
            "pauses_grow_without_end",
            "launcher/child.py",
            "return min(_LONGEST_PAUSE_SECONDS, 0.1",
            "return max(0.2, 0.1",
        ),
        Mutant(
            "a_deaf_process_is_waited_for_without_end",
            "launcher/child.py",
            "            self._signal(signal.SIGKILL)\n            await",
            "            await",
        ),
        Mutant(
            "a_wrong_setting_is_a_crash_like_others",
            "launcher/child.py",
            "            self.refused.set()\n",
            "            pass\n",
        ),
        Mutant(
            "a_restart_is_announced_that_may_not_come",
            "launcher/child.py",
            "            self._console.print_line(line)\n            return",
            '            self._console.print_line(f"{line}; starting it again in 5 s")\n'
            "            return",
            ("tests/unit/launcher/test_child.py",),
        ),
        Mutant(
            "a_redis_that_is_not_installed_is_waited_for",
            "launcher/launch.py",
            "self._unless_refused(lambda: probes.redis_answers(self._settings.redis))",
            "lambda: probes.redis_answers(self._settings.redis)",
        ),
        Mutant(
            "a_line_too_long_ends_the_relay",
            "launcher/child.py",
            '            return b"(a line too long to show)\\n"',
            '            return b""',
        ),
        Mutant(
            "ctrl_c_reaches_the_processes",
            "launcher/child.py",
            "                start_new_session=True,\n",
            "",
        ),
        Mutant(
            "processes_outlive_the_launcher",
            "launcher/child.py",
            "                preexec_fn=dying_with_us(),\n",
            "",
        ),
        Mutant(
            "workers_stop_before_the_web",
            "launcher/launch.py",
            '_STOP_ORDER = (("web", "broadcaster"), ("worker",), ("redis",))',
            '_STOP_ORDER = (("worker",), ("web", "broadcaster"), ("redis",))',
        ),
        Mutant(
            "redis_stops_first",
            "launcher/launch.py",
            '_STOP_ORDER = (("web", "broadcaster"), ("worker",), ("redis",))',
            '_STOP_ORDER = (("redis",), ("web", "broadcaster"), ("worker",))',
        ),
        Mutant(
            "a_worker_has_no_time_to_drain",
            "launcher/launch.py",
            '(self._settings.drain_seconds if kind == "worker" else 0)',
            "0",
        ),
        Mutant(
            "a_failed_migration_is_no_reason_to_stop",
            "launcher/launch.py",
            "        if migrated != 0:\n",
            "        if False:\n",
        ),
        Mutant(
            "without_redis_it_starts_all_the_same",
            "launcher/launch.py",
            "        if not redis_answers:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_refusal_at_the_start_is_waited_for",
            "launcher/launch.py",
            """[
                child.command.name for child in self._children if child.refused.is_set()
            ]""",
            "list[str]()",
        ),
        Mutant(
            "it_outlives_make",
            "launcher/launch.py",
            'parent = os.getppid() if "MAKELEVEL" in os.environ else None',
            "parent = None",
        ),
        Mutant(
            "it_outlives_its_terminal",
            "launcher/launch.py",
            "(*STOP_SIGNALS, signal.SIGHUP)",
            "STOP_SIGNALS",
        ),
        Mutant(
            "dotenv_wins_over_the_environment",
            "launcher/environment.py",
            "for source in (_FOR_DEVELOPMENT, dotenv, environ)",
            "for source in (_FOR_DEVELOPMENT, environ, dotenv)",
        ),
        Mutant(
            "an_empty_value_counts",
            "launcher/environment.py",
            """        if value
""",
            """        if value is not None
""",
        ),
        Mutant(
            "the_key_file_is_for_everybody",
            "launcher/environment.py",
            "os.O_EXCL, 0o600)",
            "os.O_EXCL, 0o644)",
        ),
        Mutant(
            "another_key_at_each_start",
            "launcher/environment.py",
            "    if not path.exists():\n        file = os.open(path, os.O_WRONLY | os.O_CREAT | "
            "os.O_EXCL, 0o600)",
            "    if True:\n        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "
            "0o600)",
        ),
        Mutant(
            "a_port_that_is_taken_counts_as_free",
            "launcher/probes.py",
            "            except OSError:\n                return False\n",
            "            except OSError:\n                return True\n",
        ),
        Mutant(
            "any_server_counts_as_redis",
            "launcher/probes.py",
            'return answer.startswith((b"+PONG", b"-NOAUTH"))',
            "return bool(answer)",
        ),
        Mutant(
            "any_answer_counts_as_ready",
            "launcher/probes.py",
            'return b" 200 " in answer.split(b"\\r\\n", 1)[0]',
            "return bool(answer)",
        ),
        Mutant(
            "a_default_in_the_procfile_is_ignored",
            "launcher/procfile.py",
            'or match["default"] or ""',
            'or ""',
        ),
        Mutant(
            "a_stop_while_forking_is_lost",
            "launcher/child.py",
            "        if self._stopping.is_set():  # a stop came during the fork\n            "
            "self._signal(signal.SIGTERM)\n",
            "",
        ),
        Mutant(
            "a_setting_that_was_put_right_is_held_against_a_process",
            "launcher/child.py",
            "        self.refused.clear()\n",
            "",
            ("tests/unit/launcher/test_child.py",),
        ),
        Mutant(
            "quick_ends_of_a_whole_day_add_up",
            "launcher/child.py",
            "< _STEADY_SECONDS else 0",
            "< _STEADY_SECONDS else quick_ends",
            ("tests/unit/launcher/test_child.py",),
        ),
        Mutant(
            "metrics_begin_behind_their_port",
            "launcher/__main__.py",
            "settings.metrics_port + counted.index(command)",
            "settings.metrics_port + processes.index(command)",
            ("tests/unit/launcher/test_main.py",),
        ),
        Mutant(
            "a_redis_that_wants_a_password_is_not_there",
            "launcher/probes.py",
            'answer.startswith((b"+PONG", b"-NOAUTH"))',
            'answer.startswith(b"+PONG")',
            ("tests/unit/launcher/test_probes.py",),
        ),
    ],
)
