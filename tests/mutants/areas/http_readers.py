"""HTTP readers: server-sent events and the other streams of `web`."""

from tests.mutants.mutant import Area, Mutant

_WATCHING = ("tests/integration/test_watching.py",)

_DEPARTURE = ("tests/unit/web/http/test_departure.py",)

AREA = Area(
    "http_readers",
    (
        "tests/unit/web/test_readers.py",
        "tests/unit/streams/hub/test_log_cursor.py",
        "tests/integration/test_sse_refusals.py",
    ),
    [
        Mutant(
            "a_row_is_rewound_over_trimmed_events",
            "web/resuming.py",
            "found is None or first > last:",
            "found is None:",
            _WATCHING,
        ),
        Mutant(
            "a_row_that_cannot_tell_the_order_is_believed",
            "web/watching.py",
            "if wants_log and exact and page.oldest == 1:",
            "if False:",
            _WATCHING,
        ),
        Mutant(
            "a_tail_is_told_from_a_row_that_is_ahead",
            "web/resuming.py",
            "        ahead = row.seq > last\n",
            "        ahead = False\n",
            _WATCHING,
        ),
        Mutant(
            "a_tail_is_told_from_the_middle_of_its_answer",
            "web/resuming.py",
            "        if after > 0:\n            mine =",
            "        if False:\n            mine =",
            _WATCHING,
        ),
        Mutant(
            "what_the_row_holds_is_told_again",
            "web/watching.py",
            "                if added or not isinstance(event, events.Piece):\n",
            "                if True:\n",
            _WATCHING,
        ),
        Mutant(
            "what_nobody_asks_for_is_not_folded",
            "web/watching.py",
            "                        deque(update.folded, 0)",
            "                        pass",
            _WATCHING,
        ),
        Mutant(
            "what_does_not_fit_has_a_cursor",
            "web/watching.py",
            "            self._log_fits, news.cursor = False, None\n",
            "            self._log_fits = False\n",
            _WATCHING,
        ),
        Mutant(
            "who_comes_back_is_told_from_the_beginning_of_the_log",
            "web/resuming.py",
            "there = await self._from_row(last) if knows_order(self._row) else None",
            "there: Answer | None = None",
            _WATCHING,
        ),
        Mutant(
            "who_comes_back_before_the_end_is_not_told_of_it",
            "web/resuming.py",
            "        there = before_end(held) if held.ended else held\n",
            "        there = held\n",
            _WATCHING,
        ),
        Mutant(
            "who_comes_back_knows_no_attempt",
            "web/watching.py",
            "self._news([*begun, *catch_up(",
            "self._news([*catch_up(",
            _WATCHING,
        ),
        Mutant(
            "a_cursor_of_a_row_is_never_given",
            "web/watching.py",
            "Cursor(page.epoch, reached) if exact and reached else None",
            "None",
            _WATCHING,
        ),
        Mutant(
            "an_end_in_the_row_alone_is_not_seen",
            "web/watching.py",
            "if isinstance(item, Live) or item.cursor is None:",
            "if False:",
            ("tests/integration/test_openai_stream.py", "tests/integration/test_watching.py"),
        ),
        Mutant(
            "a_late_wake_is_lost",
            "web/readers.py",
            """            self._woken.clear()
            if (item := await self._item(self._tail)) is not None:
                return item
            await self._woken.wait()
""",
            """            if (item := await self._item(self._tail)) is not None:
                return item
            self._woken.clear()
            await self._woken.wait()
""",
        ),
        Mutant(
            "more_at_a_heartbeat_is_not_looked_for",
            "web/readers.py",
            "        self._woken.set()  # there is more, or the log has ended: check again\n",
            "",
        ),
        Mutant(
            "nobody_looks_again_after_an_outage",
            "web/readers.py",
            "            self._loop.call_later(LOG_RETRY_SECONDS, self._woken.set)\n",
            "",
        ),
        Mutant(
            "a_permission_is_never_looked_at_again",
            "web/readers.py",
            "        return await self._permission.check()\n",
            "        return True\n",
        ),
        Mutant(
            "the_last_reason_counts",
            "web/readers.py",
            "self._over = self._over or reason",
            "self._over = reason",
        ),
        Mutant(
            "a_part_of_any_size",
            "web/readers.py",
            "Entries(fitting(entries, ITEM_BYTES), self._late)",
            "Entries(entries, self._late)",
        ),
        Mutant(
            "the_position_stays_behind",
            "web/readers.py",
            "            self._reading.passed(item.entries[-1].seq)\n",
            "",
        ),
        Mutant(
            "who_comes_while_it_stops_stays",
            "web/readers.py",
            '        if self.stopping.is_set():\n            reader.end("stopped")\n',
            "",
        ),
        Mutant(
            "a_full_server_takes_more",
            "web/http/streaming.py",
            "        if self.taken >= self._limit:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_place_is_never_given_back",
            "web/http/streaming.py",
            "        finally:\n            self.taken -= 1\n",
            "        finally:\n            pass\n",
        ),
        Mutant(
            "a_client_that_left_is_written_to",
            "web/http/departure.py",
            "await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)",
            "await asyncio.wait({working})",
            _DEPARTURE,
        ),
        Mutant(
            "what_else_a_client_sends_is_taken_for_its_departure",
            "web/http/departure.py",
            '    while (await receive())["type"] != "http.disconnect":\n        pass\n',
            "    await receive()\n",
            _DEPARTURE,
        ),
        Mutant(
            "work_goes_on_without_its_client",
            "web/http/departure.py",
            "        working.cancel()\n",
            "",
            _DEPARTURE,
        ),
        Mutant(
            "a_database_that_is_away_sends_readers_away",
            "web/readers.py",
            "    except StoreUnavailable:\n        return True\n",
            "    except StoreUnavailable:\n        return False\n",
            ("tests/unit/web/test_readers.py",),
        ),
        Mutant(
            "proxies_hold_back_what_streams_say",
            "web/http/sse.py",
            '    "X-Accel-Buffering": "no",  # nginx',
            '    "X-Accel-Buffering": "yes",  # nginx',
            ("tests/unit/web/http/test_streaming.py",),
        ),
        Mutant(
            "a_database_that_is_away_ends_a_chat_stream",
            "web/watching.py",
            "(LogUnavailable, StoreUnavailable)",
            "LogUnavailable",
            ("tests/integration/test_chat_streams.py",),
        ),
        Mutant(
            "an_outage_is_told_without_end",
            "web/readers.py",
            "        seen, self._seen = self._seen, None\n        return Beat(None) if",
            "        seen = self._seen\n        return Beat(None) if",
            ("tests/unit/web/test_readers.py::test_an_outage_is_reported_once_per_read",),
        ),
        Mutant(
            "a_cut_waits_for_its_client",
            "web/http/departure.py",
            "        leaving.cancel()\n",
            "",
            ("tests/unit/web/http/test_streaming.py", *_DEPARTURE),
        ),
        Mutant(
            "a_chat_asks_without_end_in_an_outage",
            "web/watching.py",
            "            await asyncio.sleep(WATCH_RETRY_SECONDS)\n",
            "",
            ("tests/integration/test_chat_streams.py",),
        ),
        Mutant(
            "a_bug_is_swallowed",
            "web/readers.py",
            "        if self._bug is not None:\n            raise self._bug\n",
            "",
            ("tests/contracts/test_readers.py",),
        ),
        Mutant(
            "who_was_removed_is_not_asked_about",
            "web/readers.py",
            "self._doubtful = self._doubtful or self._permission.user_id in users",
            "self._doubtful = False",
            ("tests/contracts/test_readers.py",),
        ),
        Mutant(
            "everybody_is_asked_about_when_somebody_is_removed",
            "web/readers.py",
            "self._doubtful = self._doubtful or self._permission.user_id in users",
            "self._doubtful = bool(users)",
            ("tests/contracts/test_readers.py",),
        ),
        Mutant(
            "a_reader_is_late_for_ever",
            "web/readers.py",
            "                self._late = False\n",
            "",
        ),
    ],
)
