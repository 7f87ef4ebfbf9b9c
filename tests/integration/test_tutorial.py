"""The client of PROTOCOL.md's tutorial, extracted and run as it is printed there.

Over real sockets it follows answers through the real broadcaster and a real Valkey. The two HTTP
calls are answered here, so that a test chooses what rows hold and where the broadcaster is.
"""

import asyncio
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.integration.broadcasting import PATIENCE_SECONDS, Stage, Writer, redis_stage, token
from tests.integration.hostile import Faults, Hostile, answer
from tokenwire.config.settings import ROOT
from tokenwire.streams.log.ports import Limits

PAGE = Path(ROOT / "PROTOCOL.md").read_text("utf-8")
TUTORIAL = PAGE.split("\n## A client in forty lines\n")[1].split("\n## ")[0]
*CLIENT, MAIN = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
VECTORS = ROOT / "protocol" / "vectors"
WORDS = ["tide ", "log, ", "🚀 ", "žluťoučký ", "\n\n- ", "and "] * 8


def load() -> SimpleNamespace:
    """The names that the printed code defines. It waits hardly at all before it dials again."""
    names: dict[str, Any] = {}
    exec(compile("\n".join(CLIENT), "PROTOCOL.md", "exec"), names)  # noqa: S102 - our own page
    names["random"] = SimpleNamespace(random=lambda: 0.01)
    return SimpleNamespace(**names)


def test_it_has_forty_lines() -> None:
    """The heading says so. Blank lines do not count."""
    assert len([line for block in CLIENT for line in block.splitlines() if line]) <= 40
    compile(MAIN, "PROTOCOL.md", "exec")


# --- rules 2 to 4, by the vectors ---------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    f"{path.stem}: {case['name']}": case
    for path in sorted(VECTORS.glob("*.json"))
    for case in json.loads(path.read_text("utf-8"))["cases"]
}
SEEN = {
    "a piece behind a gap is a hole",
    "the first piece of a part behind a gap is a hole",
    "another checksum is not proven",
}
"""Faults that a client of text alone notices. The others are about parts, reasoning and inputs."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_vector(case: dict[str, Any]) -> None:
    """Text and end as the vector says; a fault that a client of text can see asks for the rows."""
    client = load()
    row = {"id": "m1", "content": "", "status": "queued"} | case.get("row", {})
    row["seq"] = 0  # the events of a vector follow its row
    fault = case.get("hole_at", case.get("unproven_at"))
    for event in case["events"][:fault]:
        if row["status"] not in client.ENDED:  # it follows no answer that has ended
            row = client.applied(row, event)
    if case["name"] in SEEN:
        assert client.applied(row, case["events"][fault]) is None
    assert row["content"] == case["message"].get("content", "")
    if case["message"].get("status") in client.ENDED:
        assert row["status"] == case["message"]["status"]


def test_vectors_have_the_faults_that_are_seen() -> None:
    """A case that has another name now would no longer be checked."""
    assert {case["name"] for case in CASES.values()} >= SEEN


# --- through the broadcaster --------------------------------------------------------------------


class Api:
    """Answers the client's two calls: `row` and `cursor` are its rows, `stage` its broadcaster."""

    def __init__(self, stage: Stage, cursor: str) -> None:
        self.stage, self.cursor = stage, cursor
        self.row = {"id": "m", "content": "", "status": "streaming", "seq": 0}
        self.later: tuple[dict[str, Any], str] | None = None
        """Row and cursor from the second read on."""
        self.reads = self.grants = 0

    def client(self) -> httpx.AsyncClient:
        transport = httpx.MockTransport(self._answer)
        return httpx.AsyncClient(transport=transport, base_url="http://api")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            self.reads += 1
            page = {"messages": [self.row], "cursor": self.cursor}
            self.row, self.cursor = self.later or (self.row, self.cursor)
            return httpx.Response(200, json=page)
        self.grants += 1
        return httpx.Response(200, json={"url": self.stage.url("c"), "token": token("c")})


class Follower:
    """The printed client, following answer `m` of conversation `c`."""

    def __init__(self, api: Api) -> None:
        self.shown: list[str] = []
        self._api = api
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async with self._api.client() as http:
            await load().follow(http, "c", "m", self.shown.append)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.shown or self.shown[-1] != text:
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._task


