"""Real input through all processes to several readers and the row: recorded provider bodies, and a
real llama.cpp server.
"""

import asyncio
import contextlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.reader import Reader, acall, post, units
from tests.e2e.stack import Stack, running_stack
from tests.listening import listening
from tests.servers.service import free_port
from tests.unit.providers.recordings import Recording, load
from tests.unit.providers.test_recordings import DEVIATES

RECORDINGS = [recording for recording in load("openai.chat") if recording.status == 200]
LONGEST_PIECE = 400
WHOLE = "This body is cut at arbitrary bytes — even inside 日本語 and 😀."


def sample() -> Recording:
    """A body of our own, in case no recordings are available."""
    lines = [
        json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}, ensure_ascii=False)
        for word in re.findall(r"\S+\s*", WHOLE)
    ]
    end = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    body = "".join(f"data: {line}\n\n" for line in [*lines, end, "[DONE]"]).encode()
    return Recording(
        "sample.sse",
        "sample",
        "openai.chat",
        200,
        {},
        {"text": WHOLE, "finish_reason": "stop"},
        body,
        ("text",),
    )


def first_choice(body: bytes) -> str:
    """The text of the first choice alone: the manifest joins all choices of a body."""
    text = ""
    for line in body.decode().splitlines():
        if line.startswith("data: {"):
            choices = json.loads(line.removeprefix("data: ")).get("choices") or []
            text += "".join(
                choice.get("delta", {}).get("content") or ""
                for choice in choices
                if choice.get("index") == 0
            )
    return text


def expected_of(recording: Recording) -> str:
    """What readers and the row must hold."""
    if recording.name in DEVIATES:
        return first_choice(recording.body)
    return recording.expected.get("text") or recording.expected.get("refusal") or ""


BODIES = [sample(), *RECORDINGS]


async def replay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A provider: the model's name is the number of a recording, which is sent in randomly cut
    pieces.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    number = int(json.loads(await reader.readexactly(int(length[1]) if length else 0))["model"])
    recording, chance = BODIES[number], random.Random(number)
    kind = recording.headers.get("content-type", "text/event-stream")
    writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode())
    sent = 0
    with contextlib.suppress(
        ConnectionError
    ):  # a reader with its proof of completion may leave before the last byte
        while sent < len(recording.body):
            size = chance.randint(1, max(2, min(LONGEST_PIECE, len(recording.body) // 150)))
            writer.write(recording.body[sent : sent + size])
            sent += size
            await asyncio.sleep(0.01)
        await writer.drain()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A catalogue with a model for each recording, and the port of their server. `none`: an
    unfinished answer keeps exactly its text.
    """
    port, file = free_port(), tmp_path_factory.mktemp("catalogue") / "models.yml"
    entry = {
        "provider": "openai_compatible",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "api_key": "none",
        "continuation": "none",
    }
    file.write_text(
        yaml.safe_dump(
            {
                "models": {
                    f"r{number}": {**entry, "model": str(number)} for number in range(len(BODIES))
                }
            }
        )
    )
    return file, port


@pytest.fixture(scope="module")
def stack(catalogue: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Tokenwire whose models are the recordings."""
    with running_stack(
        tmp_path_factory.mktemp("stack"), MODELS_FILE=str(catalogue[0]), WORKERS="2"
    ) as running:
        yield running


async def watch(stack: Stack, model: str, content: str) -> tuple[list[Reader], dict[str, Any]]:
    """Post, follow with three readers (steady, late, reconnecting every 200 ms), read the row."""
    posted = await post(stack.url, content, model)
    ids = posted["user_message"]["conversation_id"], posted["assistant_message"]["id"]
    readers = [
        Reader(stack.url, *ids),
        Reader(stack.url, *ids),
        Reader(stack.url, *ids, drop_seconds=0.2),
    ]
    await asyncio.gather(readers[0].watch(), readers[1].watch(delay=0.7), readers[2].watch())
    _, snapshot = await acall(stack.url, "GET", f"/api/conversations/{ids[0]}")
    return readers, snapshot["messages"][-1]


async def one_recording(stack: Stack, number: int, gate: asyncio.Semaphore) -> list[str]:
    """The differences of one recording after its way through the system."""
    recording = BODIES[number]
    async with gate:
        readers, row = await watch(stack, f"r{number}", "go")
    expected = expected_of(recording)
    wrong = [f"{recording.name}: row {row['content']!r}"] if row["content"] != expected else []
    wrong += [
        f"{recording.name}: reader {place} {reader.text!r}"
        for place, reader in enumerate(readers)
        if reader.text != expected
    ]
    if recording.expected.get("finish_reason") and row["status"] not in ("complete", "error"):
        wrong.append(f"{recording.name}: {row['status']}")
    return wrong


@pytest.mark.parametrize(
    "nth", [pytest.param(1, marks=pytest.mark.long, id="all"), pytest.param(4, id="some")]
)
async def test_recorded_bodies_reach_readers_and_row_exactly(
    stack: Stack, catalogue: tuple[Path, int], nth: int
) -> None:
    """Cut anywhere: three readers and the row hold exactly the expected text.

    `make test-all` plays all bodies, `make test` our own and every fourth: each goes through the
    decoder alone in tests/unit/providers.
    """
    gate = asyncio.Semaphore(12)
    async with listening(replay, catalogue[1]):
        found = await asyncio.gather(
            *(one_recording(stack, number, gate) for number in range(0, len(BODIES), nth))
        )
    assert [line for wrong in found for line in wrong] == []


@pytest.mark.long
async def test_a_real_model_of_a_real_server(llamacpp_url: str, tmp_path: Path) -> None:
    """llama.cpp with SmolLM2: three readers have the row's text, and the answer is complete."""
    file = tmp_path / "models.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "models": {
                    "smollm": {"provider": "llamacpp", "model": "default", "base_url": llamacpp_url}
                }
            }
        )
    )
    with running_stack(tmp_path, MODELS_FILE=str(file)) as stack:
        readers, row = await watch(
            stack, "smollm", "Tell me in three sentences why the sky is blue."
        )
    assert row["status"] == "complete", row
    assert row["finish_reason"] in ("stop", "length")
    assert row["usage"]["output_tokens"] > 3  # this model is sometimes brief
    assert units(row["content"]) > 10
    assert [reader.text for reader in readers] == [row["content"]] * 3
