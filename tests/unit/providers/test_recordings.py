"""Recorded answers of real providers are read exactly, however they are cut, and an unfinished one is never called complete."""

import re
from typing import Any

import pytest

from providers.base import Delta
from providers.dialects import DIALECTS, RELATED, decoder_of
from providers.recorded import decode
from tests.unit.providers.recordings import Recording, answer_of, gather, load

ANSWERS = load(*DIALECTS, *RELATED, success=True)
ERRORS = load(*DIALECTS, *RELATED, success=False)

# The manifest was made by a reader simpler than ours; where that shows, ours is right.
DEVIATES = {
    "gemini-generateContent__ai__google-stream-no-args-tool-call-chunks__0-5206dc.sse": "each partial argument is counted as a call there",
    "openai-responses__ai__azure-reasoning-encrypted-content-1-chunks__0-c2ac1c.sse": "calls of two answers in one body are joined there",
}
SEVERAL = {
    "anthropic-messages__ai__anthropic-tool-search-bm25-1-chunks__0-a69151.sse",
    "openai-responses__ai__azure-reasoning-encrypted-content-1-chunks__0-c2ac1c.sse",
}
"""Bodies that hold the answers of several turns; a client would stop reading after the first."""
ONE_ANSWER = [recording for recording in ANSWERS if recording.name not in SEVERAL]
BY_STATUS = {400: "InvalidRequest", 401: "AuthenticationFailed", 404: "ModelNotFound", 429: "RateLimited", 500: "Unavailable"}
BY_WORDS = {
    "maximum context length": "ContextLengthExceeded",
    "Context size has been exceeded": "ContextLengthExceeded",
    '"model_not_found"': "ModelNotFound",
}


def named(recordings: list[Recording]) -> Any:
    return pytest.mark.parametrize("recording", recordings, ids=[recording.name for recording in recordings])


@named(ANSWERS)
def test_an_answer_is_read_exactly(recording: Recording) -> None:
    """Text, reasoning, tool calls, finish reason, usage and errors are those of the manifest."""
    result = decode(decoder_of(recording.api), recording.status, recording.headers, recording.body)
    expected = recording.expected
    assert result["text"] == expected["text"]
    assert result["reasoning"] == expected.get("reasoning", "")
    assert result["finish_raw"] == expected["finish_reason"]
    if recording.name not in DEVIATES:
        assert result["tool_calls"] == expected.get("tool_calls", [])
    assert_usage(result["usage"], expected["usage"])
    assert (result["error"] is None) == result["complete"]
    assert result["complete"] == (
        "unterminated" not in recording.kind and not expected.get("errors") and expected["finish_reason"] is not None
    )


def assert_usage(ours: dict[str, Any] | None, theirs: dict[str, Any] | None) -> None:
    if theirs is None:
        assert ours is None
        return
    assert ours is not None
    for mine, names in {
        "input_tokens": ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count"),
        "output_tokens": ("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count"),
    }.items():
        assert ours[mine] == next(counts[name] for counts in (theirs, theirs.get("tokens", {})) for name in names if name in counts)


@named(ERRORS)
def test_an_error_is_classified(recording: Recording) -> None:
    """The class follows the status and the code; the provider's own words are kept."""
    result = decode(decoder_of(recording.api), recording.status, recording.headers, recording.body)
    text = recording.body.decode()
    expected = next((cls for words, cls in BY_WORDS.items() if words in text), BY_STATUS[recording.status])
    assert result["error"]["class"] == expected
    assert result["error"]["message"]
    assert not result["complete"]


def test_rate_limit_hints_of_recordings() -> None:
    """Azure's zero milliseconds do not mean at once, and Google's RetryInfo is heard."""
    hints = {
        r.provider: decode(decoder_of(r.api), r.status, r.headers, r.body)["error"]["retry_after_s"] for r in ERRORS if r.status == 429
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
        "comment blocks": [re.sub(rb"(?m)^\r?\n", b"\n: keep-alive\n\nid: 7\n: x\n\n", body)] if sse else [body],
        "no last blank line": [body.rstrip(b"\r\n")],
        "byte order mark": [b"\xef\xbb\xbf" + body],
    }


@named(ONE_ANSWER)
def test_cuts_and_line_ends_change_nothing(recording: Recording) -> None:
    """Single bytes, CRLF, comments, a missing last blank line: the same answer."""
    make = decoder_of(recording.api)
    reference = make()
    whole = answer_of(reference, [recording.body])
    for name, pieces in variants(recording.body).items():
        decoder = make()
        answer = answer_of(decoder, pieces)
        assert answer == whole, name
        assert type(decoder.failure) is type(reference.failure), name


@named(ONE_ANSWER)
def test_a_cut_body_is_a_prefix_and_not_complete(recording: Recording) -> None:
    """After each event: what was given is the beginning of the whole; the end is complete only with proof, and then nothing lacks."""
    make = decoder_of(recording.api)
    whole = gather(deltas_of(make(), recording.body))
    for body in prefixes(recording.body):
        decoder = make()
        part = gather(deltas_of(decoder, body))
        assert whole.text.startswith(part.text)
        assert whole.reasoning.startswith(part.reasoning)
        if decoder.done:
            assert (part.text, part.reasoning, len(part.tool_calls or [])) == (whole.text, whole.reasoning, len(whole.tool_calls or []))
            assert decoder.finish_raw == recording.expected["finish_reason"]
        else:
            assert decoder.failure is not None


def deltas_of(decoder: Any, body: bytes) -> list[Delta]:
    return [*decoder.feed(body), *decoder.close()]


def prefixes(body: bytes) -> list[bytes]:
    """The body cut after events: all of the first and last ones, some in between, and in the middle of some lines."""
    ends = [match.end() for match in re.finditer(rb"\n\r?\n|\}\r?\n", body)][:-1]
    chosen = ends if len(ends) < 60 else ends[:15] + ends[15:-25:20] + ends[-25:]
    return [body[:end] for end in chosen] + [body[: end + 23] for end in chosen[::5] if end + 23 < len(body)]
