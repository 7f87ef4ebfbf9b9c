"""Identity of the caller. Development: one local user. Production: the host application's JWT, as a
bearer token or in its session cookie.

The key decides the algorithm, never the token: a PEM public key accepts only its own kind (RS256,
ES256, ES384, ES512, EdDSA), anything else HS256. A JWT needs `sub` and `exp`; issuer and audience
are checked if settings name them. A changing request that a browser sends for another site is
refused, unless it carries a bearer token, which no other site can make a browser send.
"""

import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.requests import Request

from tokenwire.config.settings import Settings
from tokenwire.protocol import tokens
from tokenwire.protocol.keys import algorithm_of, is_pem
from tokenwire.web.http.bodies import is_id
from tokenwire.web.problems import ApiProblem

LOCAL_USER = "local"
SESSION_COOKIE = "session"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

Identify = Callable[[Request], str]
"""Returns the user's id, or raises ApiProblem (401, 403)."""


def open_identity(settings: Settings) -> Identify:
    """The identity check of this mode. Raises ValueError if production has no usable
    HOST_JWT_KEY.
    """
    if settings.mode == "development":
        return _Local(settings.origins)
    if settings.host_jwt_key is None:
        raise ValueError("HOST_JWT_KEY is missing (MODE is production)")
    if settings.host_jwt_audience == tokens.AUDIENCE:
        raise ValueError(
            f"HOST_JWT_AUDIENCE: {tokens.AUDIENCE!r} is the audience of subscription tokens, which "
            f"are no logins"
        )
    expected = Expected(settings.host_jwt_issuer, settings.host_jwt_audience)
    return _Host(settings.host_jwt_key.get_secret_value(), expected, settings.origins)


class Expected(NamedTuple):
    """Required claims of a JWT; None: any."""

    issuer: str | None
    audience: str | None


class _Local:
    """Everybody is the local user."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins

    def __call__(self, request: Request) -> str:
        _refuse_foreign(request, self._origins)
        return LOCAL_USER


class _Host:
    """Verifies the host application's JWT."""

    def __init__(self, key: str, expected: Expected, origins: Collection[str]) -> None:
        self._key, self._algorithm = _read_key(key)
        self._expected = expected
        self._origins = origins

    def __call__(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._user(token.strip())
        cookie = request.cookies.get(SESSION_COOKIE)
        if cookie is None:
            raise _unauthenticated("You are not signed in.")
        _refuse_foreign(request, self._origins)
        return self._user(cookie)

    def _user(self, token: str) -> str:
        try:
            claims = self._claims(token)
        except (
            jwt.PyJWTError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:  # its JSON can be anything before the signature is verified
            raise _unauthenticated("Your sign-in has expired or is not valid.") from error
        user = claims["sub"]
        # A subscription token, which only opens one conversation's stream, is no login.
        if tokens.AUDIENCE in _audiences(claims.get("aud")) or not is_id(user):
            raise _unauthenticated("Your sign-in has expired or is not valid.")
        return str(user)

    def _claims(self, token: str) -> dict[str, Any]:
        wanted = self._expected
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key,  # type: ignore[arg-type]  # of the kind that its algorithm takes
            algorithms=[self._algorithm],
            leeway=tokens.LEEWAY_SECONDS,
            issuer=wanted.issuer,
            audience=wanted.audience,
            options={"require": ["sub", "exp"], "verify_aud": wanted.audience is not None},
        )
        return claims


def subscription_grant(request: Request, key: str) -> tokens.Grant | None:
    """What a subscription token in place of a login permits. None: there is no such token.

    Raises ApiProblem (401) if it has expired or is not valid.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not tokens.is_ours(token.strip()):
        return None
    try:
        return tokens.verify(key, token.strip(), time.time())
    except tokens.BadToken as error:
        raise _unauthenticated("The subscription token is not valid.") from error


def _audiences(claim: object) -> list[object]:
    return claim if isinstance(claim, list) else [claim]


def _read_key(key: str) -> tuple[object, str]:
    if not is_pem(key):
        return key, "HS256"
    try:
        public = load_pem_public_key(key.encode())
    except ValueError as error:
        raise ValueError("HOST_JWT_KEY is no PEM public key") from error
    return public, _algorithm_of(public)


def _algorithm_of(public: object) -> str:
    try:
        algorithm = algorithm_of(public)
    except ValueError as error:
        raise ValueError(f"HOST_JWT_KEY: {error}") from None
    if algorithm is None:
        raise ValueError(
            "HOST_JWT_KEY must be an RSA, elliptic curve (P-256, P-384, P-521) or Ed25519 key"
        )
    return algorithm


def _unauthenticated(detail: str) -> ApiProblem:
    return ApiProblem("unauthenticated", detail, {"WWW-Authenticate": "Bearer"})


def _refuse_foreign(request: Request, allowed: Collection[str]) -> None:
    if request.headers.get("origin") in allowed:
        return
    if request.method not in _SAFE_METHODS and _comes_from_another_site(request):
        raise ApiProblem("foreign_origin", "Another site may not do this on a user's behalf.")


def _comes_from_another_site(request: Request) -> bool:
    # Browsers set both headers themselves, and no page can change them; other clients send neither.
    # The first stays true behind a proxy that renames this server; browsers omit it for pages over
    # plain http.
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("cross-site", "same-site")
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")
