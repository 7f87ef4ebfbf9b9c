"""Pure: the dialect `gemini.generateContent` (POST /models/{model}:streamGenerateContent) of Gemini
and Vertex.

With `alt=sse` events with CRLF, without it one JSON array. An answer is complete if its body ends
after a `finishReason` (older models send one with every chunk, and an error can follow the last) or
after a block of the prompt. Function calls come whole, or in `partialArgs`; thought signatures go
back. Quirks: `thinking` (`level` for Gemini 3 and later, `budget` for 2.5).
"""

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

from tokenwire.providers.base import (
    FinishReason,
    InvalidRequest,
    KeptDelta,
    Request,
)
from tokenwire.providers.content import (
    add_parameters,
    alternating,
    encoded,
    extra_of,
    input_of,
    system_text,
    tool_choice,
    turns,
)
from tokenwire.providers.decoding import MAX_REASON_CHARS, Decoder
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.embeddings import gemini_call, gemini_vectors
from tokenwire.providers.fields import Unreadable, loose, mapping, word, words
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    HistoryMessage,
    HistoryPart,
    Kept,
    KeptPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.providers.json_path import PathValues
from tokenwire.providers.spec import ModelSpec, Preset

SIGNATURE = "thoughtSignature"
"""The kind of a text's signatures, and their field."""
_FILTERED = (
    "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR "
    "IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION"
)
_BROKEN = (
    "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS "
    "MISSING_THOUGHT_SIGNATURE MALFORMED_RESPONSE"
)
_CHUNK = frozenset(
    {
        "usageMetadata",
        "modelVersion",
        "responseId",
        "createTime",
        "promptFeedback",
        "candidates",
        "modelStatus",
        "traceId",
    }
)
_CANDIDATE = frozenset({
    *("content", "index", "finishReason", "finishMessage", "safetyRatings", "groundingMetadata",
        "tokenCount", "avgLogprobs"),
    *("logprobsResult", "urlContextMetadata"),
})  # fmt: skip
"""Fields of a candidate, and of a chunk without any, that are read or carry no answer."""
API = "gemini.generateContent"
QUIRKS = frozenset({"parameters", "thinking"})
FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "FUNCTION_CALL": "tool_calls",
    **dict.fromkeys(_FILTERED.split(), "content_filter"),
    **dict.fromkeys(_BROKEN.split(), "error"),
}
_BUDGET = {"minimal": 512, "low": 2048, "medium": 8192, "high": 24576}
_VALUES: Mapping[str, tuple[type, ...]] = {
    "stringValue": (str,),
    "numberValue": (int, float),
    "boolValue": (bool,),
}
"""The value fields of a `partialArgs` entry, and their types."""
_COMMON = frozenset(
    {"text", "thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution"}
)
"""Fields of a part that are text or describe it; any other one makes it a part of its own kind."""


