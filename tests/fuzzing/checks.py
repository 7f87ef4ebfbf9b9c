"""Properties of any body. A simple reader, independent of the decoders, finds a body's text.

1. Nothing is raised. 2. Exactly one of `done` and `failure` holds at the end. 3. A Finish is the
   last delta; deltas have
the right types; pieces of a call follow its start. 4. A status keeps its class, a delay is
plausible, a message is short. 5. A
complete answer holds all the text that the simple reader finds before its end, and no event was
unreadable.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tests.unit.providers.recordings import Answer, gather
from tokenwire.providers.base import Delta, ProviderError, TextDelta
from tokenwire.providers.classify import classify
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialects import decoder_of

_KEEPS = {
    400: "InvalidRequest ContextLengthExceeded ContentFiltered QuotaExhausted "
    "AuthenticationFailed ModelNotFound RateLimited "
    "PermissionDenied",
    401: "AuthenticationFailed PermissionDenied QuotaExhausted",
    403: "PermissionDenied AuthenticationFailed QuotaExhausted ContentFiltered",
    404: "ModelNotFound InvalidRequest AuthenticationFailed PermissionDenied Unavailable",
    429: "RateLimited QuotaExhausted",
    500: "Unavailable ContextLengthExceeded RateLimited",
    529: "RateLimited QuotaExhausted",
}
_SAID = frozenset(
    {
        "content",
        "text",
        "thinking",
        "reasoning_content",
        "reasoning",
        "refusal",
        "partial_json",
        "tool_plan",
        "stringValue",
    }
)
_LONGEST_WAIT_S = 24 * 3600
_PLAIN = re.compile(r"[\ud800-\udfff\ufffd\x00\s]")


class Broken(AssertionError):
    """A body that violates one of the five properties."""


def check(
    api: str, status: int, headers: dict[str, str], body: bytes, cuts: Sequence[bytes]
) -> bool:
    """Whether the body is a complete answer. Raises Broken."""
    if status >= 300:
        check_error(status, headers, body)
        return False
    decoder = decoder_of(api)()
    deltas: list[Delta] = []
    try:
        for piece in cuts:
            deltas += decoder.feed(piece)
        deltas += decoder.close()
    except Exception as error:
        raise Broken(f"raised {error!r}") from error
    if decoder.done == (decoder.failure is not None):
        raise Broken(f"done {decoder.done}, failure {decoder.failure!r}")
    if decoder.failure is not None:
        _check_failure(decoder.failure)
    answer = _gathered(deltas)
    if decoder.done != (answer.finish is not None):
        raise Broken("a Finish without an end, or an end without one")
    if decoder.done:
        _check_nothing_lost(api, body, answer, decoder)
    return decoder.done


def check_error(status: int, headers: dict[str, str], body: bytes) -> None:
    """The status keeps its class. Raises Broken."""
    try:
        error = classify(status, headers, body)
    except Exception as raised:
        raise Broken(f"classify raised {raised!r}") from raised
    if status in _KEEPS and type(error).__name__ not in _KEEPS[status].split():
        raise Broken(f"{status} became {type(error).__name__}")
    _check_failure(error)


def _check_failure(error: ProviderError) -> None:
    if error.retry_after_s is not None and not 0 < error.retry_after_s <= _LONGEST_WAIT_S:
        raise Broken(f"a wait of {error.retry_after_s}")
    if not isinstance(error.message, str) or not error.message or len(error.message) > 2000:
        raise Broken(f"a message of {len(error.message)} characters")
    if error.code is not None and (not isinstance(error.code, str) or len(error.code) > 200):
        raise Broken("a code of another kind")


def _gathered(deltas: list[Delta]) -> Answer:
    for delta in deltas:
        if not isinstance(delta, TextDelta):
            _check_types(delta)
    try:
        return gather(deltas)
    except (AssertionError, IndexError) as error:
        raise Broken(f"deltas that do not fit together: {error}") from error


def _check_types(delta: Delta) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(delta), type(delta))
    except (msgspec.ValidationError, TypeError) as error:
        raise Broken(f"a delta of other types: {error}") from error
    except RecursionError:
        return


# --- the simple reader ----------------------------------------------------------------------------


def _check_nothing_lost(api: str, body: bytes, answer: Answer, decoder: Decoder) -> None:
    held = [answer.text, answer.reasoning, answer.refusal]
    held += [
        text
        for call in answer.tool_calls or []
        for text in (call["arguments"], *_strings(_loaded(call["arguments"])))
    ]
    for item in answer.items or []:
        held += [*_strings(item.value), json.dumps(item.value, ensure_ascii=False)]
    haystack = _plain("\n".join(held))
    read = "".join(frame.decode("utf-8", "replace") for _, frame in decoder.unread)
    for said in _said_in(api, body):
        if _plain(said) not in haystack and said not in read and json.dumps(said)[1:-1] not in read:
            raise Broken(f"lost: {said[:80]!r}")


def _said_in(api: str, body: bytes) -> Iterator[str]:
    """The texts of all events up to the end of the answer."""
    for event, value in _events(body):
        if api == "openai.responses":
            kind = value.get("type")
            if kind in ("response.output_text.delta", "response.refusal.delta") and isinstance(
                value.get("delta"), str
            ):
                yield value["delta"]
        elif api in ("openai.chat", "openai.completions", "gemini.generateContent"):
            yield from _texts([value.get(name) for name in ("choices", "candidates", "unheard_of")])
        else:
            yield from _texts(value)
        if _is_end(api, value.get("type") or event, value):
            return


def _events(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object with its event's name."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    event = ""
    for line in text.split("\n"):
        data = line.removesuffix("\r")
        if not data:
            event = ""
        elif data.startswith("event:"):
            event = data[6:].removeprefix(" ")
        elif data.startswith("data:"):
            if data[5:].strip() == "[DONE]":
                return
            yield from ((event, value) for value in _objects(data[5:].lstrip()))
        elif not data.startswith((":", "id:", "retry:", "error:")):
            before, brace, _ = data.partition("{")
            if brace and '"' not in before:  # a field whose name is damaged counts, too
                yield from (("", value) for value in _objects(data[len(before) :]))


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects at the beginning of a line, one after another."""
    decoder = json.JSONDecoder(strict=False)
    while text.startswith("{"):
        try:
            value, end = decoder.raw_decode(text)
            json.dumps(value)  # its nesting can be walked
        except (ValueError, RecursionError):
            return
        yield value
        text = text[end:].lstrip()


def _is_end(api: str, kind: Any, value: dict[str, Any]) -> bool:
    if api.startswith("ollama"):
        return bool(value.get("done"))
    return kind in (
        "message_stop",
        "message-end",
        "response.completed",
        "response.incomplete",
        "message",
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "message" and not value.keys().isdisjoint(("delta", "unheard_of")):
                continue  # Perplexity repeats all of it beside each piece
            if name in _SAID and isinstance(inner, str):
                yield inner
            elif name != "error":
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _loaded(text: str) -> Any:
    try:
        value = json.loads(text, strict=False)
        json.dumps(value)  # its nesting can be walked
    except (ValueError, RecursionError):
        return None
    return value


def _plain(text: str) -> str:
    return _PLAIN.sub("", text)
