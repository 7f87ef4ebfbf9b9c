"""models/approvals.py on SQLite and PostgreSQL: decisions about calls of an ended answer, which the
next answer carries out.
"""

from collections.abc import AsyncIterator

import pytest

from tests.contracts.calls import DAY, ME, Asked, LostCommits, asked, call, raced
from tests.contracts.plans import recorded, without_index
from tests.contracts.test_calls import ending
from tests.databases import sql
from tokenwire.models.approvals import CallerDecision, carry, decide_all
from tokenwire.models.conversations import Post, Posted
from tokenwire.models.errors import AlreadyDecided, NotAwaited, StoreUnavailable
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.recount import recount
from tokenwire.models.responses import PastTurn, Question
from tokenwire.models.store import Store
from tokenwire.models.tables import Message

pytestmark = pytest.mark.usefixtures("counted_right")

ROUNDS = 8
"""Of each race: who comes first differs."""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Store]:
    """Another process's store on the same database."""
    opened = Store.open(database_url)
    yield opened
    await opened.aclose()


async def left(store: Store, count: int = 1) -> Asked:
    """An answer that ended and left so many calls to the program that asked."""
    answer = await asked(store, *(call(number, runs_at="caller") for number in range(count)))
    assert await store.finish(ending(answer.id, finish_reason="tool_calls"))
    return answer


def decision(answer: Asked, number: int = 0, *, approve: bool = True) -> CallerDecision:
    reason = None if approve else "No."
    return CallerDecision(answer.id, number, f"c{number}", approve, reason, DAY)


def question(*decisions: CallerDecision) -> Question:
    return Question(ME, [PastTurn("tool", "")], "m", approvals=decisions)


def same() -> Idempotency:
    """What a request that is sent again has in common with the first."""
    return Idempotency.of_body("POST /v1/responses", {"approve": True})


async def rows(store: Store) -> int:
    async with store.reading() as session:
        return int((await session.execute(sql("SELECT count(*) FROM messages"))).scalar_one())


async def test_a_new_answer_begins_with_the_decided_calls(store: Store) -> None:
    """As a turn that is proven. The answer that asked keeps its calls as they were."""
    answer = await left(store, 2)
    first, second = decision(answer, 1, approve=False), decision(answer, 0)
    made = (await store.ask(question(first, second))).assistant_message
    row, calls = await store.message(made.id), await store.calls_of(made.id)
    assert row is not None
    assert (row.status, row.part_count, row.proven_parts, row.rounds) == ("queued", 2, 2, 1)
    assert [(each.number, each.id, each.state, each.runs_at) for each in calls] == [
        (0, "c1", "denied", "server"),
        (1, "c0", "proposed", "server"),
    ]
    assert calls[0].error == "A person denied this call: No."
    assert {each.key for each in calls}.isdisjoint(each.key for each in await answer.calls())
    assert await answer.states() == ["proposed", "proposed"]
    records = await store.decisions_of(answer.id)
    assert [(each.number, each.decision, each.by) for each in records] == [
        (0, "approve", ME),
        (1, "deny", ME),
    ]


async def test_a_decision_ends_what_kept_the_answer(store: Store) -> None:
    """From now on it lives as long as others: a day, in which a second decision finds the first."""
    answer = await left(store)
    which = "WHERE id = (SELECT conversation_id FROM messages WHERE id = :id)"
    async with store.writing() as session:
        change = f"UPDATE conversations SET kept_until = updated_at + {7 * DAY} {which}"
        await session.execute(sql(change), {"id": answer.id})
    await store.ask(question(decision(answer)))
    async with store.reading() as session:
        kept = f"SELECT kept_until - updated_at FROM conversations {which}"
        found = await session.execute(sql(kept), {"id": answer.id})
        assert 0 <= found.scalar_one() < DAY


async def test_a_decision_changes_no_sum_of_the_answer_that_asked(store: Store) -> None:
    """That answer has been counted, and gives back what it cost when it is deleted."""
    answer = await left(store)
    assert await recount(store) == []
    await store.ask(question(decision(answer, approve=False)))
    assert await recount(store) == []


async def test_two_decisions_at_once(store: Store, other: Store) -> None:
    """In two processes: one applies, and the other stores nothing."""
    for _ in range(ROUNDS):
        answer = await left(store)
        before = await rows(store)
        both = await raced(
            store.ask(question(decision(answer))),
            other.ask(question(decision(answer, approve=False))),
        )
        (refused,) = (each for each in both if not isinstance(each, Posted))
        assert isinstance(refused, AlreadyDecided)
        (record,) = await store.decisions_of(answer.id)
        assert record.decision == ("approve" if isinstance(both[0], Posted) else "deny")
        assert await rows(store) == before + 2


async def test_one_request_sent_twice_at_once(store: Store, other: Store) -> None:
    """To two processes: both give the one answer that it makes."""
    for number in range(ROUNDS):
        answer = await left(store)
        again = Idempotency.of_body("POST /v1/responses", number)
        both = await raced(
            store.ask(question(decision(answer)), again),
            other.ask(question(decision(answer)), again),
        )
        assert len({each.assistant_message.id for each in both}) == 1
        assert len(await store.decisions_of(answer.id)) == 1


async def test_a_commit_of_unknown_outcome(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller cannot know whether it decided; sent again, its request finds the answer."""
    answer = await left(store)
    LostCommits(store, monkeypatch).left = 1
    with pytest.raises(StoreUnavailable):
        await store.ask(question(decision(answer)), same())
    before = await rows(store)
    found = (await store.ask(question(decision(answer)), same())).assistant_message
    assert [each.state for each in await store.calls_of(found.id)] == ["proposed"]
    assert await rows(store) == before


async def test_one_of_several_that_is_refused_refuses_all(store: Store) -> None:
    """Nothing is stored, neither of the answer nor of the other decision."""
    answer, ended = await left(store), await asked(store, call(0, runs_at="caller"))
    assert await store.finish(ending(ended.id, status="cancelled"))
    before = await rows(store)
    for wrong in (decision(ended), CallerDecision(answer.id, 0, "c0", True, None, DAY)):
        with pytest.raises(NotAwaited):
            await store.ask(question(decision(answer), wrong))
        assert (await rows(store), await store.decisions_of(answer.id)) == (before, [])


async def test_statements_of_approvals_use_indexes(store: Store) -> None:
    """No decision reads the calls of other answers."""
    answer = await left(store, 2)
    decisions = [decision(answer), decision(answer, 1, approve=False)]
    behind = await store.post(Post(answer.conversation_id, ME, "hi", "m"))
    with recorded(store) as ran:
        async with store.writing() as session:
            calls = await decide_all(session, decisions, ME)
            row = await session.get(Message, behind.assistant_message.id)
            assert row is not None
            await carry(session, row, decisions, calls)
    tables = ("calls", "decisions", "messages", "conversations")
    assert all(any(table in text for text in ran) for table in tables)
    assert len({*ran}) >= 6
    assert await without_index(store, ran) == []
