"""Pure: where the files of answers are read. An address holds the digest of the bytes, so it never
changes its meaning.
"""

import hashlib
from typing import Any


def digest_of(data: bytes) -> str:
    """What a file is known by."""
    return hashlib.sha256(data).hexdigest()


def address_of(message_id: str, digest: str) -> str:
    """The path at which people read the file."""
    return f"/api/messages/{message_id}/files/{digest}"


def digest_in(address: Any, message_id: str) -> str | None:
    """The digest in an address that `address_of` gave for this message; None: it is no such one."""
    digest = address.rpartition("/")[2] if isinstance(address, str) else ""
    return digest if digest and address == address_of(message_id, digest) else None
