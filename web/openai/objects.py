"""Pure: an answer as the objects of OpenAI's API: a Response (POST /v1/responses) and a ChatCompletion (POST /v1/chat/completions).

Shapes are those that the `openai` packages of autumn 2026 read (PyPI 3.51, npm 7.55). The id of a response is `resp_` and the id of the
assistant message; items are named after the same id. How an answer becomes a stream of events is `openai_events`' business.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenwire.protocol.states import ENDED

RESPONSE_PREFIX = "resp_"
CHAT_PREFIX = "chatcmpl-"
MESSAGE_PREFIX = "msg_"
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CHAT_REASONS = {"length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}
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
    "authentication_failed": (502, "server_error"),
    "permission_denied": (502, "server_error"),
}
"""Codes of failed answers -> HTTP status and `type` of OpenAI's error object. A wrong key of the operator is no 401 of the caller."""
_RESPONSE_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "context_length_exceeded": "invalid_prompt",
    "content_filtered": "invalid_prompt",
    "invalid_request": "invalid_prompt",
}
"""Codes of failed answers -> the closed list of codes that a Response's `error` may have; all else is `server_error`."""

_UNUSED = {
    "top_p": 1.0,
    "top_logprobs": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "service_tier": "default",
    "safety_identifier": None,
    "prompt_cache_key": None,
}
"""Members of a Response that nothing here sets: as they are where nobody asks for anything."""

