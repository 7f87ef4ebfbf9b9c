"""Pure: subscription tokens, JWTs that let one user follow one conversation for a short time
(PROTOCOL.md, section 5).

The key decides the algorithm, never the token: a shared secret means HS256, a PEM key RS256 or
ES256 by its kind. With a PEM key the verifying side needs only the public half. The caller passes
the time in, and has checked the user's right before minting.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tokenwire.protocol.keys import Algorithm, algorithm_of, is_pem

AUDIENCE = "tokenwire"
LEEWAY_SECONDS = 30.0
"""Seconds that the clocks of the two sides may differ by."""


def tombstone_seconds(ttl_seconds: float) -> float:
    """How long a tombstone must be kept if tokens are valid for `ttl_seconds`."""
    return ttl_seconds + LEEWAY_SECONDS


_OF_KEYS = ("RS256", "ES256")
# Times are compared here, with the clock of the caller.
_OPTIONS: Any = {
    "require": ["sub", "conv", "exp", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}


class BadToken(Exception):
    """The token is missing, forged, for another audience, incomplete or expired. The text is for
    the log, not for the client.
    """


class Grant(NamedTuple):
    """The rights of a token: `user_id` may follow `conversation_id` until `expires_at` (Unix
    seconds, without the leeway).
    """

    conversation_id: str
    user_id: str
    expires_at: float


def mint(key: str, conversation_id: str, user_id: str, ttl_seconds: int, now: float) -> str:
    """A token signed with `key` (a secret, or a PEM private key), valid for `ttl_seconds` from
    `now` (Unix seconds).
    """
    algorithm, signing = _signing(key)
    claims = {
        "sub": user_id,
        "conv": conversation_id,
        "exp": int(now) + ttl_seconds,
        "aud": AUDIENCE,
    }
    return jwt.encode(claims, signing, algorithm=algorithm)


def verify(key: str, token: str | None, now: float) -> Grant:
    """The rights of the token at `now`, with 30 s of leeway. `key`: the secret, or either PEM half.
    Raises BadToken.
    """
    if not token:
        raise BadToken("no token")
    algorithm, verifying = _verifying(key)
    try:
        claims = jwt.decode(
            token, verifying, algorithms=[algorithm], audience=AUDIENCE, options=_OPTIONS
        )
    except (
        jwt.PyJWTError,
        ValueError,
        RecursionError,
    ) as error:  # before the signature is checked, the JSON can be anything
        raise BadToken(str(error) or type(error).__name__) from error
    return _grant(claims, now)


def is_ours(token: str) -> bool:
    """Whether the token claims to be a subscription token. It need not be valid."""
    try:
        audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
    except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
        return False
    return AUDIENCE in (audience if isinstance(audience, list) else [audience])


def check_key(key: str) -> None:
    """Raises ValueError for a PEM key that cannot be used; the text says nothing of the key."""
    try:
        _verifying(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("TOKEN_KEY is not a usable RSA or elliptic curve key in PEM") from error


def _grant(claims: dict[str, Any], now: float) -> Grant:
    conversation_id, expires_at, not_before = claims["conv"], claims["exp"], claims.get("nbf", 0)
    if not isinstance(conversation_id, str) or not _is_time(expires_at) or not _is_time(not_before):
        raise BadToken("a claim has the wrong type")
    if expires_at + LEEWAY_SECONDS <= now:
        raise BadToken("expired")
    if not_before - LEEWAY_SECONDS > now:
        raise BadToken("not valid yet")
    return Grant(conversation_id, claims["sub"], float(expires_at))


def _is_time(value: object) -> bool:
    # NaN and the infinities would make every comparison above say "not expired".
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


# Reading a PEM key costs more than checking a signature, and a process has one or two keys.
@lru_cache(maxsize=8)
def _signing(key: str) -> tuple[Algorithm, Any]:
    if not is_pem(key):
        return "HS256", key
    private = load_pem_private_key(key.encode(), password=None)
    return _algorithm_of(private), private


@lru_cache(maxsize=8)
def _verifying(key: str) -> tuple[Algorithm, Any]:
    if not is_pem(key):
        return "HS256", key
    public = (
        load_pem_private_key(key.encode(), password=None).public_key()
        if "PRIVATE KEY" in key
        else load_pem_public_key(key.encode())
    )
    return _algorithm_of(public), public


def _algorithm_of(key: object) -> Algorithm:
    algorithm = algorithm_of(key)
    if algorithm not in _OF_KEYS:
        raise ValueError("the token key is neither an RSA nor an elliptic curve key (P-256)")
    return algorithm
