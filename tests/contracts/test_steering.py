"""What a running answer takes in, in SQL: each post once, and only what still waits."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import event

from tests.contracts.calls import ME, Asked, LostCommits, asked, call, raced, waiting
from tests.contracts.test_calls import _literal, ending
from tests.databases import sql
from tokenwire.models.conversations import Policy, Post, Posted
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.recount import recount
from tokenwire.models.steering import MOST_AT_A_STEP
from tokenwire.models.store import Store

ROUNDS = 8
"""Of each race: who comes first differs."""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Store]:
    """Another process's store on the same database."""
    opened = Store.open(database_url)
    yield opened
    await opened.aclose()


async def posted(answer: Asked, content: str = "wait", policy: Policy = "steer") -> Posted:
    return await answer.store.post(Post(answer.conversation_id, ME, content, "m", policy))


async def taken(answer: Asked, attempt: int = 1) -> tuple[list[str], list[str]]:
    """Ids of all messages that were taken in, and of the placeholders that ended now."""
    found = await answer.store.take_in(answer.conversation_id, answer.id, attempt)
    assert found is not None
    return [each.id for each in found.messages], list(found.ended)


async def test_a_post_is_taken_in_once(store: Store) -> None:
    """In order, with its placeholder, which leaves the conversation. A second call finds the same
    messages, and ends nothing.
    """
    answer = await asked(store, call(0))
    first, queued, second = [
        await posted(answer, policy=policy) for policy in ("steer", "queue", "steer")
    ]
    users = [first.user_message.id, second.user_message.id]
    placeholders = [first.assistant_message.id, second.assistant_message.id]
    assert await taken(answer) == (users, placeholders)
    assert await taken(answer) == (users, [])
    for name in placeholders:
        row = await store.message(name)
        assert row is not None
        assert (row.status, row.cancel_by) == ("cancelled", "steered")
        assert (row.superseded_by, row.terminal_announced) == (answer.id, False)
        assert row.ended_at
    shown = (await store.snapshot(answer.conversation_id, ME, 9)).messages
    assert [each.id for each in shown][1:] == [
        *(answer.id, users[0], queued.user_message.id, queued.assistant_message.id, users[1])
    ]
    assert await store.texts_of([*users, answer.id]) == dict.fromkeys(users, "wait")
    assert await recount(store) == []


async def test_what_has_ended_or_is_cancelled_takes_nothing_in(store: Store) -> None:
    """Nor does an attempt that lost the answer."""
    answer = await asked(store, call(0))
    waits = await posted(answer)
    assert await store.take_in(answer.conversation_id, answer.id, 2) is None
    await store.request_cancel(answer.id, ME)
    assert await taken(answer) == ([], [])
    assert await store.finish(ending(answer.id))
    assert await store.take_in(answer.conversation_id, answer.id, 1) is None
    row = await store.message(waits.assistant_message.id)
    assert row is not None
    assert row.status == "queued"


async def test_a_post_that_left_is_not_taken_in(store: Store) -> None:
    """It was cancelled, edited, or a process ends it right now. The edited one is taken in."""
    answer = await asked(store, call(0))
    cancelled, ending_now = await posted(answer), await posted(answer)
    await store.request_cancel(cancelled.assistant_message.id, ME)
    name = ending_now.assistant_message.id
    assert await store.begin_attempt(name, 1, "m", closes=True)
    old = Post(answer.conversation_id, ME, "old", "m", "steer", client_id="c1")
    await store.post(old)
    new = Post(answer.conversation_id, ME, "new", "m", "steer", client_id="c1", edits=True)
    edited = await store.post(new)
    assert await taken(answer) == ([edited.user_message.id], [edited.assistant_message.id])


async def test_an_edit_before_the_step_comes_instead(store: Store) -> None:
    """The message was taken in, no step has brought it, and its author replaces it."""
    answer = await asked(store, call(0))
    old = Post(answer.conversation_id, ME, "old", "m", "steer", client_id="c1")
    first = await store.post(old)
    assert await taken(answer) == ([first.user_message.id], [first.assistant_message.id])
    new = Post(answer.conversation_id, ME, "new", "m", "steer", client_id="c1", edits=True)
    edited = await store.post(new)
    assert (await taken(answer))[0] == [edited.user_message.id]


