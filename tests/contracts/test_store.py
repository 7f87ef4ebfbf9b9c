"""The store's promises on SQLite and PostgreSQL."""

import asyncio
from pathlib import Path

import pytest

from tests.databases import sql
from tests.rows import take_part
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.conversations import Policy, Post, Posted
from tokenwire.models.errors import AnswerRunning, KeyReused, NotFound, StoreUnavailable
from tokenwire.models.idempotency import KEY_LIFE_MS, Idempotency
from tokenwire.models.migrations import HEAD
from tokenwire.models.store import Store
from tokenwire.models.tables import Conversation

ME, YOU = "me", "you"
CALLS = [{"id": "call_1", "name": "look", "arguments": {}, "status": "completed"}]
USAGE = {"input_tokens": 1, "output_tokens": 2}


@pytest.fixture
async def conversation(store: Store) -> Conversation:
    return await store.create_conversation(ME)


def post_to(
    conversation: Conversation,
    content: str = "hi",
    policy: Policy = "queue",
    key: Idempotency | None = None,
) -> Post:
    return Post(conversation.id, ME, content, "demo", policy, key)


def key(body: str = "a", route: str = "POST /x") -> Idempotency:
    return Idempotency("key-1", route, body)


def checkpoint(message_id: str, attempt: int, content: str, seq: int = 5) -> Checkpoint:
    return Checkpoint(message_id, attempt, content, "because", "e1", seq)


def ending(message_id: str, attempt: int, content: str = "done") -> Ending:
    return Ending(
        message_id, attempt, "complete", content, "", "e1", 9, "stop", usage=USAGE, seams=[3]
    )


async def started(store: Store, posted: Posted, attempt: int = 1) -> str:
    """The id of the answer, begun by that attempt."""
    assert await store.begin_attempt(posted.assistant_message.id, attempt, "demo") is not None
    return posted.assistant_message.id


# --- conversations --------------------------------------------------------------------------------


async def test_a_new_conversation_is_visible_only_to_its_owner(store: Store) -> None:
    """For anybody else it does not exist."""
    made = await store.create_conversation(ME, title="T", model="demo", instructions="Be brief")
    found = await store.conversation(made.id, ME)
    assert (found.title, found.model, found.instructions, found.user_id) == (
        "T",
        "demo",
        "Be brief",
        ME,
    )
    assert await store.participants(made.id) == [ME]
    with pytest.raises(NotFound):
        await store.conversation(made.id, YOU)
    with pytest.raises(NotFound):
        await store.snapshot(made.id, YOU, 10)
    with pytest.raises(NotFound):
        await store.change_conversation(made.id, YOU, {"title": "mine"})


async def test_a_changed_title_raises_rev_and_other_changes_do_not(
    store: Store, conversation: Conversation
) -> None:
    """`rev` counts announced changes: titles."""
    renamed = await store.change_conversation(
        conversation.id, ME, {"title": "New", "instructions": None}
    )
    assert (renamed.title, renamed.rev, renamed.announced_rev) == ("New", 2, 1)
    changed = await store.change_conversation(conversation.id, ME, {"model": "demo"})
    assert (changed.title, changed.model, changed.rev) == ("New", "demo", 2)
    await store.mark_title_announced(conversation.id, 2)
    await store.mark_title_announced(conversation.id, 1)
    assert (await store.conversation(conversation.id, ME)).announced_rev == 2


async def test_an_automatic_title_never_replaces_a_given_one(
    store: Store, conversation: Conversation
) -> None:
    """`name_conversation` acts once, on an untitled conversation."""
    named = await store.name_conversation(conversation.id, "Automatic")
    assert named is not None
    assert (named.title, named.rev) == ("Automatic", 2)
    assert await store.name_conversation(conversation.id, "Again") is None


async def test_a_deletion_includes_the_rows_of_a_conversation(
    store: Store, conversation: Conversation
) -> None:
    """Messages and participants; a second deletion finds nothing."""
    posted = await store.post(post_to(conversation))
    assert await store.delete_conversation(conversation.id)
    assert not await store.delete_conversation(conversation.id)
    assert await store.message(posted.user_message.id) is None
    assert await store.participants(conversation.id) == []
    with pytest.raises(NotFound):
        await store.post(post_to(conversation))
    with pytest.raises(NotFound):
        await take_part(store, conversation.id, YOU)


