"""Pure: what all objects of OpenAI's API share: their names, what a row says about one, and errors.

The forms are those that the `openai` packages of autumn 2026 read (PyPI 3.51, npm 7.55). The id of
a response is `resp_` and the id of the assistant message; items are named after the same id.
`items`, `responses` and `completions` make the objects of an answer, `encoder` streams of events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenwire.protocol.fold import Answer, Part

RESPONSE_PREFIX = "resp_"
CHAT_PREFIX = "chatcmpl-"
MESSAGE_PREFIX = "msg_"
REQUEST_PREFIX = "mcpr_"
SERVER_LABEL = "tokenwire"
"""What this dialect calls the server as the one that has tools."""
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Reasons why an answer is complete, but cut off -> their word in a Response."""
_FAILURES: Mapping[str, tuple[int, str]] = {
    "rate_limited": (429, "rate_limit_error"),
    "quota_exhausted": (429, "insufficient_quota"),
    "model_not_found": (404, "invalid_request_error"),
    "invalid_request": (400, "invalid_request_error"),
    "context_length_exceeded": (400, "invalid_request_error"),
    "content_filtered": (400, "invalid_request_error"),
    "cancelled": (409, "cancelled"),
    "unavailable": (503, "server_error"),
    "interrupted": (502, "server_error"),
    "budget_exhausted": (502, "server_error"),
    "invalid_output": (502, "server_error"),
    "answer_too_large": (502, "server_error"),
    "authentication_failed": (502, "server_error"),
    "permission_denied": (502, "server_error"),
}
"""Codes of failed answers -> HTTP status and `type` of OpenAI's error object. The operator's wrong
key is no 401 of the caller.
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The fields of a Response from the row and the request; the rest is the answer's.

    `created_at`, `completed_at`: Unix seconds. `asked`: `background`, `metadata`, ... of the
    request. `pictures`: the base64 of stored images, by address; a stream adds each before its
    item. `functions`: the names of the tools that the program executes which asked; None: there are
    no others. `asks_caller`: that program allows calls of the server's tools. `tools`,
    `tool_choice`: as the request had them.
    """

    id: str
    model: str
    created_at: int
    asked: Mapping[str, Any] = field(default_factory=dict)
    completed_at: int | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)
    functions: frozenset[str] | None = None
    asks_caller: bool = False
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] = "auto"

    def is_function(self, call: Part) -> bool:
        """Whether the call is one for the program that asked."""
        return self.functions is None or call.fields.get("name") in self.functions

    def is_request(self, call: Part) -> bool:
        """Whether the call asks that program for its approval."""
        is_callers = call.fields.get("runs_at") == "caller" and self.asks_caller
        return is_callers and not self.is_function(call)

    @property
    def background(self) -> bool:
        """The request did not wait for the answer."""
        return bool(self.asked.get("background"))


def request_id(answer_id: str, call: Part, number: int) -> str:
    """The id under which a call asks for its approval: the same wherever a client repeats it."""
    asked_in = call.fields.get("asked_in") or {"message_id": answer_id, "part": number}
    return f"{REQUEST_PREFIX}{asked_in['message_id']}_{asked_in['part']}"


def error_body(
    code: str, message: str, kind: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """`{"error": ...}` in OpenAI's form."""
    return {
        "error": {
            "message": message,
            "type": kind or failure_status(code)[1],
            "param": param,
            "code": code,
        }
    }


def failure_status(code: str) -> tuple[int, str]:
    """HTTP status and error `type` for the code of a failed answer."""
    return _FAILURES.get(code, (500, "server_error"))


def failure(answer: Answer) -> tuple[str, str]:
    """Code and sentence of a failed or cancelled answer."""
    if answer.status == "cancelled":
        return "cancelled", "The answer was cancelled."
    held = answer.error or {}
    return str(held.get("code", "internal_error")), str(held.get("error", "The answer failed."))
