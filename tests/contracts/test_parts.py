"""Answers with parts in the store, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import select, tuple_
from sqlmodel import col

from tests.databases import sql
from tests.rows import stored_bytes
from tests.unit.models.test_unsaved import held
from tokenwire.models import database
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.conversations import HISTORY_PAGE_BYTES, Post
from tokenwire.models.errors import HistoryTooLong
from tokenwire.models.names import named
from tokenwire.models.parts import StoredPart, answer_of, open_texts, whole
from tokenwire.models.quotas import Quotas, answer_bytes, shown_bytes
from tokenwire.models.recount import recount
from tokenwire.models.store import Store
from tokenwire.models.tables import Message, UnfinishedPart
from tokenwire.models.threads import ids_before, measure, thread_ids
from tokenwire.models.unsaved import PartsToSave, UnsavedParts
from tokenwire.models.views import message_view
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, from_view

ME = "me"
SIGNATURE: dict[str, Any] = {"dialect": "anthropic", "value": {"signature": "x" * 100}}
CALL = {"type": "tool_call", "id": "c1", "name": "weather", "state": "streaming"}
Told = Sequence[events.AnyEvent]


def end_of(answer: Answer, kind: str) -> int:
    """The length of all texts of a type, in UTF-16 units."""
    return next((p.start + p.units for p in reversed(answer.parts) if p.type == kind), 0)


class Running:
    """An attempt that applies events and saves the result."""

    def __init__(self, message_id: str, attempt: int = 1) -> None:
        self.attempt, self.answer, self.unsaved = attempt, Answer(message_id), UnsavedParts()

    def apply(self, *told: events.AnyEvent) -> None:
        for event in told:
            self.unsaved.applied(event, self.answer.apply(event))

    def part(self, number: int, **value: Any) -> None:
        self.apply(events.PartEvent(self.answer.id, self.attempt, number, value))

    def text(self, number: int, content: str) -> None:
        offset = end_of(self.answer, "text")
        self.apply(events.Chunk(self.answer.id, self.attempt, offset, content, number))

    def think(self, number: int, content: str) -> None:
        offset = end_of(self.answer, "reasoning")
        self.apply(events.Reasoning(self.answer.id, self.attempt, offset, content, number))

    def keep(self, number: int, kept: dict[str, Any]) -> None:
        self.answer.parts[number].kept = kept
        self.unsaved.touched([number])

    def reset(self, keep_parts: int) -> None:
        kept = self.answer.copy()
        kept.reset(keep_parts)
        lengths = end_of(kept, "text"), end_of(kept, "reasoning")
        self.apply(events.Reset(self.answer.id, self.attempt, *lengths, keep_parts))

    def checkpoint(self) -> Checkpoint:
        (content, reasoning), answer = open_texts(self.answer), self.answer
        changes = self.unsaved.take(answer)
        return Checkpoint(
            *(answer.id, self.attempt, content, reasoning, "e1", 5),
            saves=self.unsaved.saves,
            part_count=len(answer.parts),
            open_text=answer.open_text,
            open_reasoning=answer.open_reasoning,
            run_parts=1,
            changes=changes,
        )

    def ending(self) -> Ending:
        columns = whole(self.answer)
        return Ending(
            *(self.answer.id, self.attempt, "complete", columns.content, columns.reasoning),
            *("e1", 9),
            finish_reason="stop",
            parts=columns.parts,
            parts_kept=columns.parts_kept,
        )


async def posted(store: Store) -> tuple[str, str]:
    """A conversation with an answer that an attempt has begun."""
    conversation = await store.create_conversation(ME)
    made = await store.post(Post(conversation.id, ME, "hi", "m"))
    assert await store.begin_attempt(made.assistant_message.id, 1, "m")
    return conversation.id, made.assistant_message.id


@pytest.fixture
async def running(store: Store) -> Running:
    """Reasoning with its signature, a text with a source inside it, a call, more text."""
    return await begun(store)


async def begun(store: Store) -> Running:
    attempt = Running((await posted(store))[1])
    attempt.think(0, "Hm 👋")
    attempt.keep(0, SIGNATURE)
    attempt.text(1, "Hello ")
    attempt.part(2, type="source", url="https://x", at=6)
    attempt.text(1, "👋")
    attempt.part(3, **CALL)
    attempt.apply(events.ToolInput(attempt.answer.id, 1, 0, '{"city":', 3))
    attempt.text(4, "So")
    return attempt


async def read(store: Store, message_id: str) -> Answer:
    row = await store.message(message_id)
    assert row is not None
    return answer_of(row)


def same(found: Answer, meant: Answer) -> bool:
    """Whether they have the same parts, fields, texts and kept values."""
    ours, theirs = held(found), held(meant)
    return all(ours[name] == theirs[name] for name in ("parts", "kept", "open"))


async def rows_of(store: Store, message_id: str) -> list[tuple[int, str | None]]:
    """The rows of `unfinished_parts`."""
    query = sql("SELECT number, text FROM unfinished_parts WHERE message_id = :id ORDER BY number")
    async with store.reading() as session:
        return [(n, text) for n, text in await session.execute(query, {"id": message_id})]


async def test_an_unfinished_answer_is_read_as_it_was_saved(store: Store, running: Running) -> None:
    """By all readers of rows. The row itself holds only the growing text."""
    assert await store.checkpoint([running.checkpoint()]) == frozenset()
    message_id = running.answer.id
    row = await store.message(message_id)
    assert row is not None
    assert (row.content, row.reasoning, row.run_parts) == ("Hello 👋So", "Hm 👋", 1)
    found = [
        row,
        *await store.unfinished(row.conversation_id),
        await store.visible_message(message_id, ME),
        (await store.snapshot(row.conversation_id, ME, 9)).messages[-1],
        *await store.rows([message_id]),
        await store.named_message(row.conversation_id, message_id),
        (await store.history(row.conversation_id, 9))[-1],
        await store.request_cancel(message_id, "me"),
        await store.begin_attempt(message_id, 2, "m"),
    ]
    for each in found:
        assert each is not None
        assert each.content == "Hello 👋So"
        assert each.parts == running.answer.layout()
    for each in (row, found[-1]):
        assert each is not None
        assert same(answer_of(each), running.answer)
    query = sql("SELECT content, reasoning FROM messages WHERE id = :id")
    async with store.reading() as session:
        assert tuple((await session.execute(query, {"id": message_id})).one()) == ("So", "")
    assert await rows_of(store, message_id) == [
        (0, "Hm 👋"),
        (1, "Hello 👋"),
        (2, None),
        (3, '{"city":'),
    ]


async def test_reading_writes_nothing_back(store: Store, running: Running) -> None:
    """A row that was completed in a writing transaction stays unchanged in the database."""
    await store.checkpoint([running.checkpoint()])
    row = await store.begin_attempt(running.answer.id, 2, "m")
    assert row is not None
    assert row.content == "Hello 👋So"
    assert same(await read(store, running.answer.id), running.answer)
    assert (await rows_of(store, running.answer.id))[0] == (0, "Hm 👋")


async def test_an_end_moves_everything_into_the_row(store: Store, running: Running) -> None:
    """Nothing is left beside it, and nothing is lost."""
    await store.checkpoint([running.checkpoint()])
    running.part(3, type="tool_call", state="proposed")
    running.text(4, ", it rains")
    assert await store.finish(running.ending())
    assert same(await read(store, running.answer.id), running.answer)
    assert await rows_of(store, running.answer.id) == []
    row = await store.message(running.answer.id)
    assert row is not None
    assert (row.part_count, row.open_text, row.open_reasoning) == (0, None, None)
    assert not await store.finish(replace(running.ending(), attempt=2))


async def test_readers_get_the_layout(store: Store, running: Running) -> None:
    """Without kept values, of unfinished and ended answers."""
    await store.checkpoint([running.checkpoint()])
    row = await store.message(running.answer.id)
    assert row is not None
    for ended in (False, True):
        if ended:
            assert await store.finish(running.ending())
        page = await store.snapshot(row.conversation_id, ME, 9)
        question, answer = [message_view(found) for found in page.messages]
        assert question["parts"] == [{"type": "text", "length": 2}]
        assert answer["parts"] == running.answer.layout()
        assert from_view(answer).layout() == running.answer.layout()
        assert from_view(answer).content == running.answer.content
        assert SIGNATURE["value"]["signature"] not in repr(answer)  # type: ignore[index]


async def test_the_previous_version_works_on_this_schema(store: Store, running: Running) -> None:
    """It writes, saves and ends answers with its own columns; its ends are read whole."""
    row = await store.message(running.answer.id)
    assert row is not None
    names = "id, conversation_id, ordinal, role, content, reasoning, status, seq, attempt, tries"
    names += ", started_with, rev, announced_rev, terminal_announced, created_at, updated_at"
    values = "'old', :c, 9, 'assistant', '', '', 'streaming', 0, 1, 0, 0, 1, 1, true, 0, 0"
    save = "UPDATE messages SET content = 'So', reasoning = 'Hm', saves = 1 WHERE id = 'old'"
    end = "UPDATE messages SET status = 'complete', content = 'Sooner' WHERE id = 'old'"
    async with store.writing() as session:
        insert = sql(f"INSERT INTO messages ({names}) VALUES ({values})")
        await session.execute(insert, {"c": row.conversation_id})
    for statement, content in ((save, "So"), (end, "Sooner")):
        async with store.writing() as session:
            await session.execute(sql(statement))
        found = await read(store, "old")
        assert [(part.type, part.text) for part in found.parts] == [
            ("reasoning", "Hm"),
            ("text", content),
        ]


@pytest.mark.parametrize("beside", [False, True])
async def test_an_answer_saved_without_parts_continues_with_them(
    store: Store, running: Running, beside: bool
) -> None:
    """The previous version saved it, perhaps after this one (`beside`): leftover rows belong to
    nothing.
    """
    if beside:
        await store.checkpoint([running.checkpoint()])
        await store.begin_attempt(running.answer.id, 2, "m")
    old = Checkpoint(running.answer.id, 1 + beside, "So", "Hm", "e1", 5, saves=1)
    await store.checkpoint([old])
    row = await store.begin_attempt(running.answer.id, 3, "m")
    assert row is not None
    successor = Running(running.answer.id, 3)
    successor.answer = answer_of(row)
    successor.unsaved = UnsavedParts.following(row, successor.answer, successor.answer)
    for _ in range(2):  # the first one is not known to be stored
        successor.text(1, "oner")
        await store.checkpoint([successor.checkpoint()])
        found = await read(store, running.answer.id)
        assert [(part.type, part.text, part.kept) for part in found.parts] == [
            ("reasoning", "Hm", None),
            ("text", successor.answer.content, None),
        ]
    assert await rows_of(store, running.answer.id) == [(0, "Hm")]


async def test_a_refused_end_changes_nothing(store: Store, running: Running) -> None:
    """The parts are those of the present attempt."""
    await store.checkpoint([running.checkpoint()])
    await store.begin_attempt(running.answer.id, 2, "m")
    assert not await store.finish(running.ending())
    assert same(await read(store, running.answer.id), running.answer)


async def test_an_end_in_the_row_alone_keeps_the_parts(store: Store, running: Running) -> None:
    """If nobody can read the answer, its parts stay where they are; readers see no difference."""
    await store.checkpoint([running.checkpoint()])
    assert await store.end_unread(
        running.answer.id, {"code": "x", "error": "y", "retryable": False}
    )
    found = await read(store, running.answer.id)
    assert found.status == "error"
    assert same(found, running.answer)


async def test_a_reset_leaves_no_part_behind(store: Store, running: Running) -> None:
    """The new answer's parts have the numbers of the old one's."""
    await store.checkpoint([running.checkpoint()])
    running.unsaved.saved(1)
    running.reset(0)
    running.text(0, "Anew")
    running.part(1, type="source", url="https://y", at=4)
    await store.checkpoint([running.checkpoint()])
    assert same(await read(store, running.answer.id), running.answer)
    assert await rows_of(store, running.answer.id) == [(1, None)]
    running.reset(0)
    await store.checkpoint([running.checkpoint()])
    assert await rows_of(store, running.answer.id) == []


async def test_a_cut_part_is_gone(store: Store, running: Running) -> None:
    """Even if it was stored before a lower part grew past it; then all of it ends."""
    await store.checkpoint([running.checkpoint()])
    running.reset(2)
    running.part(2, type="data", name="n", data=[1])
    await store.checkpoint([running.checkpoint()])
    assert same(await read(store, running.answer.id), running.answer)
    assert await store.finish(running.ending())
    assert same(await read(store, running.answer.id), running.answer)


@pytest.mark.parametrize("late_first", [True, False])
async def test_of_two_checkpoints_the_later_one_counts(
    store: Store, running: Running, late_first: bool
) -> None:
    """In either order of commits; parts and row are of one checkpoint."""
    first = running.checkpoint()
    running.part(3, type="tool_call", state="proposed")
    running.reset(4)
    running.part(4, type="step")
    second = running.checkpoint()
    for each in (second, first) if late_first else (first, second):
        await store.checkpoint([each])
    assert same(await read(store, running.answer.id), running.answer)


async def test_a_fenced_attempt_changes_no_part(store: Store, running: Running) -> None:
    """Nor does any attempt after the end."""
    await store.checkpoint([running.checkpoint()])
    running.unsaved.saved(1)
    saved = running.answer
    await store.begin_attempt(running.answer.id, 2, "m")
    successor = Running(running.answer.id, 2)
    successor.answer = running.answer.copy()
    await store.checkpoint([successor.checkpoint()])  # its number is that of the late one
    late = Running(running.answer.id)
    late.part(0, type="step")
    late.reset(0)
    late.part(0, type="data", name="late")
    await store.checkpoint([late.checkpoint()])
    assert not await store.hand_back(late.checkpoint(), 0)
    assert not await store.begin_run("run", "m", late.checkpoint())
    assert same(await read(store, running.answer.id), saved)
    ending = replace(running.ending(), attempt=2)
    assert await store.finish(ending)
    await store.checkpoint([replace(late.checkpoint(), attempt=2)])
    assert await rows_of(store, running.answer.id) == []


@pytest.mark.parametrize("how", ["hand_back", "begin_run"])
async def test_hand_overs_and_names_of_runs_save_parts_too(
    store: Store, running: Running, how: str
) -> None:
    """The successor continues from all of them."""
    if how == "hand_back":
        assert await store.hand_back(running.checkpoint(), 0)
    else:
        assert await store.begin_run("run", "m", running.checkpoint())
    row = await store.begin_attempt(running.answer.id, 2, "m")
    assert row is not None
    assert same(answer_of(row), running.answer)


async def test_a_damaged_part_affects_only_itself(store: Store, running: Running) -> None:
    """A missing row or invalid value: numbers stay, and the rest is there."""
    await store.checkpoint([running.checkpoint()])
    bad = "UPDATE unfinished_parts SET value = '[3]', kept = '4' WHERE number = 0"
    async with store.writing() as session:
        await session.execute(sql("DELETE FROM unfinished_parts WHERE number = 2"))
        await session.execute(sql(bad))
    found = await read(store, running.answer.id)
    assert found.content == running.answer.content
    assert found.reasoning == running.answer.reasoning
    assert [part.type for part in found.parts] == [
        *("reasoning", "text", "unknown", "tool_call", "text")
    ]
    assert found.open_text == 4


async def test_parts_go_with_their_conversation(store: Store, running: Running) -> None:
    """And with the message."""
    await store.checkpoint([running.checkpoint()])
    row = await store.message(running.answer.id)
    assert row is not None
    await store.delete_conversation(row.conversation_id)
    assert await rows_of(store, running.answer.id) == []


@pytest.fixture
async def in_postgresql(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """SQLite locks no rows. Here a lock is waited for longer than any test does."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 60.0)
    opened = Store.open(postgres_url, timeout_seconds=120.0)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("how", ["checkpoint", "finish", "delete"])
