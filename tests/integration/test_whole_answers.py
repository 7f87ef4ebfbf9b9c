"""An answer with everything: from its provider's stream to the row, to readers of every dialect,
and back to its provider; also with a worker that dies after any of its effects.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.databases import create_tables, sql
from tests.everything import ITEMS, KINDS, PICTURE, WORDS, Player, turn
from tests.integration.mortal import Life, Mortal, PlayingClient
from tests.integration.worker_rig import LEASE_SECONDS, NoJobs, events_of
from tests.paused import CONTENT, FIRST_TYPES, PausingModel
from tests.unit.providers.bodies import ANTHROPIC, RESPONSES
from tests.unit.web.aisdk.client import Client as UIClient
from tests.unit.web.histories import fed, without_resets
from tests.unit.web.openai.client import Client as ResponsesClient
from tests.unit.web.openai.client import Parsed, blocks
from tokenwire.models.conversations import Post
from tokenwire.models.parts import answer_of
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.models.views import message_view
from tokenwire.protocol.events import AnyEvent, Reset, is_terminal
from tokenwire.protocol.files import digest_of
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.replay import catch_up
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.registry import open_provider
from tokenwire.providers.spec import ModelSpec, Rung
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.web.aisdk.encoder import AISDKEncoder
from tokenwire.web.aisdk.values import PROFILES, Profile
from tokenwire.web.openai.encoder import ResponseEncoder
from tokenwire.web.openai.items import output_items
from tokenwire.web.openai.objects import Head
from tokenwire.web.watching import shown_answer
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.packing import Packing
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.sweeper.run_ender import RunEnder
from tokenwire.worker.sweeper.sweeper import Sweeper

SPECS = {
    ANTHROPIC: ModelSpec("m", "anthropic", "c", api_key="k", continuation="restart"),
    RESPONSES: ModelSpec(
        *("m", "openai_responses", "c"),
        api_key="k",
        continuation="attach",
        options={"background": True},
    ),
}
both = pytest.mark.parametrize("api", ITEMS)


class World:
    """A conversation with one question, and workers for its answers."""

    def __init__(self, api: str, store: Store, row: Row) -> None:
        self.api, self.store, self.row = api, store, row
        self.now = 1000.0
        self.log, self.player = MemoryLog(clock=lambda: self.now), Player(api)

    async def work(self, message_id: str, life: Life, *, saves: bool) -> None:
        """One worker makes the answer, or dies. `saves`: it saves after each event."""
        store, log, jobs = Mortal(self.store, life), Mortal(self.log, life), NoJobs()
        run_ender = RunEnder(store, lambda _model: open_provider(SPECS[self.api], client))
        services = WorkerServices(
            *(store, log, jobs, Checkpointer(store, 1.0, 500), LEASE_SECONDS),
            *(run_ender, Packing(log)),
        )

        async def settled() -> None:
            for attempt in runner.running():
                await attempt.work.writer.settle()
            if saves:
                await services.checkpointer.save(runner.running())

        client: Any = PlayingClient(self.player, life, settled)
        catalogue = Catalogue(
            default="m", title_model="m", models={"m": SPECS[self.api]}, missing={}
        )
        runner = Runner(services, Models(catalogue, lambda spec: open_provider(spec, client)))
        running = asyncio.create_task(runner.generate(message_id))
        death = asyncio.create_task(life.dead.wait())
        await asyncio.wait((running, death), return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if not life.dead.is_set():
            await running
            await Sweeper(services).sweep()
            await run_ender.settled()
            return
        life.kill()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await self._pass_time()

    async def _pass_time(self) -> None:
        """The lease of a dead worker expires, and the sweeper may look at what it left."""
        self.now += 60
        async with self.store.writing() as session:
            await session.execute(sql("UPDATE messages SET updated_at = updated_at - 60000"))

    async def reread(self, message_id: str = "") -> Row:
        row = await self.store.message(message_id or self.row.id)
        assert row is not None
        return row

    async def events(self) -> list[AnyEvent]:
        """All events of the answer."""
        found = await events_of(self.log, self.row)
        return [event for event in found if getattr(event, "message_id", None) == self.row.id]

    async def sent_back(self) -> Any:
        """What the next post's request holds of the answer."""
        post = Post(self.row.conversation_id, "me", "And now?", "m")
        posted = (await self.store.post(post)).assistant_message
        await self.work(posted.id, Life(), saves=False)
        assert (await self.reread(posted.id)).content == "Yes."
        return turn(self.player.asked[-1], self.api)


