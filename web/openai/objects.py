"""Pure: an answer as the objects of OpenAI's API: a Response (POST /v1/responses) and a
ChatCompletion (POST /v1/chat/completions).

The forms are those that the `openai` packages of autumn 2026 read (PyPI 3.51, npm 7.55). The id of
a response is `resp_` and the id of the assistant message; items are named after the same id.
`encoder` makes a stream of events.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenwire.protocol.events import Usage
from tokenwire.protocol.files import digest_in
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.outcomes import outcome_of
from tokenwire.protocol.states import CALL_ENDED
from tokenwire.web.calls import call_id

RESPONSE_PREFIX = "resp_"
CHAT_PREFIX = "chatcmpl-"
MESSAGE_PREFIX = "msg_"
SERVER_LABEL = "tokenwire"
"""What this dialect calls the server as the one that has tools."""
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
    "invalid_output": (502, "server_error"),
    "answer_too_large": (502, "server_error"),
    "authentication_failed": (502, "server_error"),
    "permission_denied": (502, "server_error"),
}
"""Codes of failed answers -> HTTP status and `type` of OpenAI's error object. The operator's wrong
key is no 401 of the caller.
"""
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

_NONE: Mapping[str, str] = {}
ItemStatus = Literal["in_progress", "completed", "incomplete", "failed"]
ItemKind = Literal["reasoning", "message", "function_call", "mcp_call", "image_generation_call"]
_KINDS: Mapping[str, ItemKind] = {"reasoning": "reasoning", "text": "message"}
_STEMS: Mapping[str, str] = {
    "reasoning": "rs_",
    "message": MESSAGE_PREFIX,
    "image_generation_call": "ig_",
}
_CALLS: Mapping[str, str] = {"function_call": "fc_", "mcp_call": "mcp_"}


@dataclass(frozen=True, slots=True)
class Head:
    """The fields of a Response from the row and the request; the rest is the answer's.

    `created_at`, `completed_at`: Unix seconds. `asked`: `background`, `metadata`, ... of the
    request. `pictures`: the base64 of stored images, by address; a stream adds each before its
    item. `functions`: the names of the tools that the program executes which asked; None: there are
    no others. `tools`, `tool_choice`: as the request had them.
    """

    id: str
    model: str
    created_at: int
    asked: Mapping[str, Any] = field(default_factory=dict)
    completed_at: int | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)
    functions: frozenset[str] | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] = "auto"

    def is_function(self, call: Part) -> bool:
        """Whether the call is one for the program that asked."""
        return self.functions is None or call.fields.get("name") in self.functions

    @property
    def background(self) -> bool:
        """The request did not wait for the answer."""
        return bool(self.asked.get("background"))


# --- errors ---------------------------------------------------------------------------------------


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


# --- Responses ------------------------------------------------------------------------------------


def response_status(head: Head, answer: Answer) -> str:
    """`queued`, `in_progress`, `completed`, `incomplete`, `failed` or `cancelled`."""
    if answer.status == "complete":
        return "incomplete" if answer.finish_reason in _INCOMPLETE else "completed"
    if answer.status == "queued":
        return "queued" if head.background else "in_progress"
    return {"error": "failed", "cancelled": "cancelled"}.get(answer.status, "in_progress")


def response(
    head: Head, answer: Answer, output: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The Response; `output` replaces the answer's own items."""
    asked, done = head.asked, answer.status == "complete"
    incomplete = _INCOMPLETE.get(answer.finish_reason or "") if done else None
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
        "max_tool_calls": None,
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


# --- items of a Response: in the order of the parts ---


def item_kind(head: Head, part: Part) -> ItemKind | None:
    """The type of a part's item; None: it has none in this dialect, or no character yet."""
    if part.type == "tool_call":
        return "function_call" if head.is_function(part) else "mcp_call"
    if part.type == "file":
        is_here = _inline_image(part) or _stored_image(part, head.id)
        return "image_generation_call" if is_here else None
    is_empty = part.type in ("reasoning", "text") and not part.units
    return None if is_empty else _KINDS.get(part.type)


