"""Pure: an answer as a ChatCompletion (POST /v1/chat/completions), whole and in chunks."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire.protocol.events import Usage
from tokenwire.protocol.fold import Answer, Part
from tokenwire.web.calls import CallIds
from tokenwire.web.openai.items import annotations
from tokenwire.web.openai.objects import CHAT_PREFIX, Head

_CHAT_REASONS = {"length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}


def completion(head: Head, answer: Answer) -> dict[str, Any]:
    """The ChatCompletion of a complete answer."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.content or None,
        "refusal": None,
        "annotations": chat_annotations(answer),
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if calls := chat_calls(head, answer):
        message["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": chat_reason(answer),
    }
    return _chat_head(head, "chat.completion") | {
        "choices": [choice],
        "usage": chat_usage(answer.usage),
    }


def completion_chunk(head: Head, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One ChatCompletionChunk."""
    return _chat_head(head, "chat.completion.chunk") | {"choices": list(choices)}


def _chat_head(head: Head, kind: str) -> dict[str, Any]:
    return {
        "id": CHAT_PREFIX + head.id,
        "object": kind,
        "created": head.created_at,
        "model": head.model,
    }


def chat_calls(head: Head, answer: Answer) -> list[dict[str, Any]]:
    """The calls for the program that asked, in the form of a chat completion."""
    ids = CallIds()
    return [
        {
            "id": ids.of(answer.parts, number),
            "type": "function",
            "function": {"name": str(part.fields.get("name") or ""), "arguments": part.text},
        }
        for number, part in enumerate(answer.parts)
        if part.type == "tool_call" and _is_for_caller(head, part)
    ]


def _is_for_caller(head: Head, call: Part) -> bool:
    is_open = head.functions is None or call.fields.get("state") == "proposed"
    return is_open and head.is_function(call)


def chat_annotations(answer: Answer) -> list[dict[str, Any]]:
    """The addresses that the texts cite; indexes are UTF-16 units of the whole content."""
    found = []
    for number, part in enumerate(answer.parts):
        for cited in annotations(answer, number) if part.type == "text" else ():
            kind = cited.pop("type")
            if kind == "url_citation":
                cited["start_index"] += part.start
                cited["end_index"] += part.start
                found.append({"type": kind, kind: cited})
    return found


def chat_reason(answer: Answer) -> str:
    """`stop` for all reasons without a word of their own there."""
    return _CHAT_REASONS.get(answer.finish_reason or "", "stop")


def chat_usage(usage: Usage | None) -> dict[str, Any] | None:
    """Tokens in the form of chat completions."""
    if usage is None:
        return None
    taken, given = usage.input_tokens, usage.output_tokens
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": taken + given,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }
