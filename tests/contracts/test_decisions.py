"""Decisions about tool calls, on SQLite and PostgreSQL: each applies once, whoever else acts at the
same time.
"""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.calls import DAY, ME, Asked, asked, call, checkpoint, raced, waiting
from tests.rows import take_part
from tokenwire.models import sweeps
from tokenwire.models.answers import Ending
from tokenwire.models.call_states import Decision, DecisionKind
from tokenwire.models.calls import EndedRun
from tokenwire.models.conversations import Post
from tokenwire.models.decisions import Decided
from tokenwire.models.errors import (
    AlreadyDecided,
    AnswerEnded,
    DecisionExpired,
    NotAwaited,
    NotDecider,
    NotFound,
)
from tokenwire.models.store import Store

OWNER, ASKER, READER, STRANGER = ME, "asker", "reader", "stranger"
APPROVE, DENY = Decision("approve"), Decision("deny", "Too much")
ROUNDS = 8
"""Of each race: who comes first differs."""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Store]:
    """Another process's store on the same database."""
    opened = Store.open(database_url)
    yield opened
    await opened.aclose()


async def unknown(store: Store) -> Asked:
    """An answer that waits for a person: nobody knows whether its call took effect."""
    answer = await asked(store, call(0))
    assert await store.claim_call(answer.id, 1, 0, 0)
    lost = EndedRun("awaiting_outcome", expires_in_ms=DAY)
    assert await store.finish_call(answer.id, 1, 0, 1, lost)
    assert await answer.park() == "parked"
    return answer


async def approval(store: Store) -> Asked:
    return await waiting(store, call(0, "awaiting_approval"))


async def client(store: Store) -> Asked:
    return await waiting(store, call(0, "awaiting_client"))


Make = Callable[[Store], Coroutine[Any, Any, Asked]]
FITTING: list[tuple[Make, Decision, dict[str, Any]]] = [
    (approval, APPROVE, {"state": "proposed"}),
    (approval, Decision("approve", value='{"euros": 1}'), {"ran_with": '{"euros": 1}'}),
    (approval, DENY, {"state": "denied", "error": "A person denied this call: Too much"}),
    (approval, Decision("deny"), {"state": "denied", "error": "A person denied this call."}),
    (client, Decision("result", value=[1, None]), {"state": "done", "result": [1, None]}),
    (client, Decision("error", "No network"), {"state": "failed", "error": "No network"}),
    (unknown, Decision("repeat"), {"state": "proposed", "runs": 1}),
    (unknown, Decision("result", value={"a": 1}), {"state": "done", "result": {"a": 1}}),
    (unknown, Decision("go_on"), {"state": "unknown"}),
]


@pytest.mark.parametrize(("make", "decision", "columns"), FITTING)
async def test_a_decision_queues_the_answer(
    store: Store, make: Make, decision: Decision, columns: dict[str, Any]
) -> None:
    """In one transaction with the call's new state and the record."""
    answer = await make(store)
    decided = await store.decide(answer.id, 0, ME, decision)
    assert decided.queued
    [row] = await answer.calls()
    assert {name: getattr(row, name) for name in columns} == columns
    assert row.expires_at is None
    [record] = await store.decisions_of(answer.id)
    found = (record.by, record.decision, record.reason, record.value, record.runs)
    assert found == (ME, decision.kind, decision.reason, decision.value, row.runs)
    message = await answer.row()
    assert (message.status, message.calls_rev, message.due_at) == ("queued", 1, None)
    assert await store.begin_attempt(answer.id, 2, "m") is not None


async def test_what_a_call_shows_of_its_approval(store: Store) -> None:
    """Who decided, what, why and when."""
    answer = await approval(store)
    decided = await store.decide(answer.id, 0, ME, DENY)
    assert decided.call.approval is not None
    at = decided.call.approval.pop("at")
    assert at.endswith("Z")
    assert decided.call.approval == {"decision": "denied", "reason": "Too much", "by": ME}


@pytest.mark.parametrize("make", [approval, client, unknown])
async def test_decisions_of_other_questions_are_refused(store: Store, make: Make) -> None:
    """The call stays as it is."""
    fitting = {decision.kind for other, decision, _ in FITTING if other is make}
    kinds: list[DecisionKind] = ["approve", "deny", "result", "error", "repeat", "go_on"]
    answer = await make(store)
    before = await answer.states()
    for kind in kinds:
        if kind not in fitting:
            with pytest.raises(NotAwaited):
                await store.decide(answer.id, 0, ME, Decision(kind, "?"))
    assert await answer.states() == before
    assert (await answer.row()).status == "waiting"


