"""Quotas of a user."""

from tests.mutants.mutant import Area, Mutant

_USAGE = ("tests/contracts/test_usage_days.py", "tests/unit/web/api/test_usage.py")

AREA = Area(
    "quotas",
    ("tests/contracts/test_quotas.py",),
    [
        Mutant(
            "an_answers_usage_is_not_added_up",
            "models/answers.py",
            "            await count_usage(session, ending.message_id, ending.usage)\n",
            "",
            _USAGE,
        ),
        Mutant(
            "the_last_answer_alone_is_added_up",
            "models/usage.py",
            "getattr(UsageDay, name) + added.excluded[name]",
            "added.excluded[name]",
            _USAGE,
        ),
        Mutant(
            "everybody_sees_what_others_used",
            "models/usage.py",
            "col(UsageDay.user_id) == user_id, ",
            "",
            _USAGE,
        ),
        Mutant(
            "the_last_day_does_not_count",
            "models/usage.py",
            "col(UsageDay.day) <= last",
            "col(UsageDay.day) < last",
            _USAGE,
        ),
        Mutant(
            "one_post_too_many_may_wait",
            "models/quotas.py",
            "if (await session.execute(select(func.count()).select_from(found))).scalar_one() > "
            "limit:",
            "if (await session.execute(select(func.count()).select_from(found))).scalar_one() > "
            "limit + 1:",
        ),
        Mutant(
            "one_post_too_few_may_wait",
            "models/quotas.py",
            "select_from(found))).scalar_one() > limit:",
            "select_from(found))).scalar_one() >= limit:",
        ),
        Mutant(
            "no_limit_on_what_is_stored",
            "models/quotas.py",
            "        raise StorageFull(user_id)",
            "        return",
        ),
        Mutant(
            "answers_are_stored_for_nothing",
            "models/quotas.py",
            "values(bytes=col(Storage.bytes) + size)",
            "values(bytes=col(Storage.bytes))",
        ),
        Mutant(
            "what_is_deleted_is_not_given_back",
            "models/quotas.py",
            "values(bytes=left)",
            "values(bytes=col(Storage.bytes))",
        ),
        Mutant(
            "decisions_after_the_end_are_given_back",
            "models/quotas.py",
            '(_runs_at == "caller", 0)',
            '(_runs_at == "nobody", 0)',
            ("tests/contracts/test_approvals.py",),
        ),
        Mutant(
            "more_is_given_back_than_was_taken",
            "models/quotas.py",
            "else_=0)\n        change",
            "else_=col(Storage.bytes) - size)\n        change",
        ),
        Mutant(
            "an_answer_waits_for_a_sum_that_is_locked",
            "models/quotas.py",
            "    await _wait_briefly(session)\n",
            "",
        ),
        Mutant(
            "a_locked_sum_keeps_an_answer_from_ending",
            "models/quotas.py",
            "uncounted_on(session, _UNCOUNTED, StatementFailed, GivenUp)",
            "uncounted_on(session, _UNCOUNTED, StatementFailed)",
        ),
        Mutant("rows_cost_nothing", "models/quotas.py", "ROW_BYTES = 512", "ROW_BYTES = 0"),
        Mutant(
            "what_was_cancelled_still_waits",
            "models/quotas.py",
            "        col(Message.cancel_by).is_(None),\n",
            "",
        ),
        Mutant(
            "each_counts_for_everybody",
            "models/quotas.py",
            "TooManyUnfinished, mine, not_(waits)",
            "TooManyUnfinished, not_(waits)",
        ),
        Mutant(
            "shorter_instructions_are_refused",
            "models/quotas.py",
            "quotas if grown > 0 else NO_QUOTAS",
            "quotas",
        ),
        Mutant(
            "bytes_are_counted_as_characters",
            "models/quotas.py",
            "coalesce(length(CAST({compiler.process(element.clauses, **options)} AS BLOB)), 0)",
            "coalesce(length({compiler.process(element.clauses, **options)}), 0)",
        ),
        Mutant(
            "a_long_history_is_sent_all_the_same",
            "models/threads.py",
            "    if limit is not None and end.total > limit:\n",
            "    if False:\n",
        ),
        Mutant(
            "a_broken_thread_passes_for_whole",
            "models/threads.py",
            "        return Size(0, whole=False)",
            "        return Size(0, whole=True)",
        ),
        Mutant(
            "a_thread_with_a_hole_passes_for_whole",
            "models/threads.py",
            "whole=end.before is None)",
            "whole=True)",
        ),
        Mutant(
            "a_thread_of_just_the_limit_ends_there",
            "models/threads.py",
            "walk.c.total <= limit",
            "walk.c.total < limit",
        ),
        Mutant(
            "calls_of_an_answer_are_charged_by_nobody",
            "models/quotas.py",
            "size = select(_stored_bytes).where",
            "size = select(literal(0)).where",
        ),
    ],
)
