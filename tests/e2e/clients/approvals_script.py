"""What OpenAI's Python client must get from Tokenwire when a call of the server's needs an
approval. A program of its own, so that it runs with any version of the package.

    python approvals_script.py http://127.0.0.1:8000/v1

It fails by an AssertionError and prints the client's version. The tool counts its runs itself: each
part here pays somebody else, whose name begins with that version.
"""

import sys
from typing import Any

import httpx
import openai

SERVER: Any = {"type": "mcp", "server_label": "tokenwire"}


class Flaky(httpx.HTTPTransport):
    """Connections that break when the first request for an answer has reached the server."""

    def __init__(self) -> None:
        super().__init__()
        self.posts = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self.posts += request.method == "POST"
        if self.posts == 1:
            response.close()
            raise httpx.ReadError("the connection broke")
        return response


def asks(client: openai.OpenAI, input_: Any, *, stream: bool, **more: Any) -> Any:
    """The response at its end. A streamed one is what its events say."""
    asked: Any = {"model": "demo", "input": input_, "tools": [SERVER], **more}
    if not stream:
        return client.responses.create(**asked)
    with client.responses.stream(**asked) as events:
        kinds = [event.type for event in events]
        response = events.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    kept = client.responses.retrieve(response.id)
    assert kept.output_text == response.output_text
    assert [item.type for item in kept.output] == [item.type for item in response.output]
    return kept


def requested(client: openai.OpenAI, to: str, *, stream: bool) -> tuple[Any, Any]:
    """A response that asks to pay somebody, and its request."""
    asked = asks(client, f'!tool pay {{"to": "{to}"}}', stream=stream)
    (item,) = asked.output
    assert (item.type, item.name, item.server_label) == ("mcp_approval_request", "pay", "tokenwire")
    assert item.arguments == f'{{"to": "{to}"}}'
    return asked, item


def decision(item: Any, approve: bool = True, **more: Any) -> dict[str, Any]:
    known = {"type": "mcp_approval_response", "approval_request_id": item.id, "approve": approve}
    return known | more


def allowed(client: openai.OpenAI, to: str, *, stream: bool, repeats_history: bool) -> None:
    """The next response has the call, its outcome, and the model's answer to it."""
    asked, item = requested(client, to, stream=stream)
    if repeats_history:
        question = {"role": "user", "content": f'!tool pay {{"to": "{to}"}}'}
        input_, more = [question, item.to_dict(), decision(item)], dict[str, Any]()
    else:
        input_, more = [decision(item)], {"previous_response_id": asked.id}
    ended = asks(client, input_, stream=stream, **more)
    call, text = ended.output
    assert (call.type, call.status, call.output) == ("mcp_call", "completed", f"Paid {to}.")
    assert (call.approval_request_id, call.error) == (item.id, None)
    assert ended.output_text == f"The tool pay returned: Paid {to}.", text
    later = asks(client, "!short hi", stream=stream, previous_response_id=ended.id)
    assert later.output_text.startswith("Hello!")


def denied(client: openai.OpenAI, to: str, *, stream: bool) -> None:
    """The model reads why."""
    asked, item = requested(client, to, stream=stream)
    no = decision(item, approve=False, reason="Too much.")
    ended = asks(client, [no], stream=stream, previous_response_id=asked.id)
    call, _ = ended.output
    why = "A person denied this call: Too much."
    assert (call.status, call.output, call.error) == ("failed", None, why)
    assert ended.output_text == f"The tool pay failed: {why}"


def sent_again(url: str, to: str, *, stream: bool) -> None:
    """The client repeats a request whose connection broke: it gets the one response."""
    flaky = Flaky()
    with (
        openai.OpenAI(base_url=url, api_key="none", timeout=60) as client,
        openai.OpenAI(
            base_url=url, api_key="none", timeout=60, http_client=httpx.Client(transport=flaky)
        ) as breaking,
    ):
        asked, item = requested(client, to, stream=stream)
        ended = asks(breaking, [decision(item)], stream=stream, previous_response_id=asked.id)
        assert flaky.posts == 2
        assert ended.output_text == f"The tool pay returned: Paid {to}."
        no = decision(item, approve=False)
        code = ""
        try:
            asks(client, [no], stream=stream, previous_response_id=asked.id)
        except openai.ConflictError as error:
            code = str(error.code)
        assert code == "already_decided", code


def main() -> None:
    url = sys.argv[1]
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    name = openai.__version__
    for stream, how in ((False, "whole"), (True, "streamed")):
        allowed(client, f"{name}-allowed-{how}", stream=stream, repeats_history=False)
        allowed(client, f"{name}-repeated-{how}", stream=stream, repeats_history=True)
        denied(client, f"{name}-denied-{how}", stream=stream)
        sent_again(url, f"{name}-again-{how}", stream=stream)
    print(openai.__version__)  # noqa: T201 -- what it is run for


if __name__ == "__main__":
    main()
