"""Recorded answers of real providers, found through PROVIDER_RECORDINGS; nothing of them is part of the project."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from providers.base import Delta, Finish, Reasoning, Refusal, Text, ToolCallArguments, ToolCallEnd, ToolCallStart, Usage
from providers.decoding import Decoder, merge_usage

FOLDER = Path(os.environ.get("PROVIDER_RECORDINGS", "../shared/fixtures/provider_streams"))


@dataclass(frozen=True)
class Recording:
    """One entry of the manifest with its body."""

    name: str
    provider: str
    api: str
    status: int
    headers: Mapping[str, str]
    expected: Mapping[str, Any]
    body: bytes
    kind: tuple[str, ...]


def load(*apis: str, success: bool | None = None) -> list[Recording]:
    """The recordings of some APIs; `success`: only those with status 200, or only the others."""
    manifest = FOLDER / "manifest.json"
    if not manifest.is_file():
        return []
    entries = json.loads(manifest.read_text())
    wanted = [entry for entry in entries if entry["api"] in apis and success in (None, entry["status"] == 200)]
    return [_recording(entry) for entry in wanted]


def _recording(entry: Mapping[str, Any]) -> Recording:
    name = entry["file"].split("/")[-1]
    headers = {key.lower(): value for key, value in (entry.get("headers") or {}).items()}
    return Recording(
        name,
        entry["provider"],
        entry["api"],
        entry["status"],
        headers,
        entry["expected"] or {},
        (FOLDER / entry["file"]).read_bytes(),
        tuple(entry["kind"]),
    )


@dataclass
class Answer:
    """What a decoder made of a body."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    usage: Usage | None = None
    finish: Finish | None = None
    ended: int = 0


def answer_of(decoder: Decoder, pieces: list[bytes], *, close: bool = True) -> Answer:
    """Feed the pieces and gather the deltas."""
    deltas: list[Delta] = []
    for piece in pieces:
        deltas += decoder.feed(piece)
    if close:
        deltas += decoder.close()
    return gather(deltas)


def gather(deltas: list[Delta]) -> Answer:
    """The deltas of an answer, put together."""
    answer = Answer(tool_calls=[])
    for delta in deltas:
        if answer.finish is not None:
            raise AssertionError(f"{delta} after the end")
        match delta:
            case Text(text):
                answer.text += text
            case Reasoning(text):
                answer.reasoning += text
            case Refusal(text):
                answer.refusal += text
            case ToolCallStart(index, id, name, made_up):
                assert index == len(answer.tool_calls)
                answer.tool_calls.append({"id": None if made_up else id, "name": name, "arguments": ""})
            case ToolCallArguments(index, json_text):
                answer.tool_calls[index]["arguments"] += json_text
            case ToolCallEnd():
                answer.ended += 1
            case Usage():
                answer.usage = delta if answer.usage is None else merge_usage(answer.usage, delta)
            case Finish():
                answer.finish = delta
    return answer