async def test_a_participant_sees_what_the_owner_sees(
    store: Store, conversation: Conversation
) -> None:
    """Adding is idempotent. The conversation is in the participant's list, with its messages."""
    posted = await store.post(post_to(conversation))
    with pytest.raises(NotFound):
        await store.visible_message(posted.user_message.id, YOU)
    await take_part(store, conversation.id, YOU)
    await take_part(store, conversation.id, YOU)
    assert await store.participants(conversation.id) == [ME, YOU]
    assert [row.id for row in (await store.conversations(YOU, 10))[0]] == [conversation.id]
    assert (await store.visible_message(posted.user_message.id, YOU)).content == "hi"


# --- posts ----------------------------------------------------------------------------------------


async def test_a_post_writes_both_rows(store: Store, conversation: Conversation) -> None:
    """The user's row is final, the placeholder is queued, and neither is announced or enqueued
    yet.
    """
    first, second = (
        await store.post(post_to(conversation, "one")),
        await store.post(post_to(conversation, "two")),
    )
    rows = (await store.snapshot(conversation.id, ME, 10)).messages
    assert [(row.ordinal, row.role, row.content, row.status) for row in rows] == [
        (1, "user", "one", "complete"),
        (2, "assistant", "", "queued"),
        (3, "user", "two", "complete"),
        (4, "assistant", "", "queued"),
    ]
    assert [row.parent_id for row in rows] == [
        None,
        first.user_message.id,
        first.assistant_message.id,
        second.user_message.id,
    ]
    assert {(row.announced_rev, row.enqueued_at, row.rev) for row in rows} == {(0, None, 1)}
    assert first.assistant_message.model == "demo"


async def test_posts_at_once_get_different_ordinals(
    store: Store, conversation: Conversation
) -> None:
    """Twenty concurrent posts take forty consecutive ordinals, and each pair is together."""
    posted = await asyncio.gather(*(store.post(post_to(conversation, str(n))) for n in range(20)))
    rows = (await store.snapshot(conversation.id, ME, 200)).messages
    assert [row.ordinal for row in rows] == list(range(1, 41))
    assert all(pair.assistant_message.ordinal == pair.user_message.ordinal + 1 for pair in posted)


async def test_a_repeated_key_gives_the_same_rows(store: Store, conversation: Conversation) -> None:
    """Even if both requests run at once; the second writes nothing."""
    posts = await asyncio.gather(*(store.post(post_to(conversation, key=key())) for _ in range(5)))
    assert len({pair.assistant_message.id for pair in posts}) == 1
    assert len((await store.snapshot(conversation.id, ME, 10)).messages) == 2


async def test_a_key_with_another_body_is_refused_and_other_routes_are_free(
    store: Store, conversation: Conversation
) -> None:
    """A key belongs to one user and route."""
    await store.post(post_to(conversation, key=key()))
    with pytest.raises(KeyReused):
        await store.post(post_to(conversation, key=key("b")))
    await store.post(post_to(conversation, key=key("b", "POST /y")))
    assert len((await store.snapshot(conversation.id, ME, 10)).messages) == 4


async def test_a_post_that_fails_leaves_its_key_unused(
    store: Store, conversation: Conversation
) -> None:
    """The key is written in the same transaction."""
    with pytest.raises(NotFound):
        await store.post(Post(conversation.id, YOU, "hi", "demo", idempotency=key()))
    await take_part(store, conversation.id, YOU)
    assert (
        await store.post(Post(conversation.id, YOU, "hi", "demo", idempotency=key("b")))
    ).user_message.user_id == YOU


async def test_a_repeated_key_creates_one_conversation(store: Store) -> None:
    """Creation has idempotency keys too."""
    made = await asyncio.gather(
        *(store.create_conversation(ME, idempotency=key()) for _ in range(4))
    )
    assert len({row.id for row in made}) == 1
    with pytest.raises(KeyReused):
        await store.create_conversation(ME, idempotency=key("b"))


async def test_a_repeated_key_does_not_bring_back_a_deleted_conversation(store: Store) -> None:
    """Its id is not used again: readers and the log know it as deleted."""
    made = await store.create_conversation(ME, idempotency=key())
    await store.delete_conversation(made.id)
    with pytest.raises(NotFound):
        await store.create_conversation(ME, idempotency=key())


async def test_expired_keys_are_deleted_and_fresh_ones_kept(store: Store) -> None:
    """A key lives for 24 hours."""
    first = await store.create_conversation(ME, idempotency=key())
    await store.forget_keys()
    assert (await store.create_conversation(ME, idempotency=key())).id == first.id