def item_id(answer_id: str, kind: ItemKind, count: int) -> str:
    """The id of the item of this kind with `count` others before it."""
    if kind in _CALLS:
        return f"{_CALLS[kind]}{answer_id}_{count}"
    stem = _STEMS[kind] + answer_id
    return stem if count == 0 else f"{stem}_{count + 1}"


def fitting_pictures(answer: Answer, most: int) -> list[str]:
    """Addresses of the answer's stored images, each of which fits into `most` bytes with those
    before it.
    """
    room, found = most, list[str]()
    for part in answer.parts:
        address, size = _stored_image(part, answer.id), part.fields.get("size")
        if address is not None and isinstance(size, int) and size <= room:
            room -= size
            found.append(address)
    return found


def output_items(head: Head, answer: Answer) -> list[dict[str, Any]]:
    """The items of all parts that have one."""
    counts: Counter[str] = Counter()
    items = []
    for number, part in enumerate(answer.parts):
        kind = item_kind(head, part)
        if kind is None:
            continue
        name = item_id(answer.id, kind, counts[kind])
        counts[kind] += 1
        cited = annotations(answer, number) if kind == "message" else ()
        status = item_status(head, answer, number)
        call = call_id(answer.parts, number) if part.type == "tool_call" else ""
        items.append(item_of(kind, name, part, status, part.text, cited, head.pictures, call=call))
    return items


def item_status(head: Head, answer: Answer, number: int) -> ItemStatus:
    """The status of a part's item."""
    part = answer.parts[number]
    if part.type == "tool_call":
        if not head.is_function(part):
            return _status_at_server(part, ended=answer.ended)
        if part.fields.get("state") == "invalid" or _was_unproven(head, part):
            return "incomplete"
    if not grows(head, answer, number):
        return "completed"
    if not answer.ended:
        return "in_progress"
    whole = answer.status == "complete" and answer.finish_reason not in _INCOMPLETE
    return "completed" if whole and part.type != "tool_call" else "incomplete"


def _status_at_server(call: Part, *, ended: bool) -> ItemStatus:
    state = call.fields.get("state")
    if "error" in call.fields:
        return "failed"
    if state == "done":
        return "completed"
    return "incomplete" if ended or state in CALL_ENDED else "in_progress"


def grows(head: Head, answer: Answer, number: int) -> bool:
    """Whether the part's item may still change, as long as the answer has not ended. A function
    must not be executed before the turn of its call is proven.
    """
    part = answer.parts[number]
    if part.type != "tool_call":
        return number in (answer.open_text, answer.open_reasoning)
    state = part.fields.get("state")
    if not head.is_function(part):
        return state not in CALL_ENDED
    return state == "streaming" or (state == "proposed" and _is_unproven(head, part))


def _is_unproven(head: Head, call: Part) -> bool:
    return head.functions is not None and "runs_at" not in call.fields


def _was_unproven(head: Head, call: Part) -> bool:
    return call.fields.get("state") == "withdrawn" and _is_unproven(head, call)


def item_of(
    kind: ItemKind,
    name: str,
    part: Part,
    status: ItemStatus,
    text: str | None,
    cited: Sequence[Mapping[str, Any]] = (),
    pictures: Mapping[str, str] = _NONE,
    *,
    call: str,
) -> dict[str, Any]:
    """The item of a part with this text; None: an item that has just begun.

    `call`: the id of a tool call within the answer (`calls.call_id`).
    """
    match kind:
        case "reasoning":
            return reasoning_item(name, text, status)
        case "message":
            return message_item(name, text, status, cited)
        case "function_call":
            return call_item(name, call, part, text or "", status)
        case "mcp_call":
            return server_call_item(name, part, text or "", status)
        case "image_generation_call":
            return image_item(name, part, status, pictures)


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


