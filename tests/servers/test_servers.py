"""Each foreign server starts and streams: the tests of the dialects rely on it."""

import json

import httpx
import pytest

from tests.servers import aimock, llmock


def _text(body: str) -> str:
    """The content of an OpenAI chat stream."""
    chunks = [
        json.loads(line.removeprefix("data: "))
        for line in body.splitlines()
        if line.startswith("data: {")
    ]
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )


def _ask(base_url: str, content: str) -> str:
    question = {
        "model": "gpt-4o-mini",
        "stream": True,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": content}],
    }
    answer = httpx.post(
        f"{base_url}/chat/completions",
        json=question,
        headers={"Authorization": "Bearer test"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.text.rstrip().endswith("data: [DONE]")
    return _text(answer.text)


def test_llamacpp_streams_a_real_answer(llamacpp_url: str) -> None:
    """A real model writes text and ends properly."""
    assert _ask(llamacpp_url, "Say hello.")


@pytest.mark.usefixtures("aimock_installed")
def test_aimock_answers_with_its_fixture() -> None:
    """The answer is the fixture's."""
    with aimock.start(
        [{"match": {"userMessage": "hello"}, "response": {"content": "Hi there, friend."}}]
    ) as url:
        assert _ask(f"{url}/v1", "hello") == "Hi there, friend."


@pytest.mark.usefixtures("llmock_installed")
def test_llmock_echoes() -> None:
    """The answer is the question."""
    with llmock.start("--response-style", "echo") as url:
        assert "tell me" in _ask(f"{url}/v1", "tell me")