async def test_a_key_can_be_used_again_after_it_expired(store: Store) -> None:
    """Before housekeeping too, and with another body."""
    first = await store.create_conversation(ME, idempotency=key())
    async with store.writing() as session:
        await session.execute(
            sql("UPDATE idempotency_keys SET created_at = created_at - :life"),
            {"life": KEY_LIFE_MS + 1},
        )
    assert (await store.create_conversation(ME, idempotency=key("b"))).id != first.id


async def test_reject_refuses_while_an_answer_is_unfinished(
    store: Store, conversation: Conversation
) -> None:
    """And accepts again after the end; of two simultaneous posts one is refused."""
    outcomes = await asyncio.gather(
        *(store.post(post_to(conversation, policy="reject")) for _ in range(2)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, AnswerRunning)]
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Posted)]
    assert (len(refused), len(accepted)) == (1, 1)
    message_id = await started(store, accepted[0])
    assert await store.finish(ending(message_id, 1))
    await store.post(post_to(conversation, policy="reject"))


async def test_cancel_previous_flags_every_unfinished_answer(
    store: Store, conversation: Conversation
) -> None:
    """The result names them, and their rows have the user who cancelled; the new one has none."""
    first, second = await store.post(post_to(conversation)), await store.post(post_to(conversation))
    third = await store.post(post_to(conversation, policy="cancel_previous"))
    assert third.superseded == [first.assistant_message.id, second.assistant_message.id]
    rows = {row.id: row for row in (await store.snapshot(conversation.id, ME, 10)).messages}
    assert [rows[message_id].cancel_by for message_id in third.superseded] == [
        "superseded",
        "superseded",
    ]
    assert rows[third.assistant_message.id].cancel_by is None


async def test_effects_of_a_post_are_noted_at_once(
    store: Store, conversation: Conversation
) -> None:
    """`mark_posted` notes the announcement of both rows, and the job if there is one."""
    posted = await store.post(post_to(conversation))
    user, assistant = posted.user_message.id, posted.assistant_message.id
    await store.mark_posted(user, assistant, 1, enqueued=False)
    rows = (await store.snapshot(conversation.id, ME, 10)).messages
    assert [(row.announced_rev, row.enqueued_at) for row in rows] == [(1, None), (1, None)]
    await store.mark_posted(user, assistant, 1, enqueued=True)
    rows = (await store.snapshot(conversation.id, ME, 10)).messages
    assert rows[0].enqueued_at is None
    assert rows[1].enqueued_at is not None


async def test_any_unicode_text_is_kept(store: Store, conversation: Conversation) -> None:
    """Emoji, right-to-left text and line ends survive."""
    content = "naïve 👩‍👩‍👧 שלום\r\n\t\x01 \U0010ffff"
    await store.post(post_to(conversation, content))
    assert (await store.snapshot(conversation.id, ME, 10)).messages[0].content == content


# --- answers --------------------------------------------------------------------------------------


async def test_attempts_only_increase(store: Store, conversation: Conversation) -> None:
    """The fencing token never falls or repeats."""
    posted = await store.post(post_to(conversation))
    message_id = posted.assistant_message.id
    row = await store.begin_attempt(message_id, 2, "demo")
    assert row is not None
    assert (row.attempt, row.status) == (2, "streaming")
    assert await store.begin_attempt(message_id, 2, "demo") is None
    assert await store.begin_attempt(message_id, 1, "demo") is None
    assert await store.begin_attempt("nobody", 1, "demo") is None
    taken = await asyncio.gather(*(store.begin_attempt(message_id, 3, "demo") for _ in range(4)))
    assert sum(row is not None for row in taken) == 1


async def test_a_checkpoint_saves_only_current_attempts(
    store: Store, conversation: Conversation
) -> None:
    """One statement for many answers: stale attempts and ended answers stay as they are."""
    posts = [await store.post(post_to(conversation)) for _ in range(3)]
    running, stale, ended = [await started(store, posted) for posted in posts]
    await store.begin_attempt(stale, 2, "demo")
    await store.finish(ending(ended, 1))
    await store.checkpoint(
        [checkpoint(message_id, 1, "partial", 7) for message_id in (ended, running, stale)]
    )
    rows = {row.id: row for row in (await store.snapshot(conversation.id, ME, 10)).messages}
    assert (
        rows[running].content,
        rows[running].reasoning,
        rows[running].epoch,
        rows[running].seq,
    ) == ("partial", "because", "e1", 7)
    assert (rows[stale].content, rows[stale].seq) == ("", 0)
    assert (rows[ended].content, rows[ended].seq) == ("done", 9)
    await store.checkpoint([])


