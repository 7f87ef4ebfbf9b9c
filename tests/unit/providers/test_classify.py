"""Errors of all providers are classified by status and code first; hints about waiting are read."""

import json
import time
from typing import Any

import pytest

from tokenwire.providers.base import InvalidRequest
from tokenwire.providers.classify import _MAY_BECOME, _PRECISE, classify, classify_stream_error
from tokenwire.providers.hints import duration, retry_after

NOW = 1_800_000_000.0


def error(**fields: Any) -> bytes:
    return json.dumps({"error": fields}).encode()


USED_UP = error(
    message="You exceeded your current quota.", type="insufficient_quota", code="insufficient_quota"
)


@pytest.mark.parametrize(
    ("status", "headers", "body", "name"),
    [
        (429, {}, USED_UP, "QuotaExhausted"),
        (429, {"retry-after": "20"}, USED_UP, "RateLimited"),
        (429, {"retry-after-ms": "500"}, error(code="quota_exceeded", message="x"), "RateLimited"),
        (429, {}, error(code="quota_exceeded", message="Please try again in 20s."), "RateLimited"),
        (429, {"retry-after": "0"}, USED_UP, "QuotaExhausted"),
        (429, {"retry-after": "soon"}, USED_UP, "QuotaExhausted"),
        (429, {"x-ratelimit-reset-tokens": "20s"}, USED_UP, "QuotaExhausted"),
        (
            200,
            {},
            error(code="insufficient_quota", status=429, message="Please try again in 20s."),
            "RateLimited",
        ),
        (402, {"retry-after": "20"}, USED_UP, "QuotaExhausted"),
        (400, {"retry-after": "20"}, USED_UP, "QuotaExhausted"),
    ],
)
def test_a_quota_that_is_used_up(
    status: int, headers: dict[str, str], body: bytes, name: str
) -> None:
    """A 429 is retried if it says when to come back, or if nothing says that the quota is used
    up.
    """
    found = (
        classify_stream_error(json.loads(body))
        if status == 200
        else classify(status, headers, body)
    )
    assert type(found).__name__ == name


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (429, error(message="Rate limit reached", code="rate_limit_exceeded"), "RateLimited"),
        (
            429,
            error(
                message="You exceeded your current quota, check billing", code="insufficient_quota"
            ),
            "QuotaExhausted",
        ),
        (
            429,
            error(code=429, status="RESOURCE_EXHAUSTED", message="You exceeded your current quota"),
            "RateLimited",
        ),
        (
            529,
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            "RateLimited",
        ),
        (
            503,
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            "Unavailable",
        ),
        (402, error(message="Insufficient credits", code=402), "QuotaExhausted"),
        (
            400,
            (
                b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit '
                b'balance is too low"}}'
            ),
            "QuotaExhausted",
        ),
        (401, error(message="no"), "AuthenticationFailed"),
        (401, b'{"detail":"Invalid API Key"}', "AuthenticationFailed"),
        (
            400,
            error(
                code=400,
                status="INVALID_ARGUMENT",
                message="x",
                details=[{"reason": "API_KEY_INVALID"}],
            ),
            "AuthenticationFailed",
        ),
        (
            400,
            b'{"code":"invalid-argument","error":"Incorrect API key provided: in***ey"}',
            "AuthenticationFailed",
        ),
        (403, error(code=403, status="PERMISSION_DENIED", message="x"), "PermissionDenied"),
        (404, error(code="DeploymentNotFound", message="x"), "ModelNotFound"),
        (404, b'{"error":"model \'x\' not found"}', "ModelNotFound"),
        (
            400,
            error(message="The requested model 'x' does not exist.", code="model_not_found"),
            "ModelNotFound",
        ),
        (
            404,
            error(message="Invalid URL (POST /v1/x)", type="invalid_request_error"),
            "InvalidRequest",
        ),
        (400, error(message="bad", type="invalid_request_error"), "InvalidRequest"),
        (422, b'{"detail":[{"type":"missing","msg":"Field required"}]}', "InvalidRequest"),
        (400, error(message="x", code="context_length_exceeded"), "ContextLengthExceeded"),
        (413, b"", "ContextLengthExceeded"),
        (
            400,
            error(code=400, type="exceed_context_size_error", message="x"),
            "ContextLengthExceeded",
        ),
        (
            500,
            error(code=500, message="Context size has been exceeded.", type="server_error"),
            "ContextLengthExceeded",
        ),
        (
            400,
            (
                b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too '
                b'long: 9 tokens > 8"}}'
            ),
            "ContextLengthExceeded",
        ),
        (
            429,
            error(message="rate limit; the context length is 9", code="rate_limit_exceeded"),
            "RateLimited",
        ),
        (
            400,
            error(
                message="x",
                code="content_filter",
                innererror={"code": "ResponsibleAIPolicyViolation"},
            ),
            "ContentFiltered",
        ),
        (500, error(message="x"), "Unavailable"),
        (503, b"<html><title>503 Service Unavailable</title></html>", "Unavailable"),
        (504, error(status="DEADLINE_EXCEEDED", code=504), "Unavailable"),
        (408, b"", "Unavailable"),
        (418, b"[[[[[[", "InvalidRequest"),
        (
            404,
            (
                b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body><center>nginx</"
                b"center></body></html>"
            ),
            "Unavailable",
        ),
        (403, b"<html><head><title>403 Forbidden</title></head></html>", "PermissionDenied"),
        (
            400,
            error(
                message="Invalid schema for function 'billing_report'", type="invalid_request_error"
            ),
            "InvalidRequest",
        ),
        (
            400,
            error(
                message="'flagged' is not a boolean; see your quota, rate limit and api key",
                type="invalid_request_error",
            ),
            "InvalidRequest",
        ),
        (400, error(message="Invalid value: 'Your credit balance is too low'"), "InvalidRequest"),
        (400, error(message="context_length must be a number"), "InvalidRequest"),
        (429, error(message="x", code="context_length_exceeded"), "RateLimited"),
        (429, error(message="Incorrect API key provided", code="invalid_api_key"), "RateLimited"),
        (429, b'{"error":{"code":1e999}}', "RateLimited"),
        (429, b'{"error":{"code":NaN,"status":-1e999}}', "RateLimited"),
        (429, b'{"error":' * 5000 + b"1" + b"}" * 5000, "RateLimited"),
        (429, b'{"error":{"details":' + b"[" * 400 + b"]" * 400 + b"}}", "RateLimited"),
        (429, b'{"error":{"code":' + b"9" * 5000 + b"}}", "RateLimited"),
        (500, error(message="The model `x` does not exist", code="model_not_found"), "Unavailable"),
    ],
)
def test_the_class_of_an_error(status: int, body: bytes, name: str) -> None:
    """By status, then code, then words."""
    found = classify(status, {}, body)
    assert type(found).__name__ == name
    assert found.status == status
    assert found.message


