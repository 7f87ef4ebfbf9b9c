"""Refusals before routing, as OpenAI's own client raises them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.production import login, public
from tests.integration.serving import Web


@contextlib.asynccontextmanager
async def client(
    web: Web, user: str | None = "ada", **headers: str
) -> AsyncIterator[openai.AsyncOpenAI]:
    key = "wrong" if user is None else login(user)["Authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(
        base_url=f"{web.url}/v1", api_key=key, max_retries=0, timeout=20, default_headers=headers
    ) as made:
        yield made


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, type[openai.APIStatusError], str]] = {
    "no login": ({}, {"user": None}, "hi", openai.AuthenticationError, "invalid_api_key"),
    "an unknown host": (
        {"allowed_hosts": "chat.example"},
        {"Host": "evil.example"},
        "hi",
        openai.APIStatusError,
        "unknown_host",
    ),
    "a long head": ({}, {"X-Long": "x" * 40_000}, "hi", openai.BadRequestError, "bad_request"),
    "a long body": (
        {"max_chat_body_bytes": 64 * 1024},
        {},
        "x" * 100_000,
        openai.APIStatusError,
        "body_too_large",
    ),
    "no place": ({"max_open_per_user": 1}, {}, "hi", openai.RateLimitError, "too_many_open"),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_the_client_raises_the_right_class(tmp_path: Path, why: str) -> None:
    """With the code and a sentence."""
    settings, caller, text, kind, code = REFUSED[why]
    async with public(tmp_path, **settings) as web, contextlib.AsyncExitStack() as stack:
        if "max_open_per_user" in settings:
            await stack.enter_async_context(
                web.client.stream("GET", "/api/feed", headers=login("ada"))
            )
        made = await stack.enter_async_context(client(web, **caller))
        with pytest.raises(kind) as raised:
            await made.responses.create(model="demo", input=text)
        assert raised.value.code == code
        assert isinstance(raised.value.body, dict)
        assert raised.value.body["message"]


async def test_too_many_posts(tmp_path: Path) -> None:
    """A RateLimitError with Retry-After."""
    async with public(tmp_path, posts_per_minute_per_user=1) as web, client(web) as made:
        await made.responses.create(model="demo", input="hi", background=True)
        with pytest.raises(openai.RateLimitError) as raised:
            await made.responses.create(model="demo", input="hi", background=True)
        assert raised.value.code == "too_many_posts"
        assert int(raised.value.response.headers["retry-after"]) > 0
