"""worker.attempt.addresses: which address becomes a link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.worker.attempt.addresses import address_fields, is_link

LINKS = [
    "https://example.com",
    "HTTP://example.com:8080/a b?q=a@b#c@d",
    "https://[2001:db8::1]/",
    "https://bücher.example/ü",
    "https://example.com/a\\b",
]
TEXTS = [
    "",
    "javascript:alert(1)",
    " JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://example.com/a",
    "gs://bucket/a",
    "//evil.example/a",
    "/api/messages/m/files/0",
    "example.com",
    "https:example.com",
    "https:///example.com",
    "https://",
    "https://:443/",
    "https://user:pass@example.com/",
    "https://bank.example@evil.example/",
    "https://@evil.example/",
    "https://good.example\\@evil.example/",
    "https://good.example\\.evil.example/",
    "https://a b/",
    "https://example.com:x/",
    "https://example.com:99999/",
    "https://[::1/",
    "https://example.com/\0",
    "https://example.com/a\nb",
    "https://example.com/\ud800",
]


@pytest.mark.parametrize("url", LINKS)
def test_addresses_of_the_web_are_links(url: str) -> None:
    assert address_fields(url) == {"url": url}


@pytest.mark.parametrize("url", TEXTS)
def test_others_are_text(url: str) -> None:
    """As their model gave them."""
    assert address_fields(url) == {"address": url}


def test_no_address_is_no_field() -> None:
    assert address_fields(None) == {}


@given(st.text("htps:/\\@.?#[]%a \t\0\ud800é", max_size=20), st.booleans())
def test_a_link_always_begins_as_a_link(text: str, is_secure: bool) -> None:
    """Whatever a model writes, no question raises, and no other scheme passes."""
    for address in (text, ("https://" if is_secure else "http://") + text):
        if is_link(address):
            head, _, rest = address.partition("://")
            host = rest.split("/")[0].split("?")[0].split("#")[0]
            assert head.lower() in ("http", "https")
            assert host
            assert not set(host) & set("@\\ \t\0")