class GeminiDecoder(Decoder):
    """Chunks of `GenerateContentResponse`."""

    dialect = API
    finish_reasons = FINISH

    def __init__(self) -> None:
        super().__init__()
        self._partial: PathValues | None = None
        self._calls = 0
        self._open: Mapping[str, Any] = {}
        self._choice: Any = None

    # The events have no names here.
    def _object(self, name: bytes, item: dict[str, Any]) -> None:  # noqa: ARG002
        if error := self._error_of(item):
            self._fail(error)
            return
        chunk = mapping(item.get("response")) or item  # some gateways wrap each chunk
        self._start(chunk.get("responseId"), chunk.get("modelVersion"))
        for candidate in self._parts(chunk.get("candidates")):
            self._candidate(candidate)
        if blocked := loose(chunk.get("promptFeedback")).get("blockReason"):
            self.finish_raw, self.finish_reason = (
                words(blocked)[:MAX_REASON_CHARS],
                "content_filter",
            )
        self._usage_of(chunk.get("usageMetadata"))
        if "candidates" not in chunk:
            self._keep_rest("chunk", chunk, _CHUNK)

    def _candidate(self, candidate: Mapping[str, Any]) -> None:
        index = candidate.get("index") or 0
        self._choice = index if self._choice is None else self._choice
        if index != self._choice:
            self._grow("choice", [candidate])  # not requested, and no part of this answer
            return
        content = mapping(candidate.get("content"))
        for part in self._parts(content.get("parts")):
            self._part(part)
        self._keep_rest("content", content, ("parts", "role"))
        self._keep_rest("candidate", candidate, _CANDIDATE)
        for chunk in self._parts(
            loose(candidate.get("groundingMetadata")).get("groundingChunks"), loosely=True
        ):
            web = loose(chunk.get("web"))
            self._cite(web.get("uri"), web.get("title"))
        if reason := candidate.get("finishReason"):
            self._finish(reason)

    def _part(self, part: Mapping[str, Any]) -> None:
        signature = part.get("thoughtSignature")
        signed = {SIGNATURE: signature} if signature else {}
        if (call := part.get("functionCall")) is not None:
            self._call(mapping(call), signed)
            return
        if part.get("thought"):
            self._emit_reasoning(part.get("text"))
        else:
            self._emit_text(part.get("text"))
        if other := [name for name in part if name not in _COMMON]:
            self._file_or_kept(
                other[0], {name: value for name, value in part.items() if name != "text"}
            )
        elif signature and part.get("thought"):
            self._end_thought({"thought": True, **signed})
        elif signature:
            self._out.append(KeptDelta(API, SIGNATURE, signed))

    def _file_or_kept(self, kind: str, part: Mapping[str, Any]) -> None:
        file = loose(part.get(kind))
        media_type = word(file.get("mimeType"))
        if kind == "inlineData" and media_type and not part.get("thought"):
            self._file(kind, part, media_type, file.get("data"))
        else:
            self._keep(kind, part)

    def _call(self, call: Mapping[str, Any], signed: Mapping[str, Any]) -> None:
        entries = self._parts(call.get("partialArgs"))
        self._keep_rest("functionCall", call, ("id", "name", "args", "partialArgs", "willContinue"))
        if self._partial is None or not self._continues_open_call(call):
            self._end_call()
            self._calls += 1
            self._open = call
            self._tools.piece(self._calls, call.get("id"), call.get("name"), None, _named(call))
            self._partial = PathValues()
        self._tools.piece(self._calls, None, None, None, signed)
        if self._partial is not None:
            self._count_held()
            self._partial.update(mapping(call.get("args")))
            for entry in entries:
                _extend(self._partial, entry)
        if not (call.get("willContinue") or any(entry.get("willContinue") for entry in entries)):
            self._end_call()

    def _continues_open_call(self, call: Mapping[str, Any]) -> bool:
        """Whether a part continues the open call: some repeat its name or id, others neither."""
        return all(call.get(word) in (None, "", self._open.get(word)) for word in ("name", "id"))

    def _end_call(self) -> None:
        if self._partial is None:
            return
        self._tools.piece(self._calls, None, None, self._partial.whole())
        self._tools.end(self._calls)
        self._partial = None

    def _usage_of(self, usage: Any) -> None:
        if not (usage := loose(usage)):
            return
        cached, thoughts = usage.get("cachedContentTokenCount"), usage.get("thoughtsTokenCount")
        self._count(
            usage.get("promptTokenCount"), usage.get("candidatesTokenCount"), cached, thoughts
        )

    def _ended(self) -> None:
        if self._proved() and (broken := self._broken_end or self._framer.unfinished):
            self._fail_unreadable(
                broken
            )  # where every chunk has a reason, a truncated one may hold text
        else:
            super()._ended()

    def _complete(self) -> None:
        if self._outcome is None:
            self._end_call()
            self._calls_are_the_reason()
        super()._complete()


