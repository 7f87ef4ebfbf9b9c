"""Pure: texts -> vectors, for dialects with such a call: OpenAI and compatible APIs, Ollama,
Gemini.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire.providers.base import UsageDelta
from tokenwire.providers.dialect import Call
from tokenwire.providers.spec import ModelSpec

Vectors = tuple[Sequence[Sequence[float]], UsageDelta]


def openai_call(texts: Sequence[str], spec: ModelSpec) -> Call:
    """POST /embeddings."""
    return Call(
        "/embeddings", {"model": spec.model, "input": list(texts), "encoding_format": "float"}
    )


def openai_vectors(answer: Mapping[str, Any]) -> Vectors:
    """The vectors, in the order of the texts."""
    entries = sorted(answer["data"], key=lambda entry: entry.get("index", 0))
    usage = answer.get("usage") or {}
    return [entry["embedding"] for entry in entries], UsageDelta(
        input_tokens=usage.get("prompt_tokens")
    )


def ollama_call(texts: Sequence[str], spec: ModelSpec) -> Call:
    """POST /api/embed."""
    return Call("/api/embed", {"model": spec.model, "input": list(texts)})


def ollama_vectors(answer: Mapping[str, Any]) -> Vectors:
    """The vectors of Ollama's answer."""
    return answer["embeddings"], UsageDelta(input_tokens=answer.get("prompt_eval_count"))


def gemini_call(texts: Sequence[str], spec: ModelSpec) -> Call:
    """POST /models/{model}:batchEmbedContents."""
    requests = [
        {"model": f"models/{spec.model}", "content": {"parts": [{"text": text}]}} for text in texts
    ]
    return Call(f"/models/{spec.model}:batchEmbedContents", {"requests": requests})


def gemini_vectors(answer: Mapping[str, Any]) -> Vectors:
    """The vectors of Gemini's answer; it counts no tokens."""
    return [entry["values"] for entry in answer["embeddings"]], UsageDelta()
