"""What is sent, in each dialect: instructions, parts, tools, results, structure, options, and every rung of the ladder."""

import json
from typing import Any

import pytest

from tests.unit.providers.bodies import ANTHROPIC, CHAT, GEMINI, OLLAMA, RESPONSES
from tokenwire.providers.base import (
    REASONING,
    Attachment,
    Continuation,
    HistoryMessage,
    InvalidRequest,
    Kept,
    KeptDelta,
    Request,
    Tool,
    ToolUse,
)
from tokenwire.providers.content import check_abilities
from tokenwire.providers.dialects import DIALECTS
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
    """The body of the call, as it travels."""
    spec = ModelSpec("name", provider or OF[api], "model", options=options)
    call = DIALECTS[api].build(request, spec, presets()[spec.provider])
    body: dict[str, Any] = json.loads(json.dumps(call.body))
    return body


def turns(api: str, *messages: HistoryMessage, **fields: Any) -> Any:
    """What stands for the conversation in the body."""
    body = sent(api, Request(messages, **fields))
    return body[{RESPONSES: "input", GEMINI: "contents"}.get(api, "messages")]


USER = HistoryMessage("user", "hi")


@pytest.mark.parametrize("api", OF)
def test_empty_messages_are_never_sent(api: str) -> None:
    """Neither a blank answer of a failed attempt nor a blank question; nothing at all is refused before the call."""
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


@pytest.mark.parametrize("api", OF)
def test_what_only_stood_beside_an_answer_is_never_sent(api: str) -> None:
    """Nor does it make a message of an answer without text."""
    for kind in ("choice", "chunk", "candidate", "images"):
        kept = [Kept(0, KeptDelta(api, kind, {kind: ["unheard of"]}))]
        if kind == "images" and api not in (CHAT, OLLAMA):
            continue
        found = turns(
            api, USER, HistoryMessage("assistant", "", kept=kept), HistoryMessage("user", "you")
        )
        assert "unheard of" not in json.dumps(found)
        assert not [message for message in found if message["role"] in ("assistant", "model")]


def test_instructions_stand_where_each_dialect_wants_them() -> None:
    """In the messages for chat and Ollama, beside them for the others."""
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
        (CHAT, Attachment("image/png", url="https://x/y.png"), {"type": "image_url", "image_url": {"url": "https://x/y.png"}}),
        (CHAT, Attachment("audio/wav", data=b"a"), {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}}),
        (
            CHAT,
            Attachment("application/pdf", data=b"a"),
            {"type": "file", "file": {"filename": "document.pdf", "file_data": f"data:{PDF},YQ=="}},
        ),
        (CHAT, Attachment("text/plain", data=b"words"), {"type": "text", "text": "words"}),
        (RESPONSES, PNG, {"type": "input_image", "image_url": "data:image/png;base64,iVBORw=="}),
        (RESPONSES, Attachment("application/pdf", url="https://x/y.pdf"), {"type": "input_file", "file_url": "https://x/y.pdf"}),
        (RESPONSES, Attachment("text/plain", data=b"words"), {"type": "input_text", "text": "words"}),
        (ANTHROPIC, PNG, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}}),
        (ANTHROPIC, Attachment("application/pdf", url="https://x"), {"type": "document", "source": {"type": "url", "url": "https://x"}}),
        (GEMINI, PNG, {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}),
        (GEMINI, Attachment("audio/mp3", url="gs://x"), {"fileData": {"mimeType": "audio/mp3", "fileUri": "gs://x"}}),
    ],
)  # fmt: skip
def test_parts(api: str, part: Attachment, expected: Any) -> None:
    """Images, audio, PDF and text in each dialect's own clothing."""
    message = turns(api, HistoryMessage("user", "look", parts=[part]))[0]
    assert expected in message["parts" if api == GEMINI else "content"]


def test_images_of_ollama() -> None:
    """They stand beside the text."""
    assert turns(OLLAMA, HistoryMessage("user", "look", parts=[PNG]))[0]["images"] == ["iVBORw=="]


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
def test_what_cannot_be_carried_is_refused_before_the_call(api: str, part: Attachment) -> None:
    """The error names the media type."""
    with pytest.raises(InvalidRequest, match=part.media_type):
        turns(api, HistoryMessage("user", "look", parts=[part]))


CALLED = (
    USER,
    HistoryMessage(
        "assistant",
        "",
        tool_calls=[ToolUse("c1", "weather", {"city": "Oslo"}), ToolUse("c2", "weather", {})],
    ),
    HistoryMessage("tool", '{"t":3}', tool_call_id="c1", tool_name="weather"),
    HistoryMessage("tool", "warm", tool_call_id="c2", tool_name="weather"),
)


def test_tool_calls_and_results() -> None:
    """They keep their ids where there are any; results of one turn travel together where the dialect wants that."""
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
    """In four dialects; Ollama cannot be told."""
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


