"""web.local_servers: which server answers at an address that several kinds share."""

import pytest

from tokenwire.providers.catalogue import LocalServer
from tokenwire.web.local_servers import is_meant

LLAMACPP = b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"llamacpp"}]}'
VLLM = (
    b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"vllm",'
    b'"root":"m"}]}'
)
LOCALAI = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
LMSTUDIO = b'{"data":[{"id":"m","object":"model","owned_by":"organization_owner"}],"object":"list"}'
TOKENWIRE = (
    b'{"object":"list","data":[{"id":"demo","object":"model","created":0,"owned_by":"tokenwire"}]}'
)
SERVERS = {"llamacpp": LLAMACPP, "vllm": VLLM, "localai": LOCALAI, "lmstudio": LMSTUDIO}


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n".encode() + body


def usual(kind: str) -> LocalServer:
    return LocalServer("http://127.0.0.1:8080/v1", kind, usual=True)


@pytest.mark.parametrize("kind", SERVERS)
def test_each_is_identified_by_its_list_of_models(kind: str) -> None:
    """llama.cpp and LocalAI share a port, vLLM shares ours, so the answer decides."""
    assert is_meant(usual(kind), answer(SERVERS[kind]))


@pytest.mark.parametrize(
    ("kind", "other"),
    [("llamacpp", LOCALAI), ("localai", LLAMACPP), ("vllm", LLAMACPP), ("vllm", LOCALAI)],
)
def test_no_server_is_mistaken_for_another(kind: str, other: bytes) -> None:
    """On the usual port."""
    assert not is_meant(usual(kind), answer(other))


@pytest.mark.parametrize("kind", [*SERVERS, "ollama"])
def test_tokenwire_is_none_of_them(kind: str) -> None:
    """Wherever it is: in production it does not identify itself."""
    assert not is_meant(usual(kind), answer(TOKENWIRE))
    assert not is_meant(
        usual(kind), answer(b'{"error":{"code":"unauthenticated"}}', "401 Unauthorized")
    )
    assert not is_meant(LocalServer("http://gpu/v1", kind, usual=False), answer(TOKENWIRE))


def test_at_a_configured_address_any_server_counts() -> None:
    """A proxy in front of several servers, or one that requires a key."""
    named = LocalServer("http://gpu/v1", "llamacpp", usual=False)
    assert is_meant(named, answer(b'{"data":[{"id":"m","owned_by":"llama-swap"}]}'))
    assert is_meant(named, answer(b"{}", "401 Unauthorized"))
    assert not is_meant(named, b"SSH-2.0-OpenSSH\r\n")


@pytest.mark.parametrize(
    "received", [b"", b"garbage", answer(b""), answer(b"<html>"), answer(LOCALAI, "500 No")]
)
def test_other_answers_count_as_no_server(received: bytes) -> None:
    """A web server, half an answer, a failure."""
    assert not is_meant(usual("localai"), received)
