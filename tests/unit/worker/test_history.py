"""A recorded answer goes back to its provider: deltas, parts, log, row, history, request body.

What the provider sent is read here by a reader of its own, far simpler than the decoders. The
differences that are meant are made by `said_back` of each dialect, and nowhere else.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.everything import ITEMS, WORDS, body_of, turn
from tests.unit.providers.bodies import ANTHROPIC, CHAT, GEMINI, RESPONSES
from tests.unit.providers.recordings import Recording, known
from tokenwire.protocol import events, fold
from tokenwire.protocol.kept import ended
from tokenwire.providers import base, history
from tokenwire.providers.content import NO_RESULT
from tokenwire.providers.dialects import DIALECTS, decoder_of
from tokenwire.providers.registry import presets
from tokenwire.providers.spec import ModelSpec
from tokenwire.worker.attempt.parts import KeptOfPart, PartsTaken
from tokenwire.worker.history import history_of, messages_of

PROVIDERS = {
    ANTHROPIC: "anthropic",
    RESPONSES: "openai_responses",
    GEMINI: "gemini",
    CHAT: "deepseek",
}
Json = dict[str, Any]


def objects(body: bytes) -> Iterator[Json]:
    """Each JSON object of an event stream, or of a JSON body, in order."""
    text = body.decode("utf-8", "replace").replace("\r\n", "\n")
    if text.lstrip()[:1] in "[{":
        whole = json.loads(text, strict=False)
        yield from whole if isinstance(whole, list) else [whole]
        return
    for line in text.split("\n"):
        data = line[5:].strip() if line.startswith("data:") else ""
        if data.startswith("{"):
            yield json.loads(data, strict=False)


# --- what providers sent, as they would read it again ---


def anthropic_blocks(body: bytes) -> list[Json]:
    blocks: dict[int, Json] = {}
    inputs: dict[int, str] = {}
    for item in objects(body):
        kind, at = item.get("type"), item.get("index", 0)
        content = (item.get("message") or item).get("content") or []
        if kind in ("message_start", "message"):
            blocks |= dict(enumerate(content))
        elif kind == "content_block_start":
            blocks[at] = dict(item["content_block"])
        elif kind == "content_block_delta":
            delta = item["delta"]
            if delta["type"] == "citations_delta":
                blocks[at]["citations"] = [
                    *(blocks[at].get("citations") or ()),
                    delta["citation"],
                ]
                continue
            for name, piece in delta.items():
                if name == "partial_json":
                    inputs[at] = inputs.get(at, "") + piece
                elif name != "type" and piece is not None:
                    blocks[at][name] = (blocks[at].get(name) or "") + piece
        elif kind == "message_stop":
            break
    for at, text in inputs.items():
        if text.strip():
            blocks[at]["input"] = loaded(text)
    return [blocks[at] for at in sorted(blocks)]


def loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"unreadable": text}


def anthropic_back(blocks: list[Json]) -> list[Json]:
    """Not sent: blank text, unsigned thinking, empty `citations`. Plain texts that touch are
    one.
    """
    found: list[Json] = []
    for block in blocks:
        if block["type"] == "thinking" and not block.get("signature"):
            continue
        if block["type"] == "text":
            block = {name: value for name, value in block.items() if name != "citations" or value}
            last = found[-1] if found else {}
            if last.keys() == block.keys() == {"type", "text"}:
                found[-1] = {"type": "text", "text": last["text"] + block["text"]}
                continue
        found.append(block)
    return [block for block in found if block["type"] != "text" or block["text"].strip()]


def responses_items(body: bytes) -> list[Json]:
    for item in objects(body):
        if item.get("type") in ("response.completed", "response.incomplete"):
            streamed = {
                one["output_index"]: one["item"]
                for one in objects(body)
                if one.get("type") == "response.output_item.done"
            }
            output = dict(enumerate(item["response"].get("output") or [])) | streamed
            return [output[at] for at in sorted(output)] or [said_alone(body)]
        if item.get("object") == "response":
            return list(item["output"])
    raise AssertionError("no end")


def said_alone(body: bytes) -> Json:
    """Of servers that send deltas and no items."""
    pieces = [
        item["delta"]
        for item in objects(body)
        if item.get("type") in ("response.output_text.delta", "response.refusal.delta")
    ]
    return {"type": "message", "content": [{"type": "output_text", "text": "".join(pieces)}]}


ASKING = ("apply_patch_call", "custom_tool_call", "local_shell_call", "mcp_approval_request")
ASKING += ("computer_call", "shell_call", "tool_search_call")


def responses_back(items: list[Json]) -> list[Json]:
    """Not sent: reasoning that is not encrypted, or that nothing follows, with the ids behind it.

    Nor what waits for the client. A message that is one text and follows no reasoning is its text.
    """
    nameless = any(one["type"] == "reasoning" and not one.get("encrypted_content") for one in items)
    found: list[Json] = []
    thought = False
    for item in items:
        kind = item["type"]
        thought = thought or bool(item.get("encrypted_content"))
        if kind == "reasoning" and not item.get("encrypted_content"):
            continue
        if kind in ASKING and item.get("execution") != "server":
            continue
        if kind == "message" and not thought and plain(item):
            item = {"role": "assistant", "content": item["content"][0]["text"]}
        elif nameless and kind in ("message", "function_call"):
            item = {name: value for name, value in item.items() if name != "id"}
        found.append(item)
    while found and found[-1].get("type") == "reasoning":
        found.pop()
    return [item for item in found if item.get("content") != ""]


def plain(item: Json) -> bool:
    fields = {name for name, value in item.items() if value}
    parts = item["content"]
    return fields <= {"type", "id", "status", "role", "content"} and [
        {name for name, value in part.items() if value and name != "logprobs"} for part in parts
    ] in ([{"type", "text"}], [{"type"}])


def gemini_parts(body: bytes) -> list[Json]:
    parts: list[Json] = []
    for item in objects(body):
        for candidate in item.get("candidates") or ():
            if not candidate.get("index"):
                parts += (candidate.get("content") or {}).get("parts") or []
    return parts


def gemini_back(parts: list[Json]) -> list[Json]:
    """Not sent: unsigned thoughts. Texts that touch are one, and signed at their end."""
    found: list[Json] = []
    for part in parts:
        if part.get("thought") and "thoughtSignature" not in part:
            continue
        last = found[-1] if found else {}
        if "text" in part and not part.get("thought") and last.keys() == {"text"}:
            found[-1] = {**part, "text": last["text"] + part["text"]}
        else:
            found.append(part)
    return [part for part in found if part != {"text": ""}]


def chat_message(body: bytes) -> Json:
    """Of the first choice: text, calls, and the reasoning of a call."""
    message: Json = {"content": "", "tool_calls": {}, "reasoning_content": ""}
    first = None
    for item in objects(body):
        for choice in item.get("choices") or ():
            first = choice.get("index") or 0 if first is None else first
            delta = choice.get("delta")
            if delta is None and not message["content"]:
                delta = choice.get("message")
            if (choice.get("index") or 0) != first or not delta:
                continue
            content = delta.get("content") or delta.get("refusal") or ""
            for piece in [content] if isinstance(content, str) else content:
                message["content"] += piece if isinstance(piece, str) else piece.get("text", "")
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            message["content"] += "[file: image/png]" if delta.get("images") else ""
            if function := delta.get("function_call"):
                add_call(message["tool_calls"], {"index": 0, "function": function})
            for call in delta.get("tool_calls") or ():
                add_call(message["tool_calls"], call)
    return message


def add_call(calls: dict[Any, Json], call: Json) -> None:
    key = call.get("index", len(calls))
    held = calls.setdefault(key, {"arguments": ""})
    function = call.get("function") or {}
    held["name"] = function.get("name") or held.get("name")
    held["extra_content"] = call.get("extra_content") or held.get("extra_content")
    held["arguments"] += function.get("arguments") or ""


# --- there and back ---


def taken(api: str, body: bytes) -> tuple[PartsTaken, list[events.AnyEvent]] | None:
    """The answer as an attempt takes it, and what the log says of it; None if it is not whole."""
    decoder = decoder_of(api)()
    found = [*decoder.feed(body), *decoder.close()]
    parts = PartsTaken(fold.Answer("a"), 1)
    told = [item for delta in found for item in parts.take(delta)]
    told = [item for item in [*told, *parts.flush()] if not isinstance(item, KeptOfPart)]
    return (parts, told) if decoder.done else None


def sent_back(api: str, parts: PartsTaken, *, model: str = "model") -> Any:
    """The answer in the body of the next request."""
    files = {number: file.data for number, file in parts.files.items()}
    answer = history_of(parts.answer.parts, files)
    messages = [
        base.HistoryMessage("user", "?"),
        base.HistoryMessage("assistant", answer, "model"),
    ]
    spec = ModelSpec("name", PROVIDERS[api], model)
    request = base.Request([*messages, base.HistoryMessage("user", "and now?")])
    if api == ANTHROPIC:  # a tool of the provider's that still runs is sent in a paused turn alone
        request = base.Request(messages)
    body: Any = DIALECTS[api].build(request, spec, presets()[spec.provider]).body
    return json.loads(json.dumps(body))


def whole(api: str) -> list[Recording]:
    several = ("tool-search-bm25", "azure-reasoning-encrypted")  # answers of several turns
    return [
        one
        for one in known()
        if one.api == api and one.status == 200 and not any(name in one.name for name in several)
    ]


def recordings(api: str) -> Any:
    found = [one for one in whole(api) if taken(api, one.body)]
    found = [one for one in found if b"willContinue" not in one.body]  # its calls come in pieces
    return pytest.mark.parametrize("recording", found, ids=[one.name for one in found])


def check(
    recording: Recording,
    read: Callable[[bytes], list[Json]],
    back: Callable[[list[Json]], list[Json]],
) -> None:
    made = taken(recording.api, recording.body)
    assert made is not None
    assert turn(sent_back(recording.api, made[0]), recording.api) == back(read(recording.body))


@recordings(ANTHROPIC)
def test_answers_of_anthropic_go_back_as_they_came(recording: Recording) -> None:
    check(recording, anthropic_blocks, anthropic_back)


def test_thinking_without_a_signature_does_not_go_back() -> None:
    """The API would refuse it. What follows it is another part."""
    blocks = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "thinking", "thinking": "aha", "signature": "s"},
        {"type": "text", "text": "Yes."},
    ]
    message = {"type": "message", "id": "m", "content": blocks, "stop_reason": "end_turn"}
    made = taken(ANTHROPIC, json.dumps(message).encode())
    assert made is not None
    assert [part.text for part in made[0].answer.parts] == ["hm", "aha", "Yes."]
    assert turn(sent_back(ANTHROPIC, made[0]), ANTHROPIC) == blocks[1:]


@recordings(RESPONSES)
def test_answers_of_openai_go_back_as_they_came(recording: Recording) -> None:
    check(recording, responses_items, responses_back)


@recordings(GEMINI)
def test_answers_of_gemini_go_back_as_they_came(recording: Recording) -> None:
    check(recording, gemini_parts, gemini_back)


@recordings(CHAT)
def test_answers_of_chat_completions_go_back_as_they_came(recording: Recording) -> None:
    made = taken(CHAT, recording.body)
    assert made is not None
    found, read = turn(sent_back(CHAT, made[0]), CHAT), chat_message(recording.body)
    if not found:
        assert not read["content"].strip()
        return
    assert (found["content"] or "") == read["content"]
    assert [json.loads(call["function"]["arguments"]) for call in found.get("tool_calls", ())] == [
        json.loads(call["arguments"] or "{}") for call in read["tool_calls"].values()
    ]


@pytest.mark.parametrize("recording", known(), ids=lambda one: one.name)
def test_the_log_says_what_was_taken(recording: Recording) -> None:
    """Whoever folds the events holds the same parts, whichever way the answer ended."""
    if recording.status != 200:
        return
    decoder = decoder_of(recording.api)()
    parts = PartsTaken(fold.Answer("a"), 1)
    other = fold.Answer("a")
    taken = [parts.take(delta) for delta in (*decoder.feed(recording.body), *decoder.close())]
    for item in (item for items in [*taken, parts.flush()] for item in items):
        if not isinstance(item, KeptOfPart):
            assert other.apply(item) != fold.NOTHING
    assert other.layout() == parts.answer.layout()
    assert other.content == parts.answer.content


# --- the answer that has everything ---


@pytest.mark.parametrize("api", ITEMS)
def test_an_answer_with_everything_goes_back_as_it_came(api: str) -> None:
    """Thoughts, citations, an image of 1 MB, an unknown item, two calls: all fields, in order."""
    made = taken(api, body_of(api))
    assert made is not None
    assert turn(sent_back(api, made[0]), api) == ITEMS[api]


@pytest.mark.parametrize("api", ITEMS)
def test_what_is_stored_of_it_is_small(api: str) -> None:
    """Neither the image nor the thoughts stand twice; and it is JSON."""
    made = taken(api, body_of(api))
    assert made is not None
    for part in made[0].answer.parts:
        stored = json.dumps(part.kept)
        assert len(stored) < 2000
        assert "Let me think" not in stored
        assert json.loads(stored) == part.kept


def test_citations_of_everything_stand_where_they_should() -> None:
    """In UTF-16 units of the answer's text, whichever way the provider counts."""
    for api, cited in ((ANTHROPIC, [WORDS[:39]] * 2), (RESPONSES, [WORDS[41:44]])):
        made = taken(api, body_of(api))
        assert made is not None
        units = made[0].answer.content.encode("utf-16-le")
        found = [part.fields.get("cites") for part in made[0].answer.parts if part.type == "source"]
        assert [
            units[2 * place[0] : 2 * place[1]].decode("utf-16-le") for place in found if place
        ] == cited
        assert sum(part.type == "text" for part in made[0].answer.parts) == 1, "no word is cut"


