"""Pure: which algorithm of a JWT a key stands for. The key decides it, never the token."""

from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

Algorithm = Literal["HS256", "RS256", "ES256", "ES384", "ES512", "EdDSA"]
MIN_RSA_BITS = 2048
_CURVES: dict[str, Algorithm] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def is_pem(key: str) -> bool:
    """Whether this is a PEM key. Anything else is a shared secret, for HS256."""
    return key.lstrip().startswith("-----BEGIN")


def algorithm_of(key: object) -> Algorithm | None:
    """The algorithm of a private or public key; None for a kind that no algorithm uses.

    Raises ValueError for an RSA key that is too small.
    """
    if isinstance(key, RSAPrivateKey | RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key has at least {MIN_RSA_BITS} bits")
        return "RS256"
    if isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    return "EdDSA" if isinstance(key, Ed25519PrivateKey | Ed25519PublicKey) else None
