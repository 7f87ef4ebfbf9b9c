"""What can go wrong for a client.

TokenwireError      base; never raised itself
  RequestFailed     the API refused a request, or was not reached
  FollowingStopped  a conversation cannot be followed any longer
  AnswerFailed      an answer ended as `error` or `cancelled`
  AnswerRestarted   the answer no longer begins with the pieces that were given out
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenwire.client.transcript import LiveMessage


class TokenwireError(Exception):
    """Base."""


class RequestFailed(TokenwireError):
    """A request was refused (PROTOCOL.md lists each `code`), or did not get through (status 0)."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code, self.detail, self.retry_after = status, code, detail, retry_after


class FollowingStopped(TokenwireError):
    """The conversation cannot be followed any longer. `code` is a close code or an HTTP status.

    It was deleted (4404, 404), the caller may not follow it (4403), or each new token is refused
    (4401).
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the conversation cannot be followed any longer ({code})")
        self.code = code


class AnswerFailed(TokenwireError):
    """The answer has ended and is not complete. `message` holds its text so far."""

    def __init__(self, message: "LiveMessage") -> None:
        why = message.error["error"] if message.error else f"{message.status} by {message.by}"
        super().__init__(why)
        self.message = message


class AnswerRestarted(TokenwireError):
    """Another attempt says something else than the pieces that were handed out."""
