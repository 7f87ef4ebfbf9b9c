"""Logs at rest: packed blocks, byte for byte, small pages; noticed damage."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "packing",
    ("tests/unit/streams/log/test_packing.py", "tests/contracts/log/test_packing.py"),
    [
        Mutant(
            "a_block_takes_the_place_of_what_was_trimmed",
            "streams/log/lua/pack.lua",
            "first ~= state.oldest or",
            "",
        ),
        Mutant(
            "nobody_is_told_of_an_end",
            "streams/log/redis.py",
            "self._end_hooks if terminal else ()",
            "()",
        ),
        Mutant(
            "each_batch_is_an_end",
            "streams/log/redis.py",
            "self._end_hooks if terminal else ()",
            "self._end_hooks",
        ),
        Mutant(
            "a_web_process_packs_nothing",
            "web/app.py",
            '        background.start("packing", packing.run)\n',
            "",
            ("tests/unit/web/test_cancels.py",),
        ),
        Mutant(
            "an_end_is_not_packed",
            "worker/packing.py",
            "        log.on_end(self.ended)\n",
            "",
            ("tests/unit/worker/test_packing.py", "tests/unit/web/test_cancels.py"),
        ),
        Mutant(
            "packed_events_stay",
            "streams/log/lua/pack.lua",
            "call('XTRIM', LOG, 'MINID', whole(state.oldest) .. '-0')\n",
            "",
        ),
        Mutant(
            "a_running_answer_is_packed",
            "streams/log/lua/packable.lua",
            "local highest = lowest[2] and math.min(tonumber(lowest[2]), state.top) or state.top",
            "local highest = state.top",
        ),
        Mutant(
            "a_page_ends_with_its_first_block",
            "streams/log/lua/read.lua",
            "while served and limit > 0 and state.packed and",
            "if false and",
        ),
        Mutant(
            "blocks_are_dropped_though_too_few_events_are_left",
            "streams/log/lua/prelude.lua",
            "if state.top - block.last < MAX_EVENTS and not",
            "if not",
        ),
        Mutant(
            "blocks_outlive_a_deletion",
            "streams/log/lua/delete.lua",
            "STATE, FLOORS, PACKED)",
            "STATE, FLOORS)",
        ),
        Mutant(
            "blocks_of_a_log_that_was_trimmed_count",
            "streams/log/lua/prelude.lua",
            " or tonumber(last) ~= state.oldest - 1\n    or",
            " or",
        ),
        Mutant(
            "a_reader_gets_what_it_has_again",
            "streams/log/redis.py",
            "unpack(first, last, block)[following - first :]",
            "unpack(first, last, block)",
        ),
        Mutant(
            "damage_is_not_counted",
            "streams/log/redis.py",
            "            BLOCKS_DAMAGED.inc()\n",
            "",
        ),
        Mutant(
            "damage_stops_whoever_appends",
            "streams/log/lua/prelude.lua",
            "if not (last and count and bytes and since) then",
            "if false then",
        ),
        Mutant(
            "what_is_not_there_any_more_is_dropped",
            "streams/log/lua/drop_packed.lua",
            " or not state.packed or last < state.packed.first",
            "",
        ),
        Mutant(
            "blocks_are_larger_than_a_page",
            "streams/log/packing.py",
            "BLOCK_BYTES = 64 * 1024",
            "BLOCK_BYTES = 256 * 1024",
            ("tests/integration/test_broadcaster_slow.py",),
        ),
        Mutant(
            "blocks_that_are_missing_leave_a_hole",
            "streams/log/redis.py",
            "if first > following:",
            "if False:",
        ),
        Mutant(
            "a_block_of_other_events_is_believed",
            "streams/log/packing.py",
            "if not all(has_stamp(*entry) for entry in entries):",
            "if False:",
        ),
        Mutant(
            "a_block_that_is_too_long_is_believed",
            "streams/log/packing.py",
            " or len(data) != start + sum(lengths):",
            ":",
        ),
    ],
)