async def test_who_may_decide(store: Store) -> None:
    """The owner, and whoever is answered; strangers learn nothing."""
    conversation = await store.create_conversation(OWNER)
    for user in (ASKER, READER):
        await take_part(store, conversation.id, user)
    made = await store.post(Post(conversation.id, ASKER, "hi", "m"))
    answer = Asked(store, conversation.id, made.assistant_message.id)
    assert await store.begin_attempt(answer.id, 1, "m")
    await answer.prove(call(0, "awaiting_approval"), call(1, "awaiting_approval"))
    with pytest.raises(NotDecider):
        await store.decide(answer.id, 0, READER, APPROVE)
    for number, user in ((0, STRANGER), (7, OWNER)):
        with pytest.raises(NotFound):
            await store.decide(answer.id, number, user, APPROVE)
    with pytest.raises(NotFound):
        await store.decide("nothing", 0, OWNER, APPROVE)
    assert (await store.decide(answer.id, 0, ASKER, APPROVE)).record.by == ASKER
    assert (await store.decide(answer.id, 1, OWNER, APPROVE)).record.by == OWNER
    await store.remove_participant(conversation.id, ASKER)
    with pytest.raises(NotFound):
        await store.decide(answer.id, 0, ASKER, APPROVE)


async def test_a_repeated_decision_is_answered_again(store: Store) -> None:
    """Also after its tool ran, and after the answer has ended."""
    answer = await approval(store)
    first = await store.decide(answer.id, 0, ME, APPROVE)
    assert (await store.decide(answer.id, 0, ME, APPROVE)).record.at == first.record.at
    assert await store.begin_attempt(answer.id, 2, "m")
    assert await store.claim_call(answer.id, 2, 0, 0)
    again = await store.decide(answer.id, 0, ME, APPROVE)
    assert (again.record.at, again.queued, again.call.state) == (first.record.at, False, "running")
    assert await store.finish(Ending(answer.id, 2, "complete", "", "", "e1", 9))
    assert (await store.decide(answer.id, 0, ME, APPROVE)).record.at == first.record.at
    assert len(await store.decisions_of(answer.id)) == 1
    assert (await answer.row()).calls_rev == 1


@pytest.mark.parametrize("second", [DENY, Decision("approve", value="{}")])
async def test_another_decision_is_shown_the_first(store: Store, second: Decision) -> None:
    """Nothing changes."""
    answer = await approval(store)
    await store.decide(answer.id, 0, ME, APPROVE)
    with pytest.raises(AlreadyDecided) as refused:
        await store.decide(answer.id, 0, ME, second)
    assert (refused.value.record.by, refused.value.record.decision) == (ME, "approve")
    assert refused.value.call.state == "proposed"
    assert await answer.states() == ["proposed"]


async def test_a_second_repeat_needs_a_second_question(store: Store) -> None:
    """A repeated request that names the number of runs allows no further run."""
    answer = await unknown(store)
    repeat = Decision("repeat", runs=1)
    first = await store.decide(answer.id, 0, ME, repeat)
    assert await store.begin_attempt(answer.id, 2, "m")
    assert await store.claim_call(answer.id, 2, 0, 1)
    lost = EndedRun("awaiting_outcome", expires_in_ms=DAY)
    assert await store.finish_call(answer.id, 2, 0, 2, lost)
    assert (await store.decide(answer.id, 0, ME, repeat)).record.at == first.record.at
    assert await answer.states() == ["awaiting_outcome"]
    await store.decide(answer.id, 0, ME, replace(repeat, runs=2))
    assert await answer.states() == ["proposed"]
    assert [record.ordinal for record in await store.decisions_of(answer.id)] == [1, 2]


async def test_when_nobody_waits_for_a_decision(store: Store) -> None:
    """Each reason has its own refusal, and nothing is recorded."""
    late = await approval(store)
    await late.set("calls", expires_at=await store.now_ms())
    cancelled = await approval(store)
    await store.request_cancel(cancelled.id, ME)
    superseded = await approval(store)
    await superseded.set("messages", superseded_by="x")
    over = await approval(store)
    assert await store.begin_attempt(over.id, 2, "m", closes=True)
    assert await store.finish(Ending(over.id, 2, "cancelled", "", "", "e1", 9))
    reasons: list[tuple[Asked, type[NotAwaited]]] = [
        (late, DecisionExpired),
        (cancelled, AnswerEnded),
        (superseded, AnswerEnded),
        (over, AnswerEnded),
    ]
    for answer, reason in reasons:
        with pytest.raises(reason):
            await store.decide(answer.id, 0, ME, APPROVE)
        assert await store.decisions_of(answer.id) == []
    assert await late.states() == ["awaiting_approval"]


