"""/v1: a request while another answer runs never waits behind it, and never changes it."""

import httpx
import pytest

from tests.unit.web.openai.test_routes import R, asked, finish, sent
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog


async def test_a_running_response_is_not_followed(
    client: httpx.AsyncClient, store: Store, log: MemoryLog
) -> None:
    """Until it has ended, also by a cancel; what it wrote is then followed."""
    first = await asked(client, input="One")
    follows = {"model": "demo", "input": "Two", "previous_response_id": first["id"]}
    follows["background"] = True
    refused = await client.post(R, json=follows)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "previous_response_unfinished"
    await finish(store, log, first["id"], "Half", status="cancelled")
    following = await asked(client, **follows)
    assert (await sent(store, following))[0] == [
        ("user", "One"),
        ("assistant", "Half"),
        ("user", "Two"),
    ]


async def test_requests_are_answered_side_by_side(client: httpx.AsyncClient, store: Store) -> None:
    """Each in a conversation of its own."""
    one, two = await asked(client, input="One"), await asked(client, input="Two")
    found = [await store.message(each["id"].removeprefix("resp_")) for each in (one, two)]
    assert len({row.conversation_id for row in found if row}) == 2
    assert {row.status for row in found if row} == {"queued"}


@pytest.mark.parametrize("policy", ["queue", "reject", "cancel_previous", "steer"])
async def test_policies_of_posts_are_refused_by_name(
    client: httpx.AsyncClient, policy: str
) -> None:
    """They are about posts into one conversation."""
    first = await asked(client, input="One")
    refused = await client.post(
        R, json={"model": "demo", "input": "Two", "background": True, "while_running": policy}
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "while_running")
    assert refused.json()["error"]["code"] == "unsupported_parameter"
    assert (await client.get(f"{R}/{first['id']}")).json()["status"] == "queued"