async def test_it_follows_an_answer_to_its_end(valkey_url: str) -> None:
    """Piece by piece, through surrogate pairs; the text only grows."""
    async with redis_stage(valkey_url) as stage:
        writer = await Writer(stage.log, "c").begin()
        follower = Follower(Api(stage, f"{writer.epoch}:0"))
        for word in WORDS:
            await writer.say(word)
        await writer.end()
        await follower.end()
    assert follower.shown[-1] == writer.text == "".join(WORDS)
    pairs = zip(follower.shown, follower.shown[1:], strict=False)
    assert all(later.startswith(earlier) for earlier, later in pairs)


async def test_it_resumes_at_another_broadcaster(valkey_url: str) -> None:
    """By its cursor: it reads no row again, and takes no piece twice."""
    async with redis_stage(valkey_url) as last:
        async with redis_stage(valkey_url) as first:
            writer = await Writer(last.log, "c").begin()
            api = Api(first, f"{writer.epoch}:0")
            follower = Follower(api)
            await writer.say("Hel")
            await follower.until("Hel")
            api.stage = last
        await writer.say("lo", " 🚀")
        await writer.end()
        await follower.end()
    assert (follower.shown[-1], api.reads) == ("Hello 🚀", 1)
    assert api.grants >= 2


async def test_it_skips_what_its_row_holds(valkey_url: str) -> None:
    """The row was read after the cursor."""
    async with redis_stage(valkey_url) as stage:
        writer = await Writer(stage.log, "c").begin()
        api = Api(stage, f"{writer.epoch}:0")
        await writer.say("Hel", "lo")
        api.row |= {"content": writer.text, "seq": writer.seq}
        follower = Follower(api)
        await writer.say("!")
        await writer.end()
        await follower.end()
    assert (follower.shown[-1], api.reads) == ("Hello!", 1)
    assert set(follower.shown) == {"Hello", "Hello!"}


async def test_it_reads_the_rows_again_where_the_log_is_trimmed(valkey_url: str) -> None:
    """The broadcaster answers its cursor with `resync`."""
    async with redis_stage(valkey_url, Limits(max_events=100)) as stage:
        writer = await Writer(stage.log, "c").begin()
        api = Api(stage, f"{writer.epoch}:0")
        for _ in range(150):
            await writer.say("word ")
        row = api.row | {"content": writer.text, "seq": writer.seq}
        api.later = (row, f"{writer.epoch}:{writer.seq}")
        follower = Follower(api)
        await writer.say("end")
        await writer.end()
        await follower.end()
    assert follower.shown[-1] == "word " * 150 + "end"
    assert api.reads == 2


async def test_it_notices_a_checksum_that_is_not_its_own(valkey_url: str) -> None:
    """Its row was damaged: it reads the rows again and finds the end there."""
    async with redis_stage(valkey_url) as stage:
        writer = await Writer(stage.log, "c").begin()
        await writer.say("Hello")
        api = Api(stage, f"{writer.epoch}:{writer.seq}")
        api.row |= {"content": "Hallo", "seq": writer.seq}
        follower = Follower(api)
        await writer.say("!")
        await follower.until("Hallo!")
        api.row = api.row | {"content": "Hello!", "status": "complete"}
        await writer.end()
        await follower.end()
    assert (follower.shown[-1], api.reads) == ("Hello!", 2)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_it_notices_gaps(seed: int) -> None:
    """A server that swaps, repeats and cuts: the client resumes, and its text is exact."""
    chance = random.Random(seed)
    server = Hostile(chance, Faults(reorder=0.1, repeat=0.1, cut=0.03))
    server.row(id="m1", status="streaming")
    events, text = answer("m1", chance)
    shown: list[str] = []
    async with (
        server.running(),
        asyncio.timeout(PATIENCE_SECONDS),
        httpx.AsyncClient(transport=server.transport, base_url="http://api") as http,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(server.play(events))
        group.create_task(load().follow(http, "c1", "m1", shown.append))
    assert (shown[-1], server.loads) == (text, 1)
    assert server.connections > 3
