"""Requests in each dialect: instructions, parts, tools, results, structure, options, and every
rung.
"""

import json
from typing import Any

import pytest

from tests.unit.providers.bodies import ANTHROPIC, CHAT, GEMINI, OLLAMA, RESPONSES
from tokenwire.providers.base import (
    REASONING,
    Continuation,
    HistoryMessage,
    InvalidRequest,
    Kept,
    Request,
    Tool,
)
from tokenwire.providers.content import NO_RESULT, check_abilities
from tokenwire.providers.dialects import DIALECTS
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    KeptPart,
    ReasoningPart,
    ResultPart,
    StepPart,
    TextPart,
)
from tokenwire.providers.registry import presets
from tokenwire.providers.spec import ModelSpec

OF = {
    CHAT: "openai_compatible",
    RESPONSES: "openai_responses",
    ANTHROPIC: "anthropic",
    GEMINI: "gemini",
    OLLAMA: "ollama",
}
PDF = "application/pdf;base64"
PNG = Attachment("image/png", data=b"\x89PNG")
WEATHER = Tool(
    "weather", "the weather", {"type": "object", "properties": {"city": {"type": "string"}}}
)


def sent(api: str, request: Request, provider: str | None = None, **options: Any) -> dict[str, Any]:
    """The body of the request as it is sent."""
    spec = ModelSpec("name", provider or OF[api], "model", options=options)
    call = DIALECTS[api].build(request, spec, presets()[spec.provider])
    body: dict[str, Any] = json.loads(json.dumps(call.body))
    return body


def turns(api: str, *messages: HistoryMessage, **fields: Any) -> Any:
    """The body's field that holds the conversation."""
    body = sent(api, Request(messages, **fields))
    return body[{RESPONSES: "input", GEMINI: "contents"}.get(api, "messages")]


USER = HistoryMessage("user", "hi")


@pytest.mark.parametrize("api", OF)
def test_empty_messages_are_never_sent(api: str) -> None:
    """Neither an empty answer of a failed attempt nor an empty question. An empty conversation is
    refused before the request.
    """
    assert len(
        turns(
            api,
            USER,
            HistoryMessage("assistant", ""),
            HistoryMessage("assistant", " \n"),
            HistoryMessage("user", "you"),
        )
    ) in (
        1,
        2,
    )
    assert '""' not in json.dumps(turns(api, HistoryMessage("user", ""), USER))
    with pytest.raises(InvalidRequest):
        sent(api, Request([HistoryMessage("system", "be brief"), HistoryMessage("user", "  ")]))


@pytest.mark.parametrize("provider", ["llamacpp", "vllm", "ollama"])
def test_roles_alternate_at_local_servers(provider: str) -> None:
    """A question behind one whose answer failed: templates refuse two of them in a row."""
    two = [HistoryMessage("user", "Hello"), HistoryMessage("user", "Are you there?")]
    asked = [HistoryMessage("system", "be brief"), *two]
    asked += [HistoryMessage("assistant", "Yes."), HistoryMessage("user", "Good.")]
    api = presets()[provider].api
    messages = sent(api, Request(asked), provider)["messages"]
    assert [(each["role"], each["content"]) for each in messages] == [
        ("system", "be brief"),
        ("user", "Hello\n\nAre you there?"),
        ("assistant", "Yes."),
        ("user", "Good."),
    ]
    apart = sent(api, Request(two), provider, alternate=False)["messages"]
    assert [each["content"] for each in apart] == ["Hello", "Are you there?"]
    image = HistoryMessage("user", [PNG])
    [both] = sent(api, Request([image, two[0], two[1]]), provider)["messages"]
    if provider == "ollama":
        assert (both["content"], len(both["images"])) == ("Hello\n\nAre you there?", 1)
    else:
        assert [part["type"] for part in both["content"]] == ["image_url", "text"]
        assert both["content"][1]["text"] == "Hello\n\nAre you there?"


def test_messages_stay_apart_where_they_may() -> None:
    """A hosted provider gets them as they were written, unless its entry says otherwise."""
    two = [HistoryMessage("user", "Hello"), HistoryMessage("user", "Are you there?")]
    for options, number in (({}, 2), ({"alternate": True}, 1)):
        assert len(sent(CHAT, Request(two), "openai_compatible", **options)["messages"]) == number