@pytest.mark.parametrize("api", ITEMS)
def test_another_model_is_sent_what_can_be_said(api: str) -> None:
    """Text, calls, and that there was a file; the text as one."""
    made = taken(api, body_of(api))
    assert made is not None
    said = json.dumps(sent_back(api, made[0], model="another"), ensure_ascii=False)
    assert WORDS in said
    assert "[file: image/png]" in said
    assert said.count(NO_RESULT) == 2
    assert not any(word in said for word in ("hologram", "Let me think", "EqQB", "gAAAA", "Eo8"))


@pytest.mark.parametrize("api", ITEMS)
def test_without_one_kept_value_none_goes_back(api: str) -> None:
    """Half of them would make the provider refuse the conversation."""
    for lose in (lose_a_value, lose_the_file):
        made = taken(api, body_of(api))
        assert made is not None
        lose(made[0])
        said = json.dumps(sent_back(api, made[0]))
        assert "hologram" not in said
        assert "Oslo" in said


def lose_a_value(parts: PartsTaken) -> None:
    part = parts.answer.parts[0]
    part.kept = None
    part.merge({"dropped": True})


def lose_the_file(parts: PartsTaken) -> None:
    parts.files.clear()


def test_results_and_steps_of_parts() -> None:
    """A call with its result, then another turn."""
    answer = fold.Answer("a")
    values: list[Mapping[str, Any]] = [
        {"type": "tool_call", "id": "c", "name": "f", "state": "done", "input": "{}", "result": 7},
        {
            "type": "tool_call",
            "id": "d",
            "name": "f",
            "state": "failed",
            "input": "",
            "error": "no",
        },
        {"type": "step"},
        {"type": "data", "name": "n", "data": 1},
    ]
    for number, value in enumerate(values):
        answer.apply(events.PartEvent("a", 1, number, dict(value)))
    assert list(history_of(answer.parts, {})) == [
        history.CallPart("c", "f", "{}"),
        history.ResultPart("c", "f", "7"),
        history.CallPart("d", "f", ""),
        history.ResultPart("d", "f", "no", True),
        history.StepPart(),
    ]