# --- time runs out, a question is taken back ---


EXPIRED = [(approval, "denied"), (client, "failed"), (unknown, "unknown")]


@pytest.mark.parametrize(("make", "state"), EXPIRED)
async def test_time_runs_out(store: Store, make: Make, state: str) -> None:
    """The sweeper finds the call, and the answer goes on."""
    answer, other = await make(store), await make(store)
    assert await store.expired_calls(None, 9) == []
    assert not await store.expire_calls(answer.id)
    await answer.set("calls", expires_at=await store.now_ms())
    assert [due.message_id for due in await store.expired_calls(None, 9)] == [answer.id]
    assert await store.expire_calls(answer.id)
    assert not await store.expire_calls(answer.id)
    assert await store.expired_calls(None, 9) == []
    [row] = await answer.calls()
    assert (row.state, row.expires_at) == (state, None)
    assert row.error
    assert (await answer.row()).status == "queued"
    assert (await answer.row()).calls_rev == 1
    assert (await other.row()).status == "waiting"
    if make is approval:
        assert row.approval is not None
        assert row.approval["decision"] == "expired"
        with pytest.raises(DecisionExpired):
            await store.decide(answer.id, 0, ME, APPROVE)


async def test_expired_calls_are_paged_in_order(store: Store) -> None:
    """The oldest first; one that cannot be decided hides no other."""
    now = await store.now_ms()
    answers = [await approval(store) for _ in range(5)]
    for ago, answer in enumerate(answers):
        await answer.set("calls", expires_at=now - ago)
    seen: list[sweeps.ExpiredCall] = []
    while page := await store.expired_calls(seen[-1] if seen else None, 2):
        seen += page
    assert [due.message_id for due in seen] == [answer.id for answer in reversed(answers)]


async def test_a_call_of_an_ended_answer_is_closed(store: Store) -> None:
    """A process of an earlier version ends an answer without its calls."""
    answer = await approval(store)
    await answer.set("calls", expires_at=await store.now_ms())
    await answer.set("messages", status="cancelled")
    assert not await store.expire_calls(answer.id)
    assert await answer.states() == ["withdrawn"]
    assert await store.expired_calls(None, 9) == []


@pytest.mark.parametrize(
    ("make", "state"), [(approval, "withdrawn"), (client, "withdrawn"), (unknown, "unknown")]
)
async def test_a_question_is_taken_back(store: Store, make: Make, state: str) -> None:
    """The answer goes on without the decision."""
    answer = await make(store)
    assert await store.withdraw_calls(answer.id)
    assert not await store.withdraw_calls(answer.id)
    assert await answer.states() == [state]
    row = await answer.row()
    assert (row.status, row.calls_rev) == ("queued", 1)
    kind: DecisionKind = "result" if make is client else "go_on" if make is unknown else "approve"
    with pytest.raises(NotAwaited):
        await store.decide(answer.id, 0, ME, Decision(kind))


async def test_when_no_question_is_taken_back(store: Store) -> None:
    """While a call runs; by an attempt that was fenced off; after the end."""
    answer = await asked(store, call(0), call(1, "awaiting_approval"))
    assert await store.claim_call(answer.id, 1, 0, 0)
    assert not await store.withdraw_calls(answer.id)
    assert await store.finish_call(answer.id, 1, 0, 1, EndedRun("done"))
    assert not await store.withdraw_calls(answer.id, 2)
    assert not await store.withdraw_calls("nothing")
    assert await answer.states() == ["done", "awaiting_approval"]
    assert await store.withdraw_calls(answer.id, 1)
    assert (await answer.row()).status == "streaming"
    ended = await approval(store)
    await ended.set("messages", status="complete")
    assert not await store.withdraw_calls(ended.id)


# --- races ---


async def test_two_tabs_decide_once(store: Store, other: Store) -> None:
    """One is applied, the other one is shown it."""
    for _ in range(ROUNDS):
        answer = await approval(store)
        found = await raced(
            store.decide(answer.id, 0, ME, APPROVE), other.decide(answer.id, 0, ME, DENY)
        )
        [record] = await store.decisions_of(answer.id)
        [refused] = [one for one in found if isinstance(one, AlreadyDecided)]
        assert sum(isinstance(one, Decided) for one in found) == 1
        assert refused.record.decision == record.decision
        state = {"approve": "proposed", "deny": "denied"}[record.decision]
        assert await answer.states() == [state]
        assert (await answer.row()).calls_rev == 1


