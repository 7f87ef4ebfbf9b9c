"""Acts of an attempt on tool calls, on SQLite and PostgreSQL: a tool runs at most once for each
permission, and a worker that was fenced off changes nothing.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from tests.contracts.calls import (
    DAY,
    ME,
    LostCommits,
    asked,
    call,
    checkpoint,
    raced,
    waiting,
)
from tests.contracts.plans import recorded, without_index
from tests.databases import prefixed, sql
from tests.rows import stored_bytes
from tokenwire.models import database
from tokenwire.models.answers import Ending
from tokenwire.models.call_states import Decision
from tokenwire.models.calls import EndedRun
from tokenwire.models.conversations import Post
from tokenwire.models.errors import NotAwaited, TooManyUnfinished, TooManyWaiting
from tokenwire.models.quotas import Quotas
from tokenwire.models.recount import recount
from tokenwire.models.store import Store

DONE = EndedRun("done", {"paid": True})
ROUNDS = 8
"""Of each race: who comes first differs."""


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Store]:
    """Another process's store on the same database."""
    opened = Store.open(database_url)
    yield opened
    await opened.aclose()


def ending(message_id: str, **fields: object) -> Ending:
    made = Ending(message_id, 1, "complete", "", "", "e1", 9, finish_reason="stop")
    return replace(made, **fields)


# --- prove_turn ---


async def test_a_proof_writes_the_turn_and_its_calls(store: Store) -> None:
    """One transaction: parts, calls, counts."""
    answer = await asked(store)
    await answer.set("messages", deaths=1, starts=2, tries=3)
    await answer.prove(call(0), call(1, "awaiting_approval", title="Pay"))
    row, calls = await answer.row(), await answer.calls()
    assert (row.proven_parts, row.rounds, row.part_count) == (2, 1, 2)
    assert (row.deaths, row.starts, row.tries) == (0, 0, 0)
    assert [(c.state, c.title, c.input, c.runs) for c in calls] == [
        ("proposed", None, '{"euros": 5}', 0),
        ("awaiting_approval", "Pay", '{"euros": 5}', 0),
    ]
    assert calls[0].expires_at is None
    assert calls[1].expires_at == calls[1].created_at + DAY
    assert calls[0].key != calls[1].key


async def test_a_repeated_proof_changes_nothing(store: Store) -> None:
    """Also after a call of the turn was claimed: its key and state stay."""
    answer = await asked(store, call(0))
    claimed = await store.claim_call(answer.id, 1, 0, 0)
    assert claimed is not None
    await answer.prove(call(0))
    [again] = await answer.calls()
    assert (again.key, again.state) == (claimed.key, "running")
    assert (await answer.row()).rounds == 1


async def test_a_turn_without_calls_is_no_round(store: Store) -> None:
    """Its parts are proven all the same."""
    answer = await asked(store)
    assert await store.prove_turn(checkpoint(answer.id, 1, 2), [])
    row = await answer.row()
    assert (row.proven_parts, row.rounds) == (2, 0)


async def test_a_fenced_attempt_proves_nothing(store: Store) -> None:
    """Its calls have no rows, so no tool runs for it."""
    answer = await asked(store)
    assert await store.begin_attempt(answer.id, 2, "m")
    assert not await store.prove_turn(checkpoint(answer.id, 1, 1), [call(0)])
    assert await answer.calls() == []
    assert (await answer.row()).proven_parts == 0


async def test_a_proof_keeps_the_text_of_a_later_checkpoint(store: Store) -> None:
    """Two saves of one attempt may be committed in any order."""
    answer = await asked(store)
    later = replace(checkpoint(answer.id, 1, 1, saves=5), seq=50)
    await store.checkpoint([later])
    assert await store.prove_turn(checkpoint(answer.id, 1, 1, saves=4), [call(0)])
    row = await answer.row()
    assert (row.seq, row.proven_parts) == (50, 1)


