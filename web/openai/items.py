"""Pure: the items of a Response, in the order of the answer's parts."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tokenwire.protocol.files import digest_in
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.outcomes import outcome_of
from tokenwire.protocol.states import CALL_ENDED
from tokenwire.web.calls import CallIds
from tokenwire.web.openai.objects import (
    INCOMPLETE,
    MESSAGE_PREFIX,
    SERVER_LABEL,
    Head,
    request_id,
)

_NONE: Mapping[str, str] = {}
ItemStatus = Literal["in_progress", "completed", "incomplete", "failed"]
ItemKind = Literal[
    "reasoning",
    "message",
    "function_call",
    "mcp_call",
    "mcp_approval_request",
    "image_generation_call",
]
_KINDS: Mapping[str, ItemKind] = {"reasoning": "reasoning", "text": "message"}
_STEMS: Mapping[str, str] = {
    "reasoning": "rs_",
    "message": MESSAGE_PREFIX,
    "image_generation_call": "ig_",
}
_CALLS: Mapping[str, str] = {"function_call": "fc_", "mcp_call": "mcp_"}


def item_kind(head: Head, part: Part, *, ended: bool) -> ItemKind | None:
    """The type of a part's item; None: it has none in this dialect, no character yet, or nobody
    knows yet whether the call needs an approval. `ended`: the answer.
    """
    if part.type == "tool_call":
        return _call_kind(head, part, ended=ended)
    if part.type == "file":
        is_here = _inline_image(part) or _stored_image(part, head.id)
        return "image_generation_call" if is_here else None
    is_empty = part.type in ("reasoning", "text") and not part.units
    return None if is_empty else _KINDS.get(part.type)


def _call_kind(head: Head, call: Part, *, ended: bool) -> ItemKind | None:
    if head.is_function(call):
        return "function_call"
    if head.is_request(call):
        return "mcp_approval_request"
    return "mcp_call" if ended or not _is_undecided(head, call) else None


def _is_undecided(head: Head, call: Part) -> bool:
    """Whether the call may still turn out to need an approval: its turn is not proven."""
    is_proven = "runs_at" in call.fields and call.fields.get("state") != "streaming"
    return head.asks_caller and not is_proven and call.fields.get("state") not in CALL_ENDED


def item_id(answer_id: str, kind: ItemKind, count: int, part: Part, number: int) -> str:
    """The id of the item of this part, the `number`-th, with `count` of its kind before it."""
    if kind == "mcp_approval_request":
        return request_id(answer_id, part, number)
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
    items, ids = [], CallIds()
    for number, part in enumerate(answer.parts):
        kind = item_kind(head, part, ended=answer.ended)
        if kind is None:
            continue
        name = item_id(answer.id, kind, counts[kind], part, number)
        counts[kind] += 1
        cited = annotations(answer, number) if kind == "message" else ()
        status = item_status(head, answer, number)
        call = ids.of(answer.parts, number)
        items.append(item_of(kind, name, part, status, part.text, cited, head.pictures, call=call))
    return items


def item_status(head: Head, answer: Answer, number: int) -> ItemStatus:
    """The status of a part's item."""
    part = answer.parts[number]
    if part.type == "tool_call":
        if head.is_request(part):
            return "completed"
        if not head.is_function(part):
            return _status_at_server(part, ended=answer.ended)
        if part.fields.get("state") == "invalid" or _was_unproven(head, part):
            return "incomplete"
    if not grows(head, answer, number):
        return "completed"
    if not answer.ended:
        return "in_progress"
    whole = answer.status == "complete" and answer.finish_reason not in INCOMPLETE
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
    if head.is_request(part):
        return False
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
        case "mcp_approval_request":
            return request_item(name, part)
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
        "approval_request_id": request_id("", part, 0) if "asked_in" in part.fields else None,
        "status": status,
    }


def request_item(item_id: str, part: Part) -> dict[str, Any]:
    """A tool call that the server executes once the program that asked allows it."""
    return {
        "id": item_id,
        "type": "mcp_approval_request",
        "server_label": SERVER_LABEL,
        "name": str(part.fields.get("name") or ""),
        "arguments": part.text,
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
