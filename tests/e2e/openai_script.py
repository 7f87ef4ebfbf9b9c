"""What OpenAI's Python client must get from Tokenwire. A program of its own, so that it runs with
any version of the package.

    python openai_script.py http://127.0.0.1:8000/v1

It fails by an AssertionError and prints the client's version.
"""

import sys
import time
from typing import Any

import openai

Events = list[dict[str, Any]]


def seen(stream: Any) -> Events:
    return [event.to_dict() for event in stream]


def text_of(events: Events) -> str:
    return "".join(
        event["delta"] for event in events if event["type"] == "response.output_text.delta"
    )


def whole_answers(client: openai.OpenAI) -> None:
    assert "demo" in [model.id for model in client.models.list()]
    assert client.models.retrieve("demo").object == "model"
    response = client.responses.create(
        model="demo",
        input="!short hi",
        instructions="Be kind.",
        metadata={"a": "b"},
        temperature=0.5,
    )
    assert response.status == "completed"
    assert response.output_text.startswith("Hello! 👋")
    assert response.usage is not None
    assert (
        response.usage.total_tokens
        == response.usage.input_tokens + response.usage.output_tokens
        > 0
    )
    assert (response.metadata, response.instructions, response.temperature) == (
        {"a": "b"},
        "Be kind.",
        0.5,
    )
    assert client.responses.retrieve(response.id).to_dict() == response.to_dict()


def streamed(client: openai.OpenAI) -> None:
    events = seen(client.responses.create(model="demo", input="!fast !think hi", stream=True))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    response = client.responses.retrieve(events[0]["response"]["id"])
    assert response.output_text == text_of(events)
    assert "日本語, Ελληνικά, עברית" in response.output_text
    assert [item.type for item in response.output] == ["reasoning", "message"]
    for after in (-1, 0, 1, 2, 3, 4, 40, len(events) // 2, len(events) - 2, len(events) - 1):
        assert (
            seen(client.responses.retrieve(response.id, stream=True, starting_after=after))
            == events[after + 1 :]
        )
    with client.responses.stream(response_id=response.id, starting_after=10) as stream:
        assert stream.get_final_response().output_text == response.output_text
    with client.responses.stream(model="demo", input="!short !think hi") as stream:
        assert stream.get_final_response().output_text.startswith("Hello!")


def cut_and_resumed(client: openai.OpenAI) -> None:
    events: Events = []
    stream = client.responses.create(model="demo", input="Tell me", stream=True, background=True)
    while not events or events[-1]["type"] != "response.completed":
        for count, event in enumerate(stream):
            events.append(event.to_dict())
            if count == 120:
                break
        stream.close()
        stream = client.responses.retrieve(
            events[0]["response"]["id"], stream=True, starting_after=events[-1]["sequence_number"]
        )
    stream.close()
    assert events == seen(client.responses.retrieve(events[0]["response"]["id"], stream=True))
    assert events[1]["type"] == "response.queued"
    assert text_of(events) == client.responses.retrieve(events[0]["response"]["id"]).output_text


def cancelled(client: openai.OpenAI) -> None:
    response = client.responses.create(model="demo", input="!slow hi", background=True)
    assert response.status == "queued"
    time.sleep(1)
    stopped = client.responses.cancel(response.id)
    assert stopped.status == "cancelled"
    assert client.responses.cancel(response.id).status == "cancelled"
    events = seen(client.responses.retrieve(response.id, stream=True))
    assert (events[-1]["type"], events[-1]["response"]["status"]) == (
        "response.incomplete",
        "cancelled",
    )
    assert text_of(events) == stopped.output_text != ""


def followed_up(client: openai.OpenAI) -> None:
    first = client.responses.create(model="demo", input="!short one")
    second = client.responses.create(
        model="demo",
        input=[{"role": "user", "content": "!short two"}],
        previous_response_id=first.id,
    )
    assert second.previous_response_id == first.id
    items = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.to_dict()["content"][0]["text"] for item in items] == [
        "!short one",
        first.output_text,
        "!short two",
    ]
    client.responses.delete(first.id)
    refused(openai.NotFoundError, None, lambda: client.responses.retrieve(first.id))
    refused(
        openai.BadRequestError,
        "previous_response_not_found",
        lambda: client.responses.create(model="demo", input="x", previous_response_id=first.id),
    )


def refused(kind: type[openai.APIStatusError], code: str | None, call: Any) -> None:
    error = raised(kind, call)
    assert code is None or error.code == code, error


def raised(kind: type[openai.APIError], call: Any) -> openai.APIError:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def errors(client: openai.OpenAI) -> None:
    refused(
        openai.NotFoundError,
        "model_not_found",
        lambda: client.responses.create(model="nope", input="x"),
    )
    refused(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("nope"))
    refused(
        openai.NotFoundError,
        "not_found",
        lambda: client.responses.retrieve("resp_nope", stream=True),
    )
    refused(
        openai.BadRequestError,
        "invalid_value",
        lambda: client.responses.create(model="demo", input=""),
    )
    tool = {"type": "web_search"}
    refused(
        openai.BadRequestError,
        "unsupported_parameter",
        lambda: client.responses.create(model="demo", input="x", tools=[tool]),
    )
    refused(
        openai.BadRequestError,
        "context_length_exceeded",
        lambda: client.responses.create(model="demo", input="!context"),
    )
    refused(
        openai.InternalServerError,
        "authentication_failed",
        lambda: client.responses.create(model="demo", input="!auth"),
    )
    events = seen(client.responses.create(model="demo", input="!auth", stream=True))
    assert (events[-1]["type"], events[-1]["response"]["error"]["code"]) == (
        "response.failed",
        "server_error",
    )
    with_image = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}
    ]
    refused(
        openai.BadRequestError,
        "unsupported_parameter",
        lambda: client.chat.completions.create(model="demo", messages=with_image),
    )
    refused(
        openai.NotFoundError,
        "unknown_url",
        lambda: client.embeddings.create(model="demo", input="x"),
    )


def chats(client: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "!short hi"}]},
    ]
    answer = client.chat.completions.create(model="demo", messages=messages)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == answer.choices[0].message.content
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == "stop"
    failing = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "!context"}], stream=True
    )
    assert raised(openai.APIError, lambda: list(failing)).code == "context_length_exceeded"
    chat_that_was_left(client)


def chat_that_was_left(client: openai.OpenAI) -> None:
    """It continues, and is read as a response."""
    stream = client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "!fast !cut hi"}], stream=True
    )
    name = next(iter(stream)).id
    stream.close()
    for _ in range(100):
        response = client.responses.retrieve(name.replace("chatcmpl-", "resp_"))
        if response.status == "completed":
            break
        time.sleep(0.1)
    assert response.output_text.startswith("# A reply")


def main() -> None:
    client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
    for check in (whole_answers, streamed, cut_and_resumed, cancelled, followed_up, errors, chats):
        check(client)
    print(openai.__version__)  # noqa: T201 -- what it is run for


if __name__ == "__main__":
    main()
