"""Texts of providers are logged without credentials, whoever owns them."""

from typing import Any

import pytest

from tokenwire.protocol.text import MAX_JSON_DEPTH
from tokenwire.providers.base import RateLimited
from tokenwire.providers.classify import classify, classify_stream_error
from tokenwire.providers.redaction import HIDDEN, redacted, without_secrets


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (
            "Incorrect API key provided: sk-proj-abcdefgh12345678. Find yours at ...",
            "abcdefgh12345678",
        ),
        ("Incorrect API key provided: my-own-key-without-a-look", "my-own-key"),
        ('{"headers":{"Authorization":"Bearer abc.def-123456"}}', "abc.def-123456"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("x-api-key=0123456789abcdef is not valid", "0123456789abcdef"),
        ("no such key AIzaSyA1234567890abcdefghijklmnop", "AIzaSyA1234567890abcdefghijklmnop"),
        ("GET https://x.example/v1?key=secret-1234&alt=sse failed", "secret-1234"),
        ("GET https://user:pass-word@x.example/v1", "pass-word"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl expired", "eyJzdWIi"),
        ("keys gsk_abcdefghijklmnop and hf_abcdefghijklmnop", "abcdefghijklmnop"),
    ],
)
def test_credentials_are_hidden_by_name_and_form(text: str, secret: str) -> None:
    """The words around them stay."""
    found = redacted(text)
    assert secret not in found
    assert HIDDEN in found
    assert found.split()[0][:3] == text.split()[0][:3]


def test_a_known_secret_is_hidden_in_any_form() -> None:
    """Each time it occurs, and also its beginning where the text was cut."""
    assert (
        redacted("not hunter2hunter, no: hunter2hunter!", ["hunter2hunter"])
        == f"not {HIDDEN}, no: {HIDDEN}!"
    )
    assert (
        redacted("you sent `correct horse battery`!", ["correct horse battery"])
        == f"you sent `{HIDDEN}`!"
    )
    assert redacted("you sent correct horse ba", ["correct horse battery"]) == f"you sent {HIDDEN}"
    assert redacted("a short one: abc", ["abc"]) == "a short one: abc"


def test_a_known_secret_is_hidden_without_its_prefix() -> None:
    """So is any other long part of it."""
    assert redacted("bad key hunter2hunter2", ["house-hunter2hunter2"]) == f"bad key {HIDDEN}"
    assert redacted("bad key r2hunter...", ["house-hunter2hunter2"]) == f"bad key {HIDDEN}..."
    assert redacted("bad key hunter", ["house-hunter2hunter2"]) == "bad key hunter"


@pytest.mark.parametrize(
    "text",
    [
        "Rate limit reached for gpt-5 in organization org-x",
        "prompt is too long: 9 tokens > 8",
        "the basic model",
        "Bearer token required",
        "API key: missing",
    ],
)
def test_plain_words_stay(text: str) -> None:
    """Words that a person needs stay."""
    assert redacted(text) == text


def test_no_error_of_a_provider_holds_a_key() -> None:
    """Neither message nor code holds one: of an HTTP error, an error inside a 200, or one of our
    own.
    """
    body = (
        b'{"error":{"message":"Incorrect API key provided: '
        b'sk-abcdefgh12345678","code":"sk-abcdefgh12345678"}}'
    )
    for error in (
        classify(401, {}, body),
        classify_stream_error({"error": {"message": "bad sk-abcdefgh12345678", "code": "x"}}),
        RateLimited("Bearer abcdefgh12345678"),
    ):
        assert error is not None
        assert "abcdefgh12345678" not in f"{error!r} {error} {error.message} {error.code}"


def test_a_value_without_secrets() -> None:
    """In texts and names, the longest first; a short one would hide words of every value."""
    value = {"hunter2hunter": ["a hunter2 b", 5, None], "abc": {"x": "hunter2hunter"}}
    assert without_secrets(value, ["hunter2", "abc", "hunter2hunter"]) == {
        HIDDEN: [f"a {HIDDEN} b", 5, None],
        "abc": {"x": HIDDEN},
    }


def test_any_depth_of_a_value() -> None:
    """As deep as values are shown secrets are cut out, and no value is too deep."""
    for levels in (MAX_JSON_DEPTH, 50_000):
        value: Any = "hunter2"
        for _ in range(levels):
            value = [value]
        found = without_secrets(value, ["hunter2"])
        for _ in range(levels):
            [found] = found
        assert found == (HIDDEN if levels == MAX_JSON_DEPTH else "hunter2")