@pytest.mark.parametrize(
    ("fields", "text", "is_error"),
    [
        ({"state": "done", "result": {"a": "ü"}}, '{"a": "ü"}', False),
        ({"state": "done", "result": "warm"}, "warm", False),
        ({"state": "done"}, "null", False),
        ({"state": "failed", "error": "no"}, "no", True),
        ({"state": "failed"}, "failed", True),
        ({"state": "denied"}, "not allowed", True),
        ({"state": "invalid"}, "cut off", True),
        ({"state": "withdrawn"}, "withdrawn", True),
        ({"state": "awaiting_client"}, "withdrawn", True),
        ({"state": "unknown"}, "unknown whether", True),
        ({"state": "running"}, "unknown whether", True),
    ],
)
def test_a_call_goes_back_with_its_outcome(fields: Json, text: str, is_error: bool) -> None:
    """A call that ended without a word gets a sentence that says what became of it."""
    call = fold.Part("tool_call", {"id": "c", "name": "f", **fields}, text="{}")
    _, result = history_of([call], {})
    assert isinstance(result, history.ResultPart)
    assert (text in result.text, result.error) == (True, is_error)


@pytest.mark.parametrize("state", ["proposed", "streaming"])
def test_a_call_that_nobody_has_seen_to_goes_back_alone(state: str) -> None:
    """The next message may bring its result; if none does, the request says so."""
    call = fold.Part("tool_call", {"id": "c", "name": "f", "state": state}, text="{}")
    assert len(history_of([call], {})) == 1