async def test_a_row_is_read_at_one_moment(in_postgresql: Store, how: str) -> None:
    """A writing transaction reads the row, then its parts; others commit in between."""
    store, running = in_postgresql, await begun(in_postgresql)
    await store.checkpoint([running.checkpoint()])
    running.unsaved.saved(1)
    async with store.writing() as session:
        row = await session.get(Message, running.answer.id)
        assert row is not None
        if how == "checkpoint":
            running.reset(1)
            running.text(1, "Anew")
            running.part(2, type="step")
            await store.checkpoint([running.checkpoint()])
        elif how == "finish":
            assert await store.finish(running.ending())
        else:
            await store.delete_conversation(row.conversation_id)
    if how != "delete":
        assert same(answer_of(row), running.answer)


async def test_a_locked_part_delays_no_other_answer(in_postgresql: Store) -> None:
    """Its answer is skipped, row and parts, and saved by a later round."""
    store, running = in_postgresql, await begun(in_postgresql)
    await store.checkpoint([running.checkpoint()])
    running.unsaved.saved(1)
    before = running.answer.copy()
    other = Running((await posted(store))[1])
    other.think(0, "Hm")
    other.text(1, "mine")
    running.part(3, type="tool_call", state="proposed")
    url = store._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    table = named("unfinished_parts")
    with psycopg.connect(url) as operator:
        operator.execute(f"SELECT * FROM {table} WHERE number = 3 FOR UPDATE".encode())
        async with asyncio.timeout(20):
            items = [running.checkpoint(), other.checkpoint()]
            locked = await store.checkpoint(items, wait=False)
        assert locked == {running.answer.id}
        assert same(await read(store, other.answer.id), other.answer)
        assert same(await read(store, running.answer.id), before)
        running.reset(1)
        async with asyncio.timeout(20):
            assert await store.checkpoint([running.checkpoint()], wait=False) == locked
    assert await store.checkpoint([running.checkpoint()], wait=False) == frozenset()
    assert same(await read(store, running.answer.id), running.answer)


