"""Pure: what an MCP server's words mean: its list of tools, the results of calls, its refusals.

Guarantees: a list of any length gives at most MAX_TOOLS tools, of at most MAX_LIST_BYTES together;
what is left out is named, with the reason. Nothing of a result vanishes: what cannot be shown, such
as an image, is described.

The server's own hints about its tools (`annotations`) are not read: see `McpSpec`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenwire.protocol.states import TOOL_NAME
from tokenwire.protocol.text import storable, strict_json
from tokenwire.providers.spec import McpSpec

MAX_TOOLS = 100
"""Tools of one server."""
MAX_LIST_BYTES = 256 * 1024
"""Names, descriptions and schemas of these: every request to a model has them all."""
MAX_DESCRIPTION_CHARS = 4096
MAX_TITLE_CHARS = 200
MAX_REASONS = 10
"""Reasons that are written out; the others are counted."""
_SHOWN_NAME_CHARS = 80

REFUSALS = frozenset({-32600, -32601, -32602, -32020, -32021, -32022, -32042})
"""Codes by which a server refuses a request before it begins: it is wrong, or its method or its
arguments are, or it needs what the client does not offer. Any other error may come later.
"""
NOT_SHOWN = "Binary content is not shown."


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool that a server has."""

    tool: str
    """The server's own name of it."""
    name: str
    """The name for models."""
    title: str | None
    description: str
    schema: Mapping[str, Any]


@dataclass(slots=True)
class Choice:
    """Which tools of a list are used, and why others are not."""

    tools: list[Listed] = field(default_factory=list)
    left_out: int = 0
    reasons: list[str] = field(default_factory=list)

    def leaves_out(self, name: object, reason: str) -> None:
        """Count this tool as left out."""
        self.left_out += 1
        if len(self.reasons) < MAX_REASONS:
            shown = storable(str(name)[:_SHOWN_NAME_CHARS])
            self.reasons.append(f"{shown!r}: {reason}")


def chosen(spec: McpSpec, entries: Iterable[Mapping[str, Any]]) -> Choice:
    """The tools of a server's list that may be used."""
    found, seen, size = Choice(), set[str](), 0
    for entry in entries:
        tool = entry["name"]
        if spec.tools is not None and tool not in spec.tools:
            continue
        if tool in seen:
            found.leaves_out(tool, "the server has two tools of this name")
            continue
        seen.add(tool)
        listed = _listed(spec, entry)
        own = len(json.dumps([listed.name, listed.description, listed.schema]))
        if not TOOL_NAME.fullmatch(listed.name):
            found.leaves_out(tool, f"{listed.name!r} is not 1 to 64 of A-Z a-z 0-9 _ -"[:160])
        elif len(found.tools) == MAX_TOOLS:
            found.leaves_out(tool, f"more than {MAX_TOOLS} tools; name those you want")
        elif size + own > MAX_LIST_BYTES:
            found.leaves_out(tool, f"the list would have more than {MAX_LIST_BYTES} bytes")
        else:
            size += own
            found.tools.append(listed)
    for tool in spec.tools or ():
        if tool not in seen:
            found.leaves_out(tool, "the server has no such tool")
    return found


def _listed(spec: McpSpec, entry: Mapping[str, Any]) -> Listed:
    title = storable((entry.get("title") or "")[:MAX_TITLE_CHARS]).strip() or None
    text = storable((entry.get("description") or "")[:MAX_DESCRIPTION_CHARS]).strip()
    return Listed(
        entry["name"],
        spec.prefix + entry["name"],
        title,
        text or title or entry["name"][:MAX_TITLE_CHARS],
        # A schema may leave out the type: the arguments of a call are an object.
        {"type": "object", **entry["inputSchema"]},
    )


# --- the result of a call ------------------------------------------------------------------------


def refusal(answer: Mapping[str, Any]) -> str | None:
    """The tool's sentence if it says that it failed; it may be empty."""
    if not answer.get("isError"):
        return None
    blocks = answer["content"]
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def result(answer: Mapping[str, Any]) -> Any:
    """What the tool returned, as JSON."""
    blocks: Sequence[Mapping[str, Any]] = answer["content"]
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    only_text = len(texts) == len(blocks)
    if "structuredContent" in answer:
        structured = answer["structuredContent"]
        if only_text and _repeats(texts, structured):
            return structured
        return {"structured": structured, "content": [_described(block) for block in blocks]}
    if only_text and len(texts) <= 1:
        return texts[0] if texts else None
    return [_described(block) for block in blocks]


def _repeats(texts: Sequence[str], structured: Any) -> bool:
    """Whether the texts only repeat the value, for clients that do not know structured content."""
    values = [structured]
    if isinstance(structured, dict) and list(structured) == ["result"]:
        values.append(structured["result"])  # as servers wrap what is no object
    read = [_read(text) for text in texts]
    return not texts or any(
        read == [value] or texts == [value] or value in (read, texts) for value in values
    )


def _read(text: str) -> Any:
    try:
        return strict_json(text)
    except (ValueError, RecursionError):
        return text


def _described(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """One block of content. Of bytes, only their number."""
    match block:
        case {"type": "text", "text": text}:
            return {"type": "text", "text": text}
        case {"type": "image" | "audio" as kind, "mimeType": mime, "data": data}:
            return _binary(kind, mime, data)
        case {"type": "resource_link", "uri": uri}:
            more = {key: block[key] for key in ("name", "title", "description") if key in block}
            return {"type": "resource_link", "uri": uri, **more}
        case {"type": "resource", "resource": {"uri": uri, "text": text}}:
            return {"type": "resource", "uri": uri, "text": text}
        case {"type": "resource", "resource": {"uri": uri, "blob": data} as resource}:
            return {**_binary("resource", resource.get("mimeType"), data), "uri": uri}
    return {"type": block["type"], "omitted": "This content is not known, and not shown."}


def _binary(kind: str, mime: str | None, data: str) -> dict[str, Any]:
    size = len(data) * 3 // 4
    return {"type": kind, "mime_type": mime, "bytes": size, "omitted": NOT_SHOWN}
