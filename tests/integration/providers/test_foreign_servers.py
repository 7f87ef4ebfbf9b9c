"""Other people's servers: a real llama.cpp with a real model, and mock servers for every dialect,
healthy and broken.
"""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from tests.integration.providers.answers import read
from tests.servers import aimock, llmock
from tokenwire.providers.base import (
    ContextLengthExceeded,
    Continuation,
    Finish,
    HistoryMessage,
    Interrupted,
    ProviderError,
    RateLimited,
    Request,
    TextDelta,
    Tool,
    ToolCallArguments,
    ToolCallStart,
    Unavailable,
    UsageDelta,
)
from tokenwire.providers.calls import complete, embed
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider
from tokenwire.providers.spec import ModelSpec

TEXT = "Hi there, friend. 🦉 This is more than one chunk of text."
FIXTURES = [
    {"match": {"inputText": "one"}, "response": {"embedding": [0.1, 0.2]}},
    {"match": {"userMessage": "hello"}, "response": {"content": TEXT}},
    {
        "match": {"userMessage": "weather"},
        "response": {"toolCalls": [{"name": "get_weather", "arguments": '{"city":"Oslo"}'}]},
    },
    {"match": {"userMessage": "cut"}, "response": {"content": TEXT}, "truncateAfterChunks": 3},
]
WEATHER = Tool(
    "get_weather", "the weather", {"type": "object", "properties": {"city": {"type": "string"}}}
)


def specs(url: str) -> list[ModelSpec]:
    """One model of each dialect, on one server."""
    return [
        ModelSpec("m", "openai", "gpt-4o-mini", base_url=f"{url}/v1", api_key="k"),
        ModelSpec("m", "openai_responses", "gpt-4o-mini", base_url=f"{url}/v1", api_key="k"),
        ModelSpec("m", "anthropic", "claude-sonnet-4-5", base_url=f"{url}/v1", api_key="k"),
        ModelSpec("m", "gemini", "gemini-2.5-flash", base_url=f"{url}/v1beta", api_key="k"),
        ModelSpec("m", "ollama", "llama3", base_url=url),
    ]


def llmock_specs(url: str) -> list[ModelSpec]:
    """The dialects that llmock has."""
    return [
        ModelSpec("m", "openai", "gpt-4o-mini", base_url=f"{url}/v1", api_key="k"),
        ModelSpec("m", "openai_responses", "gpt-4o-mini", base_url=f"{url}/v1", api_key="k"),
        ModelSpec(
            "m", "anthropic", "claude-sonnet-4-5", base_url=f"{url}/anthropic/v1", api_key="k"
        ),
        ModelSpec("m", "gemini", "gemini-2.5-flash", base_url=f"{url}/gemini/v1beta", api_key="k"),
        ModelSpec(
            "m", "groq", "llama-3.3-70b-versatile", base_url=f"{url}/groq/openai/v1", api_key="k"
        ),
        ModelSpec(
            "m", "mistral", "mistral-small-latest", base_url=f"{url}/mistral/v1", api_key="k"
        ),
    ]


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


def ask(words: str, tools: tuple[Tool, ...] = ()) -> Request:
    return Request(
        [HistoryMessage("system", "Be brief."), HistoryMessage("user", words)],
        tools=tools,
        max_tokens=64,
    )


@pytest.mark.usefixtures("aimock_installed")
async def test_every_dialect_of_aimock(client: HttpClient) -> None:
    """Text and tool calls in each of the five."""
    with aimock.start(FIXTURES) as url:
        for spec in specs(url):
            text, deltas, error = await read(client, spec, ask("hello"))
            assert (text, error) == (TEXT, None), spec.provider
            assert isinstance(deltas[-1], Finish)
            assert deltas[-1].reason == "stop"
            _, deltas, error = await read(client, spec, ask("weather", (WEATHER,)))
            assert error is None
            assert [delta.name for delta in deltas if isinstance(delta, ToolCallStart)] == [
                "get_weather"
            ]
            assert (
                re.sub(
                    r"\s", "", "".join(d.json for d in deltas if isinstance(d, ToolCallArguments))
                )
                == '{"city":"Oslo"}'
            )
            assert isinstance(deltas[-1], Finish)
            assert deltas[-1].reason == "tool_calls"


@pytest.mark.usefixtures("aimock_installed")
async def test_aimock_cuts_in_mid_stream(client: HttpClient) -> None:
    """The received text is delivered, and the answer is not complete."""
    with aimock.start(FIXTURES, "--latency", "60", "--chunk-size", "5") as url:
        for spec in specs(url):
            text, _, error = await read(client, spec, ask("cut"))
            assert TEXT.startswith(text), spec.provider
            assert type(error) is (Interrupted if text else Unavailable), spec.provider


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("aimock_installed")
@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        ("--chaos-ratelimit", (RateLimited,)),
        ("--chaos-drop", (Unavailable,)),
        ("--chaos-disconnect", (Unavailable,)),
        ("--chaos-malformed", (Unavailable,)),
    ],
)
async def test_aimock_in_chaos(
    client: HttpClient, fault: str, errors: tuple[type[ProviderError], ...]
) -> None:
    """Each fault has its class in each dialect, and none looks like an answer."""
    with aimock.start(FIXTURES, fault, "1") as url:
        for spec in specs(url):
            text, _, error = await read(client, spec, ask("hello"))
            assert text == ""
            assert type(error) in errors, (spec.provider, error)