class Statements:
    """The statements of a store: their number, and the bytes of their parameters."""

    def __init__(self, store: Store) -> None:
        self.count = self.size = 0
        engine = store._engine.sync_engine
        sqlalchemy_event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, _text: str, parameters: Any, *_: Any) -> None:
        self.count += 1
        self.size += len(repr(parameters))


async def _wal(store: Store) -> int:
    async with store.reading() as session:
        query = sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int((await session.execute(query)).scalar_one())


async def test_the_cost_of_a_checkpoint_is_independent_of_ended_parts(store: Store) -> None:
    """Statements, bytes of parameters, bytes of PostgreSQL's log: with 500 ended parts of 8 kB."""
    costs = list[tuple[int, int, int]]()
    for finished in (0, 500):
        attempt = Running((await posted(store))[1])
        for number in range(0, 2 * finished, 2):
            attempt.text(number, "x" * 8_000)
            attempt.part(number + 1, type="step")
        attempt.text(2 * finished, "y" * 100)
        await store.checkpoint([attempt.checkpoint()])
        attempt.unsaved.saved(1)
        told, before = Statements(store), 0 if store.is_sqlite else await _wal(store)
        told.count = told.size = 0
        for _ in range(20):
            attempt.text(2 * finished, "y")
            await store.checkpoint([attempt.checkpoint()], wait=False)
            attempt.unsaved.saved(attempt.unsaved.saves)
        count, size = told.count, told.size
        costs.append((count, size, 0 if store.is_sqlite else await _wal(store) - before))
    (count, size, wal), (full_count, full_size, full_wal) = costs
    assert full_count == count
    assert full_size < size + 20 * 100  # numbers with more digits
    assert full_wal < wal + 20_000  # other writes of the server