@pytest.mark.parametrize("api", OF)
def test_an_answer_without_text_is_never_sent(api: str) -> None:
    """Sources and the like make no message of it."""
    for kind in ("choice", "chunk", "candidate", "images"):
        kept = [KeptPart(api, kind, {kind: ["unheard of"]})]
        if kind == "images" and api not in (CHAT, OLLAMA):
            continue
        found = turns(api, USER, HistoryMessage("assistant", kept), HistoryMessage("user", "you"))
        assert "unheard of" not in json.dumps(found)
        assert not [message for message in found if message["role"] in ("assistant", "model")]


def test_instructions_are_where_each_dialect_wants_them() -> None:
    """Among the messages for chat and Ollama, beside them for the others."""
    request = Request([HistoryMessage("system", "be brief"), USER])
    assert sent(CHAT, request)["messages"][0] == {"role": "system", "content": "be brief"}
    assert sent(OLLAMA, request)["messages"][0] == {"role": "system", "content": "be brief"}
    assert sent(RESPONSES, request)["instructions"] == "be brief"
    assert sent(ANTHROPIC, request)["system"] == "be brief"
    assert sent(GEMINI, request)["systemInstruction"] == {"parts": [{"text": "be brief"}]}


@pytest.mark.parametrize(
    ("api", "part", "expected"),
    [
        (CHAT, PNG, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}),
        (CHAT, Attachment("image/png", url="https://x/y.png"), {"type": "image_url",
            "image_url": {"url": "https://x/y.png"}}),
        (CHAT, Attachment("audio/wav", data=b"a"), {"type": "input_audio",
            "input_audio": {"data": "YQ==", "format": "wav"}}),
        (
            CHAT,
            Attachment("application/pdf", data=b"a"),
            {"type": "file", "file": {"filename": "document.pdf", "file_data": f"data:{PDF},YQ=="}},
        ),
        (CHAT, Attachment("text/plain", data=b"words"), {"type": "text", "text": "words"}),
        (RESPONSES, PNG, {"type": "input_image", "image_url": "data:image/png;base64,iVBORw=="}),
        (RESPONSES, Attachment("application/pdf", url="https://x/y.pdf"), {"type": "input_file",
            "file_url": "https://x/y.pdf"}),
        (RESPONSES, Attachment("text/plain", data=b"words"), {"type": "input_text",
            "text": "words"}),
        (ANTHROPIC, PNG, {"type": "image", "source": {"type": "base64", "media_type": "image/png",
            "data": "iVBORw=="}}),
        (ANTHROPIC, Attachment("application/pdf", url="https://x"), {"type": "document",
            "source": {"type": "url", "url": "https://x"}}),
        (GEMINI, PNG, {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}),
        (GEMINI, Attachment("audio/mp3", url="gs://x"), {"fileData": {"mimeType": "audio/mp3",
            "fileUri": "gs://x"}}),
    ],
)  # fmt: skip
def test_parts(api: str, part: Attachment, expected: Any) -> None:
    """Images, audio, PDF and text in each dialect's form."""
    message = turns(api, HistoryMessage("user", [part, TextPart("look")]))[0]
    assert expected in message["parts" if api == GEMINI else "content"]


def test_images_of_ollama() -> None:
    """They are beside the text."""
    assert turns(OLLAMA, HistoryMessage("user", [PNG, TextPart("look")]))[0]["images"] == [
        "iVBORw=="
    ]


@pytest.mark.parametrize(
    ("api", "part"),
    [
        (CHAT, Attachment("video/mp4", data=b"x")),
        (CHAT, Attachment("audio/ogg", data=b"x")),
        (CHAT, Attachment("application/pdf", url="https://x")),
        (RESPONSES, Attachment("audio/wav", data=b"x")),
        (ANTHROPIC, Attachment("audio/wav", data=b"x")),
        (OLLAMA, Attachment("application/pdf", data=b"x")),
        (OLLAMA, Attachment("image/png", url="https://x")),
    ],
)
def test_unsupported_parts_are_refused_before_the_request(api: str, part: Attachment) -> None:
    """The error names the media type."""
    with pytest.raises(InvalidRequest, match=part.media_type):
        turns(api, HistoryMessage("user", [part, TextPart("look")]))


