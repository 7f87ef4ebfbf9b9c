"""web/openai/responses.py: a Response has every key of the public specification (schemas of
`llm-comply`).
"""

from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from llm_comply.schema import SpecLoader
from openai.types.chat import ChatCompletion
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from tokenwire.models.tables import Message as Row
from tokenwire.protocol.files import address_of
from tokenwire.protocol.fold import Answer, from_view
from tokenwire.web.openai.completions import completion
from tokenwire.web.openai.following import head_of
from tokenwire.web.openai.items import fitting_pictures, output_items
from tokenwire.web.openai.objects import Head
from tokenwire.web.openai.responses import response

SPECIFICATION = str(files("llm_comply") / "specs" / "openresponses.json")
pytestmark = pytest.mark.filterwarnings(
    "ignore:jsonschema.RefResolver"
)  # the suite's own way to read its schemas
USAGE = {"input_tokens": 3, "output_tokens": 5, "estimated": False}
HEAD = Head("m", "demo", 1, completed_at=2)


def answer(status: str, content: str = "", reasoning: str = "", **more: Any) -> Answer:
    """The answer of a row."""
    row = {"id": "m", "status": status, "content": content, "reasoning": reasoning}
    return from_view(row | more)


def with_parts(status: str = "complete", **streams: Any) -> Answer:
    """An answer with one part of each type, and two texts."""
    parts = [
        {"type": "reasoning", "length": 2},
        {"type": "source", "url": "https://before"},
        {"type": "text", "length": 5},
        {"type": "source", "url": "https://a", "title": "A", "at": 2, "cites": [1, 99]},
        {"type": "source", "file_id": "f", "at": 3},
        {"type": "source", "address": "javascript:alert(1)", "title": "T", "at": 3},
        {"type": "provider", "dialect": "d", "kind": "k", "at": 3},
        {"type": "tool_call", "id": "c", "name": "n", "state": "proposed", "input": "{}"},
        {"type": "tool_call", "id": "d", "name": "n", "state": "invalid", "input": "{"},
        {"type": "file", "url": "data:image/png;base64,aGk=", "media_type": "image/png"},
        {"type": "file", "url": "https://elsewhere/a.png", "media_type": "image/png"},
        {"type": "data", "name": "n", "data": 1},
        {"type": "step"},
        {"type": "text", "length": 4},
        {"type": "reasoning", "length": 0},
    ]
    return answer(status, "Hello you", "Hm", parts=parts, **streams)


@pytest.mark.parametrize(
    ("head", "held"),
    [
        (Head("m", "demo", 1, {"background": True}), answer("queued")),
        (HEAD, answer("streaming", "Ye")),
        (HEAD, answer("complete", "Yes.", "Hm.", finish_reason="stop", usage=USAGE)),
        (
            Head("m", "demo", 1, {"temperature": 0.5, "metadata": {"a": "b"}}),
            answer("complete", "Ye", finish_reason="length", usage=USAGE),
        ),
        (
            HEAD,
            answer("error", error={"code": "unavailable", "error": "Away.", "retryable": True}),
        ),
        (HEAD, answer("cancelled", "Ye")),
    ],
)
def test_a_response_has_every_key_of_the_specification(head: Head, held: Answer) -> None:
    """In any state."""
    assert SpecLoader(SPECIFICATION).validate(response(head, held), "ResponseResource") == []


def test_only_a_complete_answer_is_completed() -> None:
    """A failed or cancelled one never is."""
    ended = answer("complete", "Yes.", finish_reason="stop")
    assert response(HEAD, ended)["completed_at"] == 2
    assert response(HEAD, answer("cancelled"))["completed_at"] is None
    assert response(HEAD, ended)["temperature"] == response(HEAD, ended)["top_p"] == 1.0


def test_a_later_change_of_the_row_moves_no_end() -> None:
    """A row that was read before its end has no better time than that of its last change."""
    row = Row(id="m", conversation_id="c", role="assistant", created_at=1000, updated_at=9000)
    assert head_of(row).completed_at == 9
    row.ended_at = 5000
    assert head_of(row).completed_at == 5