async def test_the_same_from_two_tabs_is_one_decision(store: Store, other: Store) -> None:
    """Both are told so."""
    for _ in range(ROUNDS):
        answer = await approval(store)
        one, two = await raced(
            store.decide(answer.id, 0, ME, APPROVE), other.decide(answer.id, 0, ME, APPROVE)
        )
        assert (one.record.at, one.queued) == (two.record.at, two.queued)
        assert len(await store.decisions_of(answer.id)) == 1


async def test_a_decision_and_the_end_of_its_time(store: Store, other: Store) -> None:
    """Whoever comes first decides."""
    for _ in range(ROUNDS):
        answer = await approval(store)
        await answer.set("calls", expires_at=await store.now_ms() + 3)
        expires, decided = other.expire_calls(answer.id), store.decide(answer.id, 0, ME, APPROVE)
        found, _ = await raced(decided, expires)
        state, records = await answer.states(), await store.decisions_of(answer.id)
        if isinstance(found, Decided):
            assert (state, len(records)) == (["proposed"], 1)
        else:
            assert isinstance(found, DecisionExpired)
            assert records == []
            await store.expire_calls(answer.id)
            assert await answer.states() == ["denied"]


async def test_a_decision_and_a_cancel(store: Store, other: Store) -> None:
    """A cancelled answer takes no decision, and what was decided before runs no more."""
    for _ in range(ROUNDS):
        answer = await approval(store)
        found, _ = await raced(
            store.decide(answer.id, 0, ME, APPROVE), other.request_cancel(answer.id, ME)
        )
        assert isinstance(found, Decided | AnswerEnded)
        records = await store.decisions_of(answer.id)
        assert len(records) == isinstance(found, Decided)
        if await store.begin_attempt(answer.id, 2, "m"):
            assert await store.claim_call(answer.id, 2, 0, 0) is None


async def test_a_decision_and_the_end(store: Store, other: Store) -> None:
    """An end that names what it has read is refused after a decision; another one closes all."""
    for rev in (None, 0) * (ROUNDS // 2):
        answer = await asked(store, call(0, "awaiting_approval"))
        ending = Ending(answer.id, 1, "complete", "", "", "e1", 9, calls_rev=rev)
        found, ended = await raced(store.decide(answer.id, 0, ME, APPROVE), other.finish(ending))
        decided = isinstance(found, Decided)
        assert decided or isinstance(found, AnswerEnded)
        assert ended == (rev is None or not decided)
        assert await answer.states() == ["withdrawn" if ended else "proposed"]


async def test_a_decision_and_a_withdrawal(store: Store, other: Store) -> None:
    """Whoever comes first decides."""
    for _ in range(ROUNDS):
        answer = await approval(store)
        found, withdrawn = await raced(
            store.decide(answer.id, 0, ME, APPROVE), other.withdraw_calls(answer.id)
        )
        assert withdrawn == isinstance(found, NotAwaited)
        assert await answer.states() == ["withdrawn" if withdrawn else "proposed"]
        assert (await answer.row()).calls_rev == 1


async def test_every_permission_is_used_once(store: Store, other: Store) -> None:
    """Whatever is lost in between: a run needs the model's call, or a person's decision."""
    answer = await waiting(store)
    await store.decide(answer.id, 0, ME, APPROVE)
    claimed = 0
    assert await store.begin_attempt(answer.id, 2, "m")
    for attempt in range(2, 8):
        runs = (await answer.calls())[0].runs
        found = await raced(
            *(one.claim_call(answer.id, attempt, 0, runs) for one in (store, other, store))
        )
        claimed += sum(one is not None for one in found)
        assert claimed == len(await store.decisions_of(answer.id))
        assert await other.begin_attempt(answer.id, attempt + 1, "m")
        assert await store.lose_calls(answer.id, attempt + 1, DAY)
        assert await store.claim_call(answer.id, attempt + 1, 0, runs + 1) is None
        decided = await raced(
            *(
                one.decide(answer.id, 0, ME, Decision("repeat", runs=runs + 1))
                for one in (store, other)
            )
        )
        assert all(isinstance(one, Decided) for one in decided)
    saved = checkpoint(answer.id, 8, 1, saves=9)
    assert await store.park(saved, 0, (await answer.row()).calls_rev) == "changed"