CALLED = (
    USER,
    HistoryMessage(
        "assistant",
        [CallPart("c1", "weather", '{"city":"Oslo"}'), CallPart("c2", "weather", "{}")],
    ),
    HistoryMessage("tool", [ResultPart("c1", "weather", '{"t":3}')]),
    HistoryMessage("tool", [ResultPart("c2", "weather", "warm")]),
)


def test_tool_calls_and_results() -> None:
    """They keep their ids if they have any. Results of one turn are sent together if the dialect
    requires it.
    """
    assert turns(CHAT, *CALLED)[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                },
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "weather", "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"t":3}'},
        {"role": "tool", "tool_call_id": "c2", "content": "warm"},
    ]
    assert turns(RESPONSES, *CALLED)[1:] == [
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "weather",
            "arguments": '{"city":"Oslo"}',
        },
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": '{"t":3}'},
        {"type": "function_call_output", "call_id": "c2", "output": "warm"},
    ]
    assert turns(ANTHROPIC, *CALLED)[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": '{"t":3}'},
        {"type": "tool_result", "tool_use_id": "c2", "content": "warm"},
    ]
    assert turns(GEMINI, *CALLED)[2]["parts"] == [
        {"functionResponse": {"name": "weather", "response": {"t": 3}}},
        {"functionResponse": {"name": "weather", "response": {"result": "warm"}}},
    ]
    assert turns(OLLAMA, *CALLED)[1]["tool_calls"][0] == {
        "function": {"name": "weather", "arguments": {"city": "Oslo"}}
    }
    assert turns(OLLAMA, *CALLED)[2] == {
        "role": "tool",
        "content": '{"t":3}',
        "tool_name": "weather",
    }


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ("auto", "auto", {"type": "auto"}, {"mode": "AUTO"})),
        ("required", ("required", "required", {"type": "any"}, {"mode": "ANY"})),
        (
            "weather",
            (
                {"type": "function", "function": {"name": "weather"}},
                {"type": "function", "name": "weather"},
                {"type": "tool", "name": "weather"},
                {"mode": "ANY", "allowedFunctionNames": ["weather"]},
            ),
        ),
    ],
)
def test_the_choice_of_a_tool(choice: str, expected: tuple[Any, ...]) -> None:
    """Four dialects support it; Ollama does not."""
    request = Request([USER], tools=[WEATHER], tool_choice=choice)
    bodies = [sent(api, request) for api in (CHAT, RESPONSES, ANTHROPIC, GEMINI)]
    found = (
        bodies[0]["tool_choice"],
        bodies[1]["tool_choice"],
        bodies[2]["tool_choice"],
        bodies[3]["toolConfig"]["functionCallingConfig"],
    )
    assert found == expected
    if choice != "auto":
        with pytest.raises(InvalidRequest):
            sent(OLLAMA, request)


@pytest.mark.parametrize("api", [CHAT, RESPONSES, ANTHROPIC, GEMINI])
def test_an_unknown_tool_cannot_be_chosen(api: str) -> None:
    """The error names it."""
    with pytest.raises(InvalidRequest, match="nothing"):
        sent(api, Request([USER], tools=[WEATHER], tool_choice="nothing"))