# --- claim_call, finish_call, lose_calls ---


@pytest.mark.parametrize("same_attempt", [True, False])
async def test_a_call_is_claimed_once(store: Store, other: Store, same_attempt: bool) -> None:
    """By two tasks of an attempt, or by an attempt and its successor."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0))
        if same_attempt:
            found = await raced(
                store.claim_call(answer.id, 1, 0, 0), other.claim_call(answer.id, 1, 0, 0)
            )
        else:
            begun, *found = await raced(
                other.begin_attempt(answer.id, 2, "m"), store.claim_call(answer.id, 1, 0, 0)
            )
            assert begun is not None
            found.append(await other.claim_call(answer.id, 2, 0, 0))
        assert sum(one is not None for one in found) == 1
        assert [(c.state, c.runs) for c in await answer.calls()] == [("running", 1)]


async def test_who_may_not_claim(store: Store) -> None:
    """What is asked about, what others run, what is cancelled."""
    states = [call(0, "awaiting_approval"), call(1, "awaiting_client"), call(2, "failed")]
    answer = await asked(store, *states, call(3, runs_at="caller"), call(4))
    for number in range(4):
        assert await store.claim_call(answer.id, 1, number, 0) is None
    assert await store.claim_call(answer.id, 1, 4, 1) is None  # another run was meant
    assert await store.claim_call(answer.id, 2, 4, 0) is None  # another attempt
    await store.request_cancel(answer.id, ME)
    assert await store.claim_call(answer.id, 1, 4, 0) is None
    assert {c.runs for c in await answer.calls()} == {0}


async def test_a_commit_of_unknown_outcome_is_looked_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim, the result and the park of the attempt are found."""
    answer, lost = await asked(store, call(0), call(1, "awaiting_approval")), LostCommits
    commits = lost(store, monkeypatch)
    commits.left = 1
    claimed = await store.claim_call(answer.id, 1, 0, 0)
    assert claimed is not None
    assert claimed.runs == 1
    commits.left = 1
    assert await store.finish_call(answer.id, 1, 0, 1, DONE)
    commits.left = 1
    assert await answer.park() == "parked"
    assert (await answer.row()).waits == 1
    commits.left = 1
    decided = await store.decide(answer.id, 1, ME, Decision("approve"))
    assert decided.queued
    assert len(await store.decisions_of(answer.id)) == 1


async def test_a_result_is_stored_once(store: Store) -> None:
    """And belongs to its run. It is progress: a slow round may outlive many workers."""
    answer = await asked(store, call(0))
    await answer.set("messages", deaths=7)
    assert not await store.finish_call(answer.id, 1, 0, 0, DONE)  # nothing runs
    assert await store.claim_call(answer.id, 1, 0, 0)
    assert (await answer.row()).deaths == 7
    assert await store.finish_call(answer.id, 1, 0, 1, DONE)
    assert (await answer.row()).deaths == 0
    assert not await store.finish_call(answer.id, 1, 0, 1, EndedRun("failed", error="No."))
    [row] = await answer.calls()
    assert (row.state, row.result, row.error) == ("done", {"paid": True}, None)


async def test_a_late_result_of_an_earlier_run_is_refused(store: Store) -> None:
    """A person has allowed a second run, and that one alone counts."""
    answer = await asked(store, call(0))
    assert await store.claim_call(answer.id, 1, 0, 0)
    assert await store.finish_call(
        answer.id, 1, 0, 1, EndedRun("awaiting_outcome", expires_in_ms=DAY)
    )
    await store.decide(answer.id, 0, ME, Decision("repeat"))
    assert await store.claim_call(answer.id, 1, 0, 1)
    assert not await store.finish_call(answer.id, 1, 0, 1, DONE)
    assert await answer.states() == ["running"]
    assert await store.finish_call(answer.id, 1, 0, 2, DONE)


