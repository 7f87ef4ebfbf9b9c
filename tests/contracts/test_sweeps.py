"""The sweeper's queries on SQLite and PostgreSQL: who is due, in which order, by which index, at
what cost.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from tests.contracts.calls import waiting
from tests.databases import prefixed, sql
from tokenwire.models import database, sweeps
from tokenwire.models.answers import Ending
from tokenwire.models.conversations import Post
from tokenwire.models.errors import NotFound
from tokenwire.models.store import Store
from tokenwire.models.sweeps import KINDS, Due, ExpiredCall, Outstanding, SweepKey

S = 30_000
"""A second of the sweeper, long enough for a busy machine."""
DUE = Due(
    claimed=2 * S,
    waiting=2 * S,
    overdue=S,
    silent=int(1.5 * S),
    unannounced=S,
    longest_wait=900 * 1000,
)
HOUR_MS = 3_600_000
Query = Callable[[str, int], Awaitable[Any]]


async def posted(store: Store, conversation_id: str | None = None) -> str:
    """The id of a queued answer that was posted and announced an hour ago."""
    conversation_id = conversation_id or (await store.create_conversation("me")).id
    made = await store.post(Post(conversation_id, "me", "hi", "m"))
    await change(store, made.user_message.id, announced_rev=1)
    await change(store, made.assistant_message.id, announced_rev=1, updated=HOUR_MS)
    return made.assistant_message.id


async def change(store: Store, message_id: str, **values: Any) -> None:
    """Set columns; times are given as seconds ago."""
    if not values:
        return
    now = await store.now_ms()
    times = {
        "updated": "updated_at",
        "ended": "ended_at",
        "enqueued": "enqueued_at",
        "due": "due_at",
    }
    columns = {
        times.get(name, name): now - value if name in times else value
        for name, value in values.items()
    }
    assigned = ", ".join(f"{name} = :{name}" for name in columns)
    async with store.writing() as session:
        await session.execute(
            sql(f"UPDATE messages SET {assigned} WHERE id = :id"), columns | {"id": message_id}
        )


ASKED = {
    "rows": "unannounced_rows",
    "titles": "unannounced_titles",
    "logs": "undeleted_logs",
    "revocations": "unannounced_revocations",
}


async def found(store: Store) -> set[str]:
    """The names of the queries that find any row."""
    queries: dict[str, Query] = {
        "to_cancel": store.to_cancel,
        "begun": lambda *place: store.begun(DUE, *place),
        "heads": lambda *place: store.heads(DUE, *place),
        "ended": lambda *place: store.ended(DUE, *place),
        "rows": lambda *place: store.unannounced_rows(DUE, *place),
        "titles": lambda *place: store.unannounced_titles(DUE, *place),
        "logs": lambda *place: store.undeleted_logs(DUE, *place),
        "revocations": lambda *place: store.unannounced_revocations(DUE, *place),
    }
    rows = {name: await query("", 10) for name, query in queries.items()}
    due = {name for name, page in rows.items() if any(getattr(row, "due", True) for row in page)}
    assert {ASKED.get(name, name) for name in due} == await store.outstanding(DUE, 1000)
    return due


CASES: list[tuple[dict[str, Any], str | None]] = [
    ({}, "heads"),
    ({"updated": S}, None),  # its post may be about to enqueue it
    ({"enqueued": S}, None),  # a worker may be about to claim it
    ({"enqueued": 3 * S}, "heads"),
    ({"status": "retrying", "due": -S}, None),
    ({"status": "retrying", "due": S // 2}, None),
    ({"status": "retrying", "due": 2 * S}, "begun"),
    ({"status": "retrying"}, "begun"),
    ({"status": "retrying", "due": 2 * S, "enqueued": S // 2}, None),
    ({"status": "streaming", "updated": S}, None),
    ({"status": "streaming", "updated": 2 * S}, "begun"),
    ({"status": "streaming", "updated": 2 * S, "enqueued": S // 2}, None),
    ({"status": "waiting"}, None),  # for a person
    ({"status": "waiting", "cancel_by": "me"}, "to_cancel"),
    ({"status": "streaming", "cancel_by": "me", "updated": 0}, "to_cancel"),
    ({"status": "queued", "cancel_by": "me", "updated": 0}, "to_cancel"),
    ({"status": "complete"}, "ended"),
    ({"status": "complete", "updated": S // 2}, None),
    ({"status": "complete", "cancel_by": "me", "terminal_announced": True}, None),
    ({"status": "complete", "terminal_announced": True, "announced_rev": 0}, "rows"),
    (
        {"status": "complete", "terminal_announced": True, "announced_rev": 0, "updated": S // 2},
        None,
    ),
    # The clock was set back by an hour since then:
    ({"updated": -HOUR_MS}, "heads"),
    ({"enqueued": -HOUR_MS}, "heads"),
    ({"status": "retrying", "due": -HOUR_MS}, "begun"),
    ({"status": "streaming", "updated": -HOUR_MS}, "begun"),
    ({"status": "complete", "updated": -HOUR_MS}, "ended"),
    (
        {"status": "complete", "terminal_announced": True, "announced_rev": 0, "updated": -HOUR_MS},
        "rows",
    ),
]


@pytest.mark.timeout(600)  # seconds, but minutes where many share a processor
async def test_who_is_due(store: Store) -> None:
    """At most one query finds a row, and none before its time."""
    for changes, query in CASES:
        await change(store, await posted(store), **changes)
        assert await found(store) == ({query} if query else set()), changes
        async with store.writing() as session:
            await session.execute(sql("DELETE FROM messages"))


async def test_a_call_is_due_when_its_time_is_over(store: Store) -> None:
    """However long the answer waits before."""
    answer = await waiting(store)
    await change(store, answer.id, announced_rev=1, updated=HOUR_MS)
    for row in await store.unannounced_rows(DUE, "", 9):
        await change(store, row.id, announced_rev=1)
    assert await store.outstanding(DUE, 1000) == set()
    await answer.set("calls", expires_at=await store.now_ms())
    assert await store.outstanding(DUE, 1000) == {"expired_calls"}
    await store.expire_calls(answer.id)
    await change(store, answer.id, updated=HOUR_MS)
    assert await store.outstanding(DUE, 1000) == {"heads"}


async def test_a_title_is_due_until_it_is_announced(store: Store) -> None:
    """Whether a person or a model gave the title."""
    conversation = await store.create_conversation("me")
    await store.change_conversation(conversation.id, "me", {"title": "T"})
    assert await found(store) == set()
    async with store.writing() as session:
        await session.execute(sql("UPDATE conversations SET updated_at = updated_at - 60000"))
    [row] = await store.unannounced_titles(DUE, "", 10)
    await store.mark_title_announced(row.id, row.rev)
    assert await found(store) == set()


async def test_a_deleted_conversation_is_remembered_until_its_log_is_deleted(store: Store) -> None:
    """And then for as long as a token may be valid."""
    conversation = await store.create_conversation("me")
    assert await store.delete_conversation(conversation.id)
    assert not await store.delete_conversation(conversation.id)
    assert await found(store) == set()
    async with store.writing() as session:
        await session.execute(
            sql("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000")
        )
    await store.forget_deleted(0)
    assert await store.undeleted_logs(DUE, "", 10) == [conversation.id]
    await store.log_deleted(conversation.id)
    assert await found(store) == set()
    await store.forget_deleted(0)
    async with store.reading() as session:
        assert (
            await session.execute(sql("SELECT count(*) FROM deleted_conversations"))
        ).scalar_one() == 0
    with pytest.raises(NotFound):
        await store.conversation(conversation.id, "me")


async def test_recent_changes_are_announced_again(store: Store) -> None:
    """A log may have lost its end: ends, rows, titles, deletions and removals. No older ones, and
    no end of a running answer.
    """
    old, slow, running = [await posted(store) for _ in range(3)]
    for message_id in (
        old,
        slow,
    ):  # one ended an hour ago, the other was created an hour ago and has just ended
        assert await store.begin_attempt(message_id, 1, "m")
        assert await store.finish(Ending(message_id, 1, "complete", "", "", None, 0, "stop"))
        await store.terminal_announced(message_id, 1)
    await change(store, old, ended=HOUR_MS)
    old, slow = [await made_an_hour_ago(store, message_id) for message_id in (old, slow)]
    deleted = [(await store.create_conversation("me", title="t")).id for _ in range(2)]
    for name in deleted:
        await store.delete_conversation(name)
        await store.log_deleted(name)
    titled = [(await store.create_conversation("me")).id for _ in range(3)]
    for name in titled[:2]:
        row = await store.name_conversation(name, "t")
        assert row is not None
        await store.mark_title_announced(name, row.rev)
    for user in ("they", "you"):
        await removed(store, titled[0], user)
        assert await store.note_revocation(titled[0], user, announced=True)
    async with store.writing() as session:
        await session.execute(
            sql("UPDATE revocations SET revoked_at = revoked_at - :hour WHERE user_id = :id"),
            _ago(HOUR_MS, "they"),
        )
        await session.execute(
            sql("UPDATE conversations SET updated_at = updated_at - :hour WHERE id = :id"),
            _ago(HOUR_MS, titled[0]),
        )
        await session.execute(
            sql("UPDATE deleted_conversations SET deleted_at = deleted_at - :hour WHERE id = :id"),
            _ago(HOUR_MS, deleted[0]),
        )
    assert await announce_again(store, HOUR_MS // 2) > 3
    now = Due(**dict.fromkeys(DUE.__slots__, 0))
    assert [row.message_id for row in await store.ended(now, "", 10)] == [slow]
    rows = {row.id for row in await store.unannounced_rows(now, "", 10)}
    assert rows & {old, slow, running} == {running}
    assert [row.id for row in await store.unannounced_titles(now, "", 10)] == [titled[1]]
    assert await store.undeleted_logs(now, "", 10) == [deleted[1]]
    assert [row.user_id for row in await store.unannounced_revocations(now, "", 10)] == ["you"]


async def made_an_hour_ago(store: Store, message_id: str) -> str:
    """The id of a row created an hour ago."""
    milliseconds = int(message_id.replace("-", "")[:12], 16) - HOUR_MS
    digits = f"{milliseconds:012x}"
    name = f"{digits[:8]}-{digits[8:]}{message_id[13:]}"
    async with store.writing() as session:
        await session.execute(
            sql("UPDATE messages SET id = :new WHERE id = :old"), {"new": name, "old": message_id}
        )
    return name


async def test_a_late_title_is_a_recent_change(store: Store) -> None:
    """A model names the conversation after the answer has ended, perhaps long after the post."""
    name = (await store.create_conversation("me")).id
    async with store.writing() as session:
        await session.execute(
            sql("UPDATE conversations SET updated_at = updated_at - :hour"), {"hour": HOUR_MS}
        )
    since = await store.now_ms() - HOUR_MS // 2
    row = await store.name_conversation(name, "t")
    assert row is not None
    assert [place.id for place in await store.changed_lately("titles", since, None, 9)] == [name]


async def test_a_locked_row_is_not_announced_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the lock; the caller learns which row it is."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 60.0)
    store = Store.open(postgres_url, timeout_seconds=120.0)
    try:
        ids = [await posted(store) for _ in range(3)]
        with psycopg.connect(postgres_url) as other:
            other.execute(prefixed("SELECT id FROM messages WHERE id = %s FOR UPDATE"), (ids[1],))
            async with asyncio.timeout(20):
                assert await store.announce_again("rows", ids) == [ids[1]]
                await store.mark_enqueued(*ids)
        assert await store.announce_again("rows", [ids[1], "gone"]) == []
        assert {
            row.id
            for row in await store.unannounced_rows(Due(**dict.fromkeys(DUE.__slots__, 0)), "", 10)
        } == set(ids)
    finally:
        await store.aclose()


async def announce_again(store: Store, newer_than_ms: int) -> int:
    """As the worker does it, in short pages; returns how many rows there were."""
    since, pages = await store.now_ms() - newer_than_ms, 0
    for kind in KINDS:
        page = await store.changed_lately(kind, since, None, 2)
        while page:
            assert await store.announce_again(kind, [place.id for place in page]) == []
            page, pages = await store.changed_lately(kind, since, page[-1], 2), pages + 1
    return pages


def _ago(milliseconds: int, name: str) -> dict[str, Any]:
    return {"hour": milliseconds, "id": name}


async def removed(store: Store, conversation_id: str, user: str) -> None:
    await store.invite(conversation_id, "me", user, 9, 9)
    await store.accept_invitation(conversation_id, user)
    await store.remove_participant(conversation_id, user)


async def test_a_removal_is_remembered_until_the_log_has_it(store: Store) -> None:
    """And then for as long as a token may be valid. Other users are not listed."""
    name = (await store.create_conversation("me")).id
    await removed(store, name, "you")
    await removed(store, name, "they")
    await store.invite(name, "me", "nobody", 9, 9)
    await store.remove_participant(name, "nobody")
    assert await found(store) == set()  # the caller that removed them writes to the log
    now = Due(**dict.fromkeys(DUE.__slots__, 0))
    assert sorted(row.user_id for row in await store.unannounced_revocations(now, "", 10)) == [
        "they",
        "you",
    ]
    await store.invite(name, "me", "they", 9, 9)
    await store.accept_invitation(name, "they")
    assert not await store.note_revocation(name, "they", announced=True)
    async with store.writing() as session:
        await session.execute(sql("UPDATE revocations SET revoked_at = revoked_at - 60000"))
    assert await found(store) == {"revocations"}
    await store.forget_deleted(0)
    assert await store.note_revocation(name, "you", announced=True)
    assert await found(store) == set()
    await removed(store, name, "you")
    await store.note_revocation(name, "you", announced=True)
    await removed(store, name, "you")  # removed again, and to be announced again
    assert [row.user_id for row in await store.unannounced_revocations(now, "", 10)] == ["you"]
    await store.note_revocation(name, "you", announced=True)
    await store.forget_deleted(-1000)
    assert not await store.note_revocation(name, "you", announced=True)


async def test_only_the_head_of_a_conversation_is_due(store: Store) -> None:
    """One row per conversation, its first unfinished answer in any state; only queued ones are
    due.
    """
    ids = []
    for _ in range(3):
        conversation = (await store.create_conversation("me")).id
        ids.append((conversation, [await posted(store, conversation) for _ in range(3)]))
    await change(store, ids[1][1][0], status="streaming")
    await change(store, ids[2][1][0], status="complete")
    rows = await store.heads(DUE, "", 10)
    expected = [
        (ids[0][0], ids[0][1][0], True),
        (ids[1][0], ids[1][1][0], False),
        (ids[2][0], ids[2][1][1], True),
    ]
    assert [(row.key, row.message_id, row.due) for row in rows] == sorted(expected)


@pytest.mark.parametrize("name", ["to_cancel", "heads", "ended"])
async def test_pages_cover_everything_once(store: Store, name: str) -> None:
    """Of any length."""
    wanted = [await posted(store) for _ in range(7)]
    for message_id in wanted:
        await change(
            store,
            message_id,
            **{"to_cancel": {"cancel_by": "me"}, "heads": {}, "ended": {"status": "error"}}[name],
        )
    query: Query = (
        store.to_cancel if name == "to_cancel" else lambda *place: getattr(store, name)(DUE, *place)
    )
    seen: list[Outstanding] = []
    while page := await query(seen[-1].key if seen else "", 3):
        seen += page
    assert sorted(row.message_id for row in seen) == sorted(wanted)


# --- cost ---

QUERIES = {
    "outstanding": sweeps.outstanding(DUE, 1000),
    "to_cancel": sweeps.to_cancel("", 200),
    "begun": sweeps.begun(DUE, "", 200),
    "heads": sweeps.heads(DUE, "", 200),
    "ended": sweeps.ended(DUE, "", 200),
    "unannounced_rows": sweeps.unannounced_rows(DUE, "", 200),
    "unannounced_titles": sweeps.unannounced_titles(DUE, "", 200),
    "undeleted_logs": sweeps.undeleted_logs(DUE, "", 200),
    "unannounced_revocations": sweeps.unannounced_revocations(DUE, "", 200),
    "expired_calls": sweeps.expired_calls(None, 200),
    "expired_calls, next": sweeps.expired_calls(ExpiredCall(1_800_000_000_000, "0198", 0), 200),
    **{
        f"lately {kind}": sweeps.changed_lately(kind, 1_800_000_000_000, None, 500)
        for kind in KINDS
    },
    **{
        f"lately {kind}, next": sweeps.changed_lately(
            kind, 0, SweepKey(1_800_000_000_000, "0198"), 500
        )
        for kind in KINDS
    },
}
LATELY_INDEXES = {
    "ends": "ix_messages_ended",
    "titles": "ix_conversations_renamed",
    "deletions": "ix_deleted_conversations_deleted_at",
    "revocations": "ix_revocations_revoked_at",
}
INDEXES: dict[str, list[str]] = {
    "to_cancel": ["ix_messages_to_cancel"],
    "begun": ["ix_messages_begun"],
    "heads": ["ix_messages_unfinished"],
    "ended": ["ix_messages_unannounced_end"],
    "unannounced_rows": ["ix_messages_unannounced_rev"],
    "unannounced_titles": ["ix_conversations_unannounced_rev"],
    "undeleted_logs": ["ix_deleted_conversations_log"],
    "unannounced_revocations": ["ix_revocations_untold"],
    "expired_calls": ["ix_calls_expires_at"],
    "expired_calls, next": ["ix_calls_expires_at"],
    **{
        f"lately {kind}": [LATELY_INDEXES[kind]] if kind in LATELY_INDEXES else [] for kind in KINDS
    },
    **{
        f"lately {kind}, next": [LATELY_INDEXES[kind]] if kind in LATELY_INDEXES else []
        for kind in KINDS
    },
}
INDEXES["outstanding"] = [
    INDEXES[name][0] for name in ("to_cancel", "begun", "heads", "ended", "unannounced_rows")
]  # of messages
INDEXES["outstanding"] += INDEXES["expired_calls"]
FINISHED = 10_000


async def fill(store: Store, conversations: int, rows_each: int, status: str) -> None:
    """That many conversations with that many answers each, an hour old and announced."""
    counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    names = "'{}' || (10000000 + i)"
    async with store.writing() as session:
        now = await store.now_ms() - HOUR_MS
        name = names.format(f"{status[0]}c")
        insert = (
            "INSERT INTO conversations (id, listed, user_id, rev, announced_rev, "
            "created_at, updated_at) "
        )
        await session.execute(
            sql(
                insert
                + counted.format(conversations)
                + f"SELECT {name}, true, 'me', 1, 1, {now}, {now} FROM n"
            )
        )
        columns = (
            "id, conversation_id, ordinal, role, content, reasoning, status, seq, "
            "attempt, tries, started_with, rev, announced_rev"
        )
        owner = f"'{status[0]}c' || (10000001 + (i - 1) / {rows_each})"
        values = (
            f"{names.format(status[0] + 'm')}, {owner}, i, 'assistant', 'text', '', "
            f"'{status}', 1, 1, 0, 0, 1, 1"
        )
        await session.execute(
            sql(
                f"INSERT INTO messages ({columns}, terminal_announced, created_at, updated_at) "
                f"{counted.format(conversations * rows_each)} "
                f"SELECT {values}, {str(status == 'complete').lower()}, {now}, {now} FROM n"
            )
        )


async def plan(store: Store, query: Any) -> str:
    """The database's plan."""
    statement = query.compile(store._engine.sync_engine, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN " if store.is_sqlite else "EXPLAIN "
    async with store._sweeping() as session:
        connection = await session.connection()
        rows = (await connection.exec_driver_sql(explain + str(statement).replace("%", "%%"))).all()
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("analysed", [False, True])
async def test_no_query_scans_a_table(store: Store, analysed: bool) -> None:
    """Each uses its own index, with statistics and without: ended answers cost nothing."""
    await fill(store, 100, FINISHED // 100, "complete")
    if analysed and not store.is_sqlite:  # neither this test nor SQLite makes statistics there
        async with store.writing() as session:
            await session.execute(sql("ANALYZE"))
    for name, query in QUERIES.items():
        steps = await plan(store, query)
        for index in INDEXES[name]:
            assert index in steps, f"{name}:\n{steps}"
        assert "Seq Scan" not in steps, f"{name}:\n{steps}"
        scans = [
            line
            for line in steps.splitlines()
            if line.startswith("SCAN")
            and not any(
                word in line for word in ("INDEX", "walk", "CONSTANT", "provider_runs")
            )  # runs that ended have no row
        ]
        assert scans == [], f"{name}:\n{steps}"


@pytest.mark.sampled(1)
async def test_many_rows_are_announced_again_in_short_transactions(
    database_url: str, store: Store
) -> None:
    """With transactions of a few seconds at most, all changes of a quarter of an hour get
    through.
    """
    await fill(store, 100, FINISHED // 100, "complete")
    async with store.writing() as session:
        await session.execute(
            sql("UPDATE messages SET ended_at = updated_at + :hour"), {"hour": HOUR_MS}
        )
    hasty, pages = Store.open(database_url, timeout_seconds=5.0), 0
    try:
        for kind in KINDS:
            page = await hasty.changed_lately(kind, await store.now_ms() - HOUR_MS // 2, None, 500)
            while page:
                assert await hasty.announce_again(kind, [place.id for place in page]) == []
                page, pages = await hasty.changed_lately(kind, 0, page[-1], 500), pages + 1
    finally:
        await hasty.aclose()
    assert pages == 2 * FINISHED / 500
    async with store.reading() as session:
        query = sql(
            "SELECT count(*) FROM messages WHERE announced_rev = 0 AND NOT terminal_announced"
        )
        assert (await session.execute(query)).scalar_one() == FINISHED


@pytest.mark.sampled(1)
async def test_five_thousand_waiting_rows_hide_nothing(store: Store) -> None:
    """5,000 queued answers of one conversation are one head, beside 5,000 other conversations and
    one dead answer.
    """
    await fill(store, 1, 5_000, "queued")
    dead = await posted(store)
    await change(store, dead, status="streaming")
    assert [row.message_id for row in await store.begun(DUE, "", 200)] == [dead]
    began = time.perf_counter()
    assert [row.message_id for row in await store.heads(DUE, "", 200) if row.due] == ["qm10000001"]
    one = time.perf_counter() - began
    await change(store, dead, status="queued")
    await fill(store, 5_000, 1, "waiting")
    async with store.writing() as session:
        await session.execute(sql("UPDATE messages SET status = 'queued'"))
    began, seen = time.perf_counter(), 0
    after = ""
    while page := await store.heads(DUE, after, 200):
        seen, after = seen + len(page), page[-1].key
    many = time.perf_counter() - began
    assert seen == 5_002
    assert many < max(1.0, 5_000 * one), "the cost of a page grows with what lies before it"