def _named(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The provider's name of the call, if any: its result needs it, too."""
    return {"id": call["id"]} if word(call.get("id")) else {}


def _extend(target: PathValues, entry: Mapping[str, Any]) -> None:
    """One entry of `partialArgs`: a value, or a further piece of a text, at a JSON path."""
    key = next((name for name in _VALUES if name in entry), None)
    if key is None and not entry.keys() <= {"jsonPath", "willContinue", "nullValue"}:
        raise Unreadable("a value of an unknown kind")
    if key and type(entry[key]) not in _VALUES[key]:
        raise Unreadable("a value of another type")
    if key or "nullValue" in entry:  # without either it only marks the end of a text
        target.put(words(entry.get("jsonPath")) or "$", entry[key] if key else None)


# --- requests -------------------------------------------------------------------------------------


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot express."""
    if request.continuation and request.continuation.rung in ("prefix", "attach"):
        raise InvalidRequest(
            f"gemini.generateContent knows no continuation by {request.continuation.rung}",
            code="unsupported_option",
        )
    messages = turns(request, API, spec.model, _whole)
    named = _names(messages)
    contents = [_content(message, named) for message in messages if message.role != "system"]
    body: dict[str, Any] = {"contents": alternating(contents, "parts")}
    if system := system_text(messages):
        body["systemInstruction"] = {"parts": [{"text": system}]}
    body |= _config(request, spec, preset)
    _add_tools(body, request)
    body.update(request.extra)
    return Call(f"/models/{spec.model}:streamGenerateContent?alt=sse", body)


def _whole(kept: Kept) -> bool:
    """A part of its own kind has an object under that name; other fields are lists."""
    return kept.kind == SIGNATURE or isinstance(kept.value.get(kept.kind), Mapping)


def _names(messages: Iterable[HistoryMessage]) -> frozenset[str]:
    """The ids of calls that the provider named itself."""
    return frozenset(
        part.id
        for message in messages
        for part in message.parts
        if isinstance(part, CallPart) and "id" in extra_of(part)
    )


def _content(message: HistoryMessage, named: Container[str]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, KeptPart) and part.kind == SIGNATURE:
            _sign(parts, part.value)
        else:
            parts += _parts(part, named)
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _sign(parts: list[dict[str, Any]], signature: Mapping[str, Any]) -> None:
    """The signature belongs to the text before it, or is a part without text."""
    if parts and parts[-1].keys() == {"text"}:
        parts[-1] |= signature
    else:
        parts.append({"text": "", **signature})


def _parts(part: HistoryPart, named: Container[str]) -> list[dict[str, Any]]:
    match part:
        case TextPart(text) if text.strip():
            return [{"text": text}]
        case ReasoningPart(text, Kept(value=value)):
            return [{"text": text, **value}]
        case KeptPart(value=value) | Attachment(kept=Kept(value=value)):
            return [dict(value)]
        case Attachment():
            return [_attachment(part)]
        case CallPart():
            return [_tool_call(part)]
        case ResultPart(id, name, text, error):
            response = {"error": text} if error else _result(text)
            named_so = {"id": id} if id in named else {}
            return [{"functionResponse": {**named_so, "name": name, "response": response}}]
    return []


def _attachment(part: Attachment) -> dict[str, Any]:
    if part.media_type.startswith("text/") and part.data is not None:
        return {"text": part.data.decode("utf-8", "replace")}
    if part.data is None:
        return {"fileData": {"mimeType": part.media_type, "fileUri": part.url}}
    return {"inlineData": {"mimeType": part.media_type, "data": encoded(part)}}


def _tool_call(call: CallPart) -> dict[str, Any]:
    extra = dict(extra_of(call))
    named = {"id": extra.pop("id")} if "id" in extra else {}
    return {"functionCall": {**named, "name": call.name, "args": input_of(call)}, **extra}


def _result(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"result": value}


def _config(request: Request, spec: ModelSpec, preset: Preset) -> dict[str, Any]:
    """`generationConfig`, in an object that is empty without it."""
    body: dict[str, Any] = {}
    special = add_parameters(body, request, API, (spec, preset), ("reasoning_effort",))
    if request.schema is not None:
        body.setdefault("generationConfig", {}).update(
            {
                "responseMimeType": "application/json",
                **({"responseJsonSchema": request.schema} if request.schema else {}),
            }
        )
    if effort := special.get("reasoning_effort"):
        quirks = {**preset.quirks, **spec.options}
        chosen = (
            {"thinkingBudget": _BUDGET[effort]}
            if quirks.get("thinking") == "budget"
            else {"thinkingLevel": effort}
        )
        config = body.setdefault("generationConfig", {})
        config["thinkingConfig"] = {"includeThoughts": True, **chosen}
    return body


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools:
        return
    declarations = [
        {
            "name": tool.name,
            "description": tool.description,
            **({"parametersJsonSchema": tool.parameters} if tool.parameters else {}),
        }
        for tool in request.tools
    ]
    body["tools"] = [{"functionDeclarations": declarations}]
    choice = tool_choice(request)
    if choice:
        modes = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
        chosen = (
            {"mode": modes[choice]}
            if choice in modes
            else {"mode": "ANY", "allowedFunctionNames": [choice]}
        )
        body["toolConfig"] = {"functionCallingConfig": chosen}


DIALECT = Dialect(
    API,
    GeminiDecoder,
    build,
    embed=gemini_call,
    vectors=gemini_vectors,
    takes_prefix=False,
    quirks=QUIRKS,
)