async def test_a_fenced_attempt_finishes_nothing(store: Store) -> None:
    """Its successor has given the run up."""
    answer = await asked(store, call(0))
    assert await store.claim_call(answer.id, 1, 0, 0)
    assert await store.begin_attempt(answer.id, 2, "m")
    assert not await store.finish_call(answer.id, 1, 0, 1, DONE)
    assert not await store.finish_call(answer.id, 2, 0, 1, DONE)  # it has not begun that run
    assert await answer.states() == ["running"]


@pytest.mark.parametrize(
    ("repeatable", "asks", "state"),
    [(True, DAY, "proposed"), (False, DAY, "awaiting_outcome"), (False, 0, "unknown")],
)
async def test_what_becomes_of_a_lost_run(
    store: Store, repeatable: bool, asks: int, state: str
) -> None:
    """Only a tool that may run twice runs again, with its key."""
    answer = await asked(store, call(0, repeatable=repeatable), call(1))
    first = await store.claim_call(answer.id, 1, 0, 0)
    assert first is not None
    assert not await store.lose_calls(answer.id, 2, asks)  # it has not begun
    assert await store.lose_calls(answer.id, 1, asks)
    assert await answer.states() == ["running", "proposed"]  # its own runs are not lost
    assert await store.begin_attempt(answer.id, 2, "m")
    assert await store.lose_calls(answer.id, 2, asks)
    row, untouched = await answer.calls()
    assert (row.state, row.runs, untouched.state) == (state, 1, "proposed")
    assert (row.expires_at is not None) == (state == "awaiting_outcome")
    again = await store.claim_call(answer.id, 2, 0, 1)
    assert (again is not None) == repeatable
    assert again is None or again.key == first.key


# --- park ---


async def test_a_parked_answer_holds_nothing(store: Store) -> None:
    """No worker may begin it, and the sweeper does not enqueue it."""
    answer = await asked(store, call(0, "awaiting_approval"))
    assert await answer.park() == "parked"
    row = await answer.row()
    assert (row.status, row.waits, row.starts, row.billed_input) == ("waiting", 1, 0, 7)
    assert row.seq == 5
    assert await store.begin_attempt(answer.id, 2, "m") is None
    assert await store.next_queued(answer.conversation_id) is None
    closer = await store.begin_attempt(answer.id, 2, "m", closes=True)
    assert closer is not None
    assert closer.attempt == 2


async def test_when_an_attempt_does_not_park(store: Store) -> None:
    """Something is to be done, or to be read first."""
    answer = await asked(store, call(0), call(1, "awaiting_approval"))
    assert await answer.park() == "changed"  # one may run
    assert await store.claim_call(answer.id, 1, 0, 0)
    assert await answer.park() == "changed"  # one runs
    assert await store.finish_call(answer.id, 1, 0, 1, DONE)
    assert await answer.park(calls_rev=1) == "changed"
    assert await answer.park(attempt=2) == "lost"
    await store.request_cancel(answer.id, ME)
    assert await answer.park() == "changed"
    assert (await answer.row()).status == "streaming"
    idle = await asked(store, call(0, "failed"))
    assert await idle.park() == "changed"  # nothing is awaited


