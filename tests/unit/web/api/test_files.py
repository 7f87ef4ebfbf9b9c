"""The route for files that are parts of answers."""

import os

import httpx
import pytest

from tests.unit.web.api.test_conversations import begin
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store

IMAGE = os.urandom(1024 * 1024)


async def stored(
    client: httpx.AsyncClient, store: Store, media_type: str, data: bytes = IMAGE
) -> str:
    """The address of a file of a new answer."""
    row = await begin(client)
    made = await store.post(Post(row["id"], row["user_id"], "draw", "demo"))
    name = made.assistant_message.id
    assert await store.begin_attempt(name, 1, "demo")
    return f"/api/messages/{name}/files/{await store.save_file(name, 1, 0, media_type, data)}"


async def test_an_image_is_served_for_ever(client: httpx.AsyncClient, store: Store) -> None:
    """All of its megabyte, with its media type."""
    answer = await client.get(await stored(client, store, "image/png"))
    assert (answer.status_code, answer.content) == (200, IMAGE)
    headers = answer.headers
    assert headers["content-type"] == "image/png"
    assert headers["cache-control"] == "private, max-age=31536000, immutable"
    assert headers["content-disposition"].startswith("inline; ")
    assert headers["content-disposition"].endswith('.png"')
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("media_type", ["image/svg+xml", "text/html", "no type", "application/pdf"])
async def test_a_file_that_may_hold_scripts_is_a_download(
    client: httpx.AsyncClient, store: Store, media_type: str
) -> None:
    """Whatever type the model gives it."""
    answer = await client.get(await stored(client, store, media_type, b"<script>"))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_only_readers_of_the_answer_get_its_files(
    client: httpx.AsyncClient, store: Store
) -> None:
    """404 for everybody else, as for a file that does not exist."""
    row = await store.create_conversation("somebody-else")
    made = await store.post(Post(row.id, row.user_id, "draw", "demo"))
    name = made.assistant_message.id
    assert await store.begin_attempt(name, 1, "demo")
    theirs = await store.save_file(name, 1, 0, "image/png", b"x")
    mine = await stored(client, store, "image/png", b"y")
    missing = mine.replace(mine[-64:], "0" * 64)
    for address in (f"/api/messages/{name}/files/{theirs}", missing):
        answer = await client.get(address)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await client.get(mine)).content == b"y"
    assert (await client.get(mine[:-1])).status_code == 422
