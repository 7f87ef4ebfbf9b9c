"""A client of the UI message stream, as strict as the real ones (ai 5): a misfit raises
AssertionError.
"""

from collections.abc import Iterable
from typing import Any

from tokenwire.web.aisdk import UIChunk


class Client:
    """Assembles a message. `parts`: what it shows; `over`: how it ended.

    `steps` of each part: the types of its chunks in order, without immediate repetitions.
    """

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.over: UIChunk | None = None
        self.steps: dict[str, list[str]] = {}
        self._open: dict[tuple[str, str], dict[str, Any]] = {}
        self._in_step = False

    def read(self, chunks: Iterable[UIChunk]) -> "Client":
        """Read chunks in order."""
        for chunk in chunks:
            assert self.over is None, f"{chunk} after the end"
            self._take(chunk)
            self._note(chunk)
        return self

    def text(self, kind: str = "text") -> str:
        """The valid part of the text or the reasoning."""
        return "".join(part["text"] for part in self.counted() if part["type"] == kind)

    def counted(self) -> list[dict[str, Any]]:
        """The valid parts: after a `data-reset` only what follows it, and all calls."""
        resets = [index for index, part in enumerate(self.parts) if part["type"] == "data-reset"]
        after = self.parts[resets[-1] + 1 if resets else 0 :]
        return [part for part in self.parts if part["type"] == "tool" and part not in after] + after

    def tools(self) -> dict[str, str]:
        """State of each call."""
        return {part["id"]: part["state"] for part in self.parts if part["type"] == "tool"}

    def _take(self, chunk: UIChunk) -> None:
        kind = chunk["type"]
        part, _, action = kind.partition("-")
        if part in ("text", "reasoning") and action == "start":
            assert (part, chunk["id"]) not in self._open, f"{chunk} is open"
            self._open[part, chunk["id"]] = {"type": part, "text": ""}
            self.parts.append(self._open[part, chunk["id"]])
        elif part in ("text", "reasoning") and action == "delta":
            assert chunk["delta"]
            self._open[part, chunk["id"]]["text"] += chunk["delta"]
        elif part in ("text", "reasoning") and action == "end":
            del self._open[part, chunk["id"]]
        elif kind.startswith("tool-"):
            self._tool(kind.removeprefix("tool-"), chunk)
        elif kind == "start-step":
            assert not self._in_step
            self._in_step = True
            self.parts.append({"type": "step-start"})
        elif kind == "finish-step":
            assert not self._open, "parts are open at the end of the step"
            self._in_step = False
        elif kind == "reset-step":
            steps = [index for index, part in enumerate(self.parts) if part["type"] == "step-start"]
            del self.parts[steps[-1] + 1 :]
            self._open.clear()
        elif kind in ("finish", "abort", "error"):
            self.over = chunk
        elif kind.startswith("data-"):
            self._data(chunk)
        elif kind not in ("start", "message-metadata"):
            self.parts.append(dict(chunk))
        self.metadata |= chunk.get("messageMetadata", {})

    def _data(self, chunk: UIChunk) -> None:
        if chunk.get("transient"):
            return
        same = [
            part
            for part in self.parts
            if part["type"] == chunk["type"] and part.get("id", part) == chunk.get("id")
        ]
        if same:
            same[0]["data"] = chunk["data"]
        else:
            self.parts.append(dict(chunk))

    def _tool(self, action: str, chunk: UIChunk) -> None:
        call_id = chunk["toolCallId"]
        found = next((p for p in self.parts if p["type"] == "tool" and p["id"] == call_id), None)
        if found is None:
            assert action.startswith("input-"), f"{chunk} of a call that is not known"
            assert action != "input-delta"
            found = {"type": "tool", "id": call_id, "text": ""}
            self.parts.append(found)
        if action == "input-start":
            found |= {"text": "", "state": "input-streaming"}
        elif action == "input-delta":
            assert found["state"] == "input-streaming"
            found["text"] += chunk["inputTextDelta"]
        elif action == "approval-request":
            found["state"] = "approval-requested"
        else:
            states = {"input-error": "output-error"}
            found["state"] = states.get(action, action)
            names = ("input", "output", "providerExecuted")
            found |= {name: chunk[name] for name in names if name in chunk}
        if chunk.get("providerExecuted") is False:
            found.pop("providerExecuted", None)

    def _note(self, chunk: UIChunk) -> None:
        kind = chunk["type"]
        name = chunk.get("toolCallId") or chunk.get("id") or chunk.get("sourceId")
        mine = self.steps.setdefault(str(name or kind), [])
        if not mine or mine[-1] != kind:
            mine.append(kind)