async def test_an_answer_ends_once(store: Store, conversation: Conversation) -> None:
    """The first ending stands; its repetition is recognised, and another attempt is refused."""
    message_id = await started(store, await store.post(post_to(conversation)), attempt=2)
    assert not await store.finish(ending(message_id, 1))
    assert await store.finish(ending(message_id, 2, "done"))
    assert await store.finish(ending(message_id, 2, "done"))
    assert not await store.finish(ending(message_id, 3, "other"))
    assert await store.begin_attempt(message_id, 3, "demo") is None
    assert not await store.schedule_retry(message_id, 2, 100, 1, 0)
    assert await store.request_cancel(message_id, ME) is None
    row = await store.message(message_id)
    assert row is not None
    assert (row.content, row.status, row.finish_reason, row.usage, row.seams) == (
        "done",
        "complete",
        "stop",
        USAGE,
        [3],
    )
    assert not row.terminal_announced
    await store.terminal_announced(message_id, 2)
    row = await store.message(message_id)
    assert row is not None
    assert row.terminal_announced


async def test_one_of_two_simultaneous_endings_counts(
    store: Store, conversation: Conversation
) -> None:
    """Cancel against complete: the compare-and-set decides, and the row is entirely one of them."""
    message_id = await started(store, await store.post(post_to(conversation)))
    assert await store.begin_attempt(message_id, 2, "demo") is not None
    stopped = Ending(message_id, 2, "cancelled", "part", "", "e1", 4, cancel_by=YOU)
    won = await asyncio.gather(store.finish(ending(message_id, 1)), store.finish(stopped))
    assert won == [False, True]
    row = await store.message(message_id)
    assert row is not None
    assert (row.status, row.content, row.cancel_by, row.finish_reason) == (
        "cancelled",
        "part",
        YOU,
        None,
    )


class CutOnce(Store):
    """A store whose connection breaks at its first COMMIT of an ending, before or after it takes
    effect.
    """

    committed = False
    calls = 0

    async def _finish(self, ending: Ending) -> bool:
        self.calls += 1
        if self.calls > 1:
            return await super()._finish(ending)
        if self.committed:
            await super()._finish(ending)
        raise StoreUnavailable("cut")


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_of_unknown_outcome_is_resolved(
    store: Store, database_url: str, conversation: Conversation, committed: bool
) -> None:
    """Whether the connection broke before or after the COMMIT, the caller learns that the ending
    stands.
    """
    message_id = await started(store, await store.post(post_to(conversation)))
    shaky = CutOnce(database_url)
    shaky.committed = committed
    try:
        assert await shaky.finish(ending(message_id, 1))
    finally:
        await shaky.aclose()
    assert shaky.calls == (1 if committed else 2)
    row = await store.message(message_id)
    assert row is not None
    assert row.status == "complete"


async def test_a_retry_is_due_by_the_database_clock(
    store: Store, conversation: Conversation
) -> None:
    """Only the current attempt may schedule a retry; the next attempt clears it."""
    message_id = await started(store, await store.post(post_to(conversation)))
    before = await store.now_ms()
    assert not await store.schedule_retry(message_id, 0, 1000, 1, 0)
    assert await store.schedule_retry(message_id, 1, 60_000, 2, 7)
    row = await store.message(message_id)
    assert row is not None
    assert row.due_at is not None
    assert (row.status, row.tries) == ("retrying", 2)
    assert before + 60_000 <= row.due_at <= await store.now_ms() + 60_000
    again = await store.begin_attempt(message_id, 2, "demo")
    assert again is not None
    assert (again.due_at, again.status, again.tries) == (None, "streaming", 2)


async def test_a_retry_may_be_another_models(store: Store, conversation: Conversation) -> None:
    """The row keeps the first model's name, whichever attempt comes; an attempt that read the row
    before changes nothing.
    """
    message_id = await started(store, await store.post(post_to(conversation)))
    assert not await store.schedule_retry(message_id, 0, 0, 0, 0, model="second")
    for attempt, model in ((1, "second"), (2, "third")):
        assert await store.schedule_retry(message_id, attempt, 0, 0, 0, model=model)
        again = await store.begin_attempt(message_id, attempt + 1, "demo")
        assert again is not None
        assert (again.model, again.first_model) == (model, "demo")
    assert await store.schedule_retry(message_id, 3, 0, 1, 0)
    row = await store.message(message_id)
    assert row is not None
    assert (row.model, row.first_model) == ("third", "demo")


