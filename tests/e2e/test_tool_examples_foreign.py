"""README's examples of tools and documents with models of other makers: a real llama.cpp, and
scripted servers of all five dialects.

One Tokenwire has the tools of all examples, as the page prints them. Only the models differ.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_documents import block
from tests.e2e.test_tool_examples import WEATHER, Chat, calls, everything, question
from tests.servers import aimock

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

DOCUMENT = json.loads(block("README.md", "sh", "Fram Museum").split("'")[3])
TOOLS = ("refund", "order_status", "shop_order_status")
RESULTS = {
    "weather": {"city": "Oslo", "degrees": 7},
    "refund": "Refunded 700 cents of order 5.",
    "order_status": {"order": 5, "status": "sent"},
    "shop_order_status": {"result": "Order 5 is on its way."},
}


def asked(tool: str) -> str:
    """What the page says to ask."""
    return WEATHER if tool == "weather" else question(tool)


def arguments(tool: str) -> Any:
    """Of the call that the page asks for."""
    _, brace, rest = asked(tool).partition("{")
    return json.loads(brace + rest) if rest else {"city": "Oslo"}


# --- scripted servers ----------------------------------------------------------------------------


def dialects(url: str) -> dict[str, Any]:
    """A model of each dialect."""
    return {
        "chat": {"provider": "openai", "model": "gpt-4o-mini", "base_url": f"{url}/v1"},
        "responses": {
            "provider": "openai_responses",
            "model": "gpt-4o-mini",
            "base_url": f"{url}/v1",
        },
        "anthropic": {
            "provider": "anthropic",
            "model": "claude-sonnet-4-5",
            "base_url": f"{url}/v1",
        },
        "gemini": {
            "provider": "gemini",
            "model": "gemini-2.5-flash",
            "base_url": f"{url}/v1beta",
        },
        "ollama": {"provider": "ollama", "model": "llama3", "base_url": url},
    }


def script() -> list[dict[str, Any]]:
    """The server calls a tool, and answers when it gets the right result."""
    found: list[dict[str, Any]] = []
    for tool in RESULTS:
        words = asked(tool)
        match = {"userMessage": words}
        shown = {"weather": "degrees", "order_status": "sent"}.get(tool, "rder 5")
        found += [
            {
                "match": match | {"toolResultContains": shown},
                "response": {"content": f"{tool} is done."},
            },
            {
                "match": match,
                "response": {
                    "toolCalls": [{"name": tool, "arguments": json.dumps(arguments(tool))}]
                },
            },
        ]
    document = {"content": json.dumps({"city": "Oslo"})}
    return [*found, {"match": {"userMessage": DOCUMENT["content"]}, "response": document}]


@pytest.mark.usefixtures("aimock_installed")
def test_scripted_servers_of_all_dialects(tmp_path: Path) -> None:
    """Each question of the page calls its tool with its arguments; the model gets the result."""
    with aimock.start(script()) as url:
        models = {name: {**entry, "api_key": "k"} for name, entry in dialects(url).items()}
        with everything(tmp_path, models) as stack:
            for model in models:
                for tool, result in RESULTS.items():
                    chat = Chat(stack.port, model=model)
                    answer = chat.ask(asked(tool))
                    if tool == "refund":
                        assert answer["status"] == "waiting", (model, answer)
                        answer = chat.approve(answer)
                    [called] = calls(answer)
                    found = (called["name"], called["state"], called.get("result"))
                    assert found == (tool, "done", result), (model, answer)
                    assert answer["content"].endswith(f"{tool} is done."), (model, answer)
                answer = Chat(stack.port, model=model).ask(**DOCUMENT)
                assert (answer["status"], answer["object"]) == ("complete", {"city": "Oslo"}), model


# --- a real model --------------------------------------------------------------------------------


SHORT = {"options": {"max_tokens": 100, "temperature": 0.0}}


def example(tool: str) -> str:
    """Instructions that end with three such calls, in the form of the server's prompts."""
    call = json.dumps({"name": tool, "arguments": arguments(tool)})
    asks = f"<|im_end|>\n<|im_start|>user\n{asked(tool)}"
    calling = f"<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{call}\n</tool_call>"
    return "Be brief." + 3 * (asks + calling)


def test_a_real_model(tmp_path: Path, llamacpp_url: str) -> None:
    """A small model calls a tool as it sees it done. A person allows what needs it, and the model
    goes on with the result.
    """
    models = {"small": {"provider": "llamacpp", "model": "default", "base_url": llamacpp_url}}
    with everything(tmp_path, models, MAX_TOOL_ROUNDS="1") as stack:
        for tool, result in RESULTS.items():
            chat = Chat(stack.port, instructions=example(tool))
            must = {"use": [tool], "choice": "required"}
            answer = chat.ask(asked(tool), tools=must, **SHORT)
            if tool == "refund":
                assert answer["status"] == "waiting", answer
                answer = chat.approve(answer)
            assert calls(answer), answer["content"]
            [called] = calls(answer)
            found = (called["name"], called["state"], called.get("result"))
            assert found == (tool, "done", result), answer
            assert answer["status"] == "complete", answer["error"]
            assert "step" in [part["type"] for part in answer["parts"]], tool
        answer = Chat(stack.port).ask(**DOCUMENT, **SHORT)
        assert answer["status"] == "complete", (answer["error"], answer["content"])
        assert isinstance(answer["object"]["city"], str)
