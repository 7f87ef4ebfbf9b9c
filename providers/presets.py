"""Pure: the one table of providers that are known by name, and what it says of an entry.

Each dialect's module documents its quirks. A package adds a provider with `registry.register`: from
then on the catalogue, the registry and the worker find its preset here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tokenwire.providers.spec import ModelSpec, Preset, Rung

IN_PROCESS = frozenset({"demo"})
"""APIs of providers that need no HTTP and no address: they run in this process."""

_LOCAL_STALL = 300.0
"""Seconds; a local server may have to load the model first, and its queue has no limit."""
_REASONING_STALL = 180.0
"""Seconds; OpenAI's chat API is silent while a model reasons (79 s have been observed)."""
_COMPLETION_TOKENS = {"parameters": {"max_tokens": "max_completion_tokens"}}
_NO_BIAS = {"parameters": {"logit_bias": None}}
_TOP_K = {"parameters": {"top_k": "top_k"}}
"""Servers that take more than OpenAI's API."""

# Which parameters a preset takes (`parameters`) was compared with:
# - the types of the maker's own Python package: groq, mistralai, perplexity, together;
# - the maker's own pages: cohere, deepseek (its thinking models accept and ignore penalties).
# Unverified: xai (some of its models refuse penalties and `stop`, by their own 400), openrouter,
# huggingface, ollama_compatible, lmstudio, localai, llamacpp, vllm.
# An entry of the catalogue corrects a preset by `options.parameters`.

_ALL = (
    # Makers of models.
    Preset(
        "openai",
        "openai.chat",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        stall_seconds=_REASONING_STALL,
        quirks=_COMPLETION_TOKENS,
    ),
    Preset(
        "openai_responses",
        "openai.responses",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        stall_seconds=_REASONING_STALL,
    ),
    Preset(
        "azure_openai",
        "openai.chat",
        None,  # https://<resource>.openai.azure.com/openai/v1; /deployments/<name> with api_version
        "AZURE_OPENAI_API_KEY",
        auth="api-key",
        stall_seconds=_REASONING_STALL,
        quirks=_COMPLETION_TOKENS,
    ),
    Preset(
        "anthropic",
        "anthropic.messages",
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        auth="x-api-key",
        headers={"anthropic-version": "2023-06-01"},
    ),
    Preset(
        "gemini",
        "gemini.generateContent",
        "https://generativelanguage.googleapis.com/v1beta",
        "GEMINI_API_KEY",
        auth="x-goog-api-key",
        stall_seconds=_REASONING_STALL,
    ),
    Preset(
        "vertex",
        "gemini.generateContent",
        # https://<region>-aiplatform.googleapis.com/v1/projects/<project>/locations/<region>/
        # publishers/google
        None,
        "GOOGLE_ACCESS_TOKEN",
        stall_seconds=_REASONING_STALL,
    ),
    Preset(
        "deepseek",
        "openai.chat",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
        continuation="prefix",
        quirks={
            "prefix": "flag",
            "prefix_base_url": "https://api.deepseek.com/beta",
            "echo_reasoning": True,
            "parameters": {"seed": None, "logit_bias": None, "parallel_tool_calls": None},
        },
    ),
    Preset(
        "mistral",
        "openai.chat",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        continuation="prefix",
        quirks={
            "prefix": "flag",
            "echoes": True,
            "stream_options": False,
            # Newer models take an effort, with levels of its own (unverified).
            "parameters": {"seed": "random_seed", "logit_bias": None, "reasoning_effort": None},
        },
    ),
    Preset(
        "xai",
        "openai.chat",
        "https://api.x.ai/v1",
        "XAI_API_KEY",
        quirks={"output_excludes_reasoning": True, **_NO_BIAS},
    ),
    Preset(
        "perplexity",
        "openai.chat",
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        quirks={
            "stream_options": False,
            "parameters": {"top_k": "top_k", "seed": None, "logit_bias": None},
        },
    ),
    Preset(
        "cohere",
        "cohere.chat",
        "https://api.cohere.com",
        "COHERE_API_KEY",
    ),
    # Hosts of other makers' models.
    Preset(
        "openrouter",
        "openai.chat",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        quirks={"parameters": {"top_k": "top_k", "reasoning_effort": "reasoning.effort"}},
    ),
    Preset(
        "groq",
        "openai.chat",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        quirks={
            "parameters": {
                "max_tokens": "max_completion_tokens",
                "logit_bias": None,
                # "Not yet supported by any of our models."
                "presence_penalty": None,
                "frequency_penalty": None,
            }
        },
    ),
    Preset(
        "together",
        "openai.chat",
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        quirks={"parameters": {"top_k": "top_k", "parallel_tool_calls": None}},
    ),
    Preset("huggingface", "openai.chat", "https://router.huggingface.co/v1", "HF_TOKEN"),
    # Servers run by their users.
    Preset(
        "ollama",
        "ollama.chat",
        "http://127.0.0.1:11434",
        local=True,
        stall_seconds=_LOCAL_STALL,
    ),
    Preset(
        "ollama_compatible",
        "openai.chat",
        "http://127.0.0.1:11434/v1",
        local=True,
        stall_seconds=_LOCAL_STALL,
        quirks={"parameters": {"logit_bias": None, "parallel_tool_calls": None}},
    ),
    Preset(
        "lmstudio",
        "openai.chat",
        "http://127.0.0.1:1234/v1",
        local=True,
        stall_seconds=_LOCAL_STALL,
        quirks=_TOP_K,
    ),
    Preset(
        "localai",
        "openai.chat",
        "http://127.0.0.1:8080/v1",
        local=True,
        stall_seconds=_LOCAL_STALL,
        quirks=_TOP_K,
    ),
    Preset(
        "llamacpp",
        "openai.chat",
        "http://127.0.0.1:8080/v1",
        local=True,
        stall_seconds=_LOCAL_STALL,
        continuation="prefix",
        quirks={"prefix": "continue_final_message", **_TOP_K},
    ),
    Preset(
        "vllm",
        "openai.chat",
        "http://127.0.0.1:8000/v1",
        local=True,
        stall_seconds=_LOCAL_STALL,
        continuation="prefix",
        quirks={"prefix": "continue_final_message", **_TOP_K},
    ),
    # Other servers with OpenAI's chat format, and the demo, which needs nothing.
    Preset("openai_compatible", "openai.chat", None),
    Preset("demo", "demo", None, auth="none", continuation="prefix"),
)

_presets = {preset.name: preset for preset in _ALL}
PRESETS: Mapping[str, Preset] = MappingProxyType(_presets)
"""All presets by name, those of plugins included as soon as they are registered."""


def add(preset: Preset) -> None:
    """Add a preset; it replaces one of the same name."""
    _presets[preset.name] = preset


def rung_of(spec: ModelSpec) -> Rung:
    """The best rung of an entry: its own, else its preset's, else `turn` (a plugin's provider, in
    a process that has not loaded the plugin).
    """
    preset = PRESETS.get(spec.provider)
    return spec.continuation or (preset.continuation if preset else "turn")


def key_of(preset: Preset, environ: Mapping[str, str]) -> str | None:
    """The key in the preset's variable; None if it names none, or the variable is empty."""
    return environ.get(preset.key_variable or "") or None


def lacks_address(spec: ModelSpec, preset: Preset) -> bool:
    """Whether nobody says where this provider is: neither the entry nor its preset."""
    needs = (spec.api or preset.api) not in IN_PROCESS
    return needs and spec.base_url is None and preset.base_url is None
