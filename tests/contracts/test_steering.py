"""What a running answer takes in, in SQL: each post once, and only what still waits."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.contracts.calls import ME, Asked, LostCommits, asked, call, raced, waiting
from tests.contracts.plans import recorded, without_index
from tests.contracts.test_calls import ending
from tokenwire.models.answers import Ending
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Policy, Post, Posted
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.recount import recount
from tokenwire.models.steering import MOST_AT_A_STEP
from tokenwire.models.store import Store
from tokenwire.models.tables import Message
from tokenwire.protocol.states import EndedStatus

pytestmark = pytest.mark.usefixtures("counted_right")

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


async def waits_behind(answer: Asked, attempt: int = 1) -> list[str]:
    """Ids of the messages that the next step would bring."""
    return await answer.store.steering_behind(answer.id, attempt)


async def taken(answer: Asked, *posts: Posted, attempt: int = 1) -> list[str] | None:
    """Ids of the placeholders that end behind a step with these posts."""
    names = [each.user_message.id for each in posts]
    return await answer.store.take_in(answer.id, attempt, names)


def named(answer: Asked, *posts: Posted) -> Ending:
    """An end of the answer, whose steps name these posts."""
    parts = [{"type": "step", "message_ids": [each.user_message.id]} for each in posts]
    return ending(answer.id, parts=parts)


async def placeholder(post: Posted, store: Store) -> Message:
    row = await store.message(post.assistant_message.id)
    assert row is not None
    return row


async def test_a_post_is_taken_in_once(store: Store) -> None:
    """Its placeholder ends and leaves the conversation. Until then nothing has changed, so each
    step that is not appended leaves it in line.
    """
    answer = await asked(store, call(0))
    first, queued, second = [
        await posted(answer, policy=policy) for policy in ("steer", "queue", "steer")
    ]
    users = [first.user_message.id, second.user_message.id]
    placeholders = [first.assistant_message.id, second.assistant_message.id]
    assert await waits_behind(answer) == await waits_behind(answer) == users
    assert await taken(answer, first, second) == placeholders
    assert await waits_behind(answer) == []
    assert await taken(answer, first, second) == []
    for each in (first, second):
        row = await placeholder(each, store)
        assert (row.status, row.cancel_by) == ("cancelled", "steered")
        assert (row.superseded_by, row.terminal_announced) == (answer.id, False)
        assert row.ended_at
    shown = (await store.snapshot(answer.conversation_id, ME, 9)).messages
    assert [each.id for each in shown][1:] == [
        *(answer.id, users[0], queued.user_message.id, queued.assistant_message.id, users[1])
    ]
    assert await store.texts_of([*users, answer.id]) == dict.fromkeys(users, "wait")
    assert await recount(store) == []


@pytest.mark.parametrize("status", ["complete", "error", "cancelled"])
async def test_the_end_takes_in_what_the_steps_name(store: Store, status: EndedStatus) -> None:
    """Whoever ends the answer, and however. What no step names is answered next."""
    answer = await asked(store, call(0))
    brought, left = await posted(answer), await posted(answer)
    assert await store.finish(replace(named(answer, brought), status=status))
    row = await placeholder(brought, store)
    assert (row.status, row.cancel_by, row.superseded_by) == ("cancelled", "steered", answer.id)
    assert (await placeholder(left, store)).status == "queued"
    assert await store.next_queued(answer.conversation_id) == left.assistant_message.id


async def test_an_end_takes_in_only_what_stands_behind_it(store: Store) -> None:
    """A step that names messages of others changes nothing there."""
    answer, elsewhere = await asked(store, call(0)), await asked(store, call(0))
    foreign = await posted(elsewhere)
    queued = await posted(answer, policy="queue")
    assert await store.finish(named(answer, foreign, queued))
    assert (await placeholder(foreign, store)).status == "queued"
    assert (await placeholder(queued, store)).status == "queued"


async def test_what_has_ended_or_is_cancelled_takes_nothing_in(store: Store) -> None:
    """Nor does an attempt that lost the answer."""
    answer = await asked(store, call(0))
    waits = await posted(answer)
    assert await waits_behind(answer, 2) == []
    assert await taken(answer, waits, attempt=2) is None
    await store.request_cancel(answer.id, ME)
    assert await waits_behind(answer) == []
    assert await store.finish(ending(answer.id))
    assert await taken(answer, waits) is None
    assert (await placeholder(waits, store)).status == "queued"


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
    assert await waits_behind(answer) == [edited.user_message.id]


async def test_a_cancel_between_the_step_and_the_rows(store: Store) -> None:
    """It came too late: the model has the message. The placeholder leaves the conversation, and
    ends as whoever comes first says.
    """
    answer = await asked(store, call(0))
    asked_for, ending_now = await posted(answer), await posted(answer)
    await store.request_cancel(asked_for.assistant_message.id, ME)
    name = ending_now.assistant_message.id
    await store.request_cancel(name, ME)
    assert await store.begin_attempt(name, 1, "m", closes=True)
    assert await taken(answer, asked_for, ending_now) == [asked_for.assistant_message.id]
    row = await placeholder(asked_for, store)
    assert (row.status, row.cancel_by, row.superseded_by) == ("cancelled", "steered", answer.id)
    assert await store.finish(ending(name, status="cancelled", cancel_by=ME))
    row = await placeholder(ending_now, store)
    assert (row.status, row.cancel_by, row.superseded_by) == ("cancelled", ME, answer.id)


async def test_an_answer_that_somebody_asked_for_again_is_not_taken_in(store: Store) -> None:
    """The message was brought by a step, and its author wants an answer of its own."""
    answer = await asked(store, call(0, "awaiting_approval"))
    brought = await posted(answer)
    assert await taken(answer, brought) == [brought.assistant_message.id]
    user = brought.user_message.id
    again = await store.regenerate(Regeneration(answer.conversation_id, ME, user, "m"))
    assert await store.withdraw_calls(answer.id, 1)  # what waits behind the question may steer
    assert await waits_behind(answer) == []
    assert await taken(answer, brought) == []
    assert await store.finish(named(answer, brought))
    assert (await placeholder(again, store)).status == "queued"


async def test_one_step_takes_a_bounded_number(store: Store) -> None:
    answer = await asked(store, call(0))
    made = [await posted(answer) for _ in range(MOST_AT_A_STEP + 1)]
    first = await waits_behind(answer)
    assert first == [each.user_message.id for each in made[:MOST_AT_A_STEP]]
    assert len(await taken(answer, *made[:MOST_AT_A_STEP]) or ()) == MOST_AT_A_STEP
    assert await waits_behind(answer) == [made[-1].user_message.id]


async def test_a_cancel_and_a_step_at_the_same_time(store: Store, other: Store) -> None:
    """The message is in the step, so its placeholder ends, whoever comes first."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        made = await posted(answer)
        name = made.assistant_message.id
        ended, _ = await raced(taken(answer, made), other.request_cancel(name, "somebody"))
        row = await placeholder(made, store)
        assert (row.status, row.cancel_by, ended) == ("cancelled", "steered", [name])


