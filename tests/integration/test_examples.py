"""The examples speak the protocol: each is served by its own framework over a real connection."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest
import uvicorn

from examples import django_app, fastapi_app, flask_app
from tests.unit.web.aisdk.client import Client
from tokenwire.web.aisdk import HEADERS

QUESTION = {
    "id": "c",
    "messages": [
        {"id": "m", "role": "user", "parts": [{"type": "text", "text": "How is the weather?"}]}
    ],
}


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def wsgi(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, WSGIServer, _Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def asgi(app: Any) -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(
    ("serve", "app"),
    [(asgi, fastapi_app.app), (wsgi, flask_app.app), (wsgi, django_app.application)],
    ids=["fastapi", "flask", "django"],
)
def test_an_example_streams_an_answer(serve: Any, app: Any) -> None:
    """With its headers, chunk by chunk, until [DONE]."""
    with serve(app) as url, httpx.stream("POST", f"{url}/api/chat", json=QUESTION) as response:
        lines = list(response.iter_lines())
    assert {
        name: response.headers[name].partition(";")[0]
        for name in HEADERS
        if name != "Cache-Control"
    } == {
        name: value.partition(";")[0] for name, value in HEADERS.items() if name != "Cache-Control"
    }
    assert lines[-2:] == ["data: [DONE]", ""]
    assert ": looking out of the window" in lines
    client = Client().read(json.loads(line[6:]) for line in lines if line.startswith("data: {"))
    assert (client.text(), client.text("reasoning")) == (
        "It is 21 °C.",
        "Somebody asks about the weather.",
    )
    assert client.tools() == {"call-1": "output-available"}
