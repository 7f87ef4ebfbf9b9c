"""Who is calling. Development: one local user. Production: the host application's own JWT, as a bearer token or in its session cookie.

The key decides the algorithm, never the token: a PEM public key means its own kind (RS256, ES256, EdDSA), anything else HS256.
A request that changes something and that a browser sends on behalf of another site is refused, unless it carries a bearer token,
which no other site can make a browser send.
"""

from collections.abc import Callable, Collection

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.requests import Request

from config.settings import Settings
from streams.tokens import AUDIENCE, LEEWAY_SECONDS
from web.problems import ApiProblem

LOCAL_USER = "local"
SESSION_COOKIE = "session"
MAX_USER_ID = 255
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

Identify = Callable[[Request], str]
"""Gives the user's id, or raises ApiProblem (401, 403)."""


def open_identity(settings: Settings) -> Identify:
    """What this mode asks of callers. Raises ValueError when production has no usable HOST_JWT_KEY."""
    if settings.mode == "development":
        return _Local(settings.origins)
    if settings.host_jwt_key is None:
        raise ValueError("HOST_JWT_KEY is missing (MODE is production)")
    return _Host(settings.host_jwt_key.get_secret_value(), settings.origins)


class _Local:
    """Everybody is the one local user."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins

    def __call__(self, request: Request) -> str:
        _refuse_foreign(request, self._origins)
        return LOCAL_USER


class _Host:
    """Verifies the host application's JWT."""

    def __init__(self, key: str, origins: Collection[str]) -> None:
        self._key, self._algorithm = _read_key(key)
        self._origins = origins

    def __call__(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._user(token.strip())
        cookie = request.cookies.get(SESSION_COOKIE)
        if cookie is None:
            raise _unauthenticated("Send `Authorization: Bearer <JWT>` or the session cookie.")
        _refuse_foreign(request, self._origins)
        return self._user(cookie)

    def _user(self, token: str) -> str:
        # The host's audience is its own affair; a subscription token, which only opens one conversation's stream, is no login.
        options = {"require": ["sub"], "verify_aud": False}
        try:
            claims = jwt.decode(token, self._key, algorithms=[self._algorithm], leeway=LEEWAY_SECONDS, options=options)  # type: ignore[arg-type]  # a plain dict is taken too
        except jwt.PyJWTError as error:
            raise _unauthenticated("The token is not valid.") from error
        user = claims["sub"]
        if AUDIENCE in _audiences(claims.get("aud")) or not 0 < len(user) <= MAX_USER_ID or "\x00" in user:
            raise _unauthenticated("The token is not valid.")
        return str(user)


def _audiences(claim: object) -> list[object]:
    return claim if isinstance(claim, list) else [claim]


def _read_key(key: str) -> tuple[object, str]:
    if not key.lstrip().startswith("-----BEGIN"):
        return key, "HS256"
    try:
        public = load_pem_public_key(key.encode())
    except ValueError as error:
        raise ValueError("HOST_JWT_KEY is no PEM public key") from error
    for kind, algorithm in ((RSAPublicKey, "RS256"), (EllipticCurvePublicKey, "ES256"), (Ed25519PublicKey, "EdDSA")):
        if isinstance(public, kind):
            return public, algorithm
    raise ValueError("HOST_JWT_KEY must be an RSA, elliptic curve or Ed25519 key")


def _unauthenticated(detail: str) -> ApiProblem:
    return ApiProblem("unauthenticated", detail, {"WWW-Authenticate": "Bearer"})


def _refuse_foreign(request: Request, allowed: Collection[str]) -> None:
    if request.headers.get("origin") in allowed:
        return
    if request.method not in _SAFE_METHODS and _comes_from_another_site(request):
        raise ApiProblem("foreign_origin", "Another site may not do this on a user's behalf.")


def _comes_from_another_site(request: Request) -> bool:
    # Browsers set both headers themselves and no page can change them; other clients send neither. The first one stays true behind
    # a proxy that gives this server another name; browsers leave it out where the page itself came over plain http.
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("cross-site", "same-site")
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")
