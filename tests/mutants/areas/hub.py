"""The hub: one tail per conversation, what it believes of the feed, who holds it open."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "hub",
    # Schedules come late: whatever fails there is told only after Hypothesis has made it small.
    (
        "tests/unit/streams/hub/test_tail.py",
        "tests/unit/streams/hub/test_hub.py",
        "tests/unit/streams/hub/test_schedules.py",
        "tests/integration/streams/test_hub_on_valkey.py",
    ),
    [
        Mutant(
            "reads_before_it_subscribes",
            "streams/hub/hub.py",
            """        await self._feed.subscribe(keys.channel(tail.conversation_id))
        try:
            await tail.refresh()
        except Gone:
            return  # the tail says so itself
""",
            """        try:
            await tail.refresh()
        except Gone:
            return  # the tail says so itself
        await self._feed.subscribe(keys.channel(tail.conversation_id))
""",
        ),
        Mutant(
            "a_top_that_went_back_is_ignored",
            "streams/hub/hub.py",
            "        elif page.top < top:  # set back",
            "        elif page.top < 0:  # set back",
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
            "if epoch != self.epoch or seq > self.top + 1:\n            self.catch_up()\n        elif seq == self.top + 1:",
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
            "if entry.seq == self.top + 1:  # the feed may have brought some meanwhile",
            "if entry.seq > 0:  # the feed may have brought some meanwhile",
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
                logger.exception("a listener of %s failed", self.conversation_id)
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
            "streams/hub/hub.py",
            """
    b'"type":"message"',
    b'"type":"title"',
    b'"type":"complete"',
    b'"type":"error"',
    b'"type":"cancelled"',
""",
            'b\'"type":"message"\', b\'"type":"title"\', b\'"type":"complete"\', b\'"type":"error"\'',
        ),
    ],
)