async def test_later_attempts_know_how_earlier_ones_began(
    store: Store, conversation: Conversation
) -> None:
    """Deaths and tries are separate counts; the beginning or end of later attempts changes
    neither.
    """
    message_id = await started(store, await store.post(post_to(conversation)))
    await store.note_attempt(message_id, 1, 3, 70)
    assert await store.schedule_retry(message_id, 1, 0, 2, 0)
    again = await store.begin_attempt(message_id, 2, "demo")
    assert again is not None
    assert (again.deaths, again.started_with, again.tries) == (3, 70, 2)
    await store.note_attempt(message_id, 2, 0, 500)
    row = await store.message(message_id)
    assert row is not None
    assert (row.deaths, row.started_with, row.tries) == (0, 500, 2)


async def test_answers_of_a_conversation_wait_for_each_other(
    store: Store, conversation: Conversation
) -> None:
    """The first unfinished one blocks those after it; when it ends, the next is named."""
    first, second = [(await store.post(post_to(conversation))).assistant_message for _ in range(2)]
    assert await store.blocked_by(first.id) is None
    assert await store.blocked_by(second.id) == first.id
    assert await store.next_queued(conversation.id) == first.id
    await store.begin_attempt(first.id, 1, "demo")
    assert await store.next_queued(conversation.id) is None
    await store.finish(ending(first.id, 1))
    assert await store.blocked_by(second.id) is None
    assert await store.next_queued(conversation.id) == second.id
    assert [row.id for row in await store.unfinished(conversation.id)] == [second.id]


async def test_history_holds_earlier_messages(store: Store, conversation: Conversation) -> None:
    """In order, and nothing of the answer itself."""
    posts = [await store.post(post_to(conversation, str(n))) for n in range(2)]
    answer = posts[1].assistant_message
    assert [row.ordinal for row in await store.history(conversation.id, answer.ordinal)] == [
        1,
        2,
        3,
    ]
    found = await store.conversation_of(answer.id)
    assert found is not None
    assert found.id == conversation.id
    assert await store.conversation_of("nobody") is None


async def test_the_first_cancel_counts(store: Store, conversation: Conversation) -> None:
    """A second request changes nothing."""
    message_id = (await store.post(post_to(conversation))).assistant_message.id
    row = await store.request_cancel(message_id, ME)
    assert row is not None
    assert row.cancel_by == ME
    again = await store.request_cancel(message_id, YOU)
    assert again is not None
    assert again.cancel_by == ME
    assert await store.request_cancel("nobody", ME) is None


async def test_marks_only_go_forward(store: Store, conversation: Conversation) -> None:
    """An older announcement does not undo a newer one."""
    message_id = (await store.post(post_to(conversation))).assistant_message.id
    await store.mark_announced(message_id, 2)
    await store.mark_announced(message_id, 1)
    await store.mark_enqueued(message_id)
    row = await store.message(message_id)
    assert row is not None
    assert row.announced_rev == 2
    assert row.enqueued_at is not None


async def test_checkpoints_and_posts_of_many_tasks_do_not_disturb_each_other(
    store: Store, conversation: Conversation
) -> None:
    """Writers of one process queue instead of failing; shared rows are locked in one order."""
    ids = [await started(store, await store.post(post_to(conversation))) for _ in range(6)]
    batches = [
        [checkpoint(message_id, 1, str(n), n) for message_id in (ids if n % 2 else ids[::-1])]
        for n in range(10)
    ]
    await asyncio.gather(
        *(store.checkpoint(batch) for batch in batches),
        *(store.post(post_to(conversation)) for _ in range(10)),
    )
    rows = {row.id: row for row in (await store.snapshot(conversation.id, ME, 200)).messages}
    assert len(rows) == 32
    assert {rows[message_id].content for message_id in ids} <= {str(n) for n in range(10)}


async def test_two_stores_write_to_one_database(
    store: Store, database_url: str, conversation: Conversation
) -> None:
    """Like web and worker: each waits for the other's lock."""
    other = Store.open(database_url)
    try:
        await asyncio.gather(
            *((store if n % 2 else other).post(post_to(conversation, str(n))) for n in range(20))
        )
    finally:
        await other.aclose()
    assert [
        row.ordinal for row in (await store.snapshot(conversation.id, ME, 200)).messages
    ] == list(range(1, 41))


async def test_the_revision_is_known(store: Store) -> None:
    """Readiness compares it."""
    assert await store.revision() == HEAD


async def test_an_empty_database_has_no_revision(empty_database_url: str, tmp_path: Path) -> None:
    """Readiness can be checked before the first migration."""
    (tmp_path / "new").mkdir()
    empty = Store.open(empty_database_url)
    try:
        assert await empty.revision() is None
    finally:
        await empty.aclose()
