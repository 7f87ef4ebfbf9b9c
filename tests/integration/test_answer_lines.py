"""The operator's log lines of an answer: one at its end, at a hand-over, and at a takeover from a
dead worker.
"""

import pytest
from structlog.testing import capture_logs

from tests.integration.worker_rig import LEASE_SECONDS, NoJobs, Script, runner_over, services_over
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.attempt.lifecycle import HandedOver
from tokenwire.worker.metrics import ANSWERS_ENDED
from tokenwire.worker.services import WorkerServices

QUESTION = "What did my doctor say of my knee?"
DONE = [base.Finish("stop", "stop")]
ABOUT_ANSWERS = ("answer ended", "handed over", "taken over from a worker that died")


class Rig:
    """One queued answer."""

    def __init__(self, services: WorkerServices, message_id: str, conversation_id: str) -> None:
        self.services, self.message_id, self.conversation_id = services, message_id, conversation_id


@pytest.fixture
async def rig(sqlite_store: Store) -> Rig:
    conversation = await sqlite_store.create_conversation("me")
    posted = await sqlite_store.post(Post(conversation.id, "me", QUESTION, "m"))
    return Rig(
        services_over(sqlite_store, MemoryLog(), NoJobs()),
        posted.assistant_message.id,
        conversation.id,
    )


async def test_an_answer_that_ends(rig: Rig) -> None:
    """With its reason and length, not its text; it is also counted."""
    before = ANSWERS_ENDED.labels("complete")._value.get()
    with capture_logs() as lines:
        await runner_over(rig.services, Script([[base.TextDelta("a secret"), *DONE]])).generate(
            rig.message_id
        )
    [line] = [line for line in lines if line["event"] in ABOUT_ANSWERS]
    assert (
        line
        | {
            "event": "answer ended",
            "message_id": rig.message_id,
            "status": "complete",
            "attempt": 1,
            "characters": 8,
        }
        == line
    )
    assert "secret" not in str(lines)
    assert ANSWERS_ENDED.labels("complete")._value.get() == before + 1


async def test_an_answer_that_fails(rig: Rig) -> None:
    """With its code."""
    with capture_logs() as lines:
        await runner_over(rig.services, Script([base.AuthenticationFailed("no key")])).generate(
            rig.message_id
        )
    [line] = [line for line in lines if line["event"] in ABOUT_ANSWERS]
    assert (line["status"], bool(line["code"])) == ("error", True)


@pytest.mark.parametrize("error", [base.AuthenticationFailed, base.Unavailable, base.Interrupted])
async def test_a_provider_that_quotes_the_conversation(
    rig: Rig, error: type[base.ProviderError]
) -> None:
    """Neither question nor answer is logged with its error; the rest is. The reader's sentence does
    not change.
    """
    quoting = error(
        f'no, not "{QUESTION}" + "it will hurt for long", thank you', code="no_no", status=500
    )
    with capture_logs() as lines:
        await runner_over(
            rig.services, Script([[base.TextDelta("It will hurt for long.")], quoting])
        ).generate(rig.message_id)
    assert "doctor" not in str(lines)
    assert "hurt" not in str(lines)
    [line] = [line for line in lines if line["event"] == "attempt failed"]
    assert (line["error"], line["provider_code"], line["status"]) == (
        'no, not "…" + "…", thank you',
        "no_no",
        500,
    )


async def test_an_answer_that_is_handed_over(rig: Rig) -> None:
    """By a process that is told to stop."""
    runner = runner_over(rig.services, script := Script([]))

    async def deploy() -> None:
        (attempt,) = runner.running()
        attempt.stop(HandedOver())

    script.steps = [[base.TextDelta("so far")], deploy]
    with capture_logs() as lines:
        await runner.generate(rig.message_id)
    assert [line["event"] for line in lines if line["event"] in ABOUT_ANSWERS] == ["handed over"]


async def test_an_answer_of_a_dead_worker(rig: Rig) -> None:
    """The process that takes it over logs it, and ends it later."""
    store, log = rig.services.store, rig.services.log
    claim = await log.claim(rig.conversation_id, rig.message_id, 0, LEASE_SECONDS)
    assert await store.begin_attempt(rig.message_id, claim.attempt, "m")
    await log.release(claim)
    with capture_logs() as lines:
        await runner_over(rig.services, Script([[base.TextDelta("anew"), *DONE]])).generate(
            rig.message_id
        )
    found = [line["event"] for line in lines if line["event"] in ABOUT_ANSWERS]
    assert found == ["taken over from a worker that died", "answer ended"]
