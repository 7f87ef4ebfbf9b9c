"""A message that steers a response of OpenAI's API: its streams, its replay from the row, and later
questions.
"""

import asyncio
from typing import Any

import pytest

from tests.integration.attempt.test_calls import calls, says
from tests.integration.test_openai_approvals import R, Site
from tests.unit.web.openai.client import Client, blocks
from tokenwire.models.store import Store
from tokenwire.tools import tool


@pytest.fixture
async def site(store: Store) -> Any:
    site = Site(store)
    site.open()
    yield site
    await site.client.aclose()
    for box in site.boxes:
        await box.aclose()


async def test_a_response_that_takes_a_message_in(site: Site) -> None:
    """The message is no item of it. Its events are the same from the log, from the row and from any
    place; the next question has the message where the model got it.
    """
    home, posted = asyncio.get_running_loop(), list[dict[str, Any]]()

    async def steers() -> None:
        path = f"/api/conversations/{(await site.row_of(asked)).conversation_id}/messages"
        body = {"content": "In French, please.", "while_running": "steer"}
        posted.append((await site.client.post(path, json=body)).json())

    @tool
    async def work() -> str:
        """Work."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(steers(), home))
        return "worked"

    site.offers(work)
    response = await site.asks("hi")
    asked = response.json()["id"]
    follows = asyncio.create_task(site.client.get(f"{R}/{asked}", params={"stream": True}))
    await asyncio.sleep(0.1)
    provider = await site.works(response, calls(("work", "{}")), says("Bon."))
    sent = (await follows).content.split(b"\n\n")
    events = blocks(b"\n\n".join(block for block in sent if not block.startswith(b":")))
    whole = await site.read(asked)
    assert Client().read(events).final == whole
    assert [item["type"] for item in whole["output"]] == ["mcp_call", "message"]
    user, placeholder = posted[0]["user_message"]["id"], posted[0]["assistant_message"]["id"]
    assert user not in repr(events)
    steps = [part for part in (await site.row_of(asked)).parts or () if part["type"] == "step"]
    assert [step["message_ids"] for step in steps] == [[user]]
    assert (await site.row_of(placeholder)).cancel_by == "steered"
    assert provider.asked[1].messages[-1].text == "In French, please."
    later = await site.asks("And now?", previous_response_id=asked)
    provider = await site.works(later, says("Rien."))
    users = [one.text for one in provider.asked[0].messages if one.role == "user"]
    assert users == ["hi", "In French, please.", "And now?"]