@pytest.mark.parametrize(
    "provider", ["anthropic", "openai", "deepseek", "openai_responses", "gemini", "ollama"]
)
def test_rounds_go_back_in_order(provider: str) -> None:
    """Call, result, call, result and text, as turns of their own, in each dialect."""

    def call(id_: str, state: str, **fields: Any) -> fold.Part:
        named = {"id": id_, "name": "weather", "state": state, **fields}
        return fold.Part("tool_call", named, text=json.dumps({"city": id_}))

    parts = [
        fold.Part("text", {}, text="I ask Oslo."),
        *(call("oslo", "done", result="warm"), call("rome", "denied"), fold.Part("step", {})),
        *(call("bonn", "done"), fold.Part("step", {}), fold.Part("text", {}, text="Warm it is.")),
    ]
    asked = [
        base.HistoryMessage("user", "hi"),
        base.HistoryMessage("assistant", history_of(parts, {})),
        base.HistoryMessage("user", "thanks"),
    ]
    preset = presets()[provider]
    spec = ModelSpec("name", provider, "model")
    body = json.dumps(DIALECTS[preset.api].build(base.Request(asked), spec, preset).body)
    place = 0
    for word in [
        "I ask Oslo.",
        "oslo",
        "rome",
        "warm",
        "not allowed",
        "bonn",
        "null",
        "Warm it is",
    ]:
        place = body.index(word, place + 1)
    assert NO_RESULT not in body


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "ollama", "deepseek"])
def test_a_message_at_a_step_in_each_dialect(provider: str) -> None:
    """It comes behind the results of its round, and before the next turn, as a user's message."""
    call = {"id": "oslo", "name": "weather", "state": "done", "result": "warm"}
    parts = [
        fold.Part("tool_call", call, text="{}"),
        fold.Part("step", {"message_ids": ["m1", "gone"]}),
        fold.Part("text", {}, text="Il fait chaud."),
    ]
    asked = [
        base.HistoryMessage("user", "hi"),
        *messages_of(parts, {}, {"m1": "In French"}),
        base.HistoryMessage("user", "thanks"),
    ]
    assert [message.role for message in asked] == ["user", "assistant", "user", "assistant", "user"]
    preset = presets()[provider]
    spec = ModelSpec("name", provider, "model")
    sent = DIALECTS[preset.api].build(base.Request(asked), spec, preset).body
    body, place = json.dumps(sent), 0
    for word in ["hi", "weather", "warm", "In French", "Il fait chaud", "thanks"]:
        place = body.index(word, place + 1)
    assert body.count("In French") == 1
    turns = sent.get("messages") or sent.get("contents") or sent["input"]
    (turn,) = [turn for turn in turns if "In French" in json.dumps(turn)]
    assert turn["role"] == "user"
    assert NO_RESULT not in body


def test_a_step_whose_messages_come_elsewhere_begins_another_turn() -> None:
    """They have an answer of their own: the step is one like any other."""
    call = fold.Part("tool_call", {"id": "c", "name": "f", "state": "done", "result": 7})
    parts = [call, fold.Part("step", {"message_ids": ["m1"]}), fold.Part("text", {}, text="So.")]
    (message,) = messages_of(parts, {}, {})
    assert [type(part) for part in message.parts][2:] == [history.StepPart, history.TextPart]


def test_a_step_stands_behind_a_result_whatever_was_kept() -> None:
    """The part that ends a turn may be the call itself (Gemini signs calls)."""
    call = fold.Part("tool_call", {"id": "c", "name": "f", "state": "done", "result": 7})
    call.kept = {"dialect": "gemini", "kind": "part", "value": {}}
    call.kept = ended(call)
    made = history_of([call, fold.Part("step", {})], {})
    assert [type(part) for part in made] == [
        history.CallPart,
        history.ResultPart,
        history.StepPart,
    ]