async def test_two_attempts_take_a_post_in_once(store: Store, other: Store) -> None:
    """Two calls at once: one of them ends the placeholder."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        made = await posted(answer)
        again = Asked(other, answer.conversation_id, answer.id)
        both = await raced(taken(answer, made), taken(again, made))
        assert sorted(len(found) for found in both) == [0, 1]


async def test_an_edit_and_an_end_at_the_same_time(store: Store, other: Store) -> None:
    """They lock the same rows, and neither gives up. The new message waits for its turn."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        post = Post(answer.conversation_id, ME, "old", "m", "steer", client_id="c1")
        made = await store.post(post)
        more = [await posted(answer) for _ in range(3)]
        new = replace(post, content="new", edits=True)
        edited, ended = await raced(other.post(new), store.finish(named(answer, made, *more)))
        assert ended is True
        assert isinstance(edited, Posted)
        row = await placeholder(edited, store)
        assert (row.status, row.superseded_by) == ("queued", None)


async def test_a_post_and_an_end_at_the_same_time(store: Store, other: Store) -> None:
    """A post to an answer that just ends is never lost: it waits for its turn."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        made, ended = await raced(
            posted(Asked(other, answer.conversation_id, answer.id)),
            store.finish(ending(answer.id)),
        )
        assert ended is True
        assert await store.next_queued(answer.conversation_id) == made.assistant_message.id
        assert await waits_behind(answer) == []


async def test_a_commit_of_unknown_outcome_is_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await asked(store, call(0))
    made = await posted(answer)
    LostCommits(store, monkeypatch).left = 1
    with pytest.raises(StoreUnavailable):
        await taken(answer, made)
    assert await taken(answer, made) == []
    assert (await placeholder(made, store)).cancel_by == "steered"


async def test_a_post_in_front_of_a_question_may_steer(store: Store) -> None:
    """Whatever it asked for. So may those that waited when the question was taken back."""
    answer = await waiting(store)
    made = await posted(answer, policy="queue")
    assert (made.resumed, made.assistant_message.while_running) == (answer.id, "steer")
    running = await asked(store, call(0, "awaiting_approval"))
    made = await posted(running, policy="queue")
    assert await waits_behind(running) == []
    await store.post(Post(running.conversation_id, ME, "mine", "m", steers=False))
    assert await store.withdraw_calls(running.id, 1)
    assert await waits_behind(running) == [made.user_message.id]


async def test_a_post_whose_client_follows_its_own_answer_never_steers(store: Store) -> None:
    """It takes the question back all the same."""
    answer = await waiting(store)
    post = Post(answer.conversation_id, ME, "mine", "m", "steer", steers=False)
    assert (await store.post(post)).resumed == answer.id
    running = await asked(store, call(0))
    await store.post(Post(running.conversation_id, ME, "mine", "m", "steer", steers=False))
    assert await waits_behind(running) == []


async def test_statements_of_steering_use_indexes(store: Store) -> None:
    """No step reads other conversations."""
    answer = await asked(store, call(0, "awaiting_approval"))
    first, second = await posted(answer), await posted(answer)
    with recorded(store) as ran:
        assert await store.withdraw_calls(answer.id, 1)
        await store.texts_of(await waits_behind(answer))
        assert await taken(answer, first)
        assert await store.finish(named(answer, first, second))
    about = {text for text in ran if "messages" in text}
    assert len(about) >= 12
    assert await without_index(store, about) == []
