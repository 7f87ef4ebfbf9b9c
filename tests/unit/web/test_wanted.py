"""CANCEL_WITHOUT_READERS_SECONDS: polling an answer or reading its snapshot counts like following
it.
"""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.unit.web.conftest import MakeClient
from tests.unit.web.openai.test_routes import finish
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog

Read = Callable[[httpx.AsyncClient, str, str], Awaitable[httpx.Response]]


async def polled(
    client: httpx.AsyncClient, response_id: str, _conversation_id: str
) -> httpx.Response:
    return await client.get(f"/v1/responses/{response_id}")


async def snapshot(
    client: httpx.AsyncClient, _response_id: str, conversation_id: str
) -> httpx.Response:
    return await client.get(f"/api/conversations/{conversation_id}")


async def chat(
    client: httpx.AsyncClient, _response_id: str, conversation_id: str
) -> httpx.Response:
    return await client.get(f"/api/chat/{conversation_id}/messages")


async def asked(client: httpx.AsyncClient, store: Store) -> tuple[str, str]:
    """A background response, and its conversation."""
    answer = await client.post(
        "/v1/responses", json={"model": "demo", "input": "hi", "background": True}
    )
    response_id = str(answer.json()["id"])
    row = await store.message(response_id.removeprefix("resp_"))
    assert row is not None
    return response_id, row.conversation_id


@pytest.mark.parametrize("read", [polled, snapshot, chat])
@pytest.mark.parametrize("seconds", [60, 0])
async def test_reading_an_answer_counts_as_following(
    make_client: MakeClient, store: Store, log: MemoryLog, read: Read, seconds: int
) -> None:
    """Only if the setting is on; otherwise nothing is stored."""
    async with make_client(cancel_without_readers_seconds=seconds) as client:
        ids = await asked(client, store)
        assert not await log.has_readers(ids[1])
        assert (await read(client, *ids)).status_code == 200
    assert await log.has_readers(ids[1]) is (seconds > 0)


async def test_an_answer_that_has_ended_is_not_noted(
    make_client: MakeClient, store: Store, log: MemoryLog
) -> None:
    """Nothing is written for it."""
    async with make_client(cancel_without_readers_seconds=60) as client:
        ids = await asked(client, store)
        await finish(store, log, ids[0], "Done.")
        await polled(client, *ids)
    assert not await log.has_readers(ids[1])


async def test_reading_works_without_redis(
    make_client: MakeClient, store: Store, log: MemoryLog
) -> None:
    """The answer is still returned."""
    async with make_client(cancel_without_readers_seconds=60) as client:
        ids = await asked(client, store)
        log.go_down()
        assert (await polled(client, *ids)).status_code == 200
