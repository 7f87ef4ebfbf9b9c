"""A model of Anthropic's API that pauses its turn, and goes on when it gets the turn back."""

import json
from collections.abc import Sequence
from typing import Any

SEARCH = {
    "type": "server_tool_use",
    "id": "srv_1",
    "name": "web_search",
    "input": {"query": "oslo"},
}
RESULT = {
    "type": "web_search_tool_result",
    "tool_use_id": "srv_1",
    "content": [{"type": "web_search_result", "encrypted_content": "x=="}],
}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}


def words(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def frames(blocks: Sequence[dict[str, Any]], reason: str) -> list[bytes]:
    """A stream of these blocks: 10 tokens in, 5 out."""
    sent: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {"id": "m", "model": "x", "usage": {"input_tokens": 10}},
        }
    ]
    for index, block in enumerate(blocks):
        sent += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_stop", "index": index},
        ]
    sent += [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return [b"data: %b\n\n" % json.dumps(item).encode() for item in sent]


FIRST_TURN = [THOUGHT, words("I will look. "), SEARCH]
FIRST_TYPES = ["reasoning", "text", "provider"]
SECOND_TURN = [RESULT, words("It rains "), words("in Oslo.")]
CONTENT = "I will look. It rains in Oslo."


class PausingModel:
    """A provider (`tests/integration/mortal.py`). `asked`: the messages of each request."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, Any]]] = []

    def answer(self, _method: str, _url: str, body: bytes | None) -> Sequence[bytes]:
        """The first turn, the second if the first is sent back, or the rest of the text."""
        asked = json.loads(body or b"")["messages"]
        self.asked.append(asked)
        if asked[-1]["role"] == "assistant":
            assert asked[-1]["content"] == FIRST_TURN, "no part of a turn goes back"
            return frames(SECOND_TURN, "end_turn")
        if len(asked) == 1:
            return frames(FIRST_TURN, "pause_turn")
        shown = "".join(block["text"] for block in asked[1]["content"])
        return frames([words(CONTENT[len(shown) :] or ".")], "end_turn")
