"""WebSocket readers: the state machine and its shell. `hub` has rooms and cursors."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "socket_readers",
    (
        "tests/unit/broadcaster/test_readers.py",
        "tests/unit/streams/hub/test_room.py",
        "tests/unit/broadcaster/test_session.py",
    ),
    [
        Mutant(
            "a_full_socket_is_written_to",
            "broadcaster/readers.py",
            "if data is not None and not self._paused and self.session.takes(before, last):",
            "if data is not None and self.session.takes(before, last):",
        ),
        Mutant(
            "a_socket_with_room_again_is_not_served",
            "broadcaster/readers.py",
            "        self._paused = False\n        self.send_more()\n",
            "        self._paused = False\n",
        ),
        Mutant(
            "two_pages_at_once_for_a_reader",
            "broadcaster/readers.py",
            "if self._page_task is not None or self._room is None:",
            "if self._room is None:",
        ),
        Mutant(
            "who_left_while_it_was_opened_keeps_the_tail",
            "broadcaster/readers.py",
            "        if session.ending is not None:  # the client left meanwhile\n            "
            "rooms.leave(room, self)\n            return\n",
            "        if session.ending is not None:  # the client left meanwhile\n"
            "            return\n",
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
            "            self._transport.pause_reading()\n",
            "            pass\n",
        ),
        Mutant(
            "a_reader_that_does_not_subscribe_stays",
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
            "            if not self._paused:\n                self.session.write_page(",
            "            if True:\n                self.session.write_page(",
        ),
        Mutant(
            "an_older_token_shortens_the_stay",
            "broadcaster/session.py",
            "max(self._expires_at, grant.expires_at)",
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
            "who_reads_again_is_still_cut",
            "streams/limits/stalled.py",
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
            "        self._readers.users.release(self._counted_user)\n        "
            "self._counted_user = None\n",
            "        self._readers.users.release(self._counted_user)\n",
            ("tests/unit/broadcaster/test_readers.py",),
        ),
        Mutant(
            "a_fork_is_not_announced",
            "broadcaster/session.py",
            "                write(self._subscribed(tail.top))\n",
            "                pass\n",
        ),
        Mutant(
            "live_is_not_said_again_after_a_fork",
            "broadcaster/session.py",
            "                self.phase = Phase.REPLAY\n                write",
            "                write",
        ),
        Mutant(
            "a_deletion_is_a_resync",
            "broadcaster/session.py",
            '        if self.ended == "deleted":\n',
            '        if self.ended == "gone":\n',
            ("tests/unit/broadcaster/test_session.py",),
        ),
        Mutant(
            "a_heartbeat_without_the_log",
            "broadcaster/readers.py",
            "        if self._paused or isinstance(seen, LogUnavailable):\n",
            "        if isinstance(seen, LogUnavailable):\n            seen = "
            "self._room.tail.known\n        if self._paused:\n",
            ("tests/contracts/test_readers.py",),
        ),
        Mutant(
            "who_was_removed_stays_on_its_websocket",
            "broadcaster/readers.py",
            "        self.session.revoke(room.tail.revoked)\n",
            "",
            ("tests/contracts/test_readers.py",),
        ),
        Mutant(
            "a_bug_leaves_the_connection_open",
            "broadcaster/readers.py",
            '        failed("reader", error)\n        self._transport.abort()\n',
            '        failed("reader", error)\n',
            ("tests/contracts/test_readers.py",),
        ),
    ],
)
