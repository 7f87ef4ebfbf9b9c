"""A client of the UI message stream, as strict as the real ones (ai 5): what does not fit raises AssertionError."""

from collections.abc import Iterable
from typing import Any

from tokenwire.web.aisdk import Chunk


class Client:
    """Puts a message together. `shown`: its parts; `over`: how it ended."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.over: Chunk | None = None
        self._open: dict[tuple[str, str], dict[str, Any]] = {}

    def read(self, chunks: Iterable[Chunk]) -> "Client":
        """Take chunks in order."""
        for chunk in chunks:
            assert self.over is None, f"{chunk} after the end"
            self._take(chunk)
        return self

    def text(self, kind: str = "text") -> str:
        """What counts of the text or the reasoning: where a `data-reset` stands, what follows it."""
        resets = [index for index, part in enumerate(self.parts) if part["type"] == "data-reset"]
        return "".join(
            part["text"]
            for part in self.parts[resets[-1] if resets else 0 :]
            if part["type"] == kind
        )

    def tools(self) -> dict[str, str]:
        """State of each call."""
        return {part["id"]: part["state"] for part in self.parts if part["type"] == "tool"}

    def _take(self, chunk: Chunk) -> None:
        kind = chunk["type"]
        part, _, action = kind.partition("-")
        if part in ("text", "reasoning") and action == "start":
            self._open[part, chunk["id"]] = {"type": part, "text": ""}
            self.parts.append(self._open[part, chunk["id"]])
        elif part in ("text", "reasoning") and action == "delta":
            self._open[part, chunk["id"]]["text"] += chunk["delta"]
        elif part in ("text", "reasoning") and action == "end":
            del self._open[part, chunk["id"]]
        elif kind == "finish-step":
            assert not self._open, "parts are open at the end of the step"
        elif kind == "reset-step":
            self.parts.clear()
            self._open.clear()
        elif kind == "tool-input-available":
            self._tool(chunk["toolCallId"], "input-available", chunk["input"])
        elif kind.startswith("tool-output"):
            assert chunk["toolCallId"] in self.tools()
            self._tool(chunk["toolCallId"], kind.removeprefix("tool-"), None)
        elif kind in ("finish", "abort", "error"):
            self.over = chunk
        elif kind not in ("start", "start-step", "message-metadata") and not chunk.get("transient"):
            self.parts.append(dict(chunk))
        self.metadata |= chunk.get("messageMetadata", {})

    def _tool(self, call_id: str, state: str, value: Any) -> None:
        found = next(
            (part for part in self.parts if part["type"] == "tool" and part["id"] == call_id), None
        )
        if found is None:
            found = {"type": "tool", "id": call_id, "input": value}
            self.parts.append(found)
        found["state"] = state
