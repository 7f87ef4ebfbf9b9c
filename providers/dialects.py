"""Pure: the table of wire formats, by API name. `registry.register` adds to it."""

from collections.abc import Callable

from tokenwire.providers import (
    anthropic,
    cohere,
    gemini,
    ollama,
    openai_chat,
    openai_chat_request,
    openai_responses_request,
)
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialect import Dialect

DIALECTS: dict[str, Dialect] = {
    module.DIALECT.api: module.DIALECT
    for module in (openai_chat_request, openai_responses_request, anthropic, gemini, ollama, cohere)
}
RELATED: dict[str, Callable[[], Decoder]] = {
    "openai.completions": openai_chat.ChatDecoder,
    "ollama.generate": ollama.OllamaDecoder,
}
"""Older formats that newer decoders can read; no request uses them."""


def decoder_of(api: str) -> Callable[[], Decoder]:
    """Raises KeyError for an unknown API."""
    return DIALECTS[api].decoder if api in DIALECTS else RELATED[api]
