"""Pure: stored messages as UI messages, with the parts and metadata that a stream shares with them.

A row is in its wire form (PROTOCOL.md, section 1). Its parts are in the order in which a stream
opens them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire.protocol.events import TOKEN_FIELDS
from tokenwire.protocol.fold import Part, from_view
from tokenwire.protocol.states import CALL_ENDED
from tokenwire.protocol.text import input_object
from tokenwire.web.aisdk.parts import have, is_shown, plain
from tokenwire.web.aisdk.values import Profile, clean
from tokenwire.web.aisdk.writer import Writer
from tokenwire.web.calls import CallIds

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
    parts = from_view(row).parts
    ids = CallIds()
    shown = [part for number in range(len(parts)) for part in _ui_parts(write, number, parts, ids)]
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


def _ui_parts(
    write: Writer, number: int, parts: Sequence[Part], ids: CallIds
) -> list[dict[str, Any]]:
    part = parts[number]
    match part.type:
        case "text" | "reasoning":
            done = {"type": part.type, "text": part.text, "state": "done"}
            return [done] if is_shown(part) else []
        case "tool_call":
            shown = have(part.fields, "id", "name")
            return [_tool_part(part, ids.of(parts, number), write.profile)] if shown else []
        case "step":
            return [{"type": "step-start"}]
        case _:
            return plain(write, number, part)


def _tool_part(part: Part, name: str, profile: Profile) -> dict[str, Any]:
    fields, value = part.fields, input_object(part.text)
    state = fields.get("state")
    shown: dict[str, Any] = {"type": f"tool-{fields['name']}", "toolCallId": name}
    if state == "streaming":
        return shown | {"state": "input-streaming"}
    shown["input"] = clean(part.text if value is None else value)
    if state == "proposed" and value is not None:
        return shown | {"state": "input-available"}
    shown["providerExecuted"] = True
    if state == "invalid" or value is None:
        return shown | {"state": "output-error", "errorText": NO_OBJECT}
    if profile != "v5" and was_approved(fields):
        shown["approval"] = {"id": name, "approved": True}
    if state == "denied":
        denied = {"state": "output-denied", "approval": {"id": name, "approved": False}}
        return shown | (_DENIED_V5 if profile == "v5" else denied)
    if state == "done":
        return shown | {"state": "output-available", "output": clean(fields.get("result"))}
    if state in CALL_ENDED:
        return shown | {"state": "output-error", "errorText": why_none(fields)}
    return shown | {"state": "input-available"}


NO_OBJECT = "The arguments are not a JSON object."
"""The error of a tool call that cannot be executed."""
WITHDRAWN = "The call was withdrawn."
_DENIED_V5 = {"state": "output-error", "errorText": "The tool call was not allowed."}
_WITHOUT_ERROR = {"withdrawn": WITHDRAWN, "unknown": "The outcome of the call is unknown."}
"""The end of an answer closes calls without an error of their own."""


def was_approved(fields: Mapping[str, Any]) -> bool:
    """Whether a person has approved the call with these fields."""
    approval = fields.get("approval")
    return isinstance(approval, Mapping) and approval.get("decision") == "approved"


def why_none(fields: Mapping[str, Any]) -> str:
    """Why an ended call has no result, as a sentence."""
    found = fields.get("error", fields.get("result"))
    if isinstance(found, str):
        return found
    message = found.get("error") if isinstance(found, Mapping) else None
    if isinstance(message, str):
        return message
    return _WITHOUT_ERROR.get(str(fields.get("state")), "The tool failed.")
