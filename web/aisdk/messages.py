"""Pure: stored messages as UI messages, and the parts and metadata that a stream and a stored message have in common.

A row is given in its wire form (PROTOCOL.md, section 1). Rows do not hold in which order text, reasoning and tool calls came: parts
stand as reasoning, tool calls, text.
"""

from collections.abc import Mapping
from typing import Any

from tokenwire.web.aisdk.values import Profile, clean

Row = Mapping[str, Any]
_KEPT = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated")


def ui_message(row: Row, message_id: str, profile: Profile = "v5") -> dict[str, Any] | None:
    """The row as a UI message with this id, or None where it holds nothing to show."""
    if row["role"] == "assistant":
        parts = assistant_parts(row, profile)
    else:
        parts = [{"type": "text", "text": row["content"]}] if row["content"] else []
        parts = [*_files(row), *parts]
    if not parts:
        return None
    return {
        "id": message_id,
        "role": row["role"] if row["role"] != "tool" else "assistant",
        "metadata": metadata(row),
        "parts": parts,
    }


def assistant_parts(row: Row, profile: Profile) -> list[dict[str, Any]]:
    """The parts of an answer that is not being written any more."""
    parts: list[dict[str, Any]] = []
    if row["reasoning"]:
        parts.append({"type": "reasoning", "text": row["reasoning"], "state": "done"})
    parts += [_tool_part(call, profile) for call in row["tool_calls"]]
    if row["content"]:
        parts.append({"type": "text", "text": row["content"], "state": "done"})
    return [{"type": "step-start"}, *parts] if parts else []


def metadata(row: Row) -> dict[str, Any]:
    """`conversationId`, `createdAt`; of an answer also `model`, `attempt`, `status`, `usage`, and `error` where it has one."""
    told: dict[str, Any] = {
        "conversationId": row["conversation_id"],
        "createdAt": row["created_at"],
    }
    if row["role"] == "assistant":
        told |= {"model": row["model"], "attempt": row["attempt"], "status": row["status"]}
        if row["usage"] is not None:
            told["usage"] = usage(row["usage"])
        if row["error"] is not None:
            told["error"] = {"code": row["error"]["code"], "retryable": row["error"]["retryable"]}
    return {name: value for name, value in told.items() if value is not None}


def usage(found: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts in the SDK's spelling: inputTokens, outputTokens, cachedTokens?, reasoningTokens?, estimated."""
    return {_camel(name): found[name] for name in _KEPT if found.get(name) is not None}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _files(row: Row) -> list[dict[str, Any]]:
    found = [item for item in row["attachments"] if "url" in item and "media_type" in item]
    return [{"type": "file", "url": item["url"], "mediaType": item["media_type"]} for item in found]


def _tool_part(call: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    part = {
        "type": f"tool-{call['name']}",
        "toolCallId": call["tool_call_id"],
        "input": clean(call.get("arguments")),
    }
    status = call.get("status")
    if isinstance(call.get("arguments"), str):
        return part | {"state": "output-error", "errorText": NO_OBJECT}
    if status == "denied":
        return part | (
            _DENIED_V5
            if profile == "v5"
            else {
                "state": "output-denied",
                "approval": {"id": call["tool_call_id"], "approved": False},
            }
        )
    if "result" not in call:
        return part | {"state": "input-available"}
    if status == "error":
        return part | {"state": "output-error", "errorText": error_text(call["result"])}
    return part | {"state": "output-available", "output": clean(call["result"])}


NO_OBJECT = "The arguments are not a JSON object."
"""Of a tool call that cannot be executed."""
_DENIED_V5 = {"state": "output-error", "errorText": "The tool call was not allowed."}


def error_text(result: Any) -> str:
    """What a failed tool gave, as a sentence to show."""
    if isinstance(result, str):
        return result
    message = result.get("error") if isinstance(result, Mapping) else None
    return message if isinstance(message, str) else "The tool failed."
