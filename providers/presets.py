"""Pure: the providers that are known by name, as data. Quirk names are documented in the module of the dialect that reads them."""

from providers.dialect import Preset

_LOCAL_STALL = 300.0  # a model may have to be loaded first

PRESETS = (
    Preset("openai", "openai.chat", "https://api.openai.com/v1", "OPENAI_API_KEY", quirks={"max_tokens_field": "max_completion_tokens"}),
    Preset("openai_compatible", "openai.chat", None, None),
    Preset(
        "deepseek",
        "openai.chat",
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
        continuation="prefix",
        quirks={"prefix": "flag", "prefix_base_url": "https://api.deepseek.com/beta"},
    ),
    Preset(
        "mistral",
        "openai.chat",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        continuation="prefix",
        quirks={"prefix": "flag", "stream_options": False},
    ),
    Preset("openrouter", "openai.chat", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    Preset("groq", "openai.chat", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    Preset("xai", "openai.chat", "https://api.x.ai/v1", "XAI_API_KEY"),
    Preset("together", "openai.chat", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    Preset("perplexity", "openai.chat", "https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    Preset("huggingface", "openai.chat", "https://router.huggingface.co/v1", "HF_TOKEN"),
    Preset("ollama_compatible", "openai.chat", "http://127.0.0.1:11434/v1", local=True, stall_seconds=_LOCAL_STALL),
    Preset("lmstudio", "openai.chat", "http://127.0.0.1:1234/v1", local=True, stall_seconds=_LOCAL_STALL),
    Preset("localai", "openai.chat", "http://127.0.0.1:8080/v1", local=True, stall_seconds=_LOCAL_STALL),
    Preset(
        "llamacpp",
        "openai.chat",
        "http://127.0.0.1:8080/v1",
        local=True,
        stall_seconds=_LOCAL_STALL,
        continuation="prefix",
        quirks={"prefix": "continue_final_message"},
    ),
    Preset(
        "vllm",
        "openai.chat",
        "http://127.0.0.1:8000/v1",
        local=True,
        stall_seconds=_LOCAL_STALL,
        continuation="prefix",
        quirks={"prefix": "continue_final_message"},
    ),
    Preset("demo", "demo", None, auth="none", continuation="prefix"),
)