def test_kept_values_go_back_to_their_own_dialect() -> None:
    """Thinking, encrypted reasoning and signatures go to no other dialect."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    item = {"type": "reasoning", "id": "r", "encrypted_content": "e"}
    details = {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}
    signature = {"thoughtSignature": "g"}
    thoughts = [(ANTHROPIC, thinking), (RESPONSES, item), (CHAT, details)]
    answer = HistoryMessage(
        "assistant",
        [
            *(ReasoningPart("hm", Kept(api, REASONING, value)) for api, value in thoughts),
            TextPart("yes"),
            KeptPart(GEMINI, "thoughtSignature", signature),
            CallPart("c", "weather", "{}", Kept(GEMINI, "tool_call", signature)),
        ],
    )
    result = HistoryMessage("tool", [ResultPart("c", "weather", "x")])
    assert turns(ANTHROPIC, USER, answer, result)[1]["content"][0] == thinking
    assert turns(RESPONSES, USER, answer, result)[1] == item
    assert turns(CHAT, USER, answer, result)[1]["reasoning_details"] == details["reasoning_details"]
    assert [
        part.get("thoughtSignature") for part in turns(GEMINI, USER, answer, result)[1]["parts"]
    ] == ["g", "g"]
    for api, foreign in (
        (ANTHROPIC, "encrypted"),
        (RESPONSES, "signature"),
        (CHAT, "encrypted"),
        (OLLAMA, "hm"),
    ):
        assert foreign not in json.dumps(turns(api, USER, answer, result))


KEPT = [
    (ANTHROPIC, "compaction", {"type": "compaction", "content": "x"}),
    (RESPONSES, "web_search_call", {"type": "web_search_call", "id": "ws", "status": "completed"}),
    (GEMINI, "executableCode", {"executableCode": {"language": "PYTHON", "code": "1"}}),
]


@pytest.mark.parametrize(("api", "kind", "value"), KEPT)
def test_an_item_goes_back_at_its_place(api: str, kind: str, value: dict[str, Any]) -> None:
    """Between the text before it and the text behind it."""
    parts = [TextPart("before "), KeptPart(api, kind, value), TextPart("behind")]
    answer = HistoryMessage("assistant", parts)
    said = json.dumps(turns(api, USER, answer, HistoryMessage("user", "go on")))
    assert said.index("before") < said.index(json.dumps(value)) < said.index("behind")


@pytest.mark.parametrize(("api", "kind", "value"), KEPT)
def test_kept_values_go_to_the_model_that_wrote_them(
    api: str, kind: str, value: dict[str, Any]
) -> None:
    """By the provider's name for it. Another model is sent what text can express, as one text."""
    parts = [
        TextPart("before "),
        KeptPart(api, kind, value),
        TextPart("behind"),
        CallPart("c", "weather", "{}", Kept(api, "tool_call", {"signed": "so"})),
    ]
    mine = json.dumps(turns(api, USER, HistoryMessage("assistant", parts, "model")))
    others = json.dumps(turns(api, USER, HistoryMessage("assistant", parts, "another")))
    assert json.dumps(value) in mine
    assert "signed" in mine
    assert json.dumps(value) not in others
    assert "signed" not in others
    assert "before behind" in others


def test_kept_parts_go_to_their_own_dialect() -> None:
    """Another dialect would refuse a block that it does not know."""
    for own, other in ((ANTHROPIC, RESPONSES), (RESPONSES, ANTHROPIC)):
        item = KeptPart(own, "hologram", {"type": "hologram"})
        answer = HistoryMessage("assistant", [item, TextPart("Yes.")])
        assert "hologram" in json.dumps(turns(own, USER, answer))
        assert "hologram" not in json.dumps(turns(other, USER, answer))


@pytest.mark.parametrize("answered", [False, True])
def test_an_item_that_waits_for_the_client_goes_back_with_its_answer(answered: bool) -> None:
    """The API refuses an open call that the client should answer."""
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "x"}
    output = {"type": "custom_tool_call_output", "call_id": "c", "output": ""}
    values = [call, output] if answered else [call]
    parts = [KeptPart(RESPONSES, value["type"], value) for value in values]
    answer = HistoryMessage("assistant", [TextPart("Well."), *parts])
    assert turns(RESPONSES, USER, answer)[2:] == (values if answered else [])


CALL = CallPart("c", "weather", '{"city":"Oslo"}')


@pytest.mark.parametrize("api", OF)
def test_a_call_without_a_result_gets_one(api: str) -> None:
    """Providers refuse a history with an open call, and models repeat such a call."""
    asked = HistoryMessage("assistant", [CALL])
    for history in ([USER, asked], [USER, asked, HistoryMessage("user", "and now?")]):
        found = json.dumps(turns(api, *history))
        assert found.count(json.dumps(NO_RESULT)) == 1
        assert found.index("Oslo") < found.index(NO_RESULT)
    with_result = [USER, asked, HistoryMessage("tool", [ResultPart("c", "weather", "warm")])]
    assert NO_RESULT not in json.dumps(turns(api, *with_result))


def test_an_error_is_sent_as_an_error() -> None:
    """If the dialect has a field for it."""
    failed = HistoryMessage("tool", [ResultPart("c", "weather", "no such city", error=True)])
    history = (USER, HistoryMessage("assistant", [CALL]), failed)
    assert turns(ANTHROPIC, *history)[2]["content"][0]["is_error"] is True
    assert turns(GEMINI, *history)[2]["parts"][0]["functionResponse"]["response"] == {
        "error": "no such city"
    }
    assert turns(CHAT, *history)[2]["content"] == "no such city"


