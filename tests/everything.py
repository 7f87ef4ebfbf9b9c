"""An answer that has everything, as two providers send it, and as it must go back to them.

Reasoning with a signature, a tool of the provider's, citations, an image of 1 MB, an item of a kind
that nobody knows, two calls; beside them what JSON and UTF-16 make hard.
"""

import base64
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.providers.bodies import ANTHROPIC, GEMINI, RESPONSES

Json = dict[str, Any]

PICTURE = bytes(range(256)) * 4096
IMAGE = base64.b64encode(PICTURE).decode()
THOUGHT = "Let me think about the weather of two cities before I look. 🎈 " * 20
WORDS = "It is cold in Oslo, as the almanac says. 🎈 So take a coat with you."
EVERYTHING_ANTHROPIC: list[Json] = [
    {"type": "thinking", "thinking": THOUGHT, "signature": "EqQB" * 50},
    {"type": "redacted_thinking", "data": "EmwK"},
    {"type": "text", "text": "I will look. "},
    {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "oslo"}},
    {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"encrypted": "Eo8B"}]},
    {
        "type": "text",
        "text": WORDS[:39],
        "citations": [
            {
                "type": "web_search_result_location",
                "url": "https://a.example",
                "title": "A",
                "cited_text": "cold",
                "encrypted_index": "Eo8",
            },
            {"type": "page_location", "cited_text": "x", "document_index": 0},
        ],
    },
    {"type": "text", "text": WORDS[39:]},
    {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": IMAGE},
    },
    {"type": "hologram", "frames": [1, 2], "$text": [0, 5]},
    {
        "type": "tool_use",
        "id": "c1",
        "name": "weather",
        "input": {"city": "Oslo", "n": 12345678901234567890},
        "caller": {"type": "direct"},
    },
    {"type": "tool_use", "id": "c2", "name": "time", "input": {}},
]
EVERYTHING_RESPONSES: list[Json] = [
    {
        "type": "reasoning",
        "id": "rs1",
        "summary": [
            {"type": "summary_text", "text": THOUGHT},
            {"type": "summary_text", "text": "And then I look it up, with two tools at once."},
        ],
        "encrypted_content": "gAAAA" * 50,
    },
    {"type": "web_search_call", "id": "ws1", "status": "completed", "action": {"query": "oslo"}},
    {
        "type": "message",
        "id": "m1",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [
            {
                "type": "output_text",
                "text": WORDS,
                "annotations": [
                    {
                        "type": "url_citation",
                        "url": "https://a.example",
                        "title": "A",
                        "start_index": 41,
                        "end_index": 44,
                    },
                    {"type": "file_citation", "file_id": "f1", "filename": "a.pdf", "index": 3},
                ],
            },
            {"type": "output_text", "text": " Indeed.", "annotations": []},
        ],
    },
    {"type": "image_generation_call", "id": "ig1", "status": "completed", "result": IMAGE},
    {"type": "hologram", "id": "h1", "frames": [1, 2]},
    {
        "type": "function_call",
        "id": "fc1",
        "call_id": "c1",
        "name": "weather",
        "arguments": '{"city": "Oslo", "n": 12345678901234567890}',
        "status": "completed",
    },
    {
        "type": "function_call",
        "id": "fc2",
        "call_id": "c2",
        "name": "time",
        "arguments": "{}",
        "status": "completed",
    },
]


def frame(item: Json) -> bytes:
    """An event of a stream."""
    return f"data: {json.dumps(item)}\n\n".encode()


def anthropic_events() -> list[Json]:
    """The stream of Anthropic's messages."""
    sent: list[Json] = [{"type": "message_start", "message": {"id": "m", "model": "c"}}]
    for index, block in enumerate(EVERYTHING_ANTHROPIC):
        pieces: list[Json] = []
        begun = dict(block)
        if block["type"] == "text":
            begun = {"type": "text", "text": ""}
            cites = [{"type": "citations_delta", "citation": c} for c in block.get("citations", ())]
            half = len(block["text"]) // 2
            texts = [block["text"][:half], block["text"][half:]]
            pieces = [*cites, *({"type": "text_delta", "text": text} for text in texts)]
        elif block["type"] == "thinking":
            begun = {"type": "thinking", "thinking": "", "signature": ""}
            pieces = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            pieces.append({"type": "signature_delta", "signature": block["signature"]})
        elif block["type"] == "tool_use":
            begun = {**block, "input": {}}
            pieces = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        at = {"index": index}
        sent.append({"type": "content_block_start", **at, "content_block": begun})
        sent += [{"type": "content_block_delta", **at, "delta": piece} for piece in pieces]
        sent.append({"type": "content_block_stop", **at})
    sent.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}})
    return [*sent, {"type": "message_stop"}]


