"""Recorded answers are read exactly, however they are cut; an unfinished one is never complete.

The project's own recordings always run. Those of real providers run where PROVIDER_RECORDINGS names
them.
"""

import re
from typing import Any

import pytest

from tests.unit.providers.recordings import FOLDER, OWN, Recording, answer_of, gather, load, own
from tokenwire.providers.base import Delta
from tokenwire.providers.dialects import DIALECTS, RELATED, decoder_of
from tokenwire.providers.recorded import decode

ANSWERS = load(*DIALECTS, *RELATED, success=True)
ERRORS = load(*DIALECTS, *RELATED, success=False)

# A simpler reader than ours made the manifest; where they differ, ours is right.
DEVIATES = {
    "gemini-generateContent__ai__google-stream-no-args-tool-call-chunks__0-5206dc.sse": (
        "each partial argument is counted as a call there"
    ),
    "openai-responses__ai__azure-reasoning-encrypted-content-1-chunks__0-c2ac1c.sse": (
        "calls of two answers in one body are joined there"
    ),
    "openai-chat__dd-trace-py__completion-stream-multiple-choices-with-tools__0-c5058f.sse": (
        "two choices are joined there"
    ),
    (
        "openai-chat__openai-python__"
        "a491adda08c3d4fde95f5b2ee3f60f7f745f1a56d82e62f58031cc2add502380__0-a491ad.sse"
    ): "so are three",
}
SEVERAL = {
    "anthropic-messages__ai__anthropic-tool-search-bm25-1-chunks__0-a69151.sse",
    "openai-responses__ai__azure-reasoning-encrypted-content-1-chunks__0-c2ac1c.sse",
}
"""Bodies with the answers of several turns; a client would stop after the first."""
OURS = own()
ONE_ANSWER = [recording for recording in OURS if recording.status == 200]
ONE_ANSWER += [recording for recording in ANSWERS if recording.name not in SEVERAL]
BY_STATUS = {
    400: "InvalidRequest",
    401: "AuthenticationFailed",
    404: "ModelNotFound",
    429: "RateLimited",
    500: "Unavailable",
}
BY_WORDS = {
    "maximum context length": "ContextLengthExceeded",
    "Context size has been exceeded": "ContextLengthExceeded",
    '"model_not_found"': "ModelNotFound",
}


real_ones = pytest.mark.may_skip("recordings of real providers are no part of the project")


def named(recordings: list[Recording]) -> Any:
    return pytest.mark.parametrize(
        "recording", recordings, ids=[recording.name for recording in recordings]
    )


EMPTY: dict[str, Any] = {
    "text": "",
    "reasoning": "",
    "refusal": "",
    "tool_calls": [],
    "items": [],
    "finish_raw": None,
    "usage": None,
}


@named(OURS)
def test_our_own_recordings_are_read_exactly(recording: Recording) -> None:
    """All that they hold and nothing else. A reason that is `error` is an end, whatever came before
    it.
    """
    result = decode(decoder_of(recording.api), recording.status, recording.headers, recording.body)
    expected = {**EMPTY, **recording.expected}
    error = expected.get("error")
    assert {name: result[name] for name in EMPTY if name != "usage"} == {
        name: expected[name] for name in EMPTY if name != "usage"
    }
    assert {
        name: count for name, count in (result["usage"] or {}).items() if count is not None
    } == (expected["usage"] or {})
    assert (result["error"] and result["error"]["class"]) == error
    assert result["finish_reason"] == expected.get("finish_reason")
    assert result["complete"] == (error is None)
    if "retry_after_s" in expected:
        assert result["error"]["retry_after_s"] == expected["retry_after_s"]


def test_each_dialect_has_recordings() -> None:
    """Answers for every format that is decoded, errors for every API that is called, and no unused
    file.
    """
    assert {recording.api for recording in OURS if recording.status == 200} == {*DIALECTS, *RELATED}
    assert {recording.api for recording in OURS if recording.expected.get("error")} == {*DIALECTS}
    files = {str(path.relative_to(OWN)) for path in OWN.rglob("*") if path.is_file()} - {
        "manifest.json"
    }
    assert files == {recording.name for recording in OURS}


@real_ones
def test_recordings_of_real_providers_are_present() -> None:
    """They are no part of the project. Without them, this test reports how much less is tested."""
    if not (FOLDER / "manifest.json").is_file():
        pytest.skip(
            f"no recordings of real providers at {FOLDER}: the decoders are tested on "
            f"{len(OURS)} recordings of our own only"
        )
    assert ANSWERS
    assert ERRORS


@real_ones
@named(ANSWERS)
def test_an_answer_is_read_exactly(recording: Recording) -> None:
    """Text, reasoning, tool calls, finish reason, usage and errors are those of the manifest."""
    result = decode(decoder_of(recording.api), recording.status, recording.headers, recording.body)
    expected = recording.expected
    if recording.name not in DEVIATES:
        assert result["text"] == expected["text"]
    assert result["reasoning"] == expected.get("reasoning", "")
    assert result["finish_raw"] == expected["finish_reason"]
    if recording.name not in DEVIATES:
        assert result["tool_calls"] == expected.get("tool_calls", [])
    assert_usage(result["usage"], expected["usage"])
    assert (result["error"] is None) == result["complete"]
    assert result["complete"] == (
        "unterminated" not in recording.kind
        and not expected.get("errors")
        and expected["finish_reason"] is not None
    )


