"""Who is calling: the local user in development, the subject of the host's JWT in production."""

import base64
import json
import time
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.unit.web.conftest import TOKEN_KEY, MakeClient, settings
from tokenwire.protocol import tokens
from tokenwire.web.admission.identity import open_identity

KEY = "the-host-application-signs-with-this"
PRODUCTION = {"mode": "production", "redis_url": "redis://127.0.0.1:1", "host_jwt_key": KEY}
C = "/api/conversations"


def token(key: Any = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    given = {"sub": "ada", "exp": int(time.time()) + 600} | claims
    return jwt.encode(
        {name: value for name, value in given.items() if value is not None}, key, algorithm
    )


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


NESTED = base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=")


async def status(client: httpx.AsyncClient, headers: dict[str, str], method: str = "GET") -> int:
    answer = await client.request(method, C, headers=headers)
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "unauthenticated"
    return answer.status_code


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


async def test_development_has_one_local_user(client: httpx.AsyncClient) -> None:
    """No login is required."""
    assert (await client.post(C, json={})).json()["user_id"] == "local"


async def test_a_bearer_token_or_the_session_cookie_names_the_user(make_client: MakeClient) -> None:
    """In production; both hold the same JWT."""
    async with make_client(**PRODUCTION) as client:
        for headers in (
            bearer(token()),
            {"Authorization": f"bearer  {token()}"},
            {"Cookie": f"a=b; session={token()}"},
        ):
            answer = await client.post(C, json={}, headers=headers)
            assert (answer.status_code, answer.json()["user_id"]) == (201, "ada")


async def test_callers_can_ask_who_they_are(
    client: httpx.AsyncClient, make_client: MakeClient
) -> None:
    """The name under which their messages are stored."""
    assert (await client.get("/api/me")).json() == {"user_id": "local"}
    async with make_client(**PRODUCTION) as strict:
        answer = await strict.get("/api/me", headers=bearer(token(sub="bob")))
        assert (answer.status_code, answer.json()) == (200, {"user_id": "bob"})
        assert (await strict.get("/api/me")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": f"Basic {token()}"},
        bearer(token("another-key-that-signs-0123456789abcdef")),
        bearer(token(exp=int(time.time()) - 3600)),
        bearer(token(nbf=int(time.time()) + 3600)),
        bearer(token(sub="")),
        bearer(token(sub="x" * 256)),
        bearer(token(sub="a\x00b")),
        bearer(token(sub="a\ud800b")),
        bearer(token(sub=None, name="ada")),
        bearer(token(sub=5)),
        bearer(token(exp=None)),
        bearer(token(exp=float("nan"))),
        bearer(token(exp=float("inf"))),
        bearer(token(exp="soon")),
        bearer(f"{NESTED}.{NESTED}.x"),
        bearer(f"{_part({'alg': 'HS256'})}.{NESTED}.x"),
        bearer(f"{_part({'alg': []})}.{_part({'sub': 'ada'})}.x"),
        bearer(token(None, "none")),
        bearer(tokens.mint(KEY, "c", "ada", 600, time.time())),
        {"Cookie": "session=nonsense"},
        {"Cookie": f"other={token()}"},
    ],
)
async def test_an_unproved_identity_is_401(
    make_client: MakeClient, headers: dict[str, str]
) -> None:
    """Among them other keys, expired and early tokens, no algorithm, and a subscription token of
    the same key.
    """
    async with make_client(**PRODUCTION) as client:
        assert await status(client, headers) == 401


async def test_any_audience_but_ours_is_accepted(make_client: MakeClient) -> None:
    """Only the audience of subscription tokens is refused."""
    async with make_client(**PRODUCTION) as client:
        assert await status(client, bearer(token(aud="shop"))) == 200
        assert await status(client, bearer(token(aud=["shop", "tokenwire"]))) == 401


@pytest.mark.parametrize(
    ("algorithm", "private"),
    [
        ("RS256", rsa.generate_private_key(65537, 2048)),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("ES384", ec.generate_private_key(ec.SECP384R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
)
async def test_a_public_key_accepts_only_its_own_algorithm(
    make_client: MakeClient, algorithm: str, private: Any
) -> None:
    """A token that claims HS256, signed with the public key's text, is refused."""
    pem = public_pem(private)
    forged = jwt.api_jws.PyJWS().encode(b'{"sub":"ada"}', b"x" * 32, "HS256")
    async with make_client(**(PRODUCTION | {"host_jwt_key": pem})) as client:
        assert await status(client, bearer(token(private, algorithm))) == 200
        assert await status(client, bearer(forged)) == 401
        assert await status(client, bearer(token())) == 401


def public_pem(private: Any) -> str:
    return str(
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


async def test_issuer_and_audience_are_checked_if_set(make_client: MakeClient) -> None:
    """Tokens of another issuer or for another service are refused, although the key signed them."""
    async with make_client(
        **PRODUCTION, host_jwt_issuer="shop", host_jwt_audience="chat"
    ) as client:
        assert await status(client, bearer(token(iss="shop", aud=["chat", "mail"]))) == 200
        for claims in (
            {},
            {"iss": "shop"},
            {"aud": "chat"},
            {"iss": "other", "aud": "chat"},
            {"iss": "shop", "aud": "mail"},
        ):
            assert await status(client, bearer(token(**claims))) == 401


@pytest.mark.parametrize(
    "given",
    [
        {"host_jwt_key": "k"},
        {"host_jwt_key": "x" * 31},
        {"host_jwt_key": "https://login.example.com/.well-known/jwks.json"},
        {"host_jwt_key": TOKEN_KEY},
        # That is what is refused.
        {"host_jwt_key": public_pem(rsa.generate_private_key(65537, 1024))},  # noqa: S505
        {"host_jwt_key": public_pem(ec.generate_private_key(ec.SECP256K1()))},
        {"host_jwt_key": KEY, "host_jwt_audience": "tokenwire"},
    ],
)
def test_weak_keys_are_refused(given: dict[str, str]) -> None:
    """One letter, the address of a key set, the key of subscription tokens, a short RSA key: each
    would let others in.
    """
    with pytest.raises(ValueError, match=r"(?i)host_jwt"):
        open_identity(settings(**(PRODUCTION | given)))


@pytest.mark.parametrize(
    "key", [None, "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----"]
)
def test_production_does_not_start_without_a_usable_key(key: str | None) -> None:
    """The message names the variable."""
    with pytest.raises(ValueError, match="HOST_JWT_KEY"):
        open_identity(
            settings(mode="production", redis_url="redis://127.0.0.1:1", host_jwt_key=key)
        )


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://chat.example:8000"},
]
OWN: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://chat.example:8000"},
    {},
]


@pytest.mark.parametrize(
    ("headers", "expected"), [(given, 403) for given in FOREIGN] + [(given, 201) for given in OWN]
)
async def test_another_site_cannot_act_for_a_user(
    make_client: MakeClient, headers: dict[str, str], expected: int
) -> None:
    """A browser sends the cookie by itself (and development has no login), so only the own origin
    may change anything.
    """
    async with make_client() as client:
        assert await status(client, headers, "POST") == expected
        assert await status(client, headers) == 200
    async with make_client(**PRODUCTION) as client:
        assert await status(client, headers | {"Cookie": f"session={token()}"}, "POST") == expected
        assert await status(client, headers | bearer(token()), "POST") == 201
