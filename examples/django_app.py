"""The AI SDK's chat protocol from a Django app in one file, with only Tokenwire's encoder.

In a checkout:

    pip install django; python -m examples.django_app runserver 8010

In the page, served by your own server or allowed by CORS:

    useChat({ transport: new DefaultChatTransport({ api: "http://localhost:8010/api/chat" }) })
"""

import json
import sys
import time
from collections.abc import Iterator

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from tokenwire.aisdk import HEADERS, UIChunk, Writer, body, comment

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"])


@csrf_exempt
def chat(request: HttpRequest) -> StreamingHttpResponse:
    """The last message of the history is the question."""
    question = "".join(
        part.get("text", "") for part in json.loads(request.body)["messages"][-1]["parts"]
    )
    return StreamingHttpResponse(
        body(answer(question), on_error=lambda _error: "The answer failed."), headers=HEADERS
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


urlpatterns = [path("api/chat", chat)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
