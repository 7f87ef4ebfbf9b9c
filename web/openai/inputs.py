"""Rows of earlier messages as the input items of a Response."""

from dataclasses import replace
from typing import Any

from tokenwire.models.parts import shown_answer
from tokenwire.models.tables import Message
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.outcomes import outcome_of
from tokenwire.web.openai import objects
from tokenwire.web.openai.following import head_of
from tokenwire.web.openai.items import output_items

_SHOWN = ("message", "function_call", "mcp_call", "mcp_approval_request")


def row_of_item(item_id: str) -> str:
    """The id of the row of this item, whose id is like `fc_`, the row's id, `_1`."""
    return item_id.partition("_")[2].partition("_")[0]


def items_of(row: Message, *, newest_first: bool = False) -> list[dict[str, Any]]:
    """The items of one message."""
    if row.role == "tool":
        items = _results(row.id, shown_answer(row))
    elif row.role == "assistant":
        items = _answered(row)
    else:
        items = [_message(row)]
    return items[::-1] if newest_first else items


def _message(row: Message) -> dict[str, Any]:
    return {
        "id": objects.MESSAGE_PREFIX + row.id,
        "type": "message",
        "role": row.role,
        "status": "completed",
        "content": [{"type": "input_text", "text": row.content}],
    }


def _answered(row: Message) -> list[dict[str, Any]]:
    answer, head = shown_answer(row), head_of(row)
    if not row.attempt:  # a turn that a client has sent: only the server's calls have results there
        functions = (part.fields.get("name") for part in answer.parts if _is_open(part))
        head = replace(head, functions=frozenset(map(str, functions)), asks_caller=True)
    return [item for item in output_items(head, answer) if item["type"] in _SHOWN]


def _is_open(part: Part) -> bool:
    is_open = part.type == "tool_call" and part.fields.get("state") == "proposed"
    return is_open and "asked_in" not in part.fields


def _results(row_id: str, answer: Answer) -> list[dict[str, Any]]:
    found = []
    for number, part in enumerate(answer.parts):
        if "asked_in" in part.fields:
            found.append(_decision(row_id, part, number))
            continue
        text, _ = outcome_of(part.fields) or ("", False)
        known = str(part.fields.get("shown_as") or part.fields.get("id"))
        item = {"id": f"fco_{row_id}_{number}", "type": "function_call_output"}
        found.append({**item, "call_id": known, "output": text, "status": "completed"})
    return found


def _decision(row_id: str, part: Part, number: int) -> dict[str, Any]:
    approval = part.fields["approval"]
    return {
        "id": f"mcpa_{row_id}_{number}",
        "type": "mcp_approval_response",
        "approval_request_id": objects.request_id(row_id, part, number),
        "approve": approval["decision"] == "approved",
        "reason": approval.get("reason"),
    }