@pytest.mark.usefixtures("llmock_installed")
async def test_every_dialect_of_llmock(client: HttpClient) -> None:
    """It echoes the question."""
    with llmock.start("--response-style", "echo") as url:
        for spec in llmock_specs(url):
            text, deltas, error = await read(client, spec, ask("tell me"))
            assert "tell me" in text, (spec.provider, error)
            assert isinstance(deltas[-1], Finish)
            # Mistral always sends usage, llmock's Mistral does not.
            assert spec.provider == "mistral" or any(
                isinstance(delta, UsageDelta) and delta.output_tokens for delta in deltas
            )


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("llmock_installed")
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (("--error-rate", "429=1"), "RateLimited"),
        (("--error-rate", "503=1"), "Unavailable"),
        (("--error-rate", "401=1"), "AuthenticationFailed"),
        (("--error-rate", "404=1"), "ModelNotFound"),
        (("--error-rate", "400=1"), "InvalidRequest"),
        (("--stream-fault", "disconnect=1"), "cut"),
        (("--stream-fault", "truncate=1"), "cut"),
        (("--stream-fault", "malformed=1"), "cut"),
    ],
)
async def test_llmock_with_faults(client: HttpClient, fault: tuple[str, ...], error: str) -> None:
    """Each provider's own error forms have their class; a broken stream is never complete."""
    with llmock.start("--response-style", "echo", *fault) as url:
        for spec in llmock_specs(url):
            text, _, raised = await read(client, spec, ask("tell me a long story please"))
            expected = error if error != "cut" else "Interrupted" if text else "Unavailable"
            assert type(raised).__name__ == expected, (spec.provider, raised, text)


def llama(url: str, **fields: object) -> ModelSpec:
    return ModelSpec(
        **{"name": "m", "provider": "llamacpp", "model": "default", "base_url": url, **fields}
    )  # type: ignore[arg-type]


async def test_llamacpp_answers(client: HttpClient, llamacpp_url: str) -> None:
    """A real model: text, usage and a proper end in OpenAI's two dialects and Anthropic's."""
    for spec in (
        llama(llamacpp_url),
        llama(llamacpp_url, api="openai.responses"),
        llama(llamacpp_url, api="anthropic.messages"),
    ):
        text, deltas, error = await read(client, spec, ask("Say hello to the sea."))
        assert error is None
        assert text.strip()
        assert any(isinstance(delta, UsageDelta) and delta.output_tokens for delta in deltas)
        assert isinstance(deltas[-1], Finish)
        assert deltas[-1].reason in ("stop", "length")


async def test_llamacpp_reports_a_too_long_prompt(client: HttpClient, llamacpp_url: str) -> None:
    """Its own code is understood."""
    _, _, error = await read(client, llama(llamacpp_url), ask("sea " * 20_000))
    assert type(error) is ContextLengthExceeded


async def test_llamacpp_continues_from_a_prefix(client: HttpClient, llamacpp_url: str) -> None:
    """`continue_final_message`: the prefix is not repeated."""
    held = "One, two, three, four,"
    request = Request(
        [HistoryMessage("user", "Count to ten in words.")],
        continuation=Continuation("prefix", held),
        max_tokens=16,
        temperature=0.0,
    )
    text, _, error = await read(client, llama(llamacpp_url), request)
    assert error is None
    assert text.strip()
    assert not text.lstrip().startswith("One, two")


@pytest.mark.may_skip("builds differ")
async def test_a_run_of_llamacpp_is_attached_to(client: HttpClient, llamacpp_url: str) -> None:
    """Left in the middle and resumed by bytes, the answer is unchanged."""
    spec = llama(llamacpp_url, continuation="attach", options={"resume": True})
    question = Request(
        [HistoryMessage("user", "Tell a story about a lighthouse.")],
        max_tokens=200,
        temperature=0.0,
    )
    whole, _, _ = await read(client, llama(llamacpp_url), question)
    text, run = "", (None, None)
    async with open_provider(spec, client).stream(question) as stream:
        async for batch in stream:
            text += "".join(delta.text for delta in batch if isinstance(delta, TextDelta))
            run = (stream.run_id, stream.cursor)
            if len(text) > 40:
                stream.keep_run()
                break
    rest, deltas, error = await read(
        client, spec, Request(question.messages, continuation=Continuation("attach", text, *run))
    )
    if error is not None and error.code == "run_gone":
        pytest.skip("this build of llama.cpp keeps no runs")
    assert error is None
    assert text + rest == whole
    assert isinstance(deltas[-1], Finish)


async def test_leaving_llamacpp_frees_its_slot(client: HttpClient, llamacpp_url: str) -> None:
    """Four long answers are left at once; the four slots are free for the next ones."""
    question = Request([HistoryMessage("user", "Write a very long story.")], max_tokens=4000)

    async def leave() -> None:
        async with open_provider(llama(llamacpp_url), client).stream(question) as stream:
            async for _ in stream:
                return

    await asyncio.gather(*(leave() for _ in range(4)))
    async with asyncio.timeout(20):
        texts = await asyncio.gather(
            *(read(client, llama(llamacpp_url), ask("Hi.")) for _ in range(4))
        )
    assert all(error is None for _, _, error in texts)


async def test_whole_calls(client: HttpClient, llamacpp_url: str) -> None:
    """`complete` gives one object."""
    response = await complete(open_provider(llama(llamacpp_url), client), ask("Say hello."))
    assert response.text.strip()
    assert response.finish is not None


@pytest.mark.usefixtures("aimock_installed")
async def test_embeddings(client: HttpClient) -> None:
    """One vector for each text."""
    with aimock.start(FIXTURES) as url:
        vectors, _ = await embed(specs(url)[0], client, ["one", "one more"])
        assert vectors == [[0.1, 0.2], [0.1, 0.2]]
