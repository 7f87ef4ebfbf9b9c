"""Recorded answers.

`tests/recordings` holds the project's own, small ones for each dialect and quirk.
PROVIDER_RECORDINGS names a folder with recordings of real providers, which are no part of the
project. A test reports when they are absent.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenwire.providers.base import (
    Delta,
    FileDelta,
    Finish,
    Kept,
    KeptDelta,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    SourceDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    UsageDelta,
    merge_usage,
)
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialects import DIALECTS, RELATED

OWN = Path(__file__).resolve().parents[2] / "recordings"
FOLDER = Path(os.environ.get("PROVIDER_RECORDINGS", "../shared/fixtures/provider_streams"))


@dataclass(frozen=True)
class Recording:
    """One entry of a manifest with its body."""

    name: str
    provider: str
    api: str
    status: int
    headers: Mapping[str, str]
    expected: Mapping[str, Any]
    body: bytes
    kind: tuple[str, ...]


def own() -> list[Recording]:
    """The project's own recordings; `expected` holds fields of the result of
    `providers.recorded.decode`.
    """
    return [
        _recording(OWN, entry) for entry in json.loads((OWN / "manifest.json").read_text("utf-8"))
    ]


def load(*apis: str, success: bool | None = None) -> list[Recording]:
    """The recordings of real providers for some APIs, if present. `success` selects those with
    status 200, or the others.
    """
    manifest = FOLDER / "manifest.json"
    if not manifest.is_file():
        return []
    entries = json.loads(manifest.read_text("utf-8"))
    wanted = [
        entry
        for entry in entries
        if entry["api"] in apis and success in (None, entry["status"] == 200)
    ]
    return [_recording(FOLDER, entry) for entry in wanted]


def known() -> list[Recording]:
    """All recordings that are present, for properties of any body."""
    return own() + load(*DIALECTS, *RELATED)


def _recording(folder: Path, entry: Mapping[str, Any]) -> Recording:
    headers = {key.lower(): value for key, value in (entry.get("headers") or {}).items()}
    return Recording(
        entry["file"] if folder is OWN else entry["file"].split("/")[-1],
        entry.get("provider", ""),
        entry["api"],
        entry["status"],
        headers,
        entry["expected"] or {},
        (folder / entry["file"]).read_bytes(),
        tuple(entry.get("kind", ())),
    )


@dataclass
class Answer:
    """What a decoder gives for a body."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    items: list[Kept] | None = None
    usage: UsageDelta | None = None
    finish: Finish | None = None
    ended: int = 0


def answer_of(decoder: Decoder, pieces: list[bytes], *, close: bool = True) -> Answer:
    """Feed the pieces and collect the deltas."""
    deltas: list[Delta] = []
    for piece in pieces:
        deltas += decoder.feed(piece)
    if close:
        deltas += decoder.close()
    return gather(deltas)


def gather(deltas: list[Delta]) -> Answer:
    """The answer that deltas make. Raises if anything follows the end, or a piece of a call comes
    before its start.
    """
    answer = Answer(tool_calls=[], items=[])
    for delta in deltas:
        if answer.finish is not None:
            raise AssertionError(f"{delta} after the end")
        match delta:
            case TextDelta(text):
                answer.text += text
            case ReasoningDelta(text):
                answer.reasoning += text
            case RefusalDelta(text):
                answer.refusal += text
            case ToolCallStart(index, id, name, made_up):
                assert index == len(answer.tool_calls)
                answer.tool_calls.append(
                    {"id": None if made_up else id, "name": name, "arguments": ""}
                )
            case ToolCallArguments(index, json_text):
                answer.tool_calls[index]["arguments"] += json_text
            case ToolCallEnd(_, kept):
                answer.ended += 1
                answer.items += [kept] if kept else []
            case KeptDelta():
                answer.items.append(delta)
            case (
                ReasoningEnd(Kept() as kept)
                | SourceDelta(kept=Kept() as kept)
                | FileDelta(kept=Kept() as kept)
            ):
                answer.items.append(kept)
            case UsageDelta():
                answer.usage = delta if answer.usage is None else merge_usage(answer.usage, delta)
            case Finish():
                answer.finish = delta
    return answer