async def test_one_step_takes_a_bounded_number(store: Store) -> None:
    answer = await asked(store, call(0))
    for _ in range(MOST_AT_A_STEP + 1):
        await posted(answer)
    assert len((await taken(answer))[1]) == MOST_AT_A_STEP
    assert len((await taken(answer))[1]) == 1


async def test_a_cancel_and_a_step_at_the_same_time(store: Store, other: Store) -> None:
    """One of them has the placeholder: it ends as steered, or stays and is cancelled."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        name = (await posted(answer)).assistant_message.id
        found, _ = await raced(taken(answer), other.request_cancel(name, "somebody"))
        row = await store.message(name)
        assert row is not None
        assert (row.status, row.cancel_by) in (
            [("cancelled", "steered")] if found[1] else [("queued", "somebody")]
        )


async def test_two_attempts_take_a_post_in_once(store: Store, other: Store) -> None:
    """Two calls at once: one of them ends the placeholder."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        user = (await posted(answer)).user_message.id
        again = Asked(other, answer.conversation_id, answer.id)
        both = await raced(taken(answer), taken(again))
        assert [found[0] for found in both] == [[user], [user]]
        assert sorted(len(found[1]) for found in both) == [0, 1]


async def test_a_post_and_an_end_at_the_same_time(store: Store, other: Store) -> None:
    """A post to an answer that just ends is never lost: it is taken in, or waits for its turn."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        made, _ = await raced(
            posted(Asked(other, answer.conversation_id, answer.id)), taken(answer)
        )
        assert await store.finish(ending(answer.id))
        row = await store.message(made.assistant_message.id)
        user = await store.message(made.user_message.id)
        assert row is not None
        assert user is not None
        assert (row.status == "queued") == (user.steers is None)
        following = row.id if row.status == "queued" else None
        assert await store.next_queued(answer.conversation_id) == following


async def test_a_commit_of_unknown_outcome_is_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await asked(store, call(0))
    user = (await posted(answer)).user_message.id
    LostCommits(store, monkeypatch).left = 1
    with pytest.raises(StoreUnavailable):
        await taken(answer)
    assert await taken(answer) == ([user], [])


async def test_a_post_in_front_of_a_question_may_steer(store: Store) -> None:
    """Whatever it asked for. So may those that waited when the question was taken back."""
    answer = await waiting(store)
    made = await posted(answer, policy="queue")
    assert (made.resumed, made.assistant_message.while_running) == (answer.id, "steer")
    running = await asked(store, call(0, "awaiting_approval"))
    made = await posted(running, policy="queue")
    assert await taken(running) == ([], [])
    await store.post(Post(running.conversation_id, ME, "mine", "m", steers=False))
    assert await store.withdraw_calls(running.id, 1)
    assert await taken(running) == ([made.user_message.id], [made.assistant_message.id])


async def test_a_post_whose_client_follows_its_own_answer_never_steers(store: Store) -> None:
    """It takes the question back all the same."""
    answer = await waiting(store)
    post = Post(answer.conversation_id, ME, "mine", "m", "steer", steers=False)
    assert (await store.post(post)).resumed == answer.id
    running = await asked(store, call(0))
    await store.post(Post(running.conversation_id, ME, "mine", "m", "steer", steers=False))
    assert await taken(running) == ([], [])


async def test_statements_of_steering_use_indexes(store: Store) -> None:
    """No step reads other conversations."""
    ran: list[str] = []
    event.listen(
        store._engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _s, statement, parameters, _x, _m: ran.append(_literal(statement, parameters)),
    )
    answer = await asked(store, call(0, "awaiting_approval"))
    await posted(answer)
    ran.clear()
    assert await store.withdraw_calls(answer.id, 1)
    found, _ = await taken(answer)
    await store.texts_of(found)
    explain = "EXPLAIN QUERY PLAN" if store.is_sqlite else "EXPLAIN"
    about = {text for text in ran if "messages" in text and not text.startswith("INSERT")}
    assert len(about) >= 6
    async with store.reading(by_index=True) as session:
        for text in sorted(about):
            plan = "\n".join(
                str(row[-1]) for row in await session.execute(sql(f"{explain} {text}"))
            )
            assert "Seq Scan" not in plan, (text, plan)
            assert "SCAN" not in plan.replace("SCAN CONSTANT ROW", ""), (text, plan)
