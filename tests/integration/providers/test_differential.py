"""The same bytes through the official SDKs of OpenAI and Anthropic and through us: equal text,
reasoning, calls, reason and usage.
"""

import json
from typing import Any

import openai
import pytest

from tests.integration.providers.wire import Exchange, serving
from tests.unit.providers.recordings import Recording, load
from tokenwire.providers.dialects import decoder_of
from tokenwire.providers.recorded import decode

SEVERAL_ANSWERS = {
    "anthropic-messages__ai__anthropic-tool-search-bm25-1-chunks__0-a69151.sse",
    "openai-responses__ai__azure-reasoning-encrypted-content-1-chunks__0-c2ac1c.sse",
}
"""The SDKs stop after the first answer, or mix them."""
SDK_MISSES_USAGE = {"openai-chat__openllmetry__test-chat-streaming-legacy__0-00b25e.sse"}
"""Groq's older field for it is `x_groq.usage`."""
pytestmark = pytest.mark.may_skip("recordings of real providers are no part of the project")
RECORDINGS = [
    r
    for r in load("openai.chat", "openai.responses", "anthropic.messages", success=True)
    if r.name not in SEVERAL_ANSWERS
]


def of(api: str, *, broken: bool = False) -> Any:
    recordings = [
        r
        for r in RECORDINGS
        if r.api == api and ("midstream_error" in r.kind and r.provider != "llamacpp") == broken
    ]
    return pytest.mark.parametrize(
        "recording", recordings, ids=[recording.name for recording in recordings]
    )


def ours(recording: Recording) -> dict[str, Any]:
    result = decode(decoder_of(recording.api), 200, {}, recording.body)
    usage = result["usage"]
    return {
        "text": result["text"],
        "reasoning": result["reasoning"],
        "calls": [(call["name"], call["arguments"]) for call in result["tool_calls"]],
        "finish": result["finish_raw"],
        "usage": usage and (usage["input_tokens"], usage["output_tokens"]),
    }


def playing(recording: Recording) -> Any:
    async def script(exchange: Exchange) -> None:
        await exchange.whole(recording.body)

    return serving(script)


def chat_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0)


async def sdk_chat(recording: Recording) -> dict[str, Any]:
    text, reasoning, calls, finish, usage = "", "", {}, None, None
    async with playing(recording) as server, chat_client(server.url) as client:
        async for chunk in await client.chat.completions.create(
            model="m", messages=[], stream=True
        ):
            if chunk.usage:
                usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
            for choice in chunk.choices or []:
                if choice.index:
                    continue  # we read one answer
                finish = choice.finish_reason or finish
                if choice.delta is None:
                    continue
                text += choice.delta.content or ""
                extra = choice.delta.model_extra or {}
                reasoning += extra.get("reasoning_content") or extra.get("reasoning") or ""
                for call in choice.delta.tool_calls or []:
                    name, arguments = calls.get(call.index, ("", ""))
                    calls[call.index] = (
                        call.function.name or name,
                        arguments + (call.function.arguments or ""),
                    )
    found = [(name, arguments or "{}") for name, arguments in calls.values()]
    return {"text": text, "reasoning": reasoning, "calls": found, "finish": finish, "usage": usage}


@of("openai.chat")
async def test_chat(recording: Recording) -> None:
    """As `chat.completions.create(stream=True)` reads it."""
    mine, theirs = ours(recording), await sdk_chat(recording)
    if recording.name in SDK_MISSES_USAGE:
        del mine["usage"], theirs["usage"]
    assert mine == theirs


@of("openai.responses")
async def test_responses(recording: Recording) -> None:
    """As the object in the final event, which must equal the sum of the deltas."""
    async with playing(recording) as server, chat_client(server.url) as client:
        final = None
        async for event in await client.responses.create(model="m", input="x", stream=True):
            if event.type in ("response.completed", "response.incomplete"):
                final = event.response
    assert final is not None
    mine = ours(recording)
    assert mine["text"] == final.output_text
    assert mine["calls"] == [
        (item.name, item.arguments) for item in final.output if item.type == "function_call"
    ]
    assert mine["finish"] == final.status
    assert mine["usage"] == (final.usage and (final.usage.input_tokens, final.usage.output_tokens))


@of("openai.chat", broken=True)
async def test_both_report_the_error(recording: Recording) -> None:
    """Where the SDK raises, we fail."""
    with pytest.raises(openai.APIError):
        await sdk_chat(recording)
    assert decode(decoder_of(recording.api), 200, {}, recording.body)["error"] is not None


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@of("anthropic.messages")
async def test_messages(recording: Recording) -> None:
    """As the SDK's accumulated message."""
    import anthropic  # loads for a second, which each process that collects tests would wait for

    question: Any = [{"role": "user", "content": "x"}]
    async with (
        playing(recording) as server,
        anthropic.AsyncAnthropic(api_key="none", base_url=server.url, max_retries=0) as client,
        client.messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=question) as stream,
    ):
        message = await stream.get_final_message()
    mine = ours(recording)
    assert mine["text"] == "".join(block.text for block in message.content if block.type == "text")
    assert mine["reasoning"] == "".join(
        block.thinking for block in message.content if block.type == "thinking"
    )
    assert mine["finish"] == message.stop_reason
    assert mine["usage"] == (message.usage.input_tokens, message.usage.output_tokens)
    tools = [block for block in message.content if block.type == "tool_use"]
    assert [name for name, _ in mine["calls"]] == [tool.name for tool in tools]
    if message.stop_reason == "tool_use":  # the SDK guesses the rest of truncated arguments
        assert [json.loads(arguments) for _, arguments in mine["calls"]] == [
            tool.input for tool in tools
        ]
