"""web.http.middleware: the layers around CORS and around the gate."""

import pytest

from tests.unit.web.conftest import MakeClient
from tokenwire.web.http.middleware import HEADERS

ORIGIN = "https://app.example.com"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


async def test_a_preflight_is_protected_and_counted(make_client: MakeClient) -> None:
    """CORS answers it by itself, within the outermost layer; refused ones too."""
    async with make_client(cors_origins=ORIGIN) as client:
        allowed = await client.options("/api/chat", headers=PREFLIGHT)
        refused = await client.options("/api/chat", headers=PREFLIGHT | {"Origin": "https://evil"})
        text = (await client.get("/metrics")).text
    assert (allowed.status_code, refused.status_code) == (200, 400)
    for answer in (allowed, refused):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for status in ("200", "400"):
        assert f'{{method="OPTIONS",route="none",status="{status}"}} 1.0' in text


async def test_allowed_origins_can_read_that_the_server_failed(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last error handler is within CORS."""

    async def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("tokenwire.web.http.middleware.KnownHosts.__call__", fails)
    async with make_client(cors_origins=ORIGIN) as client:
        answer = await client.get("/api/me", headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["x-frame-options"] == "DENY"