def test_what_must_be_echoed_is_echoed_to_whom_it_concerns() -> None:
    """Thinking blocks, encrypted reasoning and signatures go back to their own dialect, and to no other."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    item = {"type": "reasoning", "id": "r", "encrypted_content": "e"}
    details = {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}
    signature = {"thoughtSignature": "g"}
    echoes = [(ANTHROPIC, thinking), (RESPONSES, item), (CHAT, details)]
    kept = [Kept(0, KeptDelta(api, REASONING, value)) for api, value in echoes] + [
        Kept(3, KeptDelta(GEMINI, REASONING, signature))
    ]
    answer = HistoryMessage(
        "assistant", "yes", kept=kept, tool_calls=[ToolUse("c", "weather", {}, echo=signature)]
    )
    result = HistoryMessage("tool", "x", tool_call_id="c", tool_name="weather")
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


@pytest.mark.parametrize(
    ("api", "kind", "value"),
    [
        (ANTHROPIC, "compaction", {"type": "compaction", "content": "x"}),
        (
            RESPONSES,
            "custom_tool_call",
            {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "x"},
        ),
        (GEMINI, "executableCode", {"executableCode": {"language": "PYTHON", "code": "1"}}),
    ],
)
def test_an_item_goes_back_where_it_stood(api: str, kind: str, value: dict[str, Any]) -> None:
    """Between the words before it and those behind it."""
    answer = HistoryMessage(
        "assistant", "before behind", kept=[Kept(7, KeptDelta(api, kind, value))]
    )
    if api == RESPONSES:
        answer.kept.append(
            Kept(
                7,
                KeptDelta(
                    api,
                    "custom_tool_call_output",
                    {"type": "custom_tool_call_output", "call_id": "c", "output": ""},
                ),
            )
        )
    said = json.dumps(turns(api, USER, answer, HistoryMessage("user", "go on")))
    assert said.index("before") < said.index(json.dumps(value)) < said.index("behind")


def test_thoughts_go_back_where_they_are_wanted() -> None:
    """DeepSeek refuses a call whose thoughts are missing; others refuse the field."""
    answer = HistoryMessage(
        "assistant",
        "",
        tool_calls=[ToolUse("c", "weather", {})],
        kept=[Kept(0, KeptDelta(CHAT, REASONING, {"reasoning_content": "hm"}))],
    )
    request = Request([USER, answer, HistoryMessage("tool", "x", tool_call_id="c")])
    assert sent(CHAT, request, "deepseek")["messages"][1]["reasoning_content"] == "hm"
    assert "hm" not in json.dumps(sent(CHAT, request))


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (Request([HistoryMessage("user", "look", parts=[PNG])]), "image"),
        (
            Request(
                [HistoryMessage("user", "read", parts=[Attachment("application/pdf", data=b"x")])]
            ),
            "pdf",
        ),
        (Request([USER], tools=[WEATHER]), "tools"),
        (Request([USER], schema={}), "schema"),
    ],
)
def test_what_a_model_cannot_take_is_refused_before_the_call(request_: Request, word: str) -> None:
    """An entry of the catalogue may say so."""
    check_abilities(request_, [])
    with pytest.raises(InvalidRequest, match=word):
        check_abilities(request_, [word, "audio"])


OPTIONS = Request([USER], schema={"type": "object"}, temperature=0.5, max_tokens=9, stop=("END",))


def test_options() -> None:
    """Structure, temperature, length and stop words by their names in each dialect."""
    chat = sent(CHAT, OPTIONS)
    assert (chat["temperature"], chat["max_tokens"], chat["stop"]) == (0.5, 9, ["END"])
    assert chat["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert sent(CHAT, OPTIONS, "openai")["max_completion_tokens"] == 9
    claude = sent(ANTHROPIC, OPTIONS)
    assert (claude["temperature"], claude["max_tokens"], claude["stop_sequences"]) == (
        0.5,
        9,
        ["END"],
    )
    assert claude["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {"type": "object"},
    }
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
    """How long the model stays loaded, 0 (not at all) too, and how much context it is given."""
    body = sent(OLLAMA, Request([USER]), keep_alive=keep_alive, num_ctx=8192)
    assert (body["keep_alive"], body["options"]) == (keep_alive, {"num_ctx": 8192})
    assert "keep_alive" not in sent(OLLAMA, Request([USER]))


def test_reasoning_effort() -> None:
    """A field, an object, a budget or a level."""
    request = Request([USER], reasoning_effort="high")
    assert sent(CHAT, request)["reasoning_effort"] == "high"
    assert sent(CHAT, request, "openrouter")["reasoning"] == {"effort": "high"}
    assert "effort" not in json.dumps(sent(CHAT, request, "mistral"))
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
def test_going_on_by_an_extra_turn(api: str) -> None:
    """The partial answer and a request to go on after its last words, in every dialect."""
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
def test_going_on_from_a_prefix(
    provider: str, last: dict[str, Any], beside: dict[str, Any]
) -> None:
    """How each imitator wants its unfinished message marked."""
    body = sent(CHAT, going_on("prefix"), provider)
    assert body["messages"][-1] == last
    assert beside.items() <= body.items()


def test_going_on_from_a_prefix_elsewhere() -> None:
    """Anthropic refuses trailing white space and thinking; Gemini knows no prefix; DeepSeek has an address for it."""
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
    """Responses by sequence number, llama.cpp by byte; without a run there is nothing to attach to."""
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
    """Where each call goes, and what some refuse."""
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