@pytest.mark.parametrize("api", OF)
def test_a_step_splits_an_answer_into_its_turns(api: str) -> None:
    """Text, call, result and text are four turns in that order."""
    answer = HistoryMessage(
        "assistant",
        [
            TextPart("Let me look."),
            CALL,
            ResultPart("c", "weather", "warm"),
            StepPart(),
            TextPart("It is warm."),
        ],
    )
    found = turns(api, USER, answer, HistoryMessage("user", "thanks"))
    said = json.dumps(found)
    places = [said.index(word) for word in ("Let me look.", "Oslo", '"warm', "It is warm.")]
    assert places == sorted(places)
    assert NO_RESULT not in said
    explicit = [
        HistoryMessage("assistant", answer.parts[:2]),
        HistoryMessage("tool", answer.parts[2:3]),
        HistoryMessage("assistant", answer.parts[4:]),
    ]
    assert found == turns(api, USER, *explicit, HistoryMessage("user", "thanks"))


def test_citations_go_back_with_the_words_that_they_support() -> None:
    """Anthropic's text blocks are cut at the citations; other dialects get one text."""
    place = {"type": "page_location", "cited_text": "x", "document_index": 0}
    parts = [
        TextPart("I read: "),
        TextPart("it is so.", [Kept(ANTHROPIC, "citation", place)]),
        TextPart(" Good."),
    ]
    answer = HistoryMessage("assistant", parts)
    assert turns(ANTHROPIC, USER, answer)[1]["content"] == [
        {"type": "text", "text": "I read: "},
        {"type": "text", "text": "it is so.", "citations": [place]},
        {"type": "text", "text": " Good."},
    ]
    assert turns(CHAT, USER, answer)[1]["content"] == "I read: it is so. Good."


REASONED = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "e"}
SAID = {
    "type": "message",
    "id": "msg",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Yes."}],
}


def reasoned(kept: Kept | None) -> list[Any]:
    parts = [
        ReasoningPart("hm", kept),
        TextPart("Yes."),
        KeptPart(RESPONSES, "message", SAID),
        CallPart("c", "weather", "{}", Kept(RESPONSES, "tool_call", {"id": "fc", "status": "ok"})),
    ]
    items: list[Any] = turns(RESPONSES, USER, HistoryMessage("assistant", parts))[1:-1]
    return items


def test_items_behind_reasoning_keep_their_names() -> None:
    """The reasoning refers to them. If it cannot go back, the API would refuse their names."""
    call = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    assert reasoned(Kept(RESPONSES, REASONING, REASONED)) == [
        REASONED,
        SAID,
        {**call, "id": "fc", "status": "ok"},
    ]
    nameless = {name: value for name, value in SAID.items() if name != "id"}
    assert reasoned(None) == [nameless, {**call, "status": "ok"}]


def test_a_message_that_differs_from_its_text_is_not_sent() -> None:
    """Its text is sent instead."""
    other = {**SAID, "content": [{"type": "output_text", "text": "No."}]}
    parts = [TextPart("Yes."), KeptPart(RESPONSES, "message", other)]
    assert turns(RESPONSES, USER, HistoryMessage("assistant", parts))[1:] == [
        {"role": "assistant", "content": "Yes."}
    ]
    parts = [TextPart("Well. Yes."), KeptPart(RESPONSES, "message", SAID)]
    assert turns(RESPONSES, USER, HistoryMessage("assistant", parts))[1:] == [
        {"role": "assistant", "content": "Well. "},
        SAID,
    ]


def test_reasoning_that_nothing_follows_is_not_sent() -> None:
    """The API refuses it."""
    parts = [TextPart("Yes."), ReasoningPart("", Kept(RESPONSES, REASONING, REASONED))]
    assert turns(RESPONSES, USER, HistoryMessage("assistant", parts))[1:] == [
        {"role": "assistant", "content": "Yes."}
    ]


