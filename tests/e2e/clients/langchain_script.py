"""What LangChain's `bind_tools` must get from Tokenwire. A program of its own.

python langchain_script.py http://127.0.0.1:8000/v1

It fails by an AssertionError and prints nothing but `ok`.
"""

import sys
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

RAN: list[str] = []


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    RAN.append(city)
    return f"Sunny in {city}."


def whole_loop(model: Any) -> None:
    """Two parallel calls, their results, the answer."""
    bound = model.bind_tools([weather])
    asked = '!tool weather {"city": "Oslo"} !tool weather {"city": "Rome"}'
    messages: list[Any] = [HumanMessage(asked)]
    answer = bound.invoke(messages)
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    messages.append(answer)
    messages += [weather.invoke(call) for call in answer.tool_calls]
    last = bound.invoke(messages)
    assert not last.tool_calls
    assert "Sunny in Oslo." in last.text
    assert "Sunny in Rome." in last.text


def streamed(model: Any) -> None:
    """Chunks add up to the calls."""
    whole = None
    for chunk in model.bind_tools([weather], tool_choice="weather").stream("Anywhere"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert [call["name"] for call in whole.tool_calls] == ["weather"]
    assert set(whole.tool_calls[0]["args"]) == {"city"}


def main() -> None:
    known: dict[str, Any] = {"model": "demo", "base_url": sys.argv[1], "api_key": "none"}
    for more in ({}, {"use_responses_api": True}, {"use_previous_response_id": True}):
        model = ChatOpenAI(max_retries=0, timeout=60, **known, **more)
        RAN.clear()
        whole_loop(model)
        assert RAN == ["Oslo", "Rome"]
        streamed(model)
    print("ok")  # noqa: T201 -- what it is run for


if __name__ == "__main__":
    main()
