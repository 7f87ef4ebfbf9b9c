"""web.admission.costs: every route is guarded and counted, also one that nobody has named there."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Mount, Route

from tests.unit.web.admission.test_identity import PRODUCTION
from tests.unit.web.conftest import MakeApp, MakeClient
from tests.unit.web.test_refusal_forms import login
from tokenwire.web.admission.costs import CHANGES, PROBES, cost_of, is_public

CHANGING = {
    "POST /api/conversations/{conversation_id}/subscription",
    "POST /api/conversations/{conversation_id}/cancel",
    "POST /api/messages/{message_id}/cancel",
    "POST /api/messages/{message_id}/calls/{number}/decision",
    "POST /api/invitations/{conversation_id}/accept",
    "POST /api/chat/{chat_id:path}/stop",
    "POST /v1/responses/{response_id}/cancel",
}
"""All routes with a POST that is no post."""


def routes(routers: list[Any]) -> Iterator[tuple[str, str]]:
    """(method, path template) of every HTTP route, in included routers too."""
    for route in routers:
        if included := getattr(route, "original_router", None):
            yield from routes(included.routes)
        elif isinstance(route, Route):
            yield from ((method, route.path) for method in route.methods or ())
        else:
            assert isinstance(route, Mount) or not hasattr(route, "methods"), route


@pytest.fixture
def served(make_app: MakeApp) -> list[tuple[str, str]]:
    app: FastAPI = make_app()
    found = list(routes(app.routes))
    assert len(found) > 40
    return found


def filled(path: str) -> str:
    return re.sub(r"{\w+(:path)?}", "x", path)


def test_only_named_paths_are_public(served: list[tuple[str, str]]) -> None:
    """The page, its files, and what shows nothing of users."""
    public = {path for _, path in served if is_public(filled(path))}
    assert public == {"/", "/openapi.json", *PROBES}
    assert {cost_of("GET", path) for path in public} == {None}


async def test_no_other_path_answers_without_a_login(
    make_client: MakeClient, served: list[tuple[str, str]]
) -> None:
    """Whoever wrote its route: the gate stands before all of them."""
    async with make_client(**PRODUCTION) as client:
        for method, path in served:
            if not is_public(filled(path)):
                answer = await client.request(method, filled(path))
                assert answer.status_code == 401, (method, path)


def test_what_changes_something_is_a_post_unless_it_is_named(
    served: list[tuple[str, str]],
) -> None:
    """Reads and deletions aside. No name is left of a route that is gone."""
    cheap = {
        f"{method} {path}"
        for method, path in served
        if method in ("POST", "PUT", "PATCH") and cost_of(method, filled(path)) != "posts"
    }
    assert {each for each in cheap if not each.endswith("{rest:path}")} == CHANGING
    assert len(CHANGES.pattern.split("|")) == len(CHANGING)


@pytest.mark.parametrize("path", ["/v2/answers", "/other/answers", "/api/answers"])
async def test_a_new_dialect_is_guarded_and_counted(make_app: MakeApp, path: str) -> None:
    """Its router is all that was added."""
    router = APIRouter()

    @router.post(path)
    async def answer() -> dict[str, bool]:
        return {"reached": True}

    app = make_app(**PRODUCTION, posts_per_minute_per_user=1)
    app.include_router(router)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://chat.example"
    ) as client:
        assert (await client.post(path)).status_code == 401
        assert (await client.post(path, headers=login())).json() == {"reached": True}
        assert (await client.post(path, headers=login())).status_code == 429