@pytest.mark.parametrize(
    ("status", "body", "no_run"),
    [
        (400, error(message="x"), True),
        (429, error(code="busy"), True),
        (404, b'{"detail":"Not Found"}', True),
        (400, b"<html><title>400 Bad Request</title></html>", False),
        (404, b"", False),
        (400, b"Bad Request", False),
        (400, b"{}", False),
        (408, error(message="timed out"), False),
        (302, error(message="elsewhere"), False),
        (500, error(message="x"), False),
        (502, error(message="x"), False),
        (503, error(message="Loading model", code=503), False),
        (504, b"<html><title>504 Gateway Time-out</title></html>", False),
        (502, error(code="connect_error"), False),
    ],
)
def test_what_proves_that_no_run_continues(status: int, body: bytes, no_run: bool) -> None:
    """A refusal in the provider's own form. A page of a proxy, which may have passed the request
    on, proves nothing.
    """
    assert classify(status, {}, body).no_run is no_run


def test_an_error_in_the_stream_is_the_end_of_the_run() -> None:
    """An error inside the stream that was requested."""
    found = classify_stream_error({"error": {"message": "out of memory", "code": 500}})
    assert found is not None
    assert found.no_run


def test_a_body_is_read_in_bounded_time() -> None:
    """Wide and deep lists, a page of open titles, long words: no search is quadratic, no long text
    is kept.
    """
    nested: Any = "x"
    for _ in range(40):
        nested = [nested] * 8
    began = time.process_time()
    for body in (
        b"<title>" * 9000,
        error(message="model " * 10_000),
        error(message="try again in " + "1" * 60_000),
        b'{"error":{"code":"' + b"a" * 60_000 + b'"}}',
    ):
        assert len(classify(400, {}, body).message) <= 1000
    assert retry_after({}, nested, NOW) is None
    assert classify_stream_error({"error": nested}) is not None
    assert time.process_time() - began < 5


