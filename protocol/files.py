"""Pure: addresses of the files of answers. An address holds the digest of the bytes, so it always
means the same file.
"""

import hashlib
from typing import Any, Final

ANY_MEDIA_TYPE: Final = "application/octet-stream"
"""Of a file whose type is not known."""


def digest_of(data: bytes) -> str:
    """The name of a file: a digest of its bytes."""
    return hashlib.sha256(data).hexdigest()


def address_of(message_id: str, digest: str) -> str:
    """The path at which the file can be downloaded."""
    return f"/api/messages/{message_id}/files/{digest}"


def digest_in(address: Any, message_id: str) -> str | None:
    """The digest in an address of this message's files. None for any other address."""
    digest = address.rpartition("/")[2] if isinstance(address, str) else ""
    return digest if digest and address == address_of(message_id, digest) else None
