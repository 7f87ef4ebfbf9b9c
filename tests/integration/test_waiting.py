"""Answers that wait for a decision: nobody works on them, and their waits cost no attempts."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.providers.wire import serving
from tests.integration.test_pauses import Rig, playing
from tests.integration.test_pauses import rig as rig
from tests.paused import frames, words
from tokenwire.worker.asking import MAX_ATTEMPTS

WHOLE = b"".join(frames([words("Yes.")], "end_turn"))


async def change(rig: Rig, values: Mapping[str, Any]) -> None:
    columns = ", ".join(f"{name} = :{name}" for name in values)
    async with rig.store.writing() as session:
        await session.execute(
            text(f"UPDATE messages SET {columns} WHERE id = :id").bindparams(
                id=rig.row.id, **values
            )
        )


async def test_a_job_of_a_waiting_answer_does_nothing(rig: Rig) -> None:
    """A decision makes the row `queued`, and brings another job. A cancel ends it as ever."""
    await change(rig, {"status": "waiting"})
    async with serving(playing(WHOLE)) as server:
        row = await rig.run(server)
        assert (row.status, row.attempt, server.calls) == ("waiting", 0, [])
        await change(rig, {"cancel_by": "me"})
        row = await rig.run(server)
    assert (row.status, row.cancel_by) == ("cancelled", "me")


@pytest.mark.parametrize(("waits", "status"), [(0, "error"), (1, "complete")])
async def test_attempts_that_waited_do_not_count(rig: Rig, waits: int, status: str) -> None:
    """A person may be asked as often as the model likes: other limits bound that."""
    await change(rig, {"attempt": MAX_ATTEMPTS, "waits": waits})
    async with serving(playing(WHOLE)) as server:
        row = await rig.run(server)
    assert row.status == status
