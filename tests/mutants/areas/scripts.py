"""The log's Lua scripts: fence, numbering, window, floors, epochs. The memory log has a mutant where the simulation rests on it."""

from tests.mutants.mutant import Area, Mutant

UNIT = ("tests/unit/streams/test_packing.py",)

AREA = Area(
    "scripts",
    ("tests/contracts/log",),
    [
        Mutant(
            "trim_does_not_count_bytes_down",
            "streams/prelude.lua",
            "      state.bytes = state.bytes - #entry[2][2]\n",
            "",
        ),
        Mutant(
            "trim_ignores_floors",
            "streams/prelude.lua",
            "local highest = lowest[2] and math.min(tonumber(lowest[2]), state.top) or state.top",
            "local highest = state.top",
        ),
        Mutant(
            "older_attempts_are_not_fenced",
            "streams/prelude.lua",
            "  if attempt < g.attempt then\n    return {'FENCED'}\n  end\n",
            "",
        ),
        Mutant(
            "a_repeated_batch_lands_again",
            "streams/append.lua",
            "if index == g.index - 1 then\n  return {'OK', state.epoch, g.first, g.last}\nend\nif index ~= g.index then",
            "if index ~= g.index and index ~= g.index - 1 then",
        ),
        Mutant("an_end_does_not_seal", "streams/append.lua", "  g.sealed, g.lease = true, 0\n", "  g.lease = 0\n"),
        Mutant("an_end_leaves_its_floor", "streams/append.lua", "  call('ZREM', FLOORS, ARGV[5])\n", ""),
        Mutant(
            "a_floor_beyond_the_top",
            "streams/append.lua",
            "math.min(tonumber(ARGV[9]), state.top)",
            "tonumber(ARGV[9])",
        ),
        Mutant(
            "a_takeover_forgets_the_floor",
            "streams/claim.lua",
            "tonumber(floor or state.top)",
            "state.top",
        ),
        Mutant(
            "a_late_adoption_takes_text_back",
            "streams/adopt.lua",
            "or g.last > tonumber(ARGV[9]) then",
            "then",
        ),
        Mutant("an_attempt_that_lost_a_batch_goes_on", "streams/rejoin.lua", "if not mine or (index", "if not mine and (index"),
        Mutant("a_fork_forgets_the_forks_before_it", "streams/prelude.lua", "if #forks <= MAX_FORKS then", "if #forks <= 0 then"),
        Mutant("a_position_beyond_its_fork_is_served", "streams/read.lua", "reaches and after <= reaches and", "reaches and"),
        Mutant(
            "a_page_is_as_long_as_it_likes",
            "streams/read.lua",
            "    room = room - #data\n    if room < 0 and at > after then",
            "    room = room - #data\n    if false then",
        ),
        Mutant(
            "release_frees_any_attempt",
            "streams/release.lua",
            "if state and g.attempt == tonumber(ARGV[6]) then",
            "if g then",
        ),
        Mutant(
            "the_last_to_cancel_is_named",
            "streams/request_cancel.lua",
            "if g.by == '' then",
            "if true then",
        ),
        Mutant(
            "what_is_appended_is_not_published",
            "streams/prelude.lua",
            "    call('PUBLISH', CHANNEL, state.epoch .. ':' .. seq .. ':' .. data)\n",
            "",
        ),
        Mutant(
            "the_memory_log_does_not_count_bytes_down",
            "streams/memory_state.py",
            "            self.size -= len(self.kept.popleft().entry.data)\n",
            "            self.kept.popleft()\n",
        ),
        Mutant(
            "a_block_takes_the_place_of_what_was_trimmed",
            "streams/pack.lua",
            "first ~= state.oldest or",
            "",
        ),
        Mutant("packed_events_stay", "streams/pack.lua", "call('XTRIM', LOG, 'MINID', whole(state.oldest) .. '-0')\n", ""),
        Mutant(
            "a_running_answer_is_packed",
            "streams/packable.lua",
            "local highest = lowest[2] and math.min(tonumber(lowest[2]), state.top) or state.top",
            "local highest = state.top",
        ),
        Mutant("a_page_ends_with_its_first_block", "streams/read.lua", "while served and limit > 0 and state.packed and", "if false and"),
        Mutant(
            "blocks_are_dropped_though_too_few_events_are_left",
            "streams/prelude.lua",
            "if state.top - block.last < MAX_EVENTS and not",
            "if not",
        ),
        Mutant("blocks_outlive_a_deletion", "streams/delete.lua", "STATE, FLOORS, PACKED)", "STATE, FLOORS)"),
        Mutant("blocks_of_a_log_that_was_trimmed_count", "streams/prelude.lua", " or tonumber(last) ~= state.oldest - 1 or", " or"),
        Mutant(
            "a_reader_gets_what_it_has_again",
            "streams/log.py",
            "unpack(first, last, block)[following - first :]",
            "unpack(first, last, block)",
        ),
        Mutant("damage_is_met_again_and_again", "streams/drop_packed.lua", "state.packed = nil\nsave_packed(state)\n", ""),
        Mutant("blocks_that_are_missing_leave_a_hole", "streams/log.py", "if first > following:", "if False:"),
        Mutant(
            "a_block_of_other_events_is_believed",
            "streams/packing.py",
            "if not all(has_stamp(*entry) for entry in entries):",
            "if False:",
            UNIT,
        ),
        Mutant("a_block_that_is_too_long_is_believed", "streams/packing.py", " or len(data) != start + sum(lengths):", ":", UNIT),
    ],
)