def test_items_are_in_the_order_of_the_parts() -> None:
    """Parts without an item in this dialect have none; a remote image has no bytes."""
    items = output_items(HEAD, with_parts(finish_reason="stop"))
    assert [(item["type"], item["id"], item["status"]) for item in items] == [
        ("reasoning", "rs_m", "completed"),
        ("message", "msg_m", "completed"),
        ("function_call", "fc_m_0", "completed"),
        ("function_call", "fc_m_1", "incomplete"),
        ("image_generation_call", "ig_m", "completed"),
        ("message", "msg_m_2", "completed"),
    ]
    assert items[4]["result"] == "aGk="
    assert [item["arguments"] for item in items[2:4]] == ["{}", "{"]
    for item in items:
        TypeAdapter[Any](ResponseOutputItem).validate_python(item)


OURS = address_of("m", "0" * 64)


def pictures(*sizes: int, **fields: Any) -> Answer:
    """An answer with stored images of these sizes."""
    value = {"type": "file", "media_type": "image/png", "url": OURS, **fields}
    parts = [{**value, "size": size} for size in sizes]
    return answer("complete", "Look.", parts=[*parts, {"type": "text", "length": 5}])


def test_a_stored_image_has_its_bytes_if_they_were_read() -> None:
    """Else its item says that there is one."""
    for shown, result in (({OURS: "aGk="}, "aGk="), ({}, None)):
        items = output_items(replace(HEAD, pictures=shown), pictures(2))
        assert [(item["type"], item.get("result")) for item in items[:1]] == [
            ("image_generation_call", result)
        ]
        TypeAdapter[Any](ResponseOutputItem).validate_python(items[0])
        head = Head("m", "demo", 1, pictures=shown)
        assert response(head, pictures(2))["output"] == items


@pytest.mark.parametrize(
    "fields",
    [
        {"media_type": "audio/wav"},
        {"url": address_of("another", "0" * 64)},
        {"url": None, "dropped": True},
        {"url": "/elsewhere/a.png"},
    ],
    ids=str,
)
def test_other_files_have_no_item(fields: dict[str, Any]) -> None:
    """Sounds, files of other answers, lost files."""
    held = pictures(2, **fields)
    assert [
        item["type"] for item in output_items(replace(HEAD, pictures={OURS: "aGk="}), held)
    ] == ["message"]
    assert fitting_pictures(held, 100) == []


def test_images_are_shown_as_long_as_they_fit() -> None:
    """Which ones depends on those before them alone, so live and later readers see the same."""
    assert fitting_pictures(pictures(4, 4, 4), 8) == [OURS, OURS]
    assert fitting_pictures(pictures(9, 4), 8) == [OURS]
    assert fitting_pictures(pictures(9), 8) == []


def test_sources_are_annotations() -> None:
    """With a title and a range, as the dialect requires: an unknown range is empty."""
    first = output_items(HEAD, with_parts())[1]["content"][0]
    title = {"title": "https://before", "url": "https://before"}
    assert first["annotations"] == [
        {"type": "url_citation", **title, "start_index": 0, "end_index": 0},
        {"type": "url_citation", "title": "A", "url": "https://a", "start_index": 1}
        | {"end_index": 5},
        {"type": "file_citation", "file_id": "f", "filename": "f", "index": 3},
    ]
    assert output_items(HEAD, with_parts())[-1]["content"][0]["annotations"] == []
    message = completion(HEAD, with_parts(finish_reason="stop"))["choices"][0]["message"]
    assert [cited["url_citation"]["url"] for cited in message["annotations"]] == [
        "https://before",
        "https://a",
    ]
    ChatCompletion.model_validate(completion(HEAD, with_parts(finish_reason="stop")))


@pytest.mark.parametrize(
    ("held", "statuses"),
    [
        (answer("streaming", "a", "b"), ["completed", "in_progress"]),
        (answer("cancelled", "a", "b"), ["completed", "incomplete"]),
        (answer("complete", "a", "b", finish_reason="length"), ["completed", "incomplete"]),
        (answer("complete", "a", "b", finish_reason="stop"), ["completed", "completed"]),
    ],
)
def test_statuses_of_items(held: Answer, statuses: list[str]) -> None:
    """An item that is followed by another is complete; the last one has the answer's status."""
    assert [item["status"] for item in output_items(HEAD, held)] == statuses