def test_an_empty_checkpoint() -> None:
    """A cut at the very beginning is a change."""
    assert not PartsToSave()
    assert PartsToSave(deleted_from=0)
    assert PartsToSave((StoredPart(0, "step", None, None, None),))
    assert Message.model_fields["part_count"].default == 0


async def test_parts_count_as_history(store: Store, running: Running) -> None:
    """Inputs of tools, and the parts of an unfinished answer."""
    running.apply(events.ToolInput(running.answer.id, 1, 8, "x" * 5_000, 3))
    running.keep(3, {"dialect": "d", "value": "y" * 5_000})
    await store.checkpoint([running.checkpoint()])
    row = await store.message(running.answer.id)
    assert row is not None
    for ended in (False, True):
        if ended:
            assert await store.finish(running.ending())
        store.quotas = Quotas(history_bytes=10_000)
        with pytest.raises(HistoryTooLong):
            await store.history(row.conversation_id, 9)
        with pytest.raises(HistoryTooLong):
            async with store.reading() as session:
                await measure(session, running.answer.id, 10_000)
        store.quotas = Quotas(history_bytes=14_000)
        assert await store.history(row.conversation_id, 9)


async def test_pages_are_limited_by_the_size_of_parts(store: Store, running: Running) -> None:
    """The text of an unfinished answer is not in its row."""
    running.text(4, "x" * HISTORY_PAGE_BYTES)
    running.part(5, type="step")
    await store.checkpoint([running.checkpoint()])
    row = await store.message(running.answer.id)
    assert row is not None
    page = await store.snapshot(row.conversation_id, ME, 9)
    assert [found.id for found in page.messages] == [running.answer.id]
    assert page.next == page.messages[0].ordinal


