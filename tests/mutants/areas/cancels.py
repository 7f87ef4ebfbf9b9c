"""Cancels that do not wait for a frozen worker: patience in the log, closing by the fence, web's
follow-up.
"""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "cancels",
    (
        "tests/unit/web/test_cancels.py",
        "tests/contracts/log/test_leases.py",
        "tests/integration/sweeper",
    ),
    [
        Mutant(
            "a_cancelled_conversation_starts_its_next_answer",
            "web/cancels.py",
            "in reversed(unfinished):",
            "in unfinished:",
        ),
        Mutant(
            "a_frozen_worker_is_waited_for",
            "streams/log/lua/claim.lua",
            "if leased(g) and not (ARGV[8] == '1' and disobeys(ARGV[5])) then",
            "if leased(g) then",
        ),
        Mutant(
            "any_claim_takes_from_a_worker_that_is_to_stop",
            "streams/log/lua/claim.lua",
            "(ARGV[8] == '1' and disobeys(ARGV[5]))",
            "disobeys(ARGV[5])",
        ),
        Mutant(
            "a_healthy_worker_has_no_time_to_obey",
            "streams/log/lua/prelude.lua",
            "  return due and (now >= due or due - now > ENDING)",
            "  return due",
        ),
        Mutant(
            "closers_rob_each_other",
            "streams/log/lua/claim.lua",
            "    be_patient(ARGV[5], ENDING, true)\n",
            "    told_to_stop(ARGV[5])\n",
        ),
        Mutant(
            "who_was_told_has_no_longer_to_obey",
            "streams/log/lua/append.lua",
            "  told_to_stop(ARGV[5])\n",
            "",
        ),
        Mutant(
            "who_is_told_again_and_again_is_waited_for_without_end",
            "streams/log/lua/prelude.lua",
            "  elseif knows == '0' then\n",
            "  else\n",
        ),
        Mutant(
            "who_hears_late_is_waited_for_longer",
            "streams/log/lua/prelude.lua",
            "tonumber(due) - now + HEARD - UNHEARD",
            "HEARD",
        ),
        Mutant(
            "who_takes_it_over_late_has_no_time",
            "streams/log/lua/claim.lua",
            "  if ARGV[8] == '1' or disobeys(ARGV[5]) then\n",
            "  if ARGV[8] == '1' then\n",
        ),
        Mutant(
            "a_clock_that_was_set_back_keeps_a_lease_alive",
            "streams/log/lua/prelude.lua",
            "  return g.lease > now and g.lease - now <= LONGEST_LEASE",
            "  return g.lease > now",
        ),
        Mutant(
            "patience_outlives_the_generation",
            "streams/log/lua/append.lua",
            "  call('HDEL', STATE, 'c:' .. ARGV[5])\n",
            "",
        ),
        Mutant(
            "nobody_asks_again",
            "web/cancels.py",
            "if left and message_id not in self._followed and",
            "if False and message_id not in self._followed and",
        ),
        Mutant(
            "asked_again_once_only",
            "web/cancels.py",
            "            for pause in PAUSES_SECONDS:\n",
            "            for pause in PAUSES_SECONDS[:1]:\n",
        ),
        Mutant(
            "every_cancel_is_followed_by_itself",
            "web/cancels.py",
            "if left and message_id not in self._followed and",
            "if left and",
        ),
        Mutant(
            "any_number_is_followed",
            "web/cancels.py",
            "len(self._followed) < MAX_FOLLOWED:",
            "True:",
        ),
        Mutant(
            "a_follow_up_stops_at_nothing",
            "web/cancels.py",
            "by):\n                    return\n",
            "by):\n                    pass\n",
        ),
    ],
)
