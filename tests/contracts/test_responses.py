"""models/responses.py on SQLite and PostgreSQL."""

import asyncio

import pytest

from tokenwire.models.answers import Ending
from tokenwire.models.errors import KeyReused
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.responses import PastTurn, Question
from tokenwire.models.store import Store
from tokenwire.models.tool_choices import ToolChoices

pytestmark = pytest.mark.usefixtures("counted_right")

ME = "me"
QUESTION = Question(
    ME,
    [PastTurn("system", "s"), PastTurn("user", "u")],
    "demo",
    options={"temperature": 0.5},
    asked={"metadata": {"a": "b"}},
    tools=ToolChoices(use=["add"], unattended=True),
)


async def test_a_response_has_its_own_conversation(store: Store) -> None:
    """Unlisted and named; its rows need no announcement, and each follows the previous one."""
    posted = await store.ask(QUESTION)
    answer = posted.assistant_message
    rows = await store.rows(await store.input_ids(answer, ME))
    assert [(row.ordinal, row.role, row.content, row.status) for row in rows] == [
        (1, "system", "s", "complete"),
        (2, "user", "u", "complete"),
    ]
    assert [row.parent_id for row in [*rows, answer]] == [None, *(row.id for row in rows)]
    assert all(row.announced_rev == row.rev for row in [*rows, answer])
    stored = await store.message(answer.id)
    assert stored is not None
    assert (stored.status, stored.options, stored.asked) == (
        "queued",
        {"temperature": 0.5},
        {"metadata": {"a": "b"}},
    )
    assert stored.tools == {"use": ["add"], "unattended": True}
    conversation = await store.conversation(answer.conversation_id, ME)
    assert (conversation.listed, conversation.title) == (False, "u")
    assert await store.conversations(ME, 10) == ([], None)


async def test_the_same_key_asks_once(store: Store) -> None:
    """Even if both requests come at the same moment."""
    keys = [Idempotency("k", "POST /v1/responses", "h") for _ in range(4)]
    asked = await asyncio.gather(*(store.ask(QUESTION, key) for key in keys))
    assert len({posted.assistant_message.id for posted in asked}) == 1
    with pytest.raises(KeyReused):
        await store.ask(QUESTION, Idempotency("k", "POST /v1/responses", "other"))


async def test_a_follow_up_refers_to_its_conversation(store: Store) -> None:
    """No row is written again."""
    first = (await store.ask(QUESTION)).assistant_message
    await store.begin_attempt(first.id, 1, "demo")
    assert await store.finish(Ending(first.id, 1, "complete", "a", "", None, 0, "stop"))
    following = (
        await store.ask(Question(ME, [PastTurn("user", "v")], "demo", follows=first))
    ).assistant_message
    assert [
        (row.role, row.content) for row in await store.rows(await store.input_ids(following, ME))
    ] == [
        ("system", "s"),
        ("user", "u"),
        ("assistant", "a"),
        ("user", "v"),
    ]
    assert (following.conversation_id != first.conversation_id, following.ordinal) == (True, 2)
