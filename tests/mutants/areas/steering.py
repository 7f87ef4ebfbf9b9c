"""Steering: a post reaches a running answer at one step, once, and only if it still waits."""

from tests.mutants.mutant import Area, Mutant

SQL = "tests/contracts/test_steering.py"
STEPS = "tests/integration/attempt/test_steering.py"
_ROWS = "models/steering.py"
_TAKING = "worker/attempt/steering.py"

AREA = Area(
    "steering",
    (STEPS,),
    [
        Mutant(
            "a_cancelled_post_steers",
            _ROWS,
            "        col(Message.cancel_by).is_(None),\n        col(Message.superseded_by)",
            "        col(Message.superseded_by)",
        ),
        Mutant(
            "a_message_comes_with_each_step",
            _TAKING,
            "if message.id not in there]",
            "]",
        ),
        Mutant(
            "a_crash_loses_what_was_taken_in",
            _TAKING,
            "for message in taken.messages if",
            "for message in (taken.messages if taken.ended else ()) if",
        ),
        Mutant(
            "a_post_that_steered_is_answered_too",
            _ROWS,
            '        status="cancelled",\n',
            '        status="queued",\n',
        ),
        Mutant(
            "a_fenced_attempt_goes_on",
            _ROWS,
            "                return None\n            ended:",
            "                return TakenIn()\n            ended:",
            (f"{SQL}::test_what_has_ended_or_is_cancelled_takes_nothing_in[sqlite]",),
        ),
        Mutant(
            "a_cancelled_answer_takes_posts",
            _ROWS,
            "            if row.cancel_by is None and row.superseded_by is None:\n",
            "            if True:\n",
            (f"{SQL}::test_what_has_ended_or_is_cancelled_takes_nothing_in[sqlite]",),
        ),
        Mutant(
            "an_edited_message_comes_all_the_same",
            _ROWS,
            "                col(Message.superseded_by).is_(None),\n            )\n",
            "            )\n",
            (f"{SQL}::test_an_edit_before_the_step_comes_instead[sqlite]",),
        ),
        Mutant(
            "posts_that_queue_steer",
            _ROWS,
            ", col(Message.while_running) == STEER)\n",
            ")\n",
        ),
        Mutant(
            "a_post_before_the_question_stays_in_line",
            "models/decisions.py",
            "            await may_steer_behind(session, message_id)\n",
            "",
        ),
        Mutant(
            "a_post_behind_the_question_stays_in_line",
            "models/conversations.py",
            "            elif resumed is not None or post.policy == STEER:\n",
            "            elif post.policy == STEER:\n",
        ),
        Mutant(
            "a_repeated_post_returns_the_placeholder",
            _ROWS,
            "    return await session.get(Message, user.steers) or answer\n",
            "    return answer\n",
        ),
        Mutant(
            "the_model_does_not_get_what_the_step_names",
            "worker/attempt/work.py",
            "        if steering:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_later_turn_forgets_the_message",
            "worker/attempt/work.py",
            "await store.texts_of(brought) if brought else {}",
            "await store.texts_of(brought) if steering else {}",
        ),
        Mutant(
            "later_answers_get_the_message_twice",
            "worker/context.py",
            "        if row.id not in texts:\n",
            "        if True:\n",
        ),
        Mutant(
            "a_message_with_an_answer_of_its_own_stays_at_the_step",
            "worker/context.py",
            "    return {name for name in brought if name not in own}\n",
            "    return brought\n",
        ),
        Mutant(
            "the_end_of_a_placeholder_is_left_to_the_sweeper",
            _TAKING,
            "            await self._announce_end(message_id)\n",
            "            pass\n",
        ),
    ],
)
