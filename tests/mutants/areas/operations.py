"""Outages, readiness, secrets of processes, contents of logs."""

from tests.mutants.mutant import Area, Mutant

_BROKER = ("tests/integration/test_broker.py",)
_STORE = ("tests/integration/test_store_outages.py",)
_STARTUP = ("tests/unit/config/test_startup.py", "tests/integration/test_startup.py")
_WORKER = ("tests/integration/test_worker_process.py",)
_BOOT = ("tests/integration/test_background_process.py",)
_FAILOVER = ("tests/integration/streams/test_failover.py",)
_LOGS = ("tests/unit/config/test_logs.py",)
_LOCAL = ("tests/unit/web/test_local_servers.py", "tests/unit/web/test_offers.py")
_FEEDS = ("tests/unit/web/feed/test_feeds.py",)

AREA = Area(
    "operations",
    (
        "tests/unit/web/test_health.py",
        "tests/unit/launcher",
        "tests/unit/config",
        "tests/unit/models/test_migrate.py",
    ),
    [
        Mutant(
            "a_full_redis_is_no_outage",
            "streams/log/outages.py",
            'OOM",\n    "',
            "",
            _BROKER,
        ),
        Mutant(
            "a_redis_that_cannot_save_is_no_outage",
            "streams/log/outages.py",
            'MISCONF",\n    "',
            "",
            _BROKER,
        ),
        Mutant(
            "who_is_demoted_stays_connected",
            "worker/broker.py",
            "                self.disconnect()\n",
            "",
            _BROKER,
        ),
        Mutant(
            "a_due_job_is_lost_in_an_outage",
            "worker/broker.py",
            "if self.draining or not isinstance(threading.current_thread(), ConsumerThread):",
            "if True:",
            _BROKER,
        ),
        Mutant(
            "a_leadership_from_before_the_clock_was_set_back",
            "worker/broker.py",
            " and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then",
            " then",
            _BROKER,
        ),
        Mutant(
            "anybody_takes_the_leadership_over",
            "worker/broker.py",
            "redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2])",
            "redis.call('PTTL', KEYS[1]) < 0",
            _BROKER,
        ),
        Mutant(
            "a_lost_delivery_stays_lost",
            "worker/broker.py",
            "            self._put_back_lost()\n",
            "",
            _BROKER,
        ),
        Mutant(
            "a_job_that_runs_is_put_back",
            "worker/broker.py",
            "delivered(self.queue_name) - self.holding",
            "delivered(self.queue_name)",
            _BROKER,
        ),
        Mutant(
            "a_job_that_was_answered_for_is_held",
            "worker/broker.py",
            "self.holding.difference_update(",
            "list(",
            _BROKER,
        ),
        Mutant(
            "a_drain_waits_for_an_outage",
            "worker/broker.py",
            "if self.draining or not isinstance",
            "if not isinstance",
            _BROKER,
        ),
        Mutant(
            "a_requeue_fails_for_good",
            "worker/broker.py",
            "self._answer(super().requeue, given_back, given_back)",
            "super().requeue(given_back)",
            _BROKER,
        ),
        Mutant(
            "a_write_that_takes_no_room_is_enough",
            "models/database.py",
            '"CREATE TEMPORARY TABLE readiness ON COMMIT DROP AS SELECT 1 AS written"',
            '"UPDATE tokenwire_version SET version_num = version_num"',
            _STORE,
        ),
        Mutant(
            "a_frozen_database_is_waited_for",
            "models/database.py",
            "CANCEL_SECONDS = 0.5",
            "CANCEL_SECONDS = 30.0",
            _STORE,
        ),
        Mutant(
            "an_abandoned_query_goes_on",
            "models/database.py",
            "await self.cancel_safe(timeout=CANCEL_SECONDS)",
            "pass",
            _STORE,
        ),
        Mutant(
            "a_newer_database_is_refused",
            "models/migrations/__init__.py",
            "int(revision) >= int(HEAD)",
            "int(revision) == int(HEAD)",
        ),
        Mutant(
            "a_hanging_check_is_begun_again",
            "web/readiness.py",
            "if self._running is None or self._running.done():",
            "if True:",
        ),
        Mutant(
            "every_probe_costs_a_write",
            "web/readiness.py",
            "if now - self._ok_at < FRESH_SECONDS:",
            "if False:",
        ),
        Mutant(
            "readiness_writes_nothing",
            "web/readiness.py",
            "        return await need.writes()\n",
            "        return None\n",
        ),
        Mutant(
            "web_knows_the_keys_of_providers",
            "launcher/environment.py",
            'catalogue[name] and kind == "web"',
            "False",
        ),
        Mutant(
            "processes_read_the_file_themselves",
            "launcher/environment.py",
            'mine | {"ENV_FILE": os.devnull}',
            "mine",
        ),
        Mutant(
            "a_new_database_is_everybodys",
            "models/migrate.py",
            "os.O_EXCL, 0o600)",
            "os.O_EXCL, 0o644)",
        ),
        Mutant(
            "libraries_speak_in_detail",
            "config/logs.py",
            "root.setLevel(max(wanted, logging.WARNING))",
            "root.setLevel(wanted)",
            _LOGS,
        ),
        Mutant(
            "secrets_are_shown_where_they_are_escaped",
            "config/logs.py",
            "forms = shown | {",
            "forms = {*shown} or {",
            _LOGS,
        ),
        Mutant(
            "llamacpp_is_taken_for_localai",
            "web/local_servers.py",
            "return not owners & set(_OWNERS.values())",
            "return True",
            _LOCAL,
        ),
        Mutant(
            "tokenwire_is_taken_for_a_model",
            "web/local_servers.py",
            "if _OURSELVES in owners or not",
            "if not",
            _LOCAL,
        ),
        Mutant(
            "whoever_is_busy_is_gone",
            "web/local_servers.py",
            "return ProbeResult.BUSY",
            "return ProbeResult.ANOTHER",
            _LOCAL,
        ),
        Mutant(
            "who_is_missed_once_is_gone", "web/offers.py", "PATIENCE = 2", "PATIENCE = 0", _LOCAL
        ),
        Mutant(
            "who_is_gone_is_offered",
            "web/offers.py",
            "            return False\n",
            "            return True\n",
            _LOCAL,
        ),
        Mutant(
            "who_is_away_is_unknown",
            "web/offers.py",
            "if wanted in self._catalogue.local_servers:",
            "if False:",
            _LOCAL,
        ),
        Mutant(
            "who_starts_looks_once", "web/offers.py", "FIRST_PROBES = 3", "FIRST_PROBES = 1", _LOCAL
        ),
        Mutant(
            "every_feed_looks_at_every_change",
            "web/feed/feeds.py",
            "for room in concerned:",
            "for room in self._rooms.values():",
            _FEEDS,
        ),
        Mutant(
            "a_deletion_is_told_to_nobody",
            "web/feed/feeds.py",
            "concerned = self._shown.rooms(ids) | {",
            "concerned = {",
            _FEEDS,
        ),
        Mutant(
            "a_key_that_is_also_no_key_goes_to_web",
            "providers/catalogue.py",
            "found[name] = found.get(name, False) or key in",
            "found[name] = key in",
            ("tests/unit/providers/test_catalogue.py",),
        ),
        Mutant(
            "what_ends_during_packing_waits_for_the_next",
            "worker/packing.py",
            """            self._asked.clear()
            for conversation_id in sorted(waiting):
                await self._pack(conversation_id)
""",
            """            for conversation_id in sorted(waiting):
                await self._pack(conversation_id)
            self._asked.clear()
""",
            ("tests/unit/worker/test_packing.py",),
        ),
        Mutant(
            "a_doubt_costs_looks_without_end",
            "web/feed/feeds.py",
            "doubtful, self._doubtful = self._doubtful, set()",
            "doubtful = self._doubtful",
            ("tests/unit/web/feed/test_feeds.py",),
        ),
        Mutant(
            "who_leaves_during_a_look_stays",
            "web/feed/feeds.py",
            "        self._reading.cancel()\n        self._shown.reading.discard(self)\n",
            "        self._reading.cancel()\n",
            ("tests/unit/web/feed/test_feeds.py",),
        ),
        Mutant(
            "a_feed_outlives_its_login",
            "web/feed/routes.py",
            '                yield sse.comment("expired")\n                return\n',
            '                yield sse.comment("expired")\n',
            ("tests/unit/web/feed/test_feeds.py",),
        ),
        Mutant(
            "what_was_not_ready_is_ready_the_second_time",
            "web/readiness.py",
            "        if found is None:\n            self._ok_at",
            "        if True:\n            self._ok_at",
            ("tests/unit/web/test_health.py",),
        ),
        Mutant(
            "who_left_counts_as_no_status",
            "web/http/middleware.py",
            "str(status or _CLIENT_GONE)",
            "str(status)",
            ("tests/unit/web/test_health.py",),
        ),
        Mutant(
            "a_reason_is_said_again_and_again",
            "config/startup.py",
            "        if wrong != reported:\n",
            "        if True:\n",
            _STARTUP,
        ),
        Mutant(
            "the_end_of_an_outage_is_not_said",
            "config/startup.py",
            "    if reported is not None:\n",
            "    if False:\n",
            _STARTUP,
        ),
        Mutant(
            "the_outermost_error_is_said",
            "config/startup.py",
            "while isinstance(error.__cause__, Exception):",
            "while False:",
            _STARTUP,
        ),
        Mutant(
            "it_is_asked_once",
            "config/startup.py",
            "    while (wrong := ",
            "    if (wrong := ",
            _STARTUP,
        ),
        Mutant(
            "web_does_not_say_what_is_wrong",
            "web/__main__.py",
            "startup.asking(needs(store, log))",
            "startup.asking({})",
            _STARTUP,
        ),
        Mutant(
            "a_worker_does_not_say_what_is_wrong",
            "worker/runtime.py",
            "startup.asking(needs(self._store, self._log))",
            "startup.asking({})",
            _STARTUP,
        ),
        Mutant(
            "a_broadcaster_does_not_say_what_is_wrong",
            "broadcaster/__main__.py",
            'startup.asking({"redis": (log.check,)})',
            "startup.asking({})",
            _STARTUP,
        ),
        Mutant(
            "visitors_read_what_is_for_developers",
            "web/page/static/app.js",
            "    if (error.status === 401) askToSignIn();\n    else tell",
            "    tell",
            ("tests/e2e/test_page.py::test_two_people_in_one_conversation",),
        ),
        Mutant(
            "a_worker_sleeps_before_it_goes",
            "worker/broker.py",
            "LAST_POLL_SECONDS if self.broker.leaving else self._poll",
            "self._poll",
            _WORKER,
        ),
        Mutant(
            "a_hand_over_waits_until_dramatiq_looks",
            "worker/runtime.py",
            "                asyncio.run_coroutine_threadsafe(self._drain(broker), thread.loop)\n",
            "                pass\n",
            _WORKER,
        ),
        Mutant(
            "a_second_signal_ends_the_hand_over",
            "worker/runtime.py",
            "            signal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
            "",
            _WORKER,
        ),
        Mutant(
            "a_signal_kills_what_has_ended_in_order",
            "config/stopping.py",
            "    ignore_at_exit(numbers)\n",
            "",
        ),
        Mutant(
            "a_handler_that_fails_leaves_a_signal_deadly",
            "config/stopping.py",
            "        with contextlib.suppress(Exception):\n            signal.signal(left",
            "        with contextlib.nullcontext():\n            signal.signal(left",
        ),
        Mutant(
            "each_signal_is_a_new_one",
            "config/stopping.py",
            "            stopped = True\n",
            "",
        ),
        Mutant(
            "a_worker_that_was_told_ends_never",
            "worker/runtime.py",
            "                noted(number, frame)\n",
            "                pass\n",
            _WORKER,
        ),
        Mutant(
            "what_a_process_started_outlives_it",
            "config/parent.py",
            "    _libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)\n",
            "",
            ("tests/integration/launcher", "tests/integration/test_servers_of_tests.py"),
        ),
        Mutant(
            "who_cannot_open_takes_jobs",
            "worker/runtime.py",
            "raise SystemExit(EXIT_NOT_OPENED) from None",
            "raise",
            _BOOT,
        ),
        Mutant(
            "who_cannot_open_says_all",
            "worker/runtime.py",
            " reason=startup.reason(error)",
            """
                reason=startup.reason(error),
                exc_info=error,""",
            _BOOT,
        ),
        Mutant(
            "a_text_that_cannot_be_encoded_is_quoted",
            "config/logs.py",
            """(
        f"{type(error).__name__}({str(error)!r})"
        if isinstance(error, UnicodeError)
        else repr(error)
    """,
            'f"{type(error).__name__}({str(error)!r})" if False else repr(error',
            ("tests/unit/worker/test_operators.py",),
        ),
        Mutant(
            "rates_stay_with_the_demoted",
            "streams/limits/rates.py",
            "            if cannot_serve(error):\n",
            "            if False:\n",
            _FAILOVER,
        ),
        Mutant(
            "ids_of_jobs_add_up",
            "worker/broker.py",
            "                broker.client.hdel(JOBS, message.args[0])\n",
            "",
            ("tests/integration/test_broker.py::test_a_started_job_leaves_nothing_in_redis",),
        ),
        Mutant(
            "only_headers_that_begin_like_a_secret_are_hidden",
            "providers/catalogue.py",
            "sear",
            "mat",
            ("tests/unit/providers/test_catalogue.py",),
        ),
        Mutant(
            "misses_of_a_local_server_add_up",
            "web/offers.py",
            "self._missed[server] + 1 if found is ProbeResult.NOBODY else 0",
            "self._missed[server] + (found is ProbeResult.NOBODY)",
            ("tests/unit/web/test_offers.py",),
        ),
        Mutant(
            "a_lost_wake_up_channel_is_dialled_without_end",
            "worker/broker.py",
            'polling meanwhile", error=repr(error))\n                time.sleep(POLL_SECONDS)\n',
            'polling meanwhile", error=repr(error))\n',
            ("tests/unit/worker/test_broker.py",),
        ),
        Mutant(
            "a_consumer_that_was_woken_never_sleeps_again",
            "worker/broker.py",
            "            self._woken.clear()\n            self._fetch()",
            "            self._fetch()",
            ("tests/integration/test_broker.py",),
        ),
        Mutant(
            "who_starts_in_an_outage_never_hears_of_cancels",
            "worker/runtime.py",
            """            except ports.LogUnavailable:
                await asyncio.sleep(CONTROL_PAUSE_SECONDS)
""",
            """            except ports.LogUnavailable:
                return
""",
            ("tests/unit/worker/test_runtime.py",),
        ),
        Mutant(
            "a_change_during_a_look_is_forgotten",
            "web/feed/feeds.py",
            "            self._answer(error)\n            self._shown.reading.discard(self)\n",
            "            self._answer(error)\n            self._asked.clear()\n            "
            "self._shown.reading.discard(self)\n",
            ("tests/unit/web/feed/test_feeds.py",),
        ),
        Mutant(
            "no_free_connection_is_a_bug",
            "models/failures.py",
            "case exc.TimeoutError() | OSError():",
            "case OSError():",
            ("tests/integration/test_store_outages.py",),
        ),
    ],
)
