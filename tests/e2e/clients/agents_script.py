"""What a Runner of OpenAI's Agents SDK must get from Tokenwire. A program of its own.

python agents_script.py http://127.0.0.1:8000/v1

It fails by an AssertionError and prints nothing but `ok`.
"""

import asyncio
import sys
from typing import Any

from agents import (
    Agent,
    HostedMCPTool,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

RAN: list[str] = []
ASKED = '!tool weather {"city": "Oslo"} !tool weather {"city": "Rome"}'


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    RAN.append(city)
    return f"Sunny in {city}."


async def runs(agent: Any, asked: Any, **more: Any) -> Any:
    """One run; streamed ones end with the same."""
    ended = await Runner.run(agent, asked, **more)
    streamed = Runner.run_streamed(agent, asked, **more)
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == ended.final_output
    return ended


async def functions(model: Any, **more: Any) -> None:
    """The SDK executes two parallel calls, and the model has their results. A later question has
    the whole history.
    """
    RAN.clear()
    agent = Agent(name="Clerk", instructions="Be kind.", model=model, tools=[weather])
    ended = await runs(agent, ASKED, **more)
    assert sorted(RAN) == ["Oslo", "Oslo", "Rome", "Rome"], RAN
    assert "Sunny in Oslo." in ended.final_output
    assert "Sunny in Rome." in ended.final_output
    later = [*ended.to_input_list(), {"role": "user", "content": "!short hi"}]
    if not more:
        assert (await Runner.run(agent, later)).final_output


async def of_the_server(model: Any) -> None:
    """A tool of the server is executed there, next to one of the program."""
    config: Any = {"type": "mcp", "server_label": "tokenwire", "require_approval": "never"}
    agent = Agent(name="Clerk", model=model, tools=[weather, HostedMCPTool(tool_config=config)])
    ended = await runs(agent, '!tool add {"a": 1, "b": 2}')
    assert "The tool add returned: 3" in ended.final_output, ended.final_output
    items = [getattr(item.raw_item, "type", None) for item in ended.new_items]
    assert "mcp_call" in items
    again = [*ended.to_input_list(), {"role": "user", "content": "!short hi"}]
    assert (await Runner.run(agent, again)).final_output


async def main() -> None:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
    await functions(OpenAIChatCompletionsModel("demo", client))
    await functions(OpenAIResponsesModel("demo", client))
    await functions(OpenAIResponsesModel("demo", client), auto_previous_response_id=True)
    await of_the_server(OpenAIResponsesModel("demo", client))
    print("ok")  # noqa: T201 -- what it is run for


if __name__ == "__main__":
    asyncio.run(main())
