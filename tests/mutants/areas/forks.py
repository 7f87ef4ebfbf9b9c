"""Forking epochs: what the log shares with earlier ones, continuing attempts and readers, repeated
announcements.
"""

from tests.mutants.mutant import Area, Mutant

LOG = ("tests/contracts/log/test_epochs.py", "tests/contracts/log/test_upgrade.py")
SERVERS = ("tests/integration/streams/test_forks.py",)
READERS = (
    "tests/unit/streams/hub/test_log_cursor.py",
    "tests/unit/broadcaster/test_session.py",
    "tests/unit/broadcaster/test_session_interleavings.py",
    "tests/unit/web/test_readers.py",
)
TAKEOVER = ("tests/unit/worker/resume/test_takeover.py", *SERVERS)
ROWS = ("tests/unit/streams/log/test_ports.py",)

AREA = Area(
    "forks",
    LOG,
    [
        Mutant(
            "what_is_appended_behind_a_fork_has_no_start",
            "worker/resume/takeover.py",
            "if events and survived is not None and not (survived.attempt or survived.parts):",
            "if False:",
            ("tests/unit/worker/resume/test_takeover.py",),
        ),
        Mutant(
            "a_log_without_its_end_forks",
            "streams/log/lua/prelude.lua",
            "state = agrees(state) and fork(state, server) or begin_epoch(server)",
            "state = fork(state, server)",
        ),
        Mutant(
            "a_server_that_was_a_replica_is_not_noticed",
            "streams/log/lua/prelude.lua",
            " or (values[3] and values[3] ~= server.history)",
            "",
            SERVERS,
        ),
        Mutant(
            "a_fork_promises_more_than_is_left",
            "streams/log/lua/prelude.lua",
            "whole(math.min(tonumber(seq), state.top))",
            "seq",
        ),
        Mutant(
            "forks_are_remembered_for_ever",
            "streams/log/lua/prelude.lua",
            "if #forks <= MAX_FORKS then",
            "if true then",
        ),
        Mutant(
            "forks_of_a_log_that_began_again_are_believed",
            "streams/log/lua/prelude.lua",
            "if string.match(state.forks, '^%w*') ~= state.epoch then",
            "if false then",
        ),
        Mutant(
            "blocks_do_not_outlive_a_fork",
            "streams/log/lua/prelude.lua",
            "  save_packed(state)\n  return state\n",
            "  return state\n",
            ("tests/contracts/log/test_packing.py",),
        ),
        Mutant(
            "an_end_is_not_recognised_after_a_fork",
            "streams/log/lua/rejoin.lua",
            "{g.sealed and 'SEALED' or 'LOST'}",
            "{'LOST'}",
        ),
        Mutant(
            "an_attempt_rejoins_without_a_lease",
            "streams/log/lua/rejoin.lua",
            "  g.lease = now + tonumber(ARGV[9])\n",
            "",
        ),
        Mutant(
            "an_older_attempt_rejoins",
            "streams/log/lua/rejoin.lua",
            "if attempt < g.attempt then\n  return {'FENCED'}\nend\n",
            "",
        ),
        Mutant(
            "an_attempt_rejoins_a_log_that_began_again",
            "streams/log/lua/rejoin.lua",
            "(g.epoch == ARGV[6] and shared(state, g.epoch))",
            "g.epoch == ARGV[6]",
        ),
        Mutant(
            "what_was_written_in_a_lost_log_forbids_to_adopt",
            "streams/log/lua/adopt.lua",
            "g.last = shared(state, g.epoch) and g.last or 0\n",
            "",
        ),
        Mutant(
            "an_adoption_gives_up_its_floor",
            "streams/log/lua/adopt.lua",
            "tonumber(call('ZSCORE', FLOORS, ARGV[5]) or state.top)",
            "state.top",
        ),
        Mutant(
            "a_sealed_answer_is_adopted",
            "streams/log/lua/adopt.lua",
            "if g.sealed then\n  return {'SEALED'}\nend\n",
            "",
        ),
        Mutant(
            "a_takeover_forgets_what_was_written",
            "streams/log/lua/claim.lua",
            "g.last = shared(state, g.epoch) and g.last or 0",
            "g.last = 0",
        ),
        Mutant(
            "the_memory_log_promises_more_than_is_left",
            "streams/log/memory_state.py",
            "min(seq, self.top)) for",
            "seq) for",
        ),
        # Cursors
        Mutant(
            "a_row_reaches_beyond_the_fork",
            "streams/log/ports.py",
            'min(seq, self.forks.get(epoch or "", 0))',
            "seq",
            ROWS,
        ),
        Mutant(
            "a_row_reaches_as_far_as_the_fork",
            "streams/log/ports.py",
            'min(seq, self.forks.get(epoch or "", 0))',
            'self.forks.get(epoch or "", 0)',
            ROWS,
        ),
        Mutant(
            "no_cursor_survives_a_fork",
            "streams/log/ports.py",
            'return top if epoch == own else forks.get(epoch or "")',
            "return top if epoch == own else None",
            READERS,
        ),
        Mutant(
            "a_cursor_beyond_the_fork_is_good",
            "streams/hub/log_cursor.py",
            "    if after.seq > shared:\n",
            "    if after.seq > log.top:\n",
            READERS,
        ),
        Mutant(
            "a_reader_beyond_the_fork_goes_on",
            "streams/hub/log_cursor.py",
            "shared is None else cursor.seq <= shared",
            "shared is None else True",
            READERS,
        ),
        Mutant(
            "a_reader_keeps_the_old_name",
            "streams/hub/log_cursor.py",
            "        self.epoch, self.behind = tail.epoch, True\n",
            "        self.behind = True\n",
            READERS,
        ),
        # Continuing
        Mutant(
            "what_was_appended_behind_a_fork_is_not_believed",
            "worker/resume/takeover.py",
            " or newest.seq > shared)",
            ")",
            TAKEOVER,
        ),
        Mutant(
            "a_log_that_survived_in_part_is_taken_for_whole",
            "worker/resume/takeover.py",
            "(shared == known.held.seq or newest.seq > shared)",
            "True",
            TAKEOVER,
        ),
        Mutant(
            "an_empty_log_proves_what_viewers_hold",
            "worker/resume/takeover.py",
            "if survived is None or (survived.seq == 0 and not parted):",
            "if survived is None:",
            TAKEOVER,
        ),
        Mutant(
            "what_survived_counts_whatever_it_says",
            "worker/resume/takeover.py",
            "    if not begins(known.held.answer, survived.answer):\n",
            "    if False:\n",
        ),
        # Repeated announcements
        Mutant(
            "a_lost_announcement_is_not_made_again",
            "worker/sweeper/repeats.py",
            "            await self._announce_again(go_on)\n            self._server",
            "            self._server",
            ("tests/unit/worker/sweeper/test_repeats.py",),
        ),
        Mutant(
            "what_is_noted_late_is_not_made_again",
            "worker/sweeper/repeats.py",
            "            self._left = await self._announce_again(go_on)\n",
            "            self._left = []\n",
            ("tests/unit/worker/sweeper/test_repeats.py",),
        ),
        Mutant(
            "what_was_locked_is_never_announced_again",
            "worker/sweeper/repeats.py",
            """
                (kind, name)
                for kind, name in self._left
                if await self._store.announce_again(kind, [name])
            """,
            "(kind, name) for kind, name in self._left if False",
            ("tests/unit/worker/sweeper/test_repeats.py",),
        ),
        Mutant(
            "every_round_announces_again",
            "worker/sweeper/repeats.py",
            "                await self._log.note_server(server)\n",
            "                pass\n",
            ("tests/unit/worker/sweeper/test_repeats.py",),
        ),
        Mutant(
            "a_replica_that_was_promoted_is_no_news",
            "streams/log/redis.py",
            "^(?:run_id|master_replid):",
            "^(?:run_id):",
            SERVERS,
        ),
    ],
)