@asynccontextmanager
async def world(api: str, folder: Path) -> AsyncIterator[World]:
    url = f"sqlite:///{folder}/t.db"
    create_tables(url)
    store = Store.open(url)
    conversation = await store.create_conversation("me", title="t")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    ids = posted.user_message.id, posted.assistant_message.id
    await store.mark_posted(*ids, 1, enqueued=True)
    try:
        yield World(api, store, posted.assistant_message)
    finally:
        await store.aclose()


def stored(row: Row) -> list[Any]:
    """All that a row holds of its parts, without its own id."""
    parts = answer_of(row).parts
    found = [(part.type, dict(part.fields), part.text, part.kept) for part in parts]
    shown: list[Any] = json.loads(json.dumps(found).replace(row.id, "ID"))
    return shown


# --- what readers of each dialect get -----------------------------------------------------------


def from_log(log: Sequence[AnyEvent]) -> Answer:
    answer = Answer(log[0].message_id)  # type: ignore[union-attr]  # all are about an answer
    for event in log:
        answer.apply(event)
    return answer


def responses_events(told: Sequence[AnyEvent], message_id: str) -> list[Parsed]:
    encoder = ResponseEncoder(Answer(message_id), Head(message_id, "m", 1, {}, 2))
    data = encoder.opening()
    for event in told:
        data += b"".join(fed(encoder, event))
    return blocks(data)


def ui_message(told: Sequence[AnyEvent], row: Row, profile: Profile) -> UIClient:
    encoder, client = AISDKEncoder(Answer(row.id), message_view(row), profile), UIClient()
    client.read(encoder.opening())
    for event in told:
        client.read(fed(encoder, event))
    assert client.over is not None
    return client


def unnamed(items: Sequence[Parsed]) -> list[Parsed]:
    """Without ids, since withdrawn items have used some."""
    return [{**item, "id": ""} for item in items]


def check_readers(log: Sequence[AnyEvent], row: Row) -> None:
    """The log gives each of them what the row gives."""
    answer, held = from_log(log), shown_answer(row)
    assert answer.layout() == held.layout()
    assert (answer.content, answer.reasoning) == (row.content, row.reasoning)
    told = [*catch_up(Answer(row.id), held, row.attempt)]
    live, replayed = responses_events(log, row.id), responses_events(told, row.id)
    final = ResponsesClient().read(live).final
    other = ResponsesClient().read(replayed).final
    assert final is not None
    assert other is not None
    assert (
        unnamed(final["output"])
        == unnamed(other["output"])
        == unnamed(output_items(Head(row.id, "m", 0), held))
    )
    assert live == replayed or not without_resets([*log])
    for profile in PROFILES:
        one, two = ui_message(log, row, profile), ui_message(told, row, profile)
        assert one.text() == two.text() == row.content
        assert shown(one, row) == shown(two, row)


def shown(client: UIClient, row: Row) -> list[Any]:
    """The valid parts of the message; earlier attempts leave empty steps and failed calls."""
    mine = Counter(
        part.fields["id"] for part in shown_answer(row).parts if part.type == "tool_call"
    )
    found = [part for part in client.counted() if part["type"] != "step-start"]
    calls = [part for part in found if part["type"] == "tool" and part["id"] in mine]
    return [part for part in found if part["type"] not in ("tool", "data-reset")] + calls


# --- the tests ----------------------------------------------------------------------------------