@pytest.mark.parametrize("how", ["finish", "end_unread"])
async def test_an_end_counts_its_parts(store: Store, running: Running, how: str) -> None:
    """With the same sum for giving back and recounting."""
    await store.checkpoint([running.checkpoint()])
    before = await stored_bytes(store, ME)
    if how == "finish":
        assert await store.finish(running.ending())
    else:
        error = {"code": "x", "error": "y", "retryable": False}
        assert await store.end_unread(running.answer.id, error)
    assert await stored_bytes(store, ME) > before + len(SIGNATURE["value"]["signature"])
    assert await recount(store, amend=False) == []
    row = await store.message(running.answer.id)
    assert row is not None
    await store.delete_conversation(row.conversation_id)
    assert await stored_bytes(store, ME) == 0


async def test_an_answer_without_text_counts(store: Store) -> None:
    """One call, or one image, is a part of the history."""
    conversation_id, message_id = await posted(store)
    running = Running(message_id)
    running.part(0, **CALL)
    await store.checkpoint([running.checkpoint()])
    for ended in (False, True):
        if ended:
            assert await store.finish(running.ending())
        async with store.reading() as session:
            assert message_id in await ids_before(session, conversation_id, 9, None)
            assert message_id in await thread_ids(session, message_id, None, ME)