async def test_no_decision_is_missed_by_a_park(store: Store, other: Store) -> None:
    """Whichever comes first, the answer does not wait for what was decided."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0, "awaiting_approval"))
        parked, decided = await raced(
            store.park(checkpoint(answer.id, 1, 1, saves=9), 0, 0),
            other.decide(answer.id, 0, ME, Decision("approve")),
        )
        row = await answer.row()
        assert (parked, decided.queued, row.status) in [
            ("parked", True, "queued"),
            ("changed", False, "streaming"),
        ]
        assert await answer.states() == ["proposed"]


async def test_a_park_sees_a_decision_that_leaves_other_questions(store: Store) -> None:
    """The attempt runs the approved call first, whatever else is awaited."""
    answer = await asked(store, call(0, "awaiting_approval"), call(1, "awaiting_approval"))
    await store.decide(answer.id, 0, ME, Decision("deny"))
    assert await answer.park(calls_rev=0) == "changed"
    assert await answer.park(calls_rev=1) == "parked"


# --- the end ---


async def test_the_end_closes_calls(store: Store) -> None:
    """As readers close the parts."""
    states = [call(0), call(1, "awaiting_approval"), call(2), call(3), call(4, "failed")]
    answer = await asked(store, *states)
    for number in (2, 3):
        assert await store.claim_call(answer.id, 1, number, 0)
    assert await store.finish_call(
        answer.id, 1, 3, 1, EndedRun("awaiting_outcome", expires_in_ms=DAY)
    )
    assert await store.finish(ending(answer.id))
    assert await answer.states() == ["withdrawn", "withdrawn", "unknown", "unknown", "failed"]
    assert {c.expires_at for c in await answer.calls()} == {None}


@pytest.mark.parametrize(("reason", "state"), [("tool_calls", "proposed"), ("stop", "withdrawn")])
async def test_calls_of_the_caller_stay(store: Store, reason: str, state: str) -> None:
    """After `tool_calls`, the program that asked executes them."""
    answer = await asked(store, call(0, runs_at="caller"), call(1))
    assert await store.finish(ending(answer.id, finish_reason=reason))
    assert await answer.states() == [state, "withdrawn"]


async def test_an_end_may_insist_on_the_calls_that_it_has_read(store: Store) -> None:
    """A decision since then is read first. Other ends do not care."""
    answer = await asked(store, call(0, "awaiting_approval"))
    await store.decide(answer.id, 0, ME, Decision("approve"))
    assert not await store.finish(ending(answer.id, calls_rev=0))
    assert await answer.states() == ["proposed"]
    assert await store.finish(ending(answer.id, calls_rev=1))


async def test_an_unreadable_answer_closes_its_calls(store: Store) -> None:
    """Its end reads nothing of it."""
    answer = await waiting(store)
    assert await store.end_unread(answer.id, {"code": "damaged", "error": "!", "retryable": False})
    assert await answer.states() == ["withdrawn"]


async def test_calls_go_with_their_conversation(store: Store) -> None:
    """And their decisions."""
    answer = await waiting(store)
    await store.decide(answer.id, 0, ME, Decision("approve"))
    await store.delete_conversation(answer.conversation_id)
    assert await answer.calls() == []
    assert await store.decisions_of(answer.id) == []


# --- quotas ---


async def test_calls_count_at_the_end_of_their_answer(store: Store) -> None:
    """The sum is what a recount finds, and a deletion gives it back."""
    answer = await asked(store, call(0), call(1, "awaiting_approval"))
    before = await stored_bytes(store, ME)
    assert await store.claim_call(answer.id, 1, 0, 0)
    long = "x" * 1000
    assert await store.finish_call(answer.id, 1, 0, 1, EndedRun("done", long))
    await store.decide(answer.id, 1, ME, Decision("approve", value='{"euros": 6}'))
    assert await stored_bytes(store, ME) == before
    assert await recount(store) == []
    assert await store.finish(ending(answer.id))
    inputs = 2 * len('{"euros": 5}')
    edited = len('{"euros": 6}') + len(r'"{\"euros\": 6}"')  # in the call and in the record
    assert await stored_bytes(store, ME) == before + inputs + edited + len(f'"{long}"')
    assert await recount(store) == []
    await store.delete_conversation(answer.conversation_id)
    assert await stored_bytes(store, ME) == 0


async def test_waiting_answers_have_a_limit_of_their_own(database_url: str) -> None:
    """They leave room for answers that run."""
    store = Store.open(database_url, Quotas(unfinished_per_user=1, waiting_per_user=2))
    try:
        for _ in range(3):
            await waiting(store)
        conversation = await store.create_conversation(ME)
        with pytest.raises(TooManyWaiting):
            await store.post(Post(conversation.id, ME, "hi", "m"))
        async with store.writing() as session:
            await session.execute(sql("UPDATE messages SET status = 'queued' WHERE role <> 'user'"))
        with pytest.raises(TooManyUnfinished):
            await store.post(Post(conversation.id, ME, "hi", "m"))
    finally:
        await store.aclose()


# --- posts ---


async def test_a_post_takes_questions_back(store: Store) -> None:
    """The answer that waited is queued. A decision comes too late, and a second post finds nothing
    to take back.
    """
    answer = await waiting(store)
    posted = await store.post(Post(answer.conversation_id, ME, "hi", "m"))
    assert posted.resumed == answer.id
    assert (await answer.states(), (await answer.row()).status) == (["withdrawn"], "queued")
    with pytest.raises(NotAwaited):
        await store.decide(answer.id, 0, ME, Decision("approve"))
    again = await store.post(Post(answer.conversation_id, ME, "hello?", "m"))
    assert again.resumed is None


async def test_a_post_is_noticed_before_a_park(store: Store, other: Store) -> None:
    """Whichever comes first, the answer does not wait in front of a post."""
    for _ in range(ROUNDS):
        answer = await asked(store, call(0, "awaiting_approval"))
        parked, posted = await raced(
            store.park(checkpoint(answer.id, 1, 1, saves=9), 0, 0),
            other.post(Post(answer.conversation_id, ME, "hi", "m")),
        )
        assert (parked, posted.resumed) in [("parked", answer.id), ("changed", None)]
        assert await store.is_followed(answer.id)
        assert await store.withdraw_calls(answer.id, 1) is (parked == "changed")
        assert await answer.states() == ["withdrawn"]


# --- cost ---


async def test_statements_about_calls_use_the_key(store: Store) -> None:
    """No act reads the calls of other answers."""
    with recorded(store) as ran:
        answer = await waiting(store)
        await store.decide(answer.id, 0, ME, Decision("approve"))
        await store.post(Post(answer.conversation_id, ME, "hi", "m"))
        assert await store.is_followed(answer.id)
        assert (await store.calls_at(answer.id))[0] == 2
        assert await store.begin_attempt(answer.id, 2, "m")
        assert await store.claim_call(answer.id, 2, 0, 0)
        assert await store.finish_call(answer.id, 2, 0, 1, DONE)
        assert await store.lose_calls(answer.id, 2, 0)
        assert await store.finish(replace(ending(answer.id), attempt=2))
        await store.expire_calls(answer.id)
    words = ("calls", "decisions", "rounds >", "ordinal >")
    about = {text for text in ran if any(word in text for word in words)}
    assert len(about) >= 6
    assert await without_index(store, about) == []


async def test_no_act_waits_for_the_conversation(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion locks the conversation first, then its answers: whoever has an answer and wants
    the conversation would be its deadlock.
    """
    monkeypatch.setattr(database, "LOCK_SECONDS", 2.0)
    store = Store.open(postgres_url)
    try:
        answer = await asked(store)
        with psycopg.connect(postgres_url) as deletion:
            which = prefixed("SELECT id FROM conversations WHERE id = %s FOR UPDATE")
            deletion.execute(which, (answer.conversation_id,))
            await answer.prove(call(0), call(1, "awaiting_approval"))
            claimed = await store.claim_call(answer.id, 1, 0, 0)
            assert claimed is not None
            assert await store.finish_call(answer.id, 1, 0, 1, DONE)
            assert await store.begin_repair(checkpoint(answer.id, 1, 2, 2), {"errors": []})
            assert await answer.park() == "parked"
            assert await store.decide(answer.id, 1, ME, Decision("deny"))
            assert await store.begin_attempt(answer.id, 2, "m")
            assert await store.finish(ending(answer.id, attempt=2))
    finally:
        await store.aclose()
