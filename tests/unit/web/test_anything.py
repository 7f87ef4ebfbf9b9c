"""For any request, the API gives a documented answer: never a failure, never a stack trace."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.databases import create_tables
from tests.examples import many
from tests.unit.web import conftest
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import parse
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.web.app import create_app
from tokenwire.web.problems import CODES

C = "/api/conversations"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str, str]]:
    """A client with a conversation and a message."""
    url = f"sqlite:///{tmp_path_factory.mktemp('anything') / 'web.db'}"
    create_tables(url)
    store = Store.open(url)
    jobs: Any = conftest.RecordedJobs()
    log = MemoryLog()
    app = create_app(
        conftest.settings(max_content_bytes=1024),
        store,
        log,
        MemoryPubSub(log),
        jobs,
        parse(conftest.CATALOGUE, {}),
    )
    with TestClient(app, raise_server_exceptions=True) as client:
        conversation_id = client.post(C, json={}).json()["id"]
        message_id = client.post(f"{C}/{conversation_id}/messages", json={"content": "hi"}).json()[
            "assistant_message"
        ]["id"]
        yield client, conversation_id, message_id
        assert client.portal is not None
        client.portal.call(store.aclose)


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=8,
)
members = st.fixed_dictionaries(
    {},
    optional={
        name: any_json | any_text | st.sampled_from(["hi", "demo", "second", "x" * 2000])
        for name in (
            "content",
            "title",
            "model",
            "instructions",
            "user_id",
            "attachments",
            "tools",
            "schema",
        )
    },
)
bodies = st.binary(max_size=60) | st.one_of(members, any_json).map(
    lambda value: json.dumps(value).encode()
)
addresses = st.sampled_from(
    [
        C,
        f"{C}/{{conversation}}",
        f"{C}/{{conversation}}/messages",
        f"{C}/{{conversation}}/subscription",
        f"{C}/{{conversation}}/cancel",
        f"{C}/{{conversation}}/participants",
        "/api/messages/{message}/cancel",
        "/api/messages/{message}/regenerate",
        "/api/messages/{message}/calls",
        "/api/messages/{message}/calls/0/decision",
        "/api/chat/{conversation}/stop",
        "/api/chat/{conversation}/messages",
        "/api/models",
    ]
)
identifiers = st.sampled_from(["real", "real", "real", "nobody", "%00", "%ff", "a%2fb", "x" * 300])
header_text = st.text(
    st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=20
)
headers = st.dictionaries(
    st.sampled_from(
        ["Idempotency-Key", "Content-Type", "Authorization", "Cookie", "Host", "Origin"]
    ),
    header_text,
    max_size=3,
)
query_text = any_text.map(lambda text: text.encode("utf-8", "replace").decode())
queries = st.dictionaries(
    st.sampled_from(["limit", "before", "after"]), st.integers().map(str) | query_text, max_size=2
)


@settings(
    max_examples=many(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.sampled_from(["GET", "POST", "PATCH", "PUT", "HEAD"]),
    addresses,
    identifiers,
    identifiers,
    headers,
    queries,
    bodies,
)
def test_no_request_causes_a_failure(
    served: tuple[TestClient, str, str],
    method: str,
    address: str,
    conversation: str,
    message: str,
    headers: dict[str, str],
    query: dict[str, str],
    body: bytes,
) -> None:
    """An escaping exception fails the test; so does a 500, an unknown code, or a body that is not
    JSON.
    """
    client, conversation_id, message_id = served
    path = address.format(
        conversation=conversation_id if conversation == "real" else conversation,
        message=message_id if message == "real" else message,
    )
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = client.request(method, path, params=query, headers=encoded, content=body)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD":
        document = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert CODES[document["code"]] == answer.status_code == document["status"]
    elif answer.content:
        answer.json()