def test_the_providers_own_words_and_code_are_kept() -> None:
    """OpenRouter has its message in its metadata."""
    body = error(
        code=429,
        message="Provider returned error",
        metadata={"raw": "free models are busy", "provider_name": "X"},
    )
    found = classify(429, {}, body)
    assert "free models are busy" in found.message
    assert found.code == "429"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("76ms", 0.076),
        ("48.9s", 48.9),
        ("1h2m3s", 3723),
        ("7", 7),
        ("2d", 172800),
        ("soon", None),
        ("", None),
        ("3 s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """As OpenAI, Groq and Google write them."""
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "12"}, None, 12),
        ({"retry-after": "1", "retry-after-ms": "0"}, None, 1),
        ({"retry-after": "1", "retry-after-ms": "1500"}, None, 1.5),
        ({"retry-after": "0"}, None, None),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, None, 30),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, None, None),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, None, 360),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "5"}, None, None),
        ({"x-ratelimit-reset-tokens": "76ms"}, None, 0.076),
        (
            {
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:20Z",
                "anthropic-ratelimit-requests-remaining": "0",
            },
            None,
            20,
        ),
        ({"x-ratelimit-reset": "1800000009000", "x-ratelimit-remaining": "0"}, None, 9),
        (
            {
                "retry-after": "2",
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-requests": "0",
            },
            None,
            2,
        ),
        ({}, {"error": {"details": [{"@type": "RetryInfo", "retryDelay": "48s"}]}}, 48),
        ({}, [{"error": {"details": [{"retryDelay": "3.5s"}]}}], 3.5),
        ({}, {"error": {"message": "Please try again in 1m2.5s."}}, 62.5),
        ({}, {"error": {"message": "Please retry in 48.9s."}}, 48.9),
        ({}, {"error": "try again in 20s"}, 20),
        (
            {"retry-after": "rubbish", "x-ratelimit-reset-tokens": "rubbish"},
            {"error": {"details": "rubbish"}},
            None,
        ),
        ({"retry-after": "9999999999"}, None, None),
        ({"retry-after": "9" * 400}, None, None),
        ({"retry-after": "9" * 50_000 + "x"}, None, None),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "Fri, 31 Feb 2027 08:00:30 GMT"}, None, None),
        ({"retry-after": "Fri, 15 Jan 99999999999 08:00:30 GMT"}, None, None),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 -9999"}, None, None),
        ({"retry-after": "0001-01-01T00:00:00+23:59"}, None, None),
        ({"x-ratelimit-reset-requests": "1" * 400 + "h"}, None, None),
        ({}, {"error": {"retry_after": 10**400}}, None),
        ({}, {"error": {"retry_after": float("inf")}}, None),
        ({}, {"error": {"retry_after": float("nan")}}, None),
        ({}, {"error": {"message": "try again in " + "1" * 400 + "s"}}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], body: Any, seconds: float | None) -> None:
    """The strongest kind of hint wins, and the longest of its kind; zero and nonsense are
    ignored.
    """
    assert retry_after(headers, body, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_an_error_inside_a_stream_has_a_delay_too() -> None:
    """It has no headers; only its body may say how long to wait."""
    found = classify_stream_error(
        {"error": {"code": 429, "message": "Rate limit reached. Please try again in 7.5s."}}
    )
    assert found is not None
    assert (found.status, found.retry_after_s) == (429, 7.5)


@pytest.mark.parametrize("code", _PRECISE)
def test_every_precise_code_refines_a_400(code: str) -> None:
    """One table: a code that is added there counts at once."""
    assert type(classify(400, {}, error(code=code, message="x"))) is _PRECISE[code]


def test_a_class_needs_no_second_list() -> None:
    """What a 400 may become is what the table of precise codes holds."""
    assert set(_PRECISE.values()) == _MAY_BECOME[InvalidRequest]
