"""Which `Host` headers are answered, and which may be part of an address in an answer."""

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.unit.web.admission.test_identity import PRODUCTION, bearer, token
from tests.unit.web.conftest import MakeApp, MakeClient, settings
from tokenwire.web.http.hosts import Hosts

C = "/api/conversations"
REBOUND = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.evil.example",
    "192.168.1.5",
    "[2001:db8::1]",
    "a b",
    "[",
    "",
]
OWN = [
    "localhost",
    "localhost:8000",
    "LOCALHOST",
    "chat.localhost:8000",
    "127.0.0.1:8000",
    "127.5.5.5",
    "[::1]:8000",
]


@pytest.mark.parametrize("host", REBOUND)
async def test_a_rebound_name_is_refused(make_client: MakeClient, host: str) -> None:
    """Development has no login: another site's name that resolves to this machine is refused on
    every route.
    """
    async with make_client(allowed_hosts="") as client:
        for method, path in (
            ("GET", "/"),
            ("GET", C),
            ("POST", C),
            ("GET", "/v1/models"),
            ("GET", "/static/app.js"),
            ("GET", "/nope"),
        ):
            answer = await client.request(method, path, headers={"Host": host})
            document = answer.json()["error"] if path.startswith("/v1/") else answer.json()
            assert (answer.status_code, document["code"]) == (421, "unknown_host")
        assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", [*OWN, "chat.example", "CHAT.example:80", "other.example"])
async def test_own_names_are_answered(make_client: MakeClient, host: str) -> None:
    """Localhost, loopback addresses and the names of the setting."""
    async with make_client(allowed_hosts="chat.example,other.example") as client:
        assert (await client.get(C, headers={"Host": host})).status_code == 200


async def test_production_checks_the_setting_if_there_is_one(make_client: MakeClient) -> None:
    """A proxy names the site. Without the setting any name is answered, since every caller logs
    in.
    """
    login = bearer(token())
    async with make_client(**PRODUCTION, allowed_hosts="chat.example") as client:
        assert (await client.get(C, headers=login)).status_code == 200
        assert (await client.get(C, headers=login | {"Host": "evil.example"})).status_code == 421
    async with make_client(**(PRODUCTION | {"allowed_hosts": ""})) as client:
        assert (await client.get(C, headers=login | {"Host": "evil.example"})).status_code == 200


async def test_an_unknown_name_is_never_passed_on(make_client: MakeClient) -> None:
    """Neither in `subscription.url` nor in the page's security policy. A post that is refused for
    it stores nothing.
    """
    login = bearer(token()) | {"Host": "evil.example"}
    async with make_client(**(PRODUCTION | {"allowed_hosts": ""})) as client:
        made = (await client.post(C, headers=login)).json()["id"]
        for path in (f"{C}/{made}/subscription", f"{C}/{made}/messages"):
            answer = await client.post(path, headers=login, json={"content": "hi"})
            assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")
            assert "evil" not in answer.text
        snapshot = await client.get(f"{C}/{made}", headers=login)
        assert snapshot.json()["messages"] == []
        assert snapshot.headers["content-security-policy"].endswith("connect-src 'self'")


@pytest.mark.parametrize(
    ("given", "host", "source"),
    [
        ({}, "localhost:8000", " ws://localhost:8001"),
        ({"broadcaster_port": 9001}, "127.0.0.1:8000", " ws://127.0.0.1:9001"),
        ({"broadcaster_url": "wss://stream.example/live"}, "localhost", " wss://stream.example"),
        ({}, "[::1]:8000", " ws:"),
    ],
)
async def test_the_page_may_connect_only_to_the_broadcaster(
    make_client: MakeClient, given: dict[str, object], host: str, source: str
) -> None:
    """The policy names its origin, not every WebSocket. (It cannot name an IPv6 address.)"""
    async with make_client(**given) as client:
        policy = (await client.get("/", headers={"Host": host})).headers["content-security-policy"]
    assert policy.endswith(f"connect-src 'self'{source}")


def test_a_socket_of_another_name_is_refused(make_app: MakeApp) -> None:
    """Chat sockets are requests like others."""
    with TestClient(make_app(allowed_hosts="")) as client:
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect("/api/chat/ws", headers={"host": "evil.example"}),
        ):
            pass
        with client.websocket_connect("/api/chat/ws", headers={"host": "localhost"}):
            pass


@pytest.mark.parametrize("names", ["chat.example:80", "https://chat.example", "*", "a b"])
def test_invalid_host_names(names: str) -> None:
    """No port, no scheme, no pattern."""
    with pytest.raises(ValueError, match="names look like"):
        settings(allowed_hosts=names)


def test_the_listening_address_is_an_own_name() -> None:
    """HOST=192.168.1.5 is meant to be reached under this address."""
    assert Hosts(settings(host="192.168.1.5", allowed_hosts="")).answers_to("192.168.1.5:8000")


@pytest.mark.parametrize(
    ("changes", "has"),
    [
        ({}, False),
        ({"allowed_hosts": "chat.example"}, True),
        ({"broadcaster_url": "wss://chat.example/stream"}, True),
    ],
)
def test_a_missing_site_name_is_reported(changes: dict[str, str], has: bool) -> None:
    """Production would refuse every post from another origin, so the process logs it when it
    starts.
    """
    production = {**PRODUCTION, "allowed_hosts": "", "redis_url": "redis://127.0.0.1:1"}
    assert Hosts(settings(**production | changes)).has_name is has
    assert Hosts(settings(allowed_hosts="")).has_name
