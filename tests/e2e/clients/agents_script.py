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
    MCPToolApprovalRequest,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    RunState,
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


def clerk(model: Any, on_request: Any = None) -> Any:
    """An agent whose calls of the server's tools somebody must allow."""
    config: Any = {"type": "mcp", "server_label": "tokenwire"}
    hosted = HostedMCPTool(tool_config=config, on_approval_request=on_request)
    return Agent(name="Clerk", model=model, tools=[weather, hosted])


async def asked_for(model: Any, how: str, **more: Any) -> None:
    """The program decides at once, by `on_approval_request`: it allows one call and denies the
    other. The next question has it all in its history.
    """
    seen: list[str] = []

    def decide(request: MCPToolApprovalRequest) -> Any:
        seen.append(request.data.arguments)
        allows = "allowed" in request.data.arguments
        return {"approve": True} if allows else {"approve": False, "reason": "Too much."}

    agent = clerk(model, decide)
    asked = f'!tool pay {{"to": "agent-allowed-{how}"}} !tool pay {{"to": "agent-denied-{how}"}}'
    ended = await ended_run(agent, asked, streams="streamed" in how, **more)
    assert len(seen) == 2, seen
    assert f"returned: Paid agent-allowed-{how}." in ended.final_output, ended.final_output
    assert "failed: A person denied this call: Too much." in ended.final_output
    if not more:
        later = [*ended.to_input_list(), {"role": "user", "content": "!short hi"}]
        assert (await Runner.run(agent, later)).final_output.startswith("Hello!")
        assert len(seen) == 2, seen


async def interrupted(model: Any, how: str, **more: Any) -> None:
    """The run ends with its question, and its state is kept as text. Another process goes on, and
    dies; a third one does the same again, and has the same answer.
    """
    agent = clerk(model)
    asked = f'!tool pay {{"to": "agent-kept-{how}"}}'
    kept = (await ended_run(agent, asked, streams="streamed" in how, **more)).to_state().to_string()
    answers = []
    for _ in range(2):
        state = await RunState.from_string(agent, kept)
        (question,) = state.get_interruptions()
        state.approve(question)
        ended = await ended_run(agent, state, streams="streamed" in how, **more)
        assert f"returned: Paid agent-kept-{how}." in ended.final_output, ended.final_output
        answers.append(ended.last_response_id)
    assert answers[0] == answers[1], answers


async def ended_run(agent: Any, asked: Any, *, streams: bool, **more: Any) -> Any:
    if not streams:
        return await Runner.run(agent, asked, **more)
    streamed = Runner.run_streamed(agent, asked, **more)
    async for _ in streamed.stream_events():
        pass
    return streamed


async def main() -> None:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
    await functions(OpenAIChatCompletionsModel("demo", client))
    await functions(OpenAIResponsesModel("demo", client))
    await functions(OpenAIResponsesModel("demo", client), auto_previous_response_id=True)
    model = OpenAIResponsesModel("demo", client)
    await of_the_server(model)
    for how in ("whole", "streamed"):
        await asked_for(model, how)
        await asked_for(model, f"{how}-followed", auto_previous_response_id=True)
        await interrupted(model, how)
        await interrupted(model, f"{how}-followed", auto_previous_response_id=True)
    print("ok")  # noqa: T201 -- what it is run for


if __name__ == "__main__":
    asyncio.run(main())
