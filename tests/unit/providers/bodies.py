"""Bodies of answers, written by hand, and what a decoder gives for them."""

from typing import Any

from tokenwire.providers.dialects import decoder_of
from tokenwire.providers.recorded import decode

CHAT, RESPONSES, ANTHROPIC, GEMINI, OLLAMA = (
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "gemini.generateContent",
    "ollama.chat",
)


def read(api: str, body: bytes) -> dict[str, Any]:
    return decode(decoder_of(api), 200, {}, body)


def sse(*items: str) -> bytes:
    return "".join(f"data: {item}\n\n" for item in items).encode()
