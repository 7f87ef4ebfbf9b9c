"""The log's Lua scripts: fence, numbering, window, floors, epochs. The memory log has a mutant for
the simulation's sake.
"""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "scripts",
    ("tests/contracts/log",),
    [
        Mutant(
            "trim_does_not_count_bytes_down",
            "streams/log/lua/prelude.lua",
            "      state.bytes = state.bytes - #entry[2][2]\n",
            "",
        ),
        Mutant(
            "trim_ignores_floors",
            "streams/log/lua/prelude.lua",
            "local highest = lowest[2] and math.min(tonumber(lowest[2]), state.top) or state.top",
            "local highest = state.top",
        ),
        Mutant(
            "older_attempts_are_not_fenced",
            "streams/log/lua/prelude.lua",
            "  if attempt < g.attempt then\n    return {'FENCED'}\n  end\n",
            "",
        ),
        Mutant(
            "a_repeated_batch_lands_again",
            "streams/log/lua/append.lua",
            "if index == g.index - 1 then\n  return {'OK', state.epoch, g.first, "
            "g.last}\nend\nif index ~= g.index then",
            "if index ~= g.index and index ~= g.index - 1 then",
        ),
        Mutant(
            "an_end_does_not_seal",
            "streams/log/lua/append.lua",
            "  g.sealed, g.lease = true, 0\n",
            "  g.lease = 0\n",
        ),
        Mutant(
            "an_end_leaves_its_floor",
            "streams/log/lua/append.lua",
            "  call('ZREM', FLOORS, ARGV[5])\n",
            "",
        ),
        Mutant(
            "a_floor_beyond_the_top",
            "streams/log/lua/append.lua",
            "math.min(tonumber(ARGV[9]), state.top)",
            "tonumber(ARGV[9])",
        ),
        Mutant(
            "a_takeover_forgets_the_floor",
            "streams/log/lua/claim.lua",
            "tonumber(floor or state.top)",
            "state.top",
        ),
        Mutant(
            "a_late_adoption_takes_text_back",
            "streams/log/lua/adopt.lua",
            "or g.last > tonumber(ARGV[9]) then",
            "then",
        ),
        Mutant(
            "an_attempt_that_lost_a_batch_goes_on",
            "streams/log/lua/rejoin.lua",
            "if not mine or (index",
            "if not mine and (index",
        ),
        Mutant(
            "a_fork_forgets_the_forks_before_it",
            "streams/log/lua/prelude.lua",
            "if #forks <= MAX_FORKS then",
            "if #forks <= 0 then",
        ),
        Mutant(
            "a_position_beyond_its_fork_is_served",
            "streams/log/lua/read.lua",
            "reaches and after <= reaches and",
            "reaches and",
        ),
        Mutant(
            "a_page_is_as_long_as_it_likes",
            "streams/log/lua/read.lua",
            "    room = room - #data\n    if room < 0 and at > after then",
            "    room = room - #data\n    if false then",
        ),
        Mutant(
            "release_frees_any_attempt",
            "streams/log/lua/release.lua",
            "if state and g.attempt == tonumber(ARGV[6]) then",
            "if g then",
        ),
        Mutant(
            "the_last_to_cancel_is_named",
            "streams/log/lua/request_cancel.lua",
            "if g.by == '' then",
            "if true then",
        ),
        Mutant(
            "what_is_appended_is_not_published",
            "streams/log/lua/prelude.lua",
            "    call('PUBLISH', CHANNEL, state.epoch .. ':' .. seq .. ':' .. data)\n",
            "",
        ),
        Mutant(
            "the_memory_log_does_not_count_bytes_down",
            "streams/log/memory_state.py",
            "            self.size -= len(self.kept.popleft().entry.data)\n",
            "            self.kept.popleft()\n",
        ),
        Mutant(
            "a_rejoin_takes_no_lease",
            "streams/log/lua/rejoin.lua",
            "if not g.sealed then\n  g.lease = now + tonumber(ARGV[9])\nend\n",
            "",
        ),
        Mutant(
            "floors_of_a_lost_log_hold_the_next_one",
            "streams/log/lua/prelude.lua",
            "call('DEL', LOG, FLOORS, PACKED)\n  call('HDEL'",
            "call('DEL', LOG, PACKED)\n  call('HDEL'",
            ("tests/contracts/log/test_epochs.py",),
        ),
    ],
)