def test_signatures_of_gemini_stay_at_their_text() -> None:
    """Not at a thought, and not at a text that already has one."""
    parts = [
        ReasoningPart("hm", Kept(GEMINI, REASONING, {"thought": True, "thoughtSignature": "t"})),
        KeptPart(GEMINI, "thoughtSignature", {"thoughtSignature": "a"}),
        TextPart("Yes."),
        KeptPart(GEMINI, "thoughtSignature", {"thoughtSignature": "b"}),
        KeptPart(GEMINI, "thoughtSignature", {"thoughtSignature": "c"}),
    ]
    assert turns(GEMINI, USER, HistoryMessage("assistant", parts))[1]["parts"] == [
        {"text": "hm", "thought": True, "thoughtSignature": "t"},
        {"text": "", "thoughtSignature": "a"},
        {"text": "Yes.", "thoughtSignature": "b"},
        {"text": "", "thoughtSignature": "c"},
    ]


def test_a_call_with_a_gemini_id_and_its_result() -> None:
    """Both carry the provider's id; our own ids are not sent."""
    named = CallPart("g1", "weather", "{}", Kept(GEMINI, "tool_call", {"id": "g1"}))
    parts = [named, CALL, ResultPart("g1", "weather", "{}"), ResultPart("c", "weather", "{}")]
    found = turns(GEMINI, USER, HistoryMessage("assistant", parts))
    calls = [part["functionCall"].get("id") for part in found[1]["parts"]]
    results = [part["functionResponse"].get("id") for part in found[2]["parts"]]
    assert (calls, results) == (["g1", None], ["g1", None])


@pytest.mark.parametrize("api", [CHAT, ANTHROPIC, RESPONSES])
def test_a_generated_file_is_mentioned(api: str) -> None:
    """Where an answer cannot hold a file: the user's next message may refer to it."""
    answer = HistoryMessage("assistant", [PNG])
    found = turns(api, USER, answer, HistoryMessage("user", "make it blue"))
    assert "[file: image/png]" in json.dumps(found)
    assert "iVBORw" not in json.dumps(found)


def test_a_file_goes_back_as_it_came() -> None:
    """To its own provider."""
    item = {"type": "image_generation_call", "id": "ig", "result": "iVBORw=="}
    kept = Kept(RESPONSES, "image_generation_call", item)
    parts = [Attachment("image/png", data=b"\x89PNG", kept=kept), TextPart("There.")]
    assert turns(RESPONSES, USER, HistoryMessage("assistant", parts))[1:] == [
        item,
        {"role": "assistant", "content": "There."},
    ]
    inline = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}, "thoughtSignature": "s"}
    parts = [Attachment("image/png", data=b"\x89PNG", kept=Kept(GEMINI, "inlineData", inline))]
    assert turns(GEMINI, USER, HistoryMessage("assistant", parts))[1]["parts"] == [inline]


def test_thoughts_go_back_where_they_are_required() -> None:
    """DeepSeek refuses a call without its thoughts; others refuse the field."""
    thoughts = [
        ReasoningPart(text, Kept(CHAT, REASONING, {"reasoning_content": text}))
        for text in ("hm", ", yes")
    ]
    answer = HistoryMessage("assistant", [*thoughts, CALL])
    request = Request([USER, answer, HistoryMessage("tool", [ResultPart("c", "weather", "x")])])
    assert sent(CHAT, request, "deepseek")["messages"][1]["reasoning_content"] == "hm, yes"
    assert "hm" not in json.dumps(sent(CHAT, request))


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (Request([HistoryMessage("user", [PNG, TextPart("look")])]), "image"),
        (
            Request(
                [
                    HistoryMessage(
                        "user", [Attachment("application/pdf", data=b"x"), TextPart("read")]
                    )
                ]
            ),
            "pdf",
        ),
        (Request([USER], tools=[WEATHER]), "tools"),
        (Request([USER], schema={}), "schema"),
    ],
)
def test_unsupported_abilities_are_refused_before_the_request(request_: Request, word: str) -> None:
    """The catalogue's entry lists them."""
    check_abilities(request_, [])
    with pytest.raises(InvalidRequest, match=word):
        check_abilities(request_, [word, "audio"])


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = CITY | {"additionalProperties": False}