def message_item(
    item_id: str, text: str | None, status: ItemStatus, cited: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """A text of the answer; None: an item that has just begun."""
    content = [] if text is None else [text_part(text, cited)]
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def text_part(text: str, cited: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The one part of a message item."""
    return {"type": "output_text", "text": text, "annotations": list(cited), "logprobs": []}


def call_item(
    item_id: str, call: str, part: Part, arguments: str, status: ItemStatus
) -> dict[str, Any]:
    """A tool call of the model."""
    return {
        "id": item_id,
        "type": "function_call",
        "call_id": call,
        "name": str(part.fields.get("name") or ""),
        "arguments": arguments,
        "status": status,
    }


def server_call_item(
    item_id: str, part: Part, arguments: str, status: ItemStatus
) -> dict[str, Any]:
    """A tool call that the server executes."""
    has_ended = status in ("completed", "failed")
    text, is_error = (outcome_of(part.fields) if has_ended else None) or (None, False)
    return {
        "id": item_id,
        "type": "mcp_call",
        "server_label": SERVER_LABEL,
        "name": str(part.fields.get("name") or ""),
        "arguments": arguments,
        "output": None if is_error else text,
        "error": text if is_error else None,
        "approval_request_id": None,
        "status": status,
    }


def image_item(
    item_id: str, part: Part, status: ItemStatus, pictures: Mapping[str, str]
) -> dict[str, Any]:
    """An image from the model. `result` is null until it has ended, and if it is too large."""
    image = _inline_image(part) or pictures.get(str(part.fields.get("url")))
    result = image if status == "completed" else None
    return {"id": item_id, "type": "image_generation_call", "status": status, "result": result}


def annotations(answer: Answer, number: int) -> list[dict[str, Any]]:
    """The sources of a text: those inside it, and those before it that belong to no earlier
    text.
    """
    parts, before = answer.parts, list[Part]()
    for part in reversed(parts[:number]):
        if part.type == "text":
            break
        if part.type == "source" and "at" not in part.fields:
            before.insert(0, part)
    inside = itertools.takewhile(lambda part: "at" in part.fields, parts[number + 1 :])
    text = parts[number]
    sources = [*before, *(part for part in inside if part.type == "source")]
    return [found for source in sources if (found := _annotation(source.fields, text))]


def _annotation(fields: Mapping[str, Any], text: Part) -> dict[str, Any] | None:
    """Indexes are UTF-16 units of the item's text; without a range, an empty one at its place."""
    at = fields.get("at", text.start)
    cites = fields.get("cites")
    if not (isinstance(cites, list) and len(cites) == 2):
        cites = [at, at]
    first, last = (_within(place, text) for place in cites)
    title = fields.get("title")
    match fields:
        case {"url": str(url)}:
            known = {"title": title if isinstance(title, str) and title else url, "url": url}
            return {"type": "url_citation", **known, "start_index": first, "end_index": last}
        case {"file_id": str(name)}:
            shown = title if isinstance(title, str) and title else name
            return {"type": "file_citation", "file_id": name, "filename": shown, "index": first}
    return None


def _within(place: Any, text: Part) -> int:
    return min(max(place - text.start, 0), text.units) if isinstance(place, int) else 0


def _stored_image(part: Part, answer_id: str) -> str | None:
    """The address of an image whose bytes we have."""
    fields = part.fields
    is_image = part.type == "file" and str(fields.get("media_type")).startswith("image/")
    address = fields.get("url")
    return address if is_image and digest_in(address, answer_id) is not None else None


def _inline_image(part: Part) -> str | None:
    """The base64 of an image in its address."""
    url = part.fields.get("url")
    head, separator, data = url.partition(";base64,") if isinstance(url, str) else ("", "", "")
    return data if separator and head.startswith("data:image/") else None


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


# --- chat completions -----------------------------------------------------------------------------


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
    return [
        {
            "id": call_id(answer.parts, number),
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
