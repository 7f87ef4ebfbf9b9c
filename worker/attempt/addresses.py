"""Pure: which address of a source or file may become a link.

Guarantees: the `url` of a part is one that a page may link to without a check of its own: `http` or
`https`, with a host, without a user, a password or control characters. Any other address is
the part's `address`, which is text.

Why it works this way: models repeat what pages tell them, and dialects pass a `url` to front ends
that make a link of it (`javascript:`, `data:`, `//host`, `https://bank@host`). The rule stands
where parts are taken, so that all dialects, the log and the row agree. Nothing is lost: readers
still see what the model named.

Rejected: the mark `dropped` (then none of the answer's kept values would go back); a check in each
encoder (the native parts would pass unchecked).
"""

import re
from urllib.parse import urlsplit

_UNSAFE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_OF_A_HOST = re.compile(r"[@\\\s]")


def address_fields(url: str | None) -> dict[str, str]:
    """The fields of a part for an address as its model gave it: `url`, `address` or none."""
    if url is None:
        return {}
    return {"url": url} if is_link(url) else {"address": url}


def is_link(address: str) -> bool:
    """Whether a page may link to this address."""
    if _UNSAFE.search(address):
        return False
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return False
    has_host = bool(parts.hostname) and not _NOT_OF_A_HOST.search(parts.netloc)
    return has_host and parts.scheme in ("http", "https")
