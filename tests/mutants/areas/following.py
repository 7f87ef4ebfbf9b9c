"""Readers of this process: server-sent events and the other streams of `web`."""

from tests.mutants.mutant import Area, Mutant

_ANSWERS = ("tests/integration/test_answers.py",)

AREA = Area(
    "following",
    (
        "tests/unit/web/test_following.py",
        "tests/unit/streams/hub/test_log_cursor.py",
        "tests/integration/test_sse_refusals.py",
    ),
    [
        Mutant(
            "every_answer_is_told_from_its_start",
            "web/answers.py",
            "if from_start and page.oldest == 1",
            "if page.oldest == 1",
            _ANSWERS,
        ),
        Mutant(
            "an_answer_is_never_told_from_its_start",
            "web/answers.py",
            "if from_start and page.oldest == 1",
            "if False",
            _ANSWERS,
        ),
        Mutant(
            "an_answer_is_told_again_from_its_start",
            "web/answers.py",
            "        from_start = False\n",
            "        pass\n",
            _ANSWERS,
        ),
        Mutant(
            "a_row_of_an_earlier_epoch_holds_nothing",
            "web/answers.py",
            "held=reached)",
            "held=row.seq if row.epoch == page.epoch else 0)",
            _ANSWERS,
        ),
        Mutant(
            "a_late_wake_is_lost",
            "web/following.py",
            """            self._news.clear()
            if (part := await self._look()) is not None:
                return part
            await self._news.wait()
""",
            """            if (part := await self._look()) is not None:
                return part
            self._news.clear()
            await self._news.wait()
""",
        ),
        Mutant(
            "more_at_a_heartbeat_is_not_looked_for",
            "web/following.py",
            "        self._news.set()  # more is there, or the end: look again\n",
            "",
        ),
        Mutant(
            "nobody_looks_again_after_an_outage",
            "web/following.py",
            "            self._loop.call_later(OUTAGE_PAUSE_SECONDS, self.wake)\n",
            "",
        ),
        Mutant(
            "a_permission_is_never_looked_at_again",
            "web/following.py",
            "        return await self._permission.check()\n",
            "        return True\n",
        ),
        Mutant(
            "the_last_reason_counts",
            "web/following.py",
            "self._over = self._over or reason",
            "self._over = reason",
        ),
        Mutant(
            "a_part_of_any_size",
            "web/following.py",
            "Entries(portion(entries, PART_BYTES), self._late)",
            "Entries(entries, self._late)",
        ),
        Mutant(
            "the_position_stays_behind",
            "web/following.py",
            "            self._cursor.passed(part.entries[-1].seq)\n",
            "",
        ),
        Mutant(
            "an_empty_room_beats_on",
            "web/following.py",
            "                del self._rooms[tail]\n                room.close()\n",
            "                del self._rooms[tail]\n",
        ),
        Mutant(
            "a_tail_is_kept_for_ever",
            "web/following.py",
            "                room.close()\n            self._hub.release(tail)\n",
            "                room.close()\n",
        ),
        Mutant(
            "who_comes_while_it_stops_stays",
            "web/following.py",
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
            "web/http/streaming.py",
            "await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)",
            "await asyncio.wait({sending})",
        ),
        Mutant(
            "a_database_that_is_away_ends_a_chat_stream",
            "web/aisdk/stream.py",
            "(LogUnavailable, StoreUnavailable)",
            "LogUnavailable",
            ("tests/integration/test_chat_streams.py",),
        ),
        Mutant(
            "an_outage_is_told_without_end",
            "web/following.py",
            "        told, self._beat = self._beat, None\n        return Beat(None) if",
            "        told = self._beat\n        return Beat(None) if",
            ("tests/unit/web/test_following.py::test_an_outage_is_told_once_for_each_look",),
        ),
        Mutant(
            "a_cut_waits_for_its_client",
            "web/http/streaming.py",
            "            sending.cancel()\n            leaving.cancel()\n",
            "            sending.cancel()\n",
            ("tests/unit/web/http/test_streaming.py",),
        ),
        Mutant(
            "a_chat_asks_without_end_in_an_outage",
            "web/aisdk/stream.py",
            "            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)\n",
            "",
            ("tests/integration/test_chat_streams.py",),
        ),
    ],
)
