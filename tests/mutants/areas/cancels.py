"""Cancels that do not wait for a frozen worker: patience in the log, closing by fence, web's follow-up."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "cancels",
    ("tests/unit/web/test_cancels.py", "tests/contracts/log/test_leases.py", "tests/integration/test_sweeper.py"),
    [
        Mutant(
            "a_frozen_worker_is_waited_for",
            "streams/claim.lua",
            "if leased(g) and not (ARGV[8] == '1' and disobeys(ARGV[5])) then",
            "if leased(g) then",
        ),
        Mutant(
            "any_claim_takes_from_a_worker_that_is_to_stop",
            "streams/claim.lua",
            "(ARGV[8] == '1' and disobeys(ARGV[5]))",
            "disobeys(ARGV[5])",
        ),
        Mutant(
            "a_healthy_worker_has_no_time_to_obey",
            "streams/prelude.lua",
            "  return due and (now >= due or due - now > HEARD)",
            "  return due",
        ),
        Mutant(
            "closers_rob_each_other",
            "streams/claim.lua",
            "if g.by ~= '' then\n  be_patient(ARGV[5], HEARD)\nend\n",
            "",
        ),
        Mutant(
            "who_was_told_has_no_longer_to_obey",
            "streams/append.lua",
            "  told_to_stop(ARGV[5])\n",
            "",
        ),
        Mutant(
            "who_is_told_again_and_again_is_waited_for_without_end",
            "streams/prelude.lua",
            "  if not known or string.sub(known, -1) == '0' then\n    be_patient(message_id, HEARD)\n  end",
            "  be_patient(message_id, HEARD)",
        ),
        Mutant(
            "a_clock_that_was_set_back_keeps_a_lease_alive",
            "streams/prelude.lua",
            "  return g.lease > now and g.lease - now <= LONGEST_LEASE",
            "  return g.lease > now",
        ),
        Mutant(
            "patience_outlives_the_generation",
            "streams/append.lua",
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