def assert_usage(ours: dict[str, Any] | None, theirs: dict[str, Any] | None) -> None:
    if theirs is None:
        assert ours is None
        return
    assert ours is not None
    for mine, names in {
        "input_tokens": ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count"),
        "output_tokens": (
            "completion_tokens",
            "output_tokens",
            "candidatesTokenCount",
            "eval_count",
        ),
    }.items():
        assert ours[mine] == next(
            counts[name]
            for counts in (theirs, theirs.get("tokens", {}))
            for name in names
            if name in counts
        )


@real_ones
@named(ERRORS)
def test_an_error_is_classified(recording: Recording) -> None:
    """The class follows from the status and the code; the provider's own words are kept."""
    result = decode(decoder_of(recording.api), recording.status, recording.headers, recording.body)
    text = recording.body.decode()
    expected = next(
        (cls for words, cls in BY_WORDS.items() if words in text), BY_STATUS[recording.status]
    )
    assert result["error"]["class"] == expected
    assert result["error"]["message"]
    assert not result["complete"]


@real_ones
def test_rate_limit_hints_of_recordings() -> None:
    """Azure's zero milliseconds do not mean at once, and Google's RetryInfo counts."""
    hints = {
        r.provider: decode(decoder_of(r.api), r.status, r.headers, r.body)["error"]["retry_after_s"]
        for r in ERRORS
        if r.status == 429
    }
    if not hints:
        pytest.skip("no recordings here")
    assert hints["azure"] == 1.0
    assert 48 <= hints["gemini"] < 49


def variants(body: bytes) -> dict[str, list[bytes]]:
    sse = b"data:" in body[:2000]
    crlf = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return {
        "single bytes": [body[i : i + 1] for i in range(len(body))],
        "sevens": [body[i : i + 7] for i in range(0, len(body), 7)],
        "crlf": [crlf],
        "lf": [body.replace(b"\r\n", b"\n")],
        "crlf in single bytes": [crlf[i : i + 1] for i in range(len(crlf))],
        "comments": [re.sub(rb"(?m)^(data|event):", rb": a comment\n\1:", body)] if sse else [body],
        "comment blocks": [re.sub(rb"(?m)^\r?\n", b"\n: keep-alive\n\nid: 7\n: x\n\n", body)]
        if sse
        else [body],
        "no last blank line": [body.rstrip(b"\r\n")],
        "byte order mark": [b"\xef\xbb\xbf" + body],
    }


@named(ONE_ANSWER)
def test_cuts_and_line_ends_change_nothing(recording: Recording) -> None:
    """Single bytes, CRLF, comments, no last blank line: the same answer."""
    make = decoder_of(recording.api)
    reference = make()
    whole = answer_of(reference, [recording.body])
    for name, pieces in variants(recording.body).items():
        decoder = make()
        answer = answer_of(decoder, pieces)
        assert answer == whole, name
        assert type(decoder.failure) is type(reference.failure), name


@named(
    [
        recording
        for recording in ONE_ANSWER
        if not recording.name.endswith("stop-on-every-chunk.sse")
    ]
)
def test_a_cut_body_is_an_unfinished_prefix(recording: Recording) -> None:
    """After each event, the deltas begin the whole answer. It is complete only with proof, and then
    nothing is missing.
    """
    make = decoder_of(recording.api)
    whole = gather(deltas_of(make(), recording.body))
    for body in prefixes(recording.body):
        decoder = make()
        part = gather(deltas_of(decoder, body))
        assert whole.text.startswith(part.text)
        assert whole.reasoning.startswith(part.reasoning)
        if decoder.done:
            assert (part.text, part.reasoning, len(part.tool_calls or [])) == (
                whole.text,
                whole.reasoning,
                len(whole.tool_calls or []),
            )
            assert decoder.finish_raw == finish_raw(recording)
        else:
            assert decoder.failure is not None


def finish_raw(recording: Recording) -> str | None:
    ours = recording in OURS
    reason: str | None = (
        recording.expected.get("finish_raw") if ours else recording.expected["finish_reason"]
    )
    return reason


def deltas_of(decoder: Any, body: bytes) -> list[Delta]:
    return [*decoder.feed(body), *decoder.close()]


def prefixes(body: bytes) -> list[bytes]:
    """The body cut after all of its first and last events and some in between, and within some
    lines.
    """
    ends = [match.end() for match in re.finditer(rb"\n\r?\n|\}\r?\n", body)][:-1]
    chosen = ends if len(ends) < 60 else ends[:15] + ends[15:-25:20] + ends[-25:]
    return [body[:end] for end in chosen] + [
        body[: end + 23] for end in chosen[::5] if end + 23 < len(body)
    ]
