"""protocol/tokens.py: who may follow which conversation, and until when."""

import base64
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tokenwire.protocol.tokens import (
    BadToken,
    Grant,
    check_key,
    is_ours,
    mint,
    tombstone_seconds,
    verify,
)

SECRET = "0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0


def pem_pair(private: Any) -> tuple[str, str]:
    """PEM texts of the private and the public key."""
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return secret, private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ).decode()


RSA = pem_pair(rsa.generate_private_key(65537, 2048))
EC = pem_pair(ec.generate_private_key(ec.SECP256R1()))


NESTED = base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=")


def forge(**changes: Any) -> str:
    """A token signed with the right secret and some claims changed; None removes a claim."""
    claims = {"sub": "u", "conv": "c", "exp": int(NOW) + 60, "aud": "tokenwire"} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, SECRET)


def test_what_is_minted_is_what_is_granted() -> None:
    """Conversation, user and expiry come back."""
    assert verify(SECRET, mint(SECRET, "c", "u", 600, NOW), NOW) == Grant("c", "u", NOW + 600)


@pytest.mark.parametrize(("pair", "algorithm"), [(RSA, "RS256"), (EC, "ES256")])
def test_private_keys_sign_and_either_key_verifies(pair: tuple[str, str], algorithm: str) -> None:
    """The verifying side needs only the public key."""
    private, public = pair
    token = mint(private, "c", "u", 600, NOW)
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert verify(public, token, NOW) == verify(private, token, NOW) == Grant("c", "u", NOW + 600)


@pytest.mark.parametrize(("late", "good"), [(0, True), (29, True), (30, False), (3600, False)])
def test_thirty_seconds_of_leeway_and_no_more(late: int, good: bool) -> None:
    """A token is valid until 30 s after its expiry, by the caller's clock."""
    token = mint(SECRET, "c", "u", 600, NOW)
    if good:
        assert verify(SECRET, token, NOW + 600 + late).user_id == "u"
    else:
        with pytest.raises(BadToken, match="expired"):
            verify(SECRET, token, NOW + 600 + late)


def test_a_token_for_later_is_refused_until_then() -> None:
    """`nbf` counts, with the same leeway."""
    token = forge(nbf=int(NOW) + 31)
    with pytest.raises(BadToken, match="not valid yet"):
        verify(SECRET, token, NOW)
    assert verify(SECRET, token, NOW + 1)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: None, id="none"),
        pytest.param(lambda: "", id="empty"),
        pytest.param(lambda: "a.b.c", id="garbage"),
        pytest.param(lambda: f"{NESTED}.{NESTED}.x", id="nested-without-end"),
        pytest.param(lambda: f"{SECRET}.{NESTED}.x", id="nested-claims"),
        pytest.param(
            lambda: mint("another secret of thirty-two bytes!", "c", "u", 600, NOW), id="other-key"
        ),
        pytest.param(lambda: forge(aud="elsewhere"), id="other-audience"),
        pytest.param(lambda: forge(aud=None), id="no-audience"),
        pytest.param(lambda: forge(sub=None), id="no-user"),
        pytest.param(lambda: forge(conv=None), id="no-conversation"),
        pytest.param(lambda: forge(exp=None), id="no-expiry"),
        pytest.param(lambda: forge(conv=["c"]), id="conversation-is-a-list"),
        pytest.param(lambda: forge(exp="9999999999"), id="expiry-is-text"),
        pytest.param(lambda: forge(exp=float("inf")), id="never-expires"),
        pytest.param(lambda: forge(exp=float("nan")), id="expires-at-nan"),
        pytest.param(lambda: forge(exp=True), id="expiry-is-a-boolean"),
        pytest.param(lambda: mint(SECRET, "c", "u", 600, NOW)[:-3] + "AAA", id="broken-signature"),
        pytest.param(
            lambda: jwt.encode(
                {"sub": "u", "conv": "c", "exp": NOW + 9, "aud": "tokenwire"},
                None,
                algorithm="none",
            ),
            id="unsigned",
        ),
    ],
)
def test_whatever_is_wrong_is_a_bad_token(token: Callable[[], str | None]) -> None:
    """One exception for every fault, so that no caller can forget a case."""
    with pytest.raises(BadToken):
        verify(SECRET, token(), NOW)


def test_the_key_decides_the_algorithm() -> None:
    """A token signed with the public key as if it were a shared secret is refused."""
    claims = {"sub": "u", "conv": "c", "exp": int(NOW) + 60, "aud": "tokenwire"}
    header, body = (
        jwt.utils.base64url_encode(part).decode()
        for part in (b'{"alg":"HS256"}', jwt.api_jws.json.dumps(claims).encode())
    )
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{header}.{body}".encode(), RSA[1].encode()
    )
    with pytest.raises(BadToken):
        verify(RSA[1], f"{header}.{body}.{jwt.utils.base64url_encode(signature).decode()}", NOW)


def test_time_is_the_callers() -> None:
    """An expired token by the machine's clock is valid if the caller's clock says so."""
    past = time.time() - 1_000_000
    assert verify(SECRET, mint(SECRET, "c", "u", 600, past), past)


def test_a_short_rsa_key_is_refused() -> None:
    """1024 bits can be broken."""
    # That is what is refused.
    for half in pem_pair(rsa.generate_private_key(65537, 1024)):  # noqa: S505
        with pytest.raises(ValueError, match="TOKEN_KEY"):
            check_key(half)


def test_rubbish_is_not_one_of_our_tokens() -> None:
    """The check comes before any signature is verified."""
    header = jwt.encode({}, SECRET).partition(".")[0]
    for claims in (
        NESTED,
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b"\xff").decode(),
        "",
    ):
        assert not is_ours(f"{header}.{claims}.x")


def test_a_deletion_outlives_every_token() -> None:
    """Including the leeway of a token: such a token would open the deleted conversation's log
    again.
    """
    with pytest.raises(BadToken):
        verify(SECRET, mint(SECRET, "c", "u", 60, NOW), NOW + tombstone_seconds(60))
