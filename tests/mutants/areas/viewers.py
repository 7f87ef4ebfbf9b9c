"""The broadcaster: one viewer as a state machine, rooms, and the shell around them."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "viewers",
    (
        "tests/unit/broadcaster/test_readers.py",
        "tests/unit/broadcaster/test_room.py",
        "tests/unit/broadcaster/test_session.py",
    ),
    [
        Mutant(
            "a_full_socket_is_written_to",
            "broadcaster/readers.py",
            "if not self._paused and self.session.takes(before, last):",
            "if self.session.takes(before, last):",
        ),
        Mutant(
            "a_socket_with_room_again_is_not_served",
            "broadcaster/readers.py",
            "        self._paused = False\n        self.stir()\n",
            "        self._paused = False\n",
        ),
        Mutant(
            "two_pages_at_once_for_a_viewer",
            "broadcaster/readers.py",
            "if self._reading is not None or self._room is None:",
            "if self._room is None:",
        ),
        Mutant(
            "a_batch_of_any_size_is_written_at_once",
            "broadcaster/readers.py",
            "        if sum(len(entry.data) for entry in entries) > BATCH_BYTES:\n            return None\n",
            "",
        ),
        Mutant(
            "a_room_hands_on_the_news_of_another_epoch",
            "broadcaster/readers.py",
            "if tail.gone or tail.life != self._life:",
            "if tail.gone:",
        ),
        Mutant(
            "a_room_stops_beating_after_an_outage",
            "broadcaster/readers.py",
            """            log.warning("no heartbeat", conversation_id=self.tail.conversation_id, error=str(error))
""",
            """            log.warning("no heartbeat", conversation_id=self.tail.conversation_id, error=str(error))
            return
""",
        ),
        Mutant(
            "heartbeats_without_a_look_at_redis",
            "broadcaster/readers.py",
            """        except LogUnavailable as error:
            # No heartbeat""",
            """        except LogUnavailable as error:
            for viewer in self._everybody():
                viewer.beat(self.tail.epoch, self.tail.top)
            # No heartbeat""",
        ),
        Mutant(
            "who_runs_beats_at_the_idle_pace",
            "broadcaster/readers.py",
            "        if tail.running and not self._armed_running:\n            self._arm()\n",
            "",
        ),
        Mutant(
            "an_empty_room_goes_on_beating",
            "broadcaster/readers.py",
            "            del self._rooms[room.tail]\n            room.close()\n",
            "            del self._rooms[room.tail]\n",
        ),
        Mutant(
            "a_tail_is_never_given_back",
            "broadcaster/readers.py",
            "            room.close()\n        self.hub.release(room.tail)\n",
            "            room.close()\n",
        ),
        Mutant(
            "who_left_while_it_was_opened_keeps_the_tail",
            "broadcaster/readers.py",
            "        if session.ending is not None:  # left meanwhile\n            hub.release(tail)\n            return\n",
            "        if session.ending is not None:  # left meanwhile\n            return\n",
        ),
        Mutant(
            "who_does_not_take_the_close_stays",
            "broadcaster/readers.py",
            "_public(ending)))\n        self._cut_off_later()\n",
            "_public(ending)))\n",
        ),
        Mutant(
            "a_flood_of_pings_is_read_on",
            "broadcaster/readers.py",
            "            self._transport.pause_reading()  #",
            "            pass  #",
        ),
        Mutant(
            "a_viewer_that_does_not_subscribe_stays",
            "broadcaster/readers.py",
            "        self.session.expire(time.time())\n        self._settle()\n",
            "        self._settle()\n",
        ),
        Mutant(
            "the_deadline_is_not_moved_by_a_subscription",
            "broadcaster/readers.py",
            "        if self.session.phase is Phase.OPENING:\n            self._arm()\n",
            "        if self.session.phase is Phase.OPENING:\n",
        ),
        Mutant(
            "an_expiry_that_moved_ends_the_watch",
            "broadcaster/readers.py",
            "        if self.session.ending is None:\n            self._arm()\n",
            "",
        ),
        Mutant(
            "details_reach_the_client",
            "broadcaster/readers.py",
            "return ending.code.name.lower()",
            "return ending.detail",
        ),
        Mutant(
            "a_resync_without_its_frame",
            "broadcaster/readers.py",
            "        if ending.last is not None:\n            self.write(ending.last)\n",
            "",
        ),
        Mutant(
            "a_page_goes_to_a_full_socket",
            "broadcaster/readers.py",
            "            if not self._paused:\n                self.session.fetched(page, self.write)",
            "            if True:\n                self.session.fetched(page, self.write)",
        ),
        Mutant(
            "any_number_of_pages_at_a_time",
            "broadcaster/readers.py",
            "self.pages = asyncio.Semaphore(PAGES_AT_A_TIME)",
            "self.pages = asyncio.Semaphore(1 << 30)",
        ),
        Mutant(
            "a_heartbeat_to_a_viewer_that_is_behind",
            "broadcaster/session.py",
            "        if self.behind or self.seq < log.top:\n",
            "        if self.seq < log.top:\n",
        ),
        Mutant(
            "live_with_something_missing_before_it",
            "broadcaster/session.py",
            "return None if self.seq < self._goal else ()",
            "return ()",
        ),
        Mutant(
            "an_older_token_shortens_the_stay",
            "broadcaster/session.py",
            """max(
                self._expires_at, grant.expires_at
            )""",
            "grant.expires_at",
        ),
        Mutant(
            "a_token_for_another_conversation",
            "broadcaster/session.py",
            "if grant.conversation_id != self._conversation_id:",
            "if False:",
        ),
        Mutant(
            "a_laggard_gets_every_chunk",
            "broadcaster/session.py",
            "frames.merge(entries) if self.slow else entries",
            "entries",
        ),
        Mutant(
            "a_hole_in_a_page_is_skipped",
            "broadcaster/session.py",
            "if reason is None and self.seq < page.top and not follows(page.entries, self.seq):",
            "if False:",
        ),
        Mutant(
            "who_reads_again_is_still_cut",
            "broadcaster/connection.py",
            "        super().resume_writing()\n        self._stalled.over()\n",
            "        super().resume_writing()\n",
            ("tests/integration/test_stalled.py",),
        ),
        Mutant(
            "fragments_of_all_messages_add_up",
            "broadcaster/connection.py",
            "self._fragments = 1 if frame.opcode is not Opcode.CONT else self._fragments + 1",
            "self._fragments += 1",
            ("tests/unit/broadcaster/test_connection.py",),
        ),
        Mutant(
            "pings_of_a_whole_life_add_up",
            "streams/limits/per_minute.py",
            "            self._began, self._count = now, 0\n",
            "            self._began = now\n",
            ("tests/unit/broadcaster/test_session.py",),
        ),
        Mutant(
            "a_place_is_given_back_twice",
            "broadcaster/readers.py",
            "        self._viewers.users.release(self._place)\n        self._place = None\n",
            "        self._viewers.users.release(self._place)\n",
            ("tests/unit/broadcaster/test_readers.py",),
        ),
    ],
)
