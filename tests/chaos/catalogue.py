"""Pure: the models of a chaos run, all answered by the scripted provider."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """An entry of the catalogue, how often it is used, and whether written text must stay in any
    case.
    """

    entry: Mapping[str, Any]
    weight: int
    continues: bool


def models(base: str) -> dict[str, Model]:
    """By name. `base`: where the provider answers. Weight 0: for tests that ask for it by name."""
    openai = {"provider": "openai_compatible", "api_key": "none"}
    told = {"options": {"prefix": "continue_final_message"}}
    anthropic, gemini, ollama = (
        {"provider": name, "api_key": "none"} for name in ("anthropic", "gemini", "ollama")
    )
    return {
        "prefix": Model(
            {**openai, "base_url": f"{base}/prefix/v1", "continuation": "prefix", **told},
            6,
            continues=True,
        ),
        "turn": Model(
            {**openai, "base_url": f"{base}/turn/v1", "continuation": "turn"}, 2, continues=True
        ),
        "over": Model(
            {**openai, "base_url": f"{base}/over/v1", "continuation": "restart"}, 3, continues=False
        ),
        "anthropic": Model(
            {**anthropic, "base_url": f"{base}/prefix/v1", "continuation": "prefix"},
            1,
            continues=True,
        ),
        "ollama": Model(
            {**ollama, "base_url": f"{base}/prefix", "continuation": "prefix"}, 1, continues=True
        ),
        "gemini": Model(
            {**gemini, "base_url": f"{base}/turn/v1", "continuation": "turn"}, 1, continues=True
        ),
        "tools": Model(
            {**openai, "base_url": f"{base}/tools/v1", "continuation": "restart"},
            6,
            continues=False,
        ),
        "rounds": Model(
            {**openai, "base_url": f"{base}/rounds/v1", "continuation": "restart"},
            0,
            continues=False,
        ),
        "down": Model({**openai, "base_url": f"{base}/down/v1"}, 0, continues=True),
        "mute": Model({**openai, "base_url": f"{base}/mute/v1"}, 0, continues=True),
    }
