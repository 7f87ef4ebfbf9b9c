"""Refusals before routing: the whole app answers in the dialect of the address."""

import time
from typing import Any

import httpx
import jwt
import pytest

from tests.unit.web.admission.test_identity import KEY, PRODUCTION
from tests.unit.web.conftest import MakeClient
from tokenwire.models import errors
from tokenwire.web.problems import problem_of

PATHS = ("/v1/models", "/api/me")


def login(user: str = "ada") -> dict[str, str]:
    return {
        "Authorization": "Bearer "
        + jwt.encode({"sub": user, "exp": time.time() + 600}, KEY, "HS256")
    }


def document(answer: httpx.Response) -> dict[str, Any]:
    """The content of a refusal whose form was checked."""
    said: dict[str, Any] = answer.json()
    if answer.request.url.path.startswith("/v1/"):
        assert answer.headers["content-type"] == "application/json"
        assert set(said) == {"error"}
        assert set(said["error"]) == {"message", "type", "param", "code"}
        return dict(said["error"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail"} <= set(said)
    return said


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_login(make_client: MakeClient, path: str) -> None:
    """401."""
    async with make_client(**PRODUCTION) as client:
        answer = await client.get(path)
        assert answer.status_code == 401
        assert document(answer)["code"] in ("invalid_api_key", "unauthenticated")


@pytest.mark.parametrize("path", PATHS)
async def test_under_an_unknown_name(make_client: MakeClient, path: str) -> None:
    """421, whoever calls."""
    async with make_client(**PRODUCTION, headers=login() | {"Host": "evil.example"}) as client:
        answer = await client.get(path)
        assert (answer.status_code, document(answer)["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("path", ["/v1/responses", "/api/conversations"])
async def test_too_often_and_too_long(make_client: MakeClient, path: str) -> None:
    """429 and 413."""
    async with make_client(
        **PRODUCTION, headers=login(), posts_per_minute_per_user=1, max_chat_body_bytes=64 * 1024
    ) as client:
        answer = await client.post(path, content=b" " * 2_000_000)
        assert (answer.status_code, document(answer)["code"]) == (413, "body_too_large")
        answer = await client.post(path, json={})
        assert (answer.status_code, document(answer)["code"]) == (429, "too_many_posts")


@pytest.mark.parametrize("path", PATHS)
async def test_an_unexpected_error(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """500, outside of the routes too, without details."""

    def fails(*_arguments: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("tokenwire.web.admission.layer.Gate.caller", fails)
    async with make_client(**PRODUCTION) as client:
        answer = await client.get(path)
        assert (answer.status_code, document(answer)["code"]) == (500, "internal")
        assert "secret" not in answer.text


def kinds(of: type[Exception]) -> list[type[Exception]]:
    return [of, *(inner for kind in of.__subclasses__() for inner in kinds(kind))]


NEVER_TOLD = (
    errors.StoreError,  # these two are never raised themselves
    errors.QuotaReached,
    errors.MigrationRefused,  # no process starts with it
    errors.AlreadyDecided,  # it needs rows: tests/unit/web/api/test_calls.py
)


@pytest.mark.parametrize("kind", [k for k in kinds(errors.StoreError) if k not in NEVER_TOLD])
def test_every_error_of_the_store_has_a_sentence(kind: type[Exception]) -> None:
    """None is told as a bug, and none shows its own text."""
    problem = problem_of(kind("secret"))
    assert problem is not None
    assert "secret" not in problem.detail
