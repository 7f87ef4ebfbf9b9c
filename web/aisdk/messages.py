"""Pure: stored messages as UI messages, with the parts and metadata that a stream shares with them.

A row is in its wire form (PROTOCOL.md, section 1). Its parts are in the order in which a stream
opens them.
"""

from collections.abc import Mapping
from typing import Any

from tokenwire.protocol.events import TOKEN_FIELDS
from tokenwire.protocol.fold import Part, from_view
from tokenwire.protocol.text import input_object
from tokenwire.web.aisdk.parts import have, is_shown, plain
from tokenwire.web.aisdk.values import Profile, clean
from tokenwire.web.aisdk.writer import Writer

RowView = Mapping[str, Any]


def ui_message(row: RowView, message_id: str, profile: Profile = "v5") -> dict[str, Any] | None:
    """The row as a UI message with this id, or None if it is empty."""
    if row["role"] == "assistant":
        parts = assistant_parts(row, profile)
    else:
        parts = [{"type": "text", "text": row["content"]}] if row["content"] else []
    if not parts:
        return None
    return {
        "id": message_id,
        "role": row["role"] if row["role"] != "tool" else "assistant",
        "metadata": metadata(row),
        "parts": parts,
    }


def assistant_parts(row: RowView, profile: Profile) -> list[dict[str, Any]]:
    """The parts of an ended answer."""
    write = Writer(profile, started=True, in_step=True)
    shown = [
        ui_part
        for number, part in enumerate(from_view(row).parts)
        for ui_part in _ui_parts(write, number, part)
    ]
    return [{"type": "step-start"}, *shown] if shown else []


def metadata(row: RowView) -> dict[str, Any]:
    """`conversationId`, `createdAt`; of an answer also `model`, `attempt`, `status`, `usage`, and
    `error` if there is one.
    """
    fields: dict[str, Any] = {
        "conversationId": row["conversation_id"],
        "createdAt": row["created_at"],
    }
    if row["role"] == "assistant":
        fields |= {"model": row["model"], "attempt": row["attempt"], "status": row["status"]}
        if row["usage"] is not None:
            fields["usage"] = usage(row["usage"])
        if row["error"] is not None:
            fields["error"] = {"code": row["error"]["code"], "retryable": row["error"]["retryable"]}
    return {name: value for name, value in fields.items() if value is not None}


def usage(found: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts under the SDK's names: inputTokens, outputTokens, cachedTokens?,
    reasoningTokens?, estimated.
    """
    names = (*TOKEN_FIELDS, "estimated")
    return {_camel(name): found[name] for name in names if found.get(name) is not None}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _ui_parts(write: Writer, number: int, part: Part) -> list[dict[str, Any]]:
    match part.type:
        case "text" | "reasoning":
            done = {"type": part.type, "text": part.text, "state": "done"}
            return [done] if is_shown(part) else []
        case "tool_call":
            shown = have(part.fields, "id", "name")
            return [_tool_part(part, write.profile)] if shown else []
        case "step":
            return [{"type": "step-start"}]
        case _:
            return plain(write, number, part)


def _tool_part(part: Part, profile: Profile) -> dict[str, Any]:
    fields, value = part.fields, input_object(part.text)
    call_id, state = fields["id"], fields.get("state")
    shown = {"type": f"tool-{fields['name']}", "toolCallId": call_id}
    if state == "streaming":
        return shown | {"state": "input-streaming"}
    shown["input"] = clean(part.text if value is None else value)
    if state == "invalid" or value is None:
        return shown | {"state": "output-error", "errorText": NO_OBJECT}
    if state == "denied":
        denied = {"state": "output-denied", "approval": {"id": call_id, "approved": False}}
        return shown | (_DENIED_V5 if profile == "v5" else denied)
    if state == "failed":
        found = fields.get("error", fields.get("result"))
        return shown | {"state": "output-error", "errorText": error_text(found)}
    if state == "done":
        return shown | {"state": "output-available", "output": clean(fields.get("result"))}
    return shown | {"state": "input-available"}


NO_OBJECT = "The arguments are not a JSON object."
"""The error of a tool call that cannot be executed."""
_DENIED_V5 = {"state": "output-error", "errorText": "The tool call was not allowed."}


def error_text(result: Any) -> str:
    """The result of a failed tool, as a sentence."""
    if isinstance(result, str):
        return result
    message = result.get("error") if isinstance(result, Mapping) else None
    return message if isinstance(message, str) else "The tool failed."
