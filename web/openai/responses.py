"""Pure: an answer as a Response (POST /v1/responses)."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire.protocol.events import Usage
from tokenwire.protocol.fold import Answer
from tokenwire.web.openai.items import output_items
from tokenwire.web.openai.objects import INCOMPLETE, RESPONSE_PREFIX, Head

_RESPONSE_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "context_length_exceeded": "invalid_prompt",
    "content_filtered": "invalid_prompt",
    "invalid_request": "invalid_prompt",
}
"""Codes of failed answers -> the closed list of codes in a Response's `error`; all others are
`server_error`.
"""

_UNUSED = {
    "top_logprobs": 0,
    "service_tier": "default",
    "safety_identifier": None,
    "prompt_cache_key": None,
}
"""Unused members of a Response, with their default values."""


def response_status(head: Head, answer: Answer) -> str:
    """`queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`."""
    if answer.status == "complete":
        return "incomplete" if answer.finish_reason in INCOMPLETE else "completed"
    if answer.status == "queued":
        return "queued" if head.background else "in_progress"
    return {"error": "failed", "cancelled": "cancelled"}.get(answer.status, "in_progress")


def response(
    head: Head, answer: Answer, output: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The Response; `output` replaces the answer's own items."""
    asked, done = head.asked, answer.status == "complete"
    incomplete = INCOMPLETE.get(answer.finish_reason or "") if done else None
    return {
        "id": RESPONSE_PREFIX + head.id,
        "object": "response",
        "created_at": head.created_at,
        "completed_at": head.completed_at if done else None,
        "status": response_status(head, answer),
        "background": head.background,
        "error": response_error(answer.error) if answer.status == "error" else None,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": asked.get("max_tool_calls"),
        "metadata": asked.get("metadata") or {},
        "model": head.model,
        "output": output_items(head, answer) if output is None else list(output),
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "presence_penalty": asked.get("presence_penalty", 0.0),
        "frequency_penalty": asked.get("frequency_penalty", 0.0),
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": {"effort": asked.get("reasoning_effort"), "summary": None},
        "store": asked.get("store", True),
        "temperature": asked.get("temperature", 1.0),
        "top_p": asked.get("top_p", 1.0),
        "text": {"format": asked.get("text_format") or {"type": "text"}},
        "tool_choice": head.tool_choice,
        "tools": list(head.tools),
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


def response_usage(usage: Usage | None) -> dict[str, Any] | None:
    """Tokens in the form of Responses."""
    if usage is None:
        return None
    taken, given = usage.input_tokens, usage.output_tokens
    return {
        "input_tokens": taken,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": taken + given,
    }
