"""Pure: the wire formats of the scripted provider, from the makers' descriptions.

They find the conversation in a request, and turn pieces of text into bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the request."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """`turns` of a request's body; `first`, `piece` and `last` give the bytes of an answer."""

    content_type: str
    turns: Callable[[Mapping[str, Any]], list[Turn]]
    first: Callable[[], bytes]
    piece: Callable[[str], bytes]
    last: Callable[[int], bytes]


def _sse(data: Mapping[str, Any], event: str | None = None) -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _plain(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    return [Turn(message["role"], _text(message["content"])) for message in messages]


def _text(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    return (
        content
        if isinstance(content, str)
        else "".join(str(part.get("text", "")) for part in content or ())
    )


def _gemini_turns(body: Mapping[str, Any]) -> list[Turn]:
    return [
        Turn({"model": "assistant"}.get(item["role"], item["role"]), _text(item["parts"]))
        for item in body["contents"]
    ]


def _openai(
    delta: Mapping[str, Any], reason: str | None = None, usage: Mapping[str, int] | None = None
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _sse(
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "model": "scripted",
            "choices": [choice],
            "usage": usage,
        }
    )


def _ollama(text: str, **more: Any) -> bytes:
    return (
        json.dumps(
            {
                "model": "scripted",
                "message": {"role": "assistant", "content": text},
                "done": False,
                **more,
            }
        )
        + "\n"
    ).encode()


def _gemini(parts: list[dict[str, str]], **more: Any) -> bytes:
    return _sse(
        {
            "candidates": [{"content": {"role": "model", "parts": parts}, **more}],
            "modelVersion": "scripted",
            "responseId": "g1",
        }
    )


def _anthropic(kind: str, **more: Any) -> bytes:
    return _sse({"type": kind, **more}, kind)


def openai_calls(wanted: Sequence[tuple[str, int]]) -> bytes:
    """The end of a turn that calls these tools, each with its place. Ids repeat from turn to turn,
    as real ones do.
    """
    calls = [
        {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps({"place": place})},
        }
        for index, (name, place) in enumerate(wanted)
    ]
    frames = [_openai({"tool_calls": [call]}) for call in calls]
    return b"".join(frames) + _openai({}, "tool_calls") + b"data: [DONE]\n\n"


OPENAI = Dialect(
    "text/event-stream",
    lambda body: _plain(body["messages"]),
    lambda: _openai({"role": "assistant", "content": ""}),
    lambda text: _openai({"content": text}),
    lambda count: (
        _openai(
            {}, "stop", {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
        )
        + b"data: [DONE]\n\n"
    ),
)
ANTHROPIC = Dialect(
    "text/event-stream",
    lambda body: _plain(body["messages"]),
    lambda: (
        _anthropic(
            "message_start",
            message={
                "id": "m1",
                "role": "assistant",
                "model": "scripted",
                "content": [],
                "usage": {"input_tokens": 9},
            },
        )
        + _anthropic("content_block_start", index=0, content_block={"type": "text", "text": ""})
    ),
    lambda text: _anthropic(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": text}
    ),
    lambda count: (
        _anthropic("content_block_stop", index=0)
        + _anthropic(
            "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": count}
        )
        + _anthropic("message_stop")
    ),
)
GEMINI = Dialect(
    "text/event-stream",
    _gemini_turns,
    lambda: b"",
    lambda text: _gemini([{"text": text}]),
    lambda _count: _gemini([], finishReason="STOP"),
)
OLLAMA = Dialect(
    "application/x-ndjson",
    lambda body: _plain(body["messages"]),
    lambda: b"",
    _ollama,
    lambda count: _ollama("", done=True, done_reason="stop", prompt_eval_count=9, eval_count=count),
)
