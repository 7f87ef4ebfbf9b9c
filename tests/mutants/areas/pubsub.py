"""Pub/sub's connection: when it is dead, when it is retried, when a channel is subscribed."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "pubsub",
    ("tests/unit/streams/hub/test_pubsub.py",),
    [
        Mutant(
            "an_older_confirmation_passes_for_a_newer",
            "streams/hub/pubsub.py",
            "        if left > 0:\n            self._awaited[channel] = left\n            return\n",
            "",
        ),
        Mutant(
            "silence_is_no_dead_connection",
            "streams/hub/pubsub.py",
            "                if not connection.heard:\n",
            "                if False:\n",
        ),
        Mutant("no_ping", "streams/hub/pubsub.py", '                connection.send("PING")\n', ""),
        Mutant(
            "channels_are_forgotten_on_reconnect",
            "streams/hub/pubsub.py",
            "        wanted = sorted(self._wanted)\n",
            "        wanted = list[str]()\n",
        ),
        Mutant(
            "only_the_first_command_full_of_channels",
            "streams/hub/pubsub.py",
            "for start in range(0, len(wanted), MAX_CHANNELS_PER_COMMAND):",
            "for start in range(0, min(len(wanted), 1), MAX_CHANNELS_PER_COMMAND):",
        ),
        Mutant(
            "a_refused_password_is_ignored",
            "streams/hub/pubsub.py",
            "        if isinstance(reply, hiredis.ReplyError):\n            raise reply\n",
            "",
        ),
        Mutant(
            "nobody_is_told_of_a_new_subscription",
            "streams/hub/pubsub.py",
            "            self._subscribed(name)",
            "            pass",
        ),
        Mutant(
            "the_first_of_two_waiters_is_served",
            "streams/hub/pubsub.py",
            "        for waiter in waiters:\n            if not waiter.done():",
            "        for waiter in waiters[:1]:\n            if not waiter.done():",
        ),
        Mutant(
            "who_gives_up_ends_it_for_all",
            "streams/hub/pubsub.py",
            "        if not waiters:\n            self._waiters.pop(channel, None)\n",
            "        if True:\n            self._waiters.pop(channel, None)\n",
        ),
        Mutant(
            "who_gives_up_leaves_the_channel_wanted",
            "streams/hub/pubsub.py",
            "            self._waiters.pop(channel, None)\n            self.unsubscribe(channel)\n",
            "            self._waiters.pop(channel, None)\n",
        ),
        Mutant(
            "no_limit_on_the_wait_for_a_confirmation",
            "streams/hub/pubsub.py",
            "async with asyncio.timeout(CONFIRM_SECONDS):",
            "async with asyncio.timeout(None):",
        ),
        Mutant(
            "what_it_awaited_of_the_old_connection_counts_in_the_new",
            "streams/hub/pubsub.py",
            "        self._awaited.clear()\n        self._ready.set()",
            "        self._ready.set()",
        ),
        Mutant(
            "pauses_of_pubsub_never_start_again",
            "streams/hub/pubsub.py",
            "            pause.ran(loop.time() - began)\n",
            "",
        ),
    ],
)