def test_a_schema_is_sent_in_the_form_of_its_provider() -> None:
    """The document of an open object may have more members; those of the form fit all the same."""
    request = Request([USER], schema=CITY)
    strict = {"name": "answer", "schema": CLOSED, "strict": True}
    assert sent(CHAT, request)["response_format"]["json_schema"] == strict
    assert sent(RESPONSES, request)["text"]["format"] == {"type": "json_schema", **strict}
    claude = sent(ANTHROPIC, request)
    assert claude["output_config"]["format"] == {"type": "json_schema", "schema": CLOSED}
    assert "system" not in claude
    assert sent(OLLAMA, request)["format"] == CITY


OPTIONS = Request([USER], schema={"type": "object"}, temperature=0.5, max_tokens=9, stop=("END",))


def test_options() -> None:
    """Structure, temperature, length and stop words under each dialect's names."""
    chat = sent(CHAT, OPTIONS)
    assert (chat["temperature"], chat["max_tokens"], chat["stop"]) == (0.5, 9, ["END"])
    assert chat["response_format"]["json_schema"] == {
        "name": "answer",
        "schema": {"type": "object"},
        "strict": False,
    }
    assert sent(CHAT, OPTIONS, "openai")["max_completion_tokens"] == 9
    claude = sent(ANTHROPIC, OPTIONS)
    assert (claude["temperature"], claude["max_tokens"], claude["stop_sequences"]) == (
        0.5,
        9,
        ["END"],
    )
    assert "output_config" not in claude
    assert claude["system"].endswith('It must fit this JSON Schema:\n{"type": "object"}')
    assert sent(GEMINI, OPTIONS)["generationConfig"] == {
        "temperature": 0.5,
        "maxOutputTokens": 9,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }
    ollama = sent(OLLAMA, OPTIONS)
    assert (ollama["options"], ollama["format"]) == (
        {"temperature": 0.5, "num_predict": 9, "stop": ["END"]},
        {"type": "object"},
    )
    with pytest.raises(InvalidRequest, match="stop"):
        sent(RESPONSES, OPTIONS)


@pytest.mark.parametrize("keep_alive", ["5m", -1, 0])
def test_quirks_of_ollama(keep_alive: int | str) -> None:
    """How long the model stays loaded, even 0 (not at all), and the size of its context."""
    body = sent(OLLAMA, Request([USER]), keep_alive=keep_alive, num_ctx=8192)
    assert (body["keep_alive"], body["options"]) == (keep_alive, {"num_ctx": 8192})
    assert "keep_alive" not in sent(OLLAMA, Request([USER]))


def test_reasoning_effort() -> None:
    """A field, an object, a budget or a level."""
    request = Request([USER], reasoning_effort="high")
    assert sent(CHAT, request)["reasoning_effort"] == "high"
    assert sent(CHAT, request, "openrouter")["reasoning"] == {"effort": "high"}
    with pytest.raises(InvalidRequest, match="reasoning_effort"):
        sent(CHAT, request, "mistral")
    assert sent(RESPONSES, request)["reasoning"]["effort"] == "high"
    claude = sent(ANTHROPIC, request)
    assert claude["thinking"]["budget_tokens"] < claude["max_tokens"]
    assert sent(ANTHROPIC, request, thinking="adaptive")["output_config"] == {"effort": "high"}
    assert sent(GEMINI, request)["generationConfig"]["thinkingConfig"]["thinkingLevel"] == "high"
    assert (
        sent(GEMINI, request, thinking="budget")["generationConfig"]["thinkingConfig"][
            "thinkingBudget"
        ]
        > 0
    )
    assert sent(OLLAMA, request)["think"] is True


def going_on(rung: Any, text: str = "Once upon ", **fields: Any) -> Request:
    return Request([USER], continuation=Continuation(rung, text, **fields))


@pytest.mark.parametrize("api", OF)
def test_continuation_by_an_extra_turn(api: str) -> None:
    """The partial answer and a request to continue after its last words, in every dialect."""
    body = json.dumps(sent(api, going_on("turn")))
    assert body.index("Once upon") < body.index("Go on exactly after")