def responses_events(run_id: str = "r") -> list[Json]:
    """The stream of a background response, numbered."""
    begun = {"id": run_id, "model": "m", "background": True}
    sent: list[Json] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(EVERYTHING_RESPONSES):
        at = {"output_index": index}
        sent.append({"type": "response.output_item.added", **at, "item": item})
        for number, part in enumerate(item["content"] if item["type"] == "message" else ()):
            sent += _text_events(at | {"content_index": number}, part)
        sent.append({"type": "response.output_item.done", **at, "item": item})
    whole = {**begun, "status": "completed", "output": EVERYTHING_RESPONSES}
    sent.append({"type": "response.completed", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(sent)]


def _text_events(at: Json, part: Json) -> list[Json]:
    half = len(part["text"]) // 2
    texts = [part["text"][:half], part["text"][half:]]
    pieces = [{"type": "response.output_text.delta", **at, "delta": text} for text in texts]
    kind = "response.output_text.annotation.added"
    return [*pieces, *({"type": kind, **at, "annotation": note} for note in part["annotations"])]


EVENTS: Mapping[str, Callable[[], list[Json]]] = {
    ANTHROPIC: anthropic_events,
    RESPONSES: responses_events,
}
ITEMS: Mapping[str, list[Json]] = {
    ANTHROPIC: EVERYTHING_ANTHROPIC,
    RESPONSES: EVERYTHING_RESPONSES,
}


@functools.cache
def frames(api: str) -> tuple[bytes, ...]:
    """The whole stream, event by event."""
    return tuple(map(frame, EVENTS[api]()))


def body_of(api: str) -> bytes:
    """The whole stream."""
    return b"".join(frames(api))


def turn(body: Any, api: str) -> Any:
    """What a request holds of its first answer."""
    if api == RESPONSES:
        own = [item for item in body["input"] if item.get("role") != "user"]
        return [item for item in own if item.get("type") != "function_call_output"]
    found = body["contents" if api == GEMINI else "messages"]
    answers = [message for message in found if message["role"] in ("assistant", "model")]
    name = {ANTHROPIC: "content", GEMINI: "parts"}.get(api)
    return (answers[0][name] if name else answers[0]) if answers else []


KINDS = {
    ANTHROPIC: "reasoning reasoning text provider provider source source file provider "
    "tool_call tool_call",
    RESPONSES: "reasoning provider text source source provider file provider tool_call tool_call",
}
"""The parts, in order."""


class Player:
    """The provider: it answers with everything, and with a word what follows that."""

    def __init__(self, api: str) -> None:
        self._api = api
        self.length = len(frames(api))
        self.asked: list[Json] = []

    def answer(self, method: str, url: str, body: bytes | None) -> Sequence[bytes]:
        """The frames of the answer to a request."""
        everything = frames(self._api)
        if method == "GET":
            after = parse_qs(urlsplit(url).query).get("starting_after", ["-1"])[0]
            return everything[int(after) + 1 :]
        self.asked.append(json.loads(body or b""))
        return (self._word(),) if turn(self.asked[-1], self._api) else everything

    def _word(self) -> bytes:
        if self._api == ANTHROPIC:
            content = [{"type": "text", "text": "Yes."}]
            return json.dumps(
                {"type": "message", "id": "n", "content": content, "stop_reason": "end_turn"}
            ).encode()
        text = {"type": "output_text", "text": "Yes.", "annotations": []}
        message = {"type": "message", "id": "m9", "role": "assistant", "content": [text]}
        whole = {"object": "response", "id": "n", "status": "completed", "output": [message]}
        return json.dumps(whole).encode()