ItemStatus = Literal["in_progress", "completed", "incomplete"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An assistant message, as plain data. `status`, `error`, `usage`, `tool_calls` are those of the row.

    `created_at`, `completed_at`: Unix seconds. `asked`: what the request said that a Response repeats (`background`, `metadata`, ...).
    """

    id: str
    model: str
    created_at: int
    status: str
    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    finish_reason: str | None = None
    error: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    completed_at: int | None = None

    @property
    def ended(self) -> bool:
        """Nothing of it changes any more."""
        return self.status in ENDED

    @property
    def background(self) -> bool:
        """It was asked for without waiting for it."""
        return bool(self.asked.get("background"))


# --- errors -----------------------------------------------------------------------------------------------------------


def error_body(
    code: str, message: str, kind: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """`{"error": ...}` as OpenAI says what went wrong."""
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
    """Code and sentence of an answer that ended without being complete."""
    if answer.status == "cancelled":
        return "cancelled", "The answer was cancelled."
    held = answer.error or {}
    return str(held.get("code", "internal_error")), str(held.get("error", "The answer failed."))


# --- Responses --------------------------------------------------------------------------------------------------------


def response_status(answer: Answer) -> str:
    """`queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`."""
    if answer.status == "complete":
        return "incomplete" if answer.finish_reason in _INCOMPLETE else "completed"
    if answer.status == "queued":
        return "queued" if answer.background else "in_progress"
    return {"error": "failed", "cancelled": "cancelled"}.get(answer.status, "in_progress")


def response(answer: Answer, output: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The Response; `output` in place of the items that the answer as such has."""
    asked, incomplete = (
        answer.asked,
        _INCOMPLETE.get(answer.finish_reason or "") if answer.status == "complete" else None,
    )
    return {
        "id": RESPONSE_PREFIX + answer.id,
        "object": "response",
        "created_at": answer.created_at,
        "completed_at": answer.completed_at if answer.status == "complete" else None,
        "status": response_status(answer),
        "background": answer.background,
        "error": response_error(answer.error) if answer.status == "error" else None,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": asked.get("metadata") or {},
        "model": answer.model,
        "output": output_items(answer) if output is None else list(output),
        "parallel_tool_calls": True,
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": {"effort": asked.get("reasoning_effort"), "summary": None},
        "store": asked.get("store", True),
        "temperature": asked.get("temperature", 1.0),
        "text": {"format": asked.get("text_format") or {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        **_UNUSED,
        "usage": response_usage(answer.usage) if answer.ended else None,
    }


def response_error(error: Mapping[str, Any] | None) -> dict[str, Any]:
    """Why a response failed, in OpenAI's closed list of codes; the sentence is ours."""
    held = error or {}
    return {
        "code": _RESPONSE_CODES.get(held.get("code", ""), "server_error"),
        "message": held.get("error", "The answer failed."),
    }


def output_items(answer: Answer) -> list[dict[str, Any]]:
    """Reasoning, message, calls: those of them that there are."""
    status = item_status(answer)
    items = (
        [reasoning_item(f"rs_{answer.id}", answer.reasoning, status)] if answer.reasoning else []
    )
    if answer.text:
        items.append(message_item(MESSAGE_PREFIX + answer.id, answer.text, status))
    return items + call_items(answer, status)


def item_status(answer: Answer) -> ItemStatus:
    """The status of the last items of an answer."""
    if not answer.ended:
        return "in_progress"
    return "completed" if response_status(answer) == "completed" else "incomplete"


def reasoning_item(item_id: str, text: str | None, status: ItemStatus) -> dict[str, Any]:
    """Visible reasoning; None: an item that has just begun."""
    return {
        "id": item_id,
        "type": "reasoning",
        "summary": [],
        "content": [] if text is None else [reasoning_part(text)],
        "status": status,
    }


def reasoning_part(text: str) -> dict[str, Any]:
    """The one part of a reasoning item."""
    return {"type": "reasoning_text", "text": text}


def message_item(item_id: str, text: str | None, status: ItemStatus) -> dict[str, Any]:
    """The answer's text; None: an item that has just begun."""
    content = [] if text is None else [text_part(text)]
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def text_part(text: str) -> dict[str, Any]:
    """The one part of a message item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_items(answer: Answer, status: ItemStatus) -> list[dict[str, Any]]:
    """What the model wants called."""
    return [
        _call_item(f"fc_{answer.id}_{number}", call, status)
        for number, call in enumerate(answer.tool_calls)
    ]


def _call_item(item_id: str, call: Mapping[str, Any], status: ItemStatus) -> dict[str, Any]:
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call["id"],
        "name": call["name"],
        "arguments": _text(call),
        "status": status,
    }


def _text(call: Mapping[str, Any]) -> str:
    return json.dumps(call["arguments"], ensure_ascii=False, separators=(",", ":"))


def response_usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Tokens as Responses count them."""
    if usage is None:
        return None
    taken, given = usage["input_tokens"], usage["output_tokens"]
    return {
        "input_tokens": taken,
        "input_tokens_details": {
            "cached_tokens": usage.get("cached_tokens") or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens") or 0},
        "total_tokens": taken + given,
    }


# --- chat completions -------------------------------------------------------------------------------------------------


def completion(answer: Answer) -> dict[str, Any]:
    """The ChatCompletion of an answer that is complete."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": None,
        "annotations": [],
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = chat_calls(answer)
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": chat_reason(answer),
    }
    return _chat_head(answer, "chat.completion") | {
        "choices": [choice],
        "usage": chat_usage(answer.usage),
    }


def completion_chunk(answer: Answer, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One ChatCompletionChunk."""
    return _chat_head(answer, "chat.completion.chunk") | {"choices": list(choices)}


def _chat_head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": CHAT_PREFIX + answer.id,
        "object": kind,
        "created": answer.created_at,
        "model": answer.model,
    }


def chat_calls(answer: Answer) -> list[dict[str, Any]]:
    """What the model wants called, as a chat completion says it."""
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": _text(call)},
        }
        for call in answer.tool_calls
    ]


def chat_reason(answer: Answer) -> str:
    """`stop` for all that has no word of its own there."""
    return _CHAT_REASONS.get(answer.finish_reason or "", "stop")


def chat_usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Tokens as chat completions count them."""
    if usage is None:
        return None
    taken, given = usage["input_tokens"], usage["output_tokens"]
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": taken + given,
        "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens") or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens") or 0},
    }
