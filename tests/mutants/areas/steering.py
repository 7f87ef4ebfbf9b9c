"""Steering: a post reaches a running answer at one step, once, or is answered next."""

from tests.mutants.mutant import Area, Mutant

SQL = "tests/contracts/test_steering.py"
STEPS = "tests/integration/attempt/test_steering.py"
CLIENT = (
    "tests/integration/test_python_client.py"
    "::test_a_post_that_steers_has_the_answer_that_took_it_in"
)
QUESTIONS = "tests/integration/attempt/test_steering_questions.py"
LATE = "tests/integration/test_late_steering.py"
OPENAI = "tests/integration/test_openai_steering.py"
CHAT = "tests/integration/test_chat_steering.py"
FAILURES = "tests/integration/attempt/test_behind_failures.py"
_STREAM = "web/aisdk/stream.py"
_ROWS = "models/steering.py"
_TAKING = "worker/attempt/steering.py"

AREA = Area(
    "steering",
    (STEPS,),
    [
        Mutant(
            "a_cancelled_post_steers",
            _ROWS,
            "                col(Message.cancel_by).is_(None),\n                col(Message.while",
            "                col(Message.while",
        ),
        Mutant(
            "a_message_comes_with_each_step",
            _TAKING,
            " if name not in there]",
            "]",
        ),
        Mutant(
            "a_crash_leaves_the_placeholder_until_the_end",
            "worker/attempt/run.py",
            "        await self._steering.take_in()  # what a crash left of it\n",
            "",
        ),
        Mutant(
            "an_answer_that_is_cancelled_behind_the_step_leaves_its_message_in_line",
            "models/answers.py",
            "                await end_placeholders(session, ending.message_id, steering)\n",
            "                pass\n",
        ),
        Mutant(
            "a_placeholder_ends_before_readers_hold_the_step",
            "worker/attempt/run.py",
            "            await self._steering.take_in()\n",
            "",
        ),
        Mutant(
            "a_placeholder_ends_before_the_row_has_the_step",
            _TAKING,
            "        await outlast(work.row.id, lambda: store.checkpoint([checkpoint]))\n",
            "",
        ),
        Mutant(
            "the_end_takes_in_what_queues",
            _ROWS,
            "        col(Message.while_running) == STEER,\n        col(Message.superseded_by)",
            "        col(Message.superseded_by)",
            (f"{SQL}::test_an_end_takes_in_only_what_stands_behind_it[sqlite]",),
        ),
        Mutant(
            "an_answer_that_was_asked_for_again_steers",
            "models/chats.py",
            "            row.while_running = QUEUE\n",
            "",
            (f"{SQL}::test_an_answer_that_somebody_asked_for_again_is_not_taken_in[sqlite]",),
        ),
        Mutant(
            "a_cancelled_placeholder_stays_beside_its_message",
            _ROWS,
            "[row.id for row in found], superseded_by",
            "ended, superseded_by",
            (f"{SQL}::test_a_cancel_between_the_step_and_the_rows[sqlite]",),
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
            "                return None\n            return await end",
            "                return []\n            return await end",
            (f"{SQL}::test_what_has_ended_or_is_cancelled_takes_nothing_in[sqlite]",),
        ),
        Mutant(
            "a_cancelled_answer_takes_posts",
            _ROWS,
            "                col(own.cancel_by).is_(None),\n",
            "",
            (f"{SQL}::test_what_has_ended_or_is_cancelled_takes_nothing_in[sqlite]",),
        ),
        Mutant(
            "posts_that_queue_steer",
            _ROWS,
            "                col(Message.while_running) == STEER,\n            )",
            "            )",
        ),
        Mutant(
            "a_client_follows_the_placeholder_of_a_message_that_was_taken_in",
            "client/following.py",
            "        return taken or self.get",
            "        return self.get",
            (CLIENT,),
        ),
        Mutant(
            "a_stream_begins_with_what_the_answer_said_before_the_message",
            "client/transcript.py",
            "self.parts[self._step_with(message_id) or 0 :]",
            "self.parts",
            (CLIENT,),
        ),
        Mutant(
            "a_post_before_the_question_stays_in_line",
            "models/decisions.py",
            "            await let_posts_steer(session, message_id)\n",
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
            "what_waits_behind_an_internal_error_stays_in_line",
            "worker/starts.py",
            "    await closing.start_next(services.store, services.jobs, row.conversation_id)\n",
            "",
            (FAILURES,),
        ),
        Mutant(
            "what_waits_behind_an_answer_that_cannot_be_read_stays_in_line",
            "worker/starts.py",
            "        await closing.start_next(store, services.jobs, conversation_id)\n",
            "        pass\n",
            (FAILURES,),
        ),
        Mutant(
            "what_comes_with_the_end_of_an_answer_stays_in_line",
            "worker/attempt/outcome.py",
            "closing.start_next(services.store, services.jobs, work.row.conversation_id)",
            "services.store.now_ms()",
            (f"{LATE}::test_a_post_that_comes_with_the_end",),
        ),
        Mutant(
            "a_later_question_over_openai_lacks_what_steered",
            "worker/asking.py",
            "    return texts | (await store.texts_of(missing) if missing else {})\n",
            "    return texts\n",
            (f"{OPENAI}::test_a_response_that_takes_a_message_in[sqlite]",),
        ),
        Mutant(
            "a_question_stays_beside_a_call_that_runs",
            "models/decisions.py",
            "            await let_posts_steer(session, message_id)\n",
            "",
            (QUESTIONS,),
        ),
        Mutant(
            "a_post_over_the_ai_sdk_never_steers",
            "web/aisdk/posts.py",
            "        steers=asked.while_running == STEER,\n",
            "        steers=False,\n",
            (CHAT,),
        ),
        Mutant(
            "a_post_over_the_ai_sdk_steers_unasked",
            "web/aisdk/posts.py",
            "        steers=asked.while_running == STEER,\n",
            "",
            (CHAT,),
        ),
        Mutant(
            "the_stream_of_a_post_that_steers_begins_at_once",
            _STREAM,
            "        if first.row.while_running == STEER and not first.known:\n",
            "        if False:\n",
            (CHAT,),
        ),
        Mutant(
            "the_stream_of_a_post_that_steered_ends_with_its_placeholder",
            _STREAM,
            "        if encoder.answer.by != STEERED:\n",
            "        if True:\n",
            (CHAT,),
        ),
        Mutant(
            "an_outage_ends_the_stream_of_a_post_that_steered",
            _STREAM,
            "        except StoreUnavailable:\n            return None\n        if row",
            "        except NotFound:\n            return None\n        if row",
            (CHAT,),
        ),
        Mutant(
            "a_post_that_steered_is_silent_in_an_outage",
            _STREAM,
            "is None:\n                yield [], None\n                await",
            "is None:\n                await",
            (CHAT,),
        ),
        Mutant(
            "a_frame_of_a_socket_has_no_policy",
            "web/aisdk/requests.py",
            '_BESIDE = ("id", ',
            '_BESIDE = ("while_running", "id", ',
            (CHAT,),
        ),
        Mutant(
            "the_end_of_a_placeholder_is_left_to_the_sweeper",
            _TAKING,
            "            await self._announce_end(message_id)\n",
            "            pass\n",
        ),
    ],
)
