"""Pure: requests of the dialect `openai.chat`, with the deviations of compatible APIs as quirks.

Quirks, in a preset or in an entry's `options`: `stream_options` (false: refused there),
`parameters` (`parameters.py`), `alternate` (`content.py`), `system_role`, `path`, `api_version`
(Azure), `prefix` (`trailing`, `flag`, `continue_final_message`: how an unfinished last message is
marked), `prefix_base_url`, `echoes` (the prefix comes back with the answer), `echo_reasoning`
(thoughts go back as `reasoning_content`), `resume` (llama.cpp's resumable runs),
`output_excludes_reasoning` (how its tokens are counted, `cost.py`).
"""

from collections.abc import Mapping
from typing import Any

from tokenwire.providers import llamacpp
from tokenwire.providers.base import InvalidRequest, Request
from tokenwire.providers.content import (
    add_parameters,
    alternates,
    check_bytes,
    data_url,
    extra_of,
    input_of_user,
    spoken,
    tool_choice,
    turns,
    unsupported,
)
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.embeddings import openai_call, openai_vectors
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    HistoryMessage,
    HistoryPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.providers.openai_chat import API, ChatDecoder
from tokenwire.providers.schema_forms import strictness
from tokenwire.providers.spec import ModelSpec, Preset

QUIRKS = frozenset(
    {
        "alternate",
        "api_version",
        "echo_reasoning",
        "echoes",
        "output_excludes_reasoning",
        "parameters",
        "path",
        "prefix",
        "prefix_base_url",
        "resume",
        "stream_options",
        "system_role",
    }
)


def build(request: Request, spec: ModelSpec, preset: Preset, api: str = API) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot express.

    `api`: the dialect whose parameters are taken.
    """
    quirks = {**preset.quirks, **spec.options}
    if request.continuation and request.continuation.rung == "attach":
        if not quirks.get("resume"):
            raise InvalidRequest(
                "openai.chat knows no continuation by attach", code="unsupported_continuation"
            )
        return llamacpp.attach(request.continuation)
    asked = turns(request, API, spec.model, alternating=alternates(preset, quirks))
    body: dict[str, Any] = {
        "model": spec.model,
        "messages": [item for message in asked for item in _messages(message, quirks)],
        "stream": True,
    }
    if quirks.get("stream_options", True):
        body["stream_options"] = {"include_usage": True}
    _add_tools(body, request)
    _add_schema(body, request)
    add_parameters(body, request, api, (spec, preset))
    _add_continuation(body, request, quirks)
    body.update(request.extra)
    return _call(request, body, quirks)


def _call(request: Request, body: Mapping[str, Any], quirks: Mapping[str, Any]) -> Call:
    path = quirks.get("path", "/chat/completions")
    if version := quirks.get("api_version"):
        path += f"?api-version={version}"
    base = (
        quirks.get("prefix_base_url")
        if request.continuation and request.continuation.rung == "prefix"
        else None
    )
    if not quirks.get("resume"):
        return Call(path, body, base_url=base)
    headers, decoder = llamacpp.resumable()
    return Call(path, body, base_url=base, headers=headers, decoder=decoder)


def _messages(message: HistoryMessage, quirks: Mapping[str, Any]) -> list[dict[str, Any]]:
    match message.role:
        case "tool":
            return [
                {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
                for part in message.parts
                if isinstance(part, ResultPart)
            ]
        case "assistant":
            return [_answer(message, quirks)]
        case "system":
            return [{"role": quirks.get("system_role", "system"), "content": message.text}]
    return [{"role": "user", "content": input_of_user(message, "text", _attachment)}]


def _answer(message: HistoryMessage, quirks: Mapping[str, Any]) -> dict[str, Any]:
    """An assistant turn: one text, then its calls, in whatever order they came."""
    texts = [_text_of(part) for part in message.parts]
    item: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    if calls := [_tool_call(part) for part in message.parts if isinstance(part, CallPart)]:
        item["tool_calls"] = calls
        item["content"] = item["content"] or None
    thoughts = [
        part.kept.value for part in message.parts if isinstance(part, ReasoningPart) and part.kept
    ]
    if details := [detail for one in thoughts for detail in one.get("reasoning_details", ())]:
        item["reasoning_details"] = details
    contents = [one["reasoning_content"] for one in thoughts if "reasoning_content" in one]
    if contents and quirks.get("echo_reasoning"):
        item["reasoning_content"] = "".join(contents)
    return item


def _text_of(part: HistoryPart) -> str:
    if isinstance(part, TextPart):
        return part.text
    return spoken(part) if isinstance(part, Attachment) else ""


def _attachment(part: Attachment) -> dict[str, Any]:
    kind = part.media_type.partition("/")[0]
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": part.url or data_url(part)}}
    check_bytes(part, "openai.chat")
    if kind == "audio":
        form = {
            "audio/mpeg": "mp3",
            "audio/mp3": "mp3",
            "audio/wav": "wav",
            "audio/x-wav": "wav",
        }.get(part.media_type)
        if form is None:
            raise unsupported(part, "openai.chat")
        return {
            "type": "input_audio",
            "input_audio": {"data": data_url(part).partition(",")[2], "format": form},
        }
    if part.media_type == "application/pdf":
        return {
            "type": "file",
            "file": {"filename": part.name or "document.pdf", "file_data": data_url(part)},
        }
    if kind == "text":
        return {"type": "text", "text": (part.data or b"").decode("utf-8", "replace")}
    raise unsupported(part, "openai.chat")


def _tool_call(call: CallPart) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.input}
    return {"id": call.id, "type": "function", "function": function, **extra_of(call)}


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools:
        return
    body["tools"] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            },
        }
        for tool in request.tools
    ]
    choice = tool_choice(request)
    if choice:
        body["tool_choice"] = (
            choice
            if choice in ("auto", "none", "required")
            else {"type": "function", "function": {"name": choice}}
        )


def _add_schema(body: dict[str, Any], request: Request) -> None:
    if request.schema == {}:
        body["response_format"] = {"type": "json_object"}
    elif request.schema is not None:
        schema = {"name": "answer", **strictness(request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _add_continuation(body: dict[str, Any], request: Request, quirks: Mapping[str, Any]) -> None:
    if request.continuation is None or request.continuation.rung != "prefix":
        return
    style = quirks.get("prefix", "trailing")
    last: dict[str, Any] = {"role": "assistant", "content": request.continuation.text}
    if style == "flag":
        last["prefix"] = True
    elif style == "continue_final_message":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    body["messages"].append(last)


DIALECT = Dialect(
    API, ChatDecoder, build, llamacpp.cancel, openai_call, openai_vectors, quirks=QUIRKS
)
