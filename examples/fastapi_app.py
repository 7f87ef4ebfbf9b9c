"""The AI SDK's chat protocol from a FastAPI app, with only Tokenwire's encoder.

In a checkout:

    pip install fastapi uvicorn; uvicorn examples.fastapi_app:app --port 8010

In the page, served by your own server or allowed by CORS:

    useChat({ transport: new DefaultChatTransport({ api: "http://localhost:8010/api/chat" }) })
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tokenwire.aisdk import HEADERS, UIChunk, Writer, abody, comment

app = FastAPI()


@app.post("/api/chat")
async def chat(body: dict[str, Any]) -> StreamingResponse:
    """`body["messages"]` is the history; the last message is the question."""
    question = "".join(part.get("text", "") for part in body["messages"][-1]["parts"])
    return StreamingResponse(
        abody(answer(question), on_error=lambda _error: "The answer failed."), headers=HEADERS
    )


async def answer(question: str) -> AsyncIterator[list[UIChunk] | bytes]:
    """An answer like a model's: the writer's chunks, and sometimes a comment that keeps the
    connection open.
    """
    write = Writer()
    yield write.start("message-1", {"model": "none"})
    yield write.reasoning("Somebody asks about the weather.")
    yield write.tool_input_available("call-1", "weather", {"question": question})
    yield comment("looking out of the window")
    await asyncio.sleep(0.1)
    yield write.tool_output_available("call-1", {"celsius": 21})
    for word in ("It ", "is ", "21 °C."):
        yield write.text(word)
    yield write.source_url("source-1", "https://example.com/weather", "The window")
    yield write.finish("stop")