async def test_parts_are_found_by_their_key(store: Store) -> None:
    """However many there are, no query scans the table."""
    conversation_id, message_id = await posted(store)
    names = "id, conversation_id, ordinal, role, content, reasoning, status, seq, attempt, tries"
    names += ", started_with, rev, announced_rev, terminal_announced, created_at, updated_at"
    values = f"'{conversation_id}', :n, 'assistant', '', '', 'queued', 0, 1, 0, 0, 1, 1, true, 0, 0"
    part = "INSERT INTO unfinished_parts (message_id, number, type) VALUES (:id, :number, 'x')"
    ids = [{"id": f"x{n}", "n": n + 10} for n in range(500)]
    parts = [{"id": row["id"], "number": number} for row in ids for number in range(8)]
    async with store.writing() as session:
        await session.execute(sql(f"INSERT INTO messages ({names}) VALUES (:id, {values})"), ids)
        await session.execute(sql(part), parts)
        await session.execute(sql("ANALYZE"))
    mine = col(Message.id) == message_id
    of_it = select(UnfinishedPart).where(col(UnfinishedPart.message_id) == message_id)
    keys = tuple_(col(UnfinishedPart.message_id), col(UnfinishedPart.number))
    queries: list[Any] = [
        select(answer_bytes).where(mine),
        select(shown_bytes).where(mine),
        of_it.where(col(UnfinishedPart.number) == 7),
        of_it.where(col(UnfinishedPart.number) >= 5),
    ]
    if not store.is_sqlite:  # it locks no rows, so the query never runs there
        pairs = keys.in_([(message_id, 3), (message_id, 5)])
        queries.append(select(col(UnfinishedPart.number)).where(pairs))
    explain = "EXPLAIN QUERY PLAN" if store.is_sqlite else "EXPLAIN"
    for query in queries:
        told = query.compile(store._engine.sync_engine, compile_kwargs={"literal_binds": True})
        async with store.reading(by_index=True) as session:
            plan = [str(line) for line in await session.execute(sql(f"{explain} {told}"))]
        assert plan
        assert not [
            line
            for line in plan
            if "unfinished_parts" in line and ("Seq Scan" in line or "SCAN" in line)
        ], plan
