"""Pure: which paths are public, and what a request of any other path counts as.

It fails closed, so that a new dialect is guarded before anybody thinks of it: a path that is not
named here needs a login, and what may change something counts as a post, the scarcest rate. So a
forgotten line makes a limit too strict, never too lax.
"""

import re
from typing import Literal

Cost = Literal["posts", "reads", "changes"]

PROBES = ("/healthz", "/readyz", "/metrics")
"""Load balancers use the machine's address for these; they show nothing of users."""
PUBLIC = frozenset({"/", "/openapi.json", *PROBES})
"""Paths without a login. They show nothing of users and are not counted."""
PUBLIC_FOLDER = "/static/"
CHANGES = re.compile(
    r"/api/conversations/[^/]+/(subscription|cancel)|/api/messages/[^/]+/cancel"
    r"|/api/messages/[^/]+/calls/[^/]+/decision|/api/invitations/[^/]+/accept"
    r"|/api/chat/.+/stop|/v1/responses/[^/]+/cancel"
)
"""Paths whose POST is no post: it creates no answer and no message."""
_POSTING = frozenset({"POST", "PUT", "PATCH"})


def is_public(path: str) -> bool:
    """Whether anybody may read this path."""
    return path in PUBLIC or path.startswith(PUBLIC_FOLDER)


def cost_of(method: str, path: str) -> Cost | None:
    """How a request counts. None: not at all.

    `posts` create something, usually an answer, or store a text; they may not be repeated.
    `changes` are the rest that is no read, such as a cancel, a deletion, a subscription.
    """
    if is_public(path):
        return None
    if method in ("GET", "HEAD"):
        return "reads"
    return "posts" if method in _POSTING and not CHANGES.fullmatch(path) else "changes"