@pytest.mark.parametrize(
    ("provider", "last", "beside"),
    [
        ("deepseek", {"role": "assistant", "content": "Once upon ", "prefix": True}, {}),
        ("mistral", {"role": "assistant", "content": "Once upon ", "prefix": True}, {}),
        (
            "vllm",
            {"role": "assistant", "content": "Once upon "},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
        (
            "llamacpp",
            {"role": "assistant", "content": "Once upon "},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
        ("lmstudio", {"role": "assistant", "content": "Once upon "}, {}),
    ],
)
def test_continuation_from_a_prefix(
    provider: str, last: dict[str, Any], beside: dict[str, Any]
) -> None:
    """How each compatible API wants the unfinished message marked."""
    body = sent(CHAT, going_on("prefix"), provider)
    assert body["messages"][-1] == last
    assert beside.items() <= body.items()


def test_continuation_from_a_prefix_elsewhere() -> None:
    """Anthropic refuses trailing white space and thinking, Gemini has no prefix, DeepSeek has
    another address.
    """
    request = going_on("prefix")
    body = sent(
        ANTHROPIC, Request([USER], continuation=request.continuation, reasoning_effort="high")
    )
    assert body["messages"][-1] == {"role": "assistant", "content": "Once upon"}
    assert "thinking" not in body
    assert sent(OLLAMA, request)["messages"][-1] == {"role": "assistant", "content": "Once upon "}
    with pytest.raises(InvalidRequest):
        sent(GEMINI, request)
    call = DIALECTS[CHAT].build(request, ModelSpec("n", "deepseek", "m"), presets()["deepseek"])
    assert call.base_url == "https://api.deepseek.com/beta"


def test_attaching() -> None:
    """Responses by sequence number, llama.cpp by byte. Without a run, attaching is impossible."""
    preset = presets()
    request = going_on("attach", run_id="r1", cursor=7)
    call = DIALECTS[RESPONSES].build(
        request, ModelSpec("n", "openai_responses", "m"), preset["openai_responses"]
    )
    assert (call.method, call.path) == ("GET", "/responses/r1?stream=true&starting_after=7")
    spec = ModelSpec("n", "llamacpp", "m", options={"resume": True})
    call = DIALECTS[CHAT].build(request, spec, preset["llamacpp"])
    assert (call.method, call.path) == ("GET", "/stream?conv_id=r1&from=7")
    for api, provider in ((CHAT, "openai"), (RESPONSES, "openai_responses")):
        with pytest.raises(InvalidRequest):
            DIALECTS[api].build(going_on("attach"), ModelSpec("n", provider, "m"), preset[provider])


def test_paths_and_quirks() -> None:
    """The path of each request, and what some APIs refuse."""
    paths = {
        api: DIALECTS[api]
        .build(Request([USER]), ModelSpec("n", OF[api], "m"), presets()[OF[api]])
        .path
        for api in OF
    }
    assert paths == {
        CHAT: "/chat/completions",
        RESPONSES: "/responses",
        ANTHROPIC: "/messages",
        GEMINI: "/models/m:streamGenerateContent?alt=sse",
        OLLAMA: "/api/chat",
    }
    azure = ModelSpec("n", "azure_openai", "m", options={"api_version": "2024-10-21"})
    assert (
        DIALECTS[CHAT].build(Request([USER]), azure, presets()["azure_openai"]).path
        == "/chat/completions?api-version=2024-10-21"
    )
    assert "stream_options" in sent(CHAT, Request([USER]))
    assert "stream_options" not in sent(CHAT, Request([USER]), "mistral")
    assert (
        sent(RESPONSES, Request([USER]), background=True).items()
        >= {"background": True, "store": True}.items()
    )
    assert sent(CHAT, Request([USER], extra={"seed": 1}))["seed"] == 1


def test_cohere() -> None:
    """OpenAI's messages under other names."""
    preset = presets()["cohere"]
    request = Request(
        [USER], tools=[WEATHER], tool_choice="required", stop=("END",), schema={"type": "object"}
    )
    call = DIALECTS["cohere.chat"].build(request, ModelSpec("n", "cohere", "m"), preset)
    body: Any = call.body
    assert call.path == "/v2/chat"
    assert (body["messages"], body["stop_sequences"], body["tool_choice"]) == (
        [{"role": "user", "content": "hi"}],
        ["END"],
        "REQUIRED",
    )
    assert body["response_format"] == {"type": "json_object", "json_schema": {"type": "object"}}
    assert not {"stop", "stream_options"} & set(body)
    with pytest.raises(InvalidRequest):
        DIALECTS["cohere.chat"].build(
            Request([USER], tools=[WEATHER], tool_choice="weather"),
            ModelSpec("n", "cohere", "m"),
            preset,
        )
