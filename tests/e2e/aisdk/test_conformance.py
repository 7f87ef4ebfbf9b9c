"""Tokenwire against the real packages: `ai` 5, 6 and 7, unchanged, in Node."""

from pathlib import Path

import pytest

from tests.e2e.aisdk.conftest import run_node
from tests.e2e.stack import Stack
from tests.js.aisdk import everything

pytestmark = pytest.mark.timeout(300)


def test_everything_that_the_encoder_writes_is_read(node: str, tmp_path: Path) -> None:
    """Every part, and hundreds of random call sequences: each release accepts each chunk and
    assembles the message.
    """
    everything.main(str(tmp_path / "chunks.json"))
    run_node(node, "encoder.test.mjs", CHUNKS=str(tmp_path / "chunks.json"))


@pytest.mark.parametrize("every", [pytest.param("1", marks=pytest.mark.long, id="every"), ""])
def test_chats_over_sse(node: str, chat_stack: Stack, every: str) -> None:
    """Complete answers, a second turn, resuming after reloads and cuts, both stops, regeneration,
    edits, two tabs. `make test` tries the oldest and the newest release, `make test-all` every one.
    """
    run_node(node, "chat.test.mjs", TOKENWIRE_URL=chat_stack.url, EVERY_RELEASE=every)


def test_chats_over_websocket(node: str, chat_stack: Stack) -> None:
    """The same through `WebSocketChatTransport`."""
    run_node(node, "socket.test.mjs", TOKENWIRE_URL=chat_stack.url)


def test_single_answers(node: str, chat_stack: Stack) -> None:
    """`useCompletion`'s own call with both protocols, and what `useObject` reads."""
    run_node(node, "single.test.mjs", TOKENWIRE_URL=chat_stack.url)
