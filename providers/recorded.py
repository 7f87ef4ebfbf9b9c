"""Pure: a recorded body -> one JSON object with everything in it (`python -m tokenwire.providers
decode`).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tokenwire.providers.base import (
    Delta,
    FileDelta,
    KeptDelta,
    ProviderError,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    SourceDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    UsageDelta,
    merge_usage,
)
from tokenwire.providers.classify import classify
from tokenwire.providers.decoding import Decoder


def decode(
    make: Callable[[], Decoder], status: int, headers: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    """The answer or the error in a body. `headers` have lower-case names. Never raises for any
    body.
    """
    if status >= 300:
        return _RecordedReport().result(False, classify(status, headers, body))
    report = _RecordedReport()
    decoder = make()
    _read(decoder, report, body)
    while decoder.unread and (following := _following(make, decoder, report)):
        decoder = following
    report.finish_raw = decoder.finish_raw
    report.finish_reason = decoder.finish_reason or ("unknown" if decoder.done else None)
    if decoder.ended_in_error:
        return report.result(
            True, None
        )  # the recording is whole; its `finish_reason` tells the outcome
    return report.result(decoder.done, decoder.failure)


def _read(decoder: Decoder, report: "_RecordedReport", body: bytes) -> None:
    for delta in decoder.feed(body):
        report.add(delta)
    for delta in decoder.close():
        report.add(delta)


def _following(
    make: Callable[[], Decoder], decoder: Decoder, report: "_RecordedReport"
) -> Decoder | None:
    """The rest of a body after one answer, if it is another one: recordings may hold several
    turns.
    """
    following = make()
    deltas = following.resume(decoder.unread)
    if decoder.failure:
        decoder.finish_raw = decoder.finish_raw or following.finish_raw
        decoder.finish_reason = decoder.finish_reason or following.finish_reason
        return None
    if not following.emitted:
        return None
    report.next_answer()
    for delta in (*deltas, *following.close()):
        report.add(delta)
    return following


class _RecordedReport:
    def __init__(self) -> None:
        self.finish_raw: str | None = None
        self.finish_reason: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._first_call = 0
        self._items: list[dict[str, Any]] = []
        self._usage: UsageDelta | None = None

    def next_answer(self) -> None:
        self._first_call = len(self._calls)

    def add(self, delta: Delta) -> None:
        match delta:
            case TextDelta(text):
                self._text.append(text)
            case ReasoningDelta(text):
                self._reasoning.append(text)
            case RefusalDelta(text):
                self._refusal.append(text)
            case ToolCallStart(_, id, name, made_up):
                self._calls.append({"id": None if made_up else id, "name": name, "arguments": ""})
            case ToolCallArguments(index, text):
                self._calls[self._first_call + index]["arguments"] += text
            case KeptDelta(_, kind, value):
                self._items.append({"kind": kind, "value": value})
            case ReasoningEnd(kept) | SourceDelta(kept=kept) | FileDelta(kept=kept) if kept:
                self._items.append({"kind": kept.kind, "value": kept.value})
            case UsageDelta():
                self._usage = delta if self._usage is None else merge_usage(self._usage, delta)

    def result(self, complete: bool, error: ProviderError | None) -> dict[str, Any]:
        usage = self._usage
        return {
            "text": "".join(self._text),
            "reasoning": "".join(self._reasoning),
            "refusal": "".join(self._refusal),
            "tool_calls": self._calls,
            "items": self._items,
            "finish_reason": self.finish_reason,
            "finish_raw": self.finish_raw,
            "usage": None
            if usage is None
            else {name: getattr(usage, name) for name in UsageDelta.__slots__},
            "complete": complete,
            "error": None if error is None else error_object(error),
        }


def error_object(error: ProviderError) -> dict[str, Any]:
    """An error as JSON: `class` is its name in the tree."""
    return {
        "class": type(error).__name__,
        "message": error.message,
        "retryable": error.retryable,
        "retry_after_s": error.retry_after_s,
        "code": error.code,
    }


def dump(result: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(result, ensure_ascii=True)
