"""The AI SDK's chat protocol from a Flask app, with only Tokenwire's encoder.

In a checkout:

    pip install flask; flask --app examples.flask_app run

In the page, served by your own server or allowed by CORS:

    useChat({ transport: new DefaultChatTransport({ api: "http://localhost:5000/api/chat" }) })
"""

import time
from collections.abc import Iterator

from flask import Flask, Response, request

from tokenwire.aisdk import HEADERS, UIChunk, Writer, body, comment

app = Flask(__name__)


@app.post("/api/chat")
def chat() -> Response:
    """The last message of the history is the question."""
    question = "".join(part.get("text", "") for part in request.get_json()["messages"][-1]["parts"])
    return Response(
        body(answer(question), on_error=lambda _error: "The answer failed."), headers=dict(HEADERS)
    )


def answer(question: str) -> Iterator[list[UIChunk] | bytes]:
    """An answer like a model's: the writer's chunks, and sometimes a comment that keeps the
    connection open.
    """
    write = Writer()
    yield write.start("message-1", {"model": "none"})
    yield write.reasoning("Somebody asks about the weather.")
    yield write.tool_input_available("call-1", "weather", {"question": question})
    yield comment("looking out of the window")
    time.sleep(0.1)
    yield write.tool_output_available("call-1", {"celsius": 21})
    for word in ("It ", "is ", "21 °C."):
        yield write.text(word)
    yield write.source_url("source-1", "https://example.com/weather", "The window")
    yield write.finish("stop")
