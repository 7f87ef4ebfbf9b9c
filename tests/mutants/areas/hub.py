"""The hub: one tail per conversation, its trust in pub/sub, its holders; cursors of readers;
rooms.
"""

from tests.mutants.mutant import Area, Mutant

_CURSOR = ("tests/unit/streams/hub/test_log_cursor.py",)
_ROOM = (
    "tests/unit/streams/hub/test_room.py",
    "tests/unit/broadcaster/test_readers.py",
    "tests/unit/web/test_readers.py",
    "tests/contracts/test_readers.py",
)

AREA = Area(
    "hub",
    # A failing schedule shows late, only after Hypothesis has reduced it.
    (
        "tests/unit/streams/hub/test_tail.py",
        "tests/unit/streams/hub/test_hub.py",
        "tests/unit/streams/hub/test_schedules.py",
        "tests/integration/streams/test_hub_on_valkey.py",
    ),
    [
        Mutant(
            "an_end_shows_that_an_answer_is_running",
            "protocol/events.py",
            "and member not in (Wait, *TERMINAL)",
            "and member not in (Wait,)",
            ("tests/unit/protocol/test_events.py",),
        ),
        Mutant(
            "reads_before_it_subscribes",
            "streams/hub/hub.py",
            """        await self._pubsub.subscribe(keys.channel(tail.conversation_id))
        try:
            await tail.refresh()
        except Gone:
            return  # the tail itself reports it
""",
            """        try:
            await tail.refresh()
        except Gone:
            return  # the tail itself reports it
        await self._pubsub.subscribe(keys.channel(tail.conversation_id))
""",
        ),
        Mutant(
            "a_top_that_went_back_is_ignored",
            "streams/hub/hub.py",
            "        elif page.top < top:  # the log was set back",
            "        elif page.top < 0:  # the log was set back",
        ),
        Mutant(
            "a_tail_keeps_what_lies_beyond_a_fork",
            "streams/hub/hub.py",
            "self.top <= page.forks.get(epoch, -1)",
            "epoch in page.forks",
        ),
        Mutant(
            "a_cancelled_open_leaks_its_tail",
            "streams/hub/hub.py",
            "if not isinstance(error, asyncio.CancelledError) or held.users == 0:",
            "if not isinstance(error, asyncio.CancelledError):",
        ),
        Mutant(
            "a_gap_in_the_feed_is_believed",
            "streams/hub/hub.py",
            "if epoch != self.epoch or seq > self.top + 1:\n            self.catch_up()\n       "
            " elif seq == self.top + 1:",
            "if epoch != self.epoch:\n            self.catch_up()\n        elif seq > self.top:",
        ),
        Mutant(
            "another_epoch_is_taken_for_this_one",
            "streams/hub/hub.py",
            "if epoch != self.epoch or seq > self.top + 1:",
            "if seq > self.top + 1 or not self.epoch:",
        ),
        Mutant(
            "a_stale_tail_is_not_read_again",
            "streams/hub/hub.py",
            "                elif stale:\n",
            "                elif False:\n",
        ),
        Mutant(
            "a_new_subscription_is_believed_complete",
            "streams/hub/hub.py",
            "        if tail is not None:\n            tail.catch_up()",
            "        if tail is None:\n            return",
        ),
        Mutant(
            "a_page_doubles_what_the_feed_brought",
            "streams/hub/hub.py",
            "if entry.seq == self.top + 1:  # pub/sub may have brought some meanwhile",
            "if entry.seq > 0:  # pub/sub may have brought some meanwhile",
        ),
        Mutant(
            "a_page_that_does_not_reach_the_top_is_taken_for_all",
            "streams/hub/hub.py",
            "if not page.entries or page.entries[-1].seq < page.top:",
            "if not page.entries:",
        ),
        Mutant(
            "the_ring_is_not_bounded_in_bytes",
            "streams/hub/hub.py",
            "while self._ring_bytes - freed > RING_BYTES and cut < len(ring):",
            "while False:",
        ),
        Mutant(
            "one_release_closes_for_all",
            "streams/hub/hub.py",
            "        held.users -= 1\n        if held.users == 0:\n            loop",
            "        held.users -= 1\n        if held.users >= 0:\n            loop",
        ),
        Mutant(
            "who_returns_within_the_grace_is_dropped",
            "streams/hub/hub.py",
            "            held.closing.cancel()\n            held.closing = None\n",
            "            held.closing = None\n",
        ),
        Mutant(
            "a_listener_that_fails_takes_the_others_along",
            "streams/hub/hub.py",
            """            except Exception:
                log_line.exception("a listener of %s failed", self.conversation_id)
""",
            """            except Exception:
                return
""",
        ),
        Mutant(
            "changes_after_a_break_are_not_told",
            "streams/hub/hub.py",
            "            self._changed(None)",
            "            pass",
        ),
        Mutant(
            "a_position_before_the_ring_is_served_from_it",
            "streams/hub/hub.py",
            "        if not 0 < missing <= len(self._ring):\n            return None\n",
            "",
        ),
        Mutant(
            "a_ring_that_was_skipped_still_weighs",
            "streams/hub/hub.py",
            "        self._ring.clear()\n        self._ring_bytes = 0\n",
            "        self._ring.clear()\n",
        ),
        Mutant(
            "a_cancel_tells_of_running",
            "protocol/events.py",
            "and member not in (Wait, *TERMINAL)",
            "and member not in (Wait, Complete, Error)",
            ("tests/unit/protocol/test_events.py",),
        ),
        Mutant(
            "an_old_page_undoes_what_a_heartbeat_saw",
            "streams/hub/log_cursor.py",
            "self._goal = max(self._goal, page.top) if page.entries else page.top",
            "self._goal = page.top",
            _CURSOR,
        ),
        Mutant(
            "a_log_that_shrank_is_read_for_ever",
            "streams/hub/log_cursor.py",
            "self._goal = max(self._goal, page.top) if page.entries else page.top",
            "self._goal = max(self._goal, page.top)",
            _CURSOR,
        ),
        Mutant(
            "a_page_of_another_epoch_is_given_under_the_old_name",
            "streams/hub/log_cursor.py",
            "        if page.epoch != self.epoch:\n            return ()\n",
            "",
            _CURSOR,
        ),
        Mutant(
            "a_heartbeat_of_another_epoch_leaves_the_fast_path_open",
            "streams/hub/log_cursor.py",
            "            self.behind = True\n            return False\n        self._goal",
            "            return False\n        self._goal",
            _CURSOR,
        ),
        Mutant(
            "a_heartbeat_to_a_reader_that_is_behind",
            "streams/hub/log_cursor.py",
            "self.behind = self.behind or self.seq < self._goal",
            "self.behind = self.seq < log.top",
            _CURSOR,
        ),
        Mutant(
            "live_with_something_missing_before_it",
            "streams/hub/log_cursor.py",
            "if seq >= top and seq >= self._goal:",
            "if seq >= top:",
            _CURSOR,
        ),
        Mutant(
            "a_hole_in_a_page_is_skipped",
            "streams/hub/log_cursor.py",
            "if reason is None and self.seq < page.top and not follows(page.entries, self.seq):",
            "if False:",
            _CURSOR,
        ),
        Mutant(
            "a_hole_in_the_ring_is_skipped",
            "streams/hub/log_cursor.py",
            "entries if entries and follows(entries, seq) else NEED_PAGE",
            "entries or NEED_PAGE",
            _CURSOR,
        ),
        Mutant(
            "a_fork_is_not_told",
            "streams/hub/log_cursor.py",
            "        self.epoch, self.behind = tail.epoch, True\n        return FORKED",
            "        self.epoch, self.behind = tail.epoch, True\n        return None",
            _CURSOR,
        ),
        Mutant(
            "a_goal_of_before_the_fork_stays",
            "streams/hub/log_cursor.py",
            "self._version, self._goal = tail.version, 0",
            "self._version = tail.version",
            _CURSOR,
        ),
        Mutant(
            "the_fast_path_is_open_at_once",
            "streams/hub/log_cursor.py",
            '        self.behind = True\n        """Call `next` again',
            '        self.behind = False\n        """Call `next` again',
            _CURSOR,
        ),
        Mutant(
            "the_fast_path_skips_what_lies_between",
            "streams/hub/log_cursor.py",
            "if self.behind or self.seq != before:",
            "if self.behind:",
            _CURSOR,
        ),
        Mutant(
            "the_last_reason_to_end_counts",
            "streams/hub/log_cursor.py",
            'self._end(self.ended or "deleted")',
            'self._end("deleted")',
            _CURSOR,
        ),
        Mutant(
            "a_log_set_back_is_no_news",
            "streams/hub/hub.py",
            "if page.epoch != self.epoch or page.top < top:",
            "if page.epoch != self.epoch:",
            ("tests/unit/streams/hub/test_tail.py",),
        ),
        Mutant(
            "a_batch_of_any_size_is_written_at_once",
            "streams/hub/room.py",
            "        if sum(len(entry.data) for entry in entries) > BATCH_BYTES:\n            "
            "return None\n",
            "",
            _ROOM,
        ),
        Mutant(
            "a_room_hands_on_the_news_of_another_epoch",
            "streams/hub/room.py",
            "if tail.gone or tail.version != self._version:",
            "if tail.gone:",
            _ROOM,
        ),
        Mutant(
            "a_room_stops_beating_after_an_outage",
            "streams/hub/room.py",
            "reader.beat(seen))\n        self._arm()\n",
            "reader.beat(seen))\n            if not isinstance(seen, Page):\n"
            "                return\n        self._arm()\n",
            _ROOM,
        ),
        Mutant(
            "who_runs_beats_at_the_idle_pace",
            "streams/hub/room.py",
            "        if tail.running and not self._armed_running:\n            self._arm()\n",
            "",
            _ROOM,
        ),
        Mutant(
            "heartbeats_are_never_quick",
            "streams/hub/room.py",
            "return min(self.running_seconds, self.idle_seconds) if running else self.idle_seconds",
            "return self.idle_seconds",
            _ROOM,
        ),
        Mutant(
            "an_empty_room_goes_on_beating",
            "streams/hub/room.py",
            "            del self._rooms[room.tail]\n            room.close()\n",
            "            del self._rooms[room.tail]\n",
            _ROOM,
        ),
        Mutant(
            "a_tail_is_never_given_back",
            "streams/hub/room.py",
            "            room.close()\n        self._hub.release(room.tail)\n",
            "            room.close()\n",
            _ROOM,
        ),
        Mutant(
            "any_number_of_pages_at_a_time",
            "streams/hub/room.py",
            "self._pages = asyncio.Semaphore(PAGES_AT_A_TIME)",
            "self._pages = asyncio.Semaphore(1 << 30)",
            _ROOM,
        ),
        Mutant(
            "a_bug_at_an_event_harms_the_room",
            "streams/hub/room.py",
            "                reader.news(before, data, last)\n            except Exception as "
            "error:",
            "                reader.news(before, data, last)\n            except KeyError as "
            "error:",
            _ROOM,
        ),
        Mutant(
            "a_bug_at_a_heartbeat_harms_the_room",
            "streams/hub/room.py",
            "                serve(reader)\n            except Exception as error:",
            "                serve(reader)\n            except KeyError as error:",
            _ROOM,
        ),
        Mutant(
            "readers_are_served_as_they_leave",
            "streams/hub/room.py",
            "            self._present = tuple(self._readers)\n        return self._present",
            "            self._present = tuple(self._readers)\n        return self._readers",
            _ROOM,
        ),
        Mutant(
            "who_left_is_served",
            "streams/hub/room.py",
            "        self._readers.discard(reader)\n        self._present = None\n",
            "        self._readers.discard(reader)\n",
            _ROOM,
        ),
        Mutant(
            "who_entered_is_not_served",
            "streams/hub/room.py",
            "        self._readers.add(reader)\n        self._present = None\n",
            "        self._readers.add(reader)\n",
            _ROOM,
        ),
    ],
)
