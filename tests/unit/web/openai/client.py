"""A client of Responses that checks OpenAI's promises: numbers, indexes, ids, order."""

import json
from collections.abc import Iterable
from typing import Any

Parsed = dict[str, Any]
_CALLS = {
    "function_call": "response.function_call_arguments",
    "mcp_call": "response.mcp_call_arguments",
}
_TEXTS = {"reasoning": "response.reasoning_text", "message": "response.output_text"}


def blocks(data: bytes) -> list[Parsed]:
    """The events of a stream; also checks that names and types agree."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append(json.loads(lines["data"]))
        assert lines["event"] == found[-1]["type"]
    return found


class Client:
    """Assembles a Response. `items`: the ended ones; `final`: the last Response."""

    def __init__(self, after: int = -1) -> None:
        self.last = after
        self.items: list[Parsed] = []
        self.final: Parsed | None = None
        self._open: Parsed | None = None
        self._text = ""
        self._cited: list[Parsed] = []
        self._stage = ""

    def read(self, events: Iterable[Parsed]) -> "Client":
        """Read events in order."""
        for event in events:
            assert self.final is None, f"{event} after the end"
            assert event["sequence_number"] == self.last + 1
            self.last = event["sequence_number"]
            self._take(event["type"], event)
        return self

    def whole(self) -> list[Parsed]:
        """The valid items."""
        ids = [item["id"] for item in (self.final or {}).get("output", ())]
        return [item for item in self.items if item["id"] in ids]

    def _take(self, kind: str, event: Parsed) -> None:
        if kind == "response.output_item.added":
            self._add(event)
        elif kind == "response.output_item.done":
            self._end(event)
        elif "item_id" in event:
            self._inside(kind, event)
        else:
            assert self._open is None, f"{kind} inside an item"
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self.final = event["response"]

    def _add(self, event: Parsed) -> None:
        item = event["item"]
        assert self._open is None, "items do not interleave"
        assert event["output_index"] == len(self.items)
        assert item["id"] not in [old["id"] for old in self.items]
        assert item.get("status", "in_progress") == "in_progress"
        self._open, self._text, self._cited, self._stage = item, "", [], "added"

    def _inside(self, kind: str, event: Parsed) -> None:
        assert self._open is not None
        assert (event["item_id"], event["output_index"]) == (self._open["id"], len(self.items))
        of = self._open["type"]
        prefix = {**_CALLS, **_TEXTS}[of]
        if kind == "response.mcp_call.in_progress":
            assert of == "mcp_call"
            self._becomes("added")
        elif kind in ("response.mcp_call.completed", "response.mcp_call.failed"):
            assert of == "mcp_call"
            self._becomes("done", kind.rpartition(".")[2])
        elif kind == "response.content_part.added":
            self._becomes("added", "part")
        elif kind == f"{prefix}.delta":
            self._becomes("added" if of in _CALLS else "part")
            assert event["delta"]
            self._text += event["delta"]
        elif kind == "response.output_text.annotation.added":
            self._becomes("part")
            assert event["annotation_index"] == len(self._cited)
            self._cited.append(event["annotation"])
        elif kind == f"{prefix}.done":
            self._becomes("added" if of in _CALLS else "part", "done")
            assert event["arguments" if of in _CALLS else "text"] == self._text
        else:
            assert kind == "response.content_part.done"
            self._becomes("done", "part done")
            assert event["part"]["text"] == self._text
            assert event["part"].get("annotations", []) == self._cited

    def _becomes(self, before: str, after: str | None = None) -> None:
        assert self._stage == before
        self._stage = after or before

    def _end(self, event: Parsed) -> None:
        item = event["item"]
        assert self._open is not None
        assert (item["id"], event["output_index"]) == (self._open["id"], len(self.items))
        stages = {"function_call": "done", "image_generation_call": "added"}
        stages["mcp_approval_request"] = "added"
        if item["type"] == "mcp_call":
            stages["mcp_call"] = "done" if item["status"] == "incomplete" else item["status"]
        assert self._stage == stages.get(item["type"], "part done")
        if item["type"] in _CALLS:
            assert item["arguments"] == self._text
        elif "content" in item:
            assert item["content"][0]["text"] == self._text
        self._open = None
        self.items.append(item)