@both
async def test_an_answer_with_everything_reaches_everybody_in_order(
    api: str, tmp_path: Path
) -> None:
    """The row, readers of every dialect from log and row, and the provider's next request."""
    async with world(api, tmp_path) as found:
        await found.work(found.row.id, Life(), saves=True)
        row, log = await found.reread(), await found.events()
        assert [part.type for part in answer_of(row).parts] == KINDS[api].split()
        assert WORDS in row.content
        assert (row.status, row.finish_reason) == ("complete", "tool_calls")
        assert await found.store.visible_file(row.id, digest_of(PICTURE), "me")
        check_readers(log, row)
        assert await found.sent_back() == ITEMS[api]


def crash_points(effects: Sequence[str], nth: int) -> list[int]:
    """How many effects workers do before they die: the first of each kind, every `nth`, all."""
    first = {effects.index(name) + 1 for name in effects}
    return sorted(first | {*range(nth, len(effects), nth), len(effects)})


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "nth", [pytest.param(1, marks=pytest.mark.long, id="all"), pytest.param(60, id="some")]
)
@pytest.mark.parametrize("saves", [False, True], ids=["unsaved", "saved"])
@both
async def test_a_worker_that_dies_after_any_effect_changes_nothing(
    api: str, saves: bool, nth: int, tmp_path: Path
) -> None:
    """Each event, file, checkpoint and commit is the last thing that some worker does.

    Of the effects, `make test-all` has each, `make test` the first of each kind and every 60th.
    """
    async with world(api, tmp_path) as found:
        life = Life()
        await found.work(found.row.id, life, saves=saves)
        whole, effects = stored(await found.reread()), life.done
    assert effects.count("append") > len(ITEMS[api])
    for number in crash_points(effects, nth):
        (tmp_path / str(number)).mkdir()
        async with world(api, tmp_path / str(number)) as found:
            life = Life(number)
            await found.work(found.row.id, life, saves=saves)
            assert life.done == effects[:number]
            await found.work(found.row.id, Life(), saves=saves)
            row, log = await found.reread(), await found.events()
            assert stored(row) == whole, number
            assert [event for event in log if is_terminal(event)] == log[-1:]
            check_readers(log, row)
            assert await found.sent_back() == ITEMS[api]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "nth", [pytest.param(1, marks=pytest.mark.long, id="all"), pytest.param(7, id="some")]
)
@pytest.mark.parametrize(("rung", "saves"), [("restart", False), ("restart", True), ("turn", True)])
async def test_a_worker_that_dies_in_a_later_turn_costs_no_earlier_one(
    rung: Rung, saves: bool, nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any effect. Once a row says that the paused turn is whole, nobody withdraws it or asks
    for it again.
    """
    monkeypatch.setitem(SPECS, ANTHROPIC, replace(SPECS[ANTHROPIC], continuation=rung))
    async with paused_world(tmp_path) as (found, _):
        life = Life()
        await found.work(found.row.id, life, saves=saves)
    found_proven = set[int]()
    for number in crash_points(life.done, nth)[:-1]:
        (tmp_path / str(number)).mkdir()
        async with paused_world(tmp_path / str(number)) as (found, model):
            await found.work(found.row.id, Life(number), saves=saves)
            proven, asked = (await found.reread()).proven_parts, len(model.asked)
            found_proven.add(proven)
            await found.work(found.row.id, Life(), saves=saves)
            row, log = await found.reread(), await found.events()
            assert row.status == "complete"
            assert row.content in (CONTENT, f"{CONTENT}."), number  # the model must add something
            start = proven and proven + 1
            kept = {event.keep_parts for event in log if isinstance(event, Reset)}
            assert kept <= {start}, number
            if proven:
                types = [part.type for part in answer_of(row).parts]
                assert types[:start] == [*FIRST_TYPES, "step"]
                assert all(len(sent) > 1 for sent in model.asked[asked:])
            check_readers(log, row)
    assert found_proven == ({0, len(FIRST_TYPES)} if saves else {0})


@asynccontextmanager
async def paused_world(folder: Path) -> AsyncIterator[tuple[World, PausingModel]]:
    async with world(ANTHROPIC, folder) as found:
        model = found.player = PausingModel()  # type: ignore[assignment]  # another provider
        yield found, model
