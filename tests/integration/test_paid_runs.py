"""Paid runs that continue without their client: one per answer, and none outlives it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.databases import create_tables
from tests.integration.paid import Instead, PaidProvider
from tests.integration.worker_rig import LEASE_SECONDS, NoJobs, events_of, text_of
from tokenwire.models.answers import Ending
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Claim
from tokenwire.worker import closing
from tokenwire.worker.asking import MAX_ATTACHES, MAX_ATTEMPTS
from tokenwire.worker.attempt import intake
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.metrics import RUNS_ENDED
from tokenwire.worker.packing import Packing
from tokenwire.worker.retries import LONGEST_SEARCH_SECONDS, LONGEST_SILENCE_SECONDS, MAX_TRIES
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.sweeper.run_ender import MAX_END_TRIES, RunEnder
from tokenwire.worker.sweeper.sweeper import Sweeper

PATIENCE_SECONDS = 40
"""For things that happen at once on an idle machine."""


class Rig:
    """A queued answer of a model with paid runs, workers that can be killed, and a sweeper."""

    def __init__(self, store: Store, row: Row, provider: PaidProvider, client: HttpClient) -> None:
        self.store, self.row, self.provider = store, row, provider
        self.log, self.told = MemoryLog(), list[object]()
        self.jobs: Any = NoJobs()
        catalogue = Catalogue(
            default="m", title_model="m", models={"m": provider.spec()}, missing={}
        )
        self.models = Models(catalogue, lambda spec: open_provider(spec, client))
        self.run_ender = RunEnder(
            store, self.models.provider, lambda _error, facts: self.told.append(facts["code"])
        )
        checkpointer = Checkpointer(store, 1.0, 500)
        self.services = WorkerServices(
            store,
            self.log,
            self.jobs,
            checkpointer,
            LEASE_SECONDS,
            self.run_ender,
            Packing(self.log),
        )
        self.sweeper = Sweeper(self.services)

    def worker(self) -> "asyncio.Task[None]":
        """A worker that runs the job."""
        return asyncio.create_task(Runner(self.services, self.models).generate(self.row.id))

    async def kill(self, worker: "asyncio.Task[None]") -> None:
        """The worker does nothing any more; its lease expires."""
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        while await self.log.leased(self.row.conversation_id, self.row.id):
            await asyncio.sleep(0.01)

    async def cancel(self) -> None:
        await closing.cancel(self.store, self.log, self.jobs, self.row.id, "me")

    async def delete(self) -> None:
        await closing.delete_conversation(self.store, self.log, self.row.conversation_id)

    async def sweep(self) -> None:
        """One round, and the attempts that it began."""
        await self.sweeper.sweep()
        await self.run_ender.settled()

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                await asyncio.sleep(0.01)

    async def asked(self, times: int) -> None:
        await self.until(lambda: len(self.provider.asked) == times)

    async def begun(self) -> None:
        """The run is paid, and its name is saved."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.provider.runs or (await self.reread()).run_id is None:
                await asyncio.sleep(0.01)

    async def shown(self) -> str:
        """The visible text."""
        return text_of(await events_of(self.log, self.row))

    async def ended(self) -> None:
        """Readers have the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not isinstance((await events_of(self.log, self.row))[-1], events.Cancelled):
                await asyncio.sleep(0.01)

    async def epoch(self) -> str:
        return (await self.log.read(self.row.conversation_id, None, 0, 0)).epoch

    async def change(self, columns: str) -> None:
        """Change columns of the row."""
        async with self.store.writing() as session:
            await session.execute(text(f"UPDATE messages SET {columns}"))

    def stall_after(self, seconds: float) -> None:
        """The longest silence of one connection to the provider."""
        models = self.models.catalogue.models
        models["m"] = replace(models["m"], stall_seconds=seconds)  # type: ignore[index]

    async def runs_known(self) -> int:
        async with self.store.reading() as session:
            return (await session.execute(text("SELECT count(*) FROM provider_runs"))).scalar_one()


@pytest.fixture(params=["responses", "llamacpp", "late responses", "late llamacpp"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    url = f"sqlite:///{tmp_path}/t.db"
    create_tables(url)
    store, client = Store.open(url), HttpClient()
    conversation = await store.create_conversation("me", title="t")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    await store.mark_posted(posted.user_message.id, posted.assistant_message.id, 1, enqueued=True)
    async with AsyncExitStack() as stack:
        *late, dialect = request.param.split()
        provider = await stack.enter_async_context(PaidProvider(dialect, late=bool(late)).serving())
        rig = Rig(store, posted.assistant_message, provider, client)
        yield rig
        await rig.run_ender.aclose()
        await client.aclose()
    await store.aclose()


async def test_an_undisturbed_answer(rig: Rig) -> None:
    """One run, and nothing to end."""
    rig.provider.go.set()
    await rig.worker()
    assert (await rig.reread()).content == rig.provider.text
    await rig.sweep()
    assert (len(rig.provider.runs), await rig.runs_known()) == (1, 0)
    assert len(rig.provider.asked) == 1


async def test_a_worker_killed_before_any_text(rig: Rig) -> None:
    """Its successor attaches: one run is paid."""
    worker = rig.worker()
    await rig.begun()
    await rig.kill(worker)
    successor = rig.worker()
    await rig.until(lambda: any(asked.startswith("GET") for asked in rig.provider.asked))
    rig.provider.go.set()
    await successor
    row = await rig.reread()
    assert (row.status, row.content, row.attempt) == ("complete", rig.provider.text, 2)
    await rig.sweep()
    assert (len(rig.provider.runs), rig.provider.running, await rig.runs_known()) == (1, [], 0)


@pytest.mark.sampled(2)
async def test_workers_killed_one_after_another(rig: Rig) -> None:
    """However many, with text between them."""
    rig.provider.pieces = [f"{number} little pieces of a long answer. " * 3 for number in range(40)]
    rig.provider.pause_every = 4
    for attempt in range(1, 5):
        worker = rig.worker()
        await rig.asked(attempt)
        await rig.begun()
        held = await rig.shown()
        rig.provider.go.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await rig.shown() == held:
                await asyncio.sleep(0.01)
        await rig.kill(worker)
    rig.provider.pause_every = 0
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.content) == ("complete", rig.provider.text)
    assert (len(rig.provider.runs), await rig.runs_known()) == (1, 0)


async def cut_while_thinking(rig: Rig) -> Row:
    """One attempt whose connection is cut before any text; returns the row, which is due."""
    asked = len(rig.provider.asked)
    worker = rig.worker()
    await rig.until(lambda: len(rig.provider.asked) > asked)
    await rig.begun()
    while not worker.done():  # the provider may not have answered yet
        rig.provider.cut()
        await asyncio.wait({worker}, timeout=0.05)
    await worker
    row = await rig.reread()
    await rig.change("due_at = 0")
    return row


@pytest.mark.sampled(4)
@pytest.mark.parametrize("cuts", [1, 2, 3, 6])
async def test_connections_cut_while_the_model_thinks(rig: Rig, cuts: int) -> None:
    """No text yet, and no fault of the run: each time the next attempt attaches, and none counts as
    a try.
    """
    for _ in range(cuts):
        row = await cut_while_thinking(rig)
        assert (row.status, row.tries) == ("retrying", 0)
    rig.provider.go.set()
    await rig.worker()
    await rig.sweep()
    row = await rig.reread()
    assert (row.status, row.content, len(rig.provider.runs)) == ("complete", rig.provider.text, 1)
    first, *others = [asked.split()[0] for asked in rig.provider.asked]
    assert (first, set(others)) == (
        "POST",
        {"GET"},
    )  # the client itself may resend a GET that was cut: it costs nothing
    assert len(others) >= cuts


async def test_a_run_that_is_silent_longer_than_a_request_may_be(rig: Rig) -> None:
    """A thinking model is silent: the limit of a connection is not that of the run."""
    rig.stall_after(0.2)
    for _ in range(3):
        await rig.worker()
        row = await rig.reread()
        assert (row.status, row.tries) == ("retrying", 0)
        await rig.change("due_at = 0")
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.content, len(rig.provider.runs)) == ("complete", rig.provider.text, 1)


async def test_a_run_that_is_silent_for_too_long_is_abandoned(rig: Rig) -> None:
    """That counts as a try, and the run is ended; the next request is another run."""
    since = [(await cut_while_thinking(rig)).run_silent_since for _ in range(2)]
    assert since[0] is not None
    assert since[0] == since[1]
    await rig.change(f"run_silent_since = run_silent_since - {int(LONGEST_SILENCE_SECONDS * 1000)}")
    row = await cut_while_thinking(rig)
    assert (row.status, row.tries, row.run_id, row.run_silent_since) == ("retrying", 1, None, None)
    await rig.sweep()
    assert rig.provider.running == []
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.content, len(rig.provider.runs)) == ("complete", rig.provider.text, 2)


@pytest.mark.parametrize("act", ["cut", "deploy"])
async def test_a_run_that_ends_its_silence_in_time(rig: Rig, act: str) -> None:
    """Its first word resets the time."""
    await cut_while_thinking(rig)
    await rig.change("run_silent_since = 1")
    rig.provider.pause_every = 1
    rig.provider.go.set()
    runner = Runner(rig.services, rig.models)
    worker = asyncio.create_task(runner.generate(rig.row.id))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await rig.shown():
            await asyncio.sleep(0.01)
    if act == "cut":
        rig.provider.cut()
    else:
        await runner.drain(0)
    await worker
    row = await rig.reread()
    assert (row.status, row.tries, row.run_silent_since) == (
        "retrying" if act == "cut" else "queued",
        0,
        None,
    )
    assert row.run_id is not None


@pytest.mark.parametrize(
    ("attempts", "status"), [(MAX_ATTEMPTS + 1, "complete"), (MAX_ATTACHES, "error")]
)
async def test_attempts_that_cost_nothing_are_bounded_too(
    rig: Rig, attempts: int, status: str
) -> None:
    """Far above those that are billed."""
    await cut_while_thinking(rig)
    await rig.change(f"attempt = {attempts}")
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, len(rig.provider.runs)) == (status, 1)


@pytest.mark.parametrize("rig", ["responses"], indirect=True)
async def test_an_unreadable_run(rig: Rig) -> None:
    """It sends the same again: after two failed attachments it is abandoned, and the answer ends
    after its tries.
    """
    rig.provider.broken = True
    rig.provider.go.set()
    for _ in range(MAX_TRIES):
        await rig.worker()
        await rig.change("due_at = 0")
    row = await rig.reread()
    assert (row.status, row.tries, len(rig.provider.runs)) == ("error", 2, 2)


@pytest.mark.parametrize("rig", ["responses"], indirect=True)
async def test_a_run_with_an_impossible_cursor(rig: Rig) -> None:
    """No database can store it: the answer fails as unreadable, and no row is left."""
    rig.provider.first = 2**63
    rig.provider.go.set()
    for _ in range(MAX_TRIES):
        assert (await rig.reread()).status in ("queued", "retrying")
        await rig.worker()
        await rig.change("due_at = 0")
    row = await rig.reread()
    assert (row.status, (row.error or {})["code"]) == ("error", "unavailable")


@pytest.mark.parametrize("rig", ["llamacpp"], indirect=True)
async def test_an_unreachable_provider_has_no_run(rig: Rig) -> None:
    """We chose its name, and nobody received it: nothing has to be waited for."""
    await rig.provider.leave()
    for tries in range(1, MAX_TRIES):
        await rig.worker()
        row = await rig.reread()
        assert (row.status, row.tries, row.run_id) == ("retrying", tries, None)
        await rig.change("due_at = 0")
    await rig.worker()
    assert (await rig.reread()).status == "error"


PAGE = "<html><head><title>504 Gateway Time-out</title></head><body>nginx</body></html>"
ERROR = '{"error":{"code":%d,"message":"not now","type":"unavailable_error"}}'


@pytest.mark.parametrize("rig", ["llamacpp"], indirect=True)
@pytest.mark.parametrize(
    "instead",
    [
        Instead(504, PAGE),
        Instead(502, "bad gateway"),
        Instead(503, ERROR % 503),
        Instead(500, ""),
        Instead(408, ERROR % 408),
        Instead(404, PAGE),
    ],
    ids=lambda instead: str(instead.status),
)
async def test_a_refusal_that_proves_nothing(rig: Rig, instead: Instead) -> None:
    """A proxy gave up, but its run continues: it is attached to, and paid once."""
    rig.provider.instead = instead
    await rig.worker()
    assert (await rig.reread()).status == "retrying"
    await rig.sweep()
    assert len(rig.provider.running) == 1
    await rig.change("due_at = 0")
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.content, len(rig.provider.runs)) == ("complete", rig.provider.text, 1)
    assert [asked.split()[0] for asked in rig.provider.asked] == ["POST", "GET"]


@pytest.mark.parametrize("rig", ["llamacpp"], indirect=True)
async def test_a_server_that_is_down_behind_a_proxy(rig: Rig) -> None:
    """The run was never seen: it is looked up for some minutes, not for as long as a model may
    think. Then it counts as a try.
    """
    rig.provider.down = True
    for _ in range(3):
        await rig.worker()
        row = await rig.reread()
        assert (row.status, row.tries) == ("retrying", 0)
        await rig.change("due_at = 0")
    await rig.change(f"run_silent_since = run_silent_since - {int(LONGEST_SEARCH_SECONDS * 1000)}")
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.tries, row.run_id, rig.provider.runs) == ("retrying", 1, None, {})


@pytest.mark.parametrize("rig", ["llamacpp"], indirect=True)
async def test_a_refusal_by_the_provider(rig: Rig) -> None:
    """There is no run: nothing to attach to, and nothing to end."""
    rig.provider.instead = Instead(429, ERROR % 429, begins=False)
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.tries, row.run_id) == ("retrying", 1, None)
    await rig.change("due_at = 0")
    rig.provider.go.set()
    await rig.worker()
    assert (await rig.reread()).content == rig.provider.text
    assert [asked.split()[0] for asked in rig.provider.asked] == ["POST", "POST"]


@pytest.mark.parametrize("rig", ["llamacpp"], indirect=True)
async def test_a_lost_request(rig: Rig) -> None:
    """It may have been received. A GET finds out; then the model is asked again."""
    rig.provider.deaf = 1
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.tries) == ("retrying", 0)
    await rig.change("due_at = 0")
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.tries, row.run_id) == ("retrying", 1, None)
    await rig.change("due_at = 0")
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.content, row.requests) == ("complete", rig.provider.text, 2)
    assert [asked.split()[0] for asked in rig.provider.asked] == ["POST", "GET", "POST"]


@pytest.mark.parametrize("rig", ["llamacpp"], indirect=True)
async def test_repeatedly_lost_requests(rig: Rig) -> None:
    """Each is a try: a server that a request kills is not killed twenty times."""
    rig.provider.deaf = 100
    for _ in range(2 * MAX_TRIES):
        assert (await rig.reread()).status in ("queued", "retrying")
        await rig.worker()
        await rig.change("due_at = 0")
    assert (await rig.reread()).status == "error"
    assert [asked.split()[0] for asked in rig.provider.asked] == ["POST", "GET"] * MAX_TRIES


@pytest.mark.parametrize("rig", ["responses"], indirect=True)
async def test_an_attempt_sends_one_request(rig: Rig) -> None:
    """A server that hung up may have begun an unnamed run: each request is counted, and none is
    repeated silently.
    """
    rig.provider.deaf = 100
    for tries in range(1, MAX_TRIES + 1):
        await rig.worker()
        assert len(rig.provider.asked) == tries
        await rig.change("due_at = 0")
    row = await rig.reread()
    assert (row.status, row.requests) == ("error", MAX_TRIES)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dead", [True, False])
@pytest.mark.parametrize("act", ["cancel", "delete"])
async def test_a_run_does_not_outlive_its_answer(rig: Rig, act: str, dead: bool) -> None:
    """Cancelled or deleted, with a living worker and with a killed one."""
    worker = rig.worker()
    await rig.begun()
    if dead:
        await rig.kill(worker)
    await getattr(rig, act)()
    if not dead:
        await worker
    await rig.sweep()
    assert (len(rig.provider.runs), rig.provider.running, await rig.runs_known()) == (1, [], 0)
    if act == "cancel":
        assert (await rig.reread()).status == "cancelled"


async def unnamed(rig: Rig) -> "tuple[Runner, asyncio.Task[None]]":
    """A worker whose request was accepted; the run has no name yet."""
    rig.provider.named.clear()
    runner = Runner(rig.services, rig.models)
    worker = asyncio.create_task(runner.generate(rig.row.id))
    await rig.until(lambda: bool(rig.provider.runs))
    return runner, worker


@pytest.mark.parametrize("rig", ["responses"], indirect=True)
@pytest.mark.parametrize("act", ["cancel", "delete"])
async def test_an_answer_stopped_before_its_run_has_a_name(rig: Rig, act: str) -> None:
    """Readers have the end at once; then the name is waited for, and the run is ended."""
    runner, worker = await unnamed(rig)
    (attempt,) = runner.running()
    await getattr(rig, act)()
    if act == "cancel":
        await rig.ended()
    await rig.until(lambda: attempt._intake is not None and attempt._intake.over)
    assert not worker.done()
    rig.provider.named.set()
    await worker
    await rig.sweep()
    assert (len(rig.provider.runs), rig.provider.running, await rig.runs_known()) == (1, [], 0)


@pytest.mark.parametrize("rig", ["responses"], indirect=True)
async def test_a_deploy_before_the_run_has_a_name(rig: Rig) -> None:
    """The name is waited for and handed over: the successor attaches, and one run is paid."""
    runner, worker = await unnamed(rig)
    draining = asyncio.create_task(runner.drain(0))
    await asyncio.sleep(2 * LEASE_SECONDS)  # longer than the lease, which is renewed meanwhile
    assert not draining.done()
    rig.provider.named.set()
    await asyncio.gather(draining, worker)
    assert (await rig.reread()).status == "queued"
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.content, len(rig.provider.runs)) == ("complete", rig.provider.text, 1)


@pytest.mark.parametrize("rig", ["responses"], indirect=True)
async def test_a_name_that_never_comes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds the answer is handed over without it."""
    monkeypatch.setattr(intake, "NAMING_SECONDS", 0.1)
    runner, worker = await unnamed(rig)
    await runner.drain(0)
    await worker
    row = await rig.reread()
    assert (row.status, row.run_id, await rig.runs_known()) == ("queued", None, 0)


@pytest.mark.parametrize("rig", ["responses"], indirect=True)
async def test_a_worker_that_lost_its_answer_before_the_name_came(rig: Rig) -> None:
    """It was frozen, and another one has the answer: only the run of the frozen one is ended."""
    _, worker = await unnamed(rig)
    assert await rig.store.begin_attempt(rig.row.id, 2, "m")
    await rig.log.release(Claim(rig.row.conversation_id, rig.row.id, await rig.epoch(), 1))
    await rig.log.claim(rig.row.conversation_id, rig.row.id, 1, 60)
    await asyncio.sleep(LEASE_SECONDS)
    rig.provider.named.set()
    await worker
    await rig.sweep()
    assert (rig.provider.running, await rig.runs_known()) == ([], 0)


async def test_a_worker_frozen_before_its_request(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others ended its answer and the run that it had named: the run that it begins on waking up is
    ended, too.
    """
    begin = rig.store.begin_run

    async def frozen(*arguments: Any) -> bool:
        mine = await begin(*arguments)
        assert await rig.store.begin_attempt(rig.row.id, 2, "m")
        assert await rig.store.finish(
            Ending(rig.row.id, 2, "cancelled", "", "", None, 0, cancel_by="me")
        )
        await rig.sweep()
        assert await rig.runs_known() == 0
        return mine

    monkeypatch.setattr(rig.store, "begin_run", frozen)
    worker = rig.worker()
    await rig.until(
        lambda: (
            bool(rig.provider.runs) and any(asked.startswith("END") for asked in rig.provider.asked)
        )
    )
    await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
    await worker
    await rig.sweep()
    assert (rig.provider.running, await rig.runs_known()) == ([], 0)


async def test_a_cancel_does_not_wait_for_the_provider(rig: Rig) -> None:
    """The reader has the end; the run's follows, as often as it must be tried."""
    rig.provider.refuse_ends = True
    worker = rig.worker()
    await rig.begun()
    await rig.cancel()
    await worker
    row = await rig.reread()
    assert (row.status, row.terminal_announced) == ("cancelled", True)
    await rig.sweep()
    await rig.sweep()  # not due yet
    assert sum(asked.startswith("END") for asked in rig.provider.asked) == 1
    rig.provider.refuse_ends = False
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE provider_runs SET due_at = due_at - 2000"))
    await rig.sweep()
    assert (rig.provider.running, await rig.runs_known()) == ([], 0)


async def test_a_run_that_cannot_be_ended_is_reported(rig: Rig) -> None:
    """After its tries an operator must act: it is counted, and its row says what it is."""
    before = RUNS_ENDED.labels("given_up")._value.get()
    rig.provider.refuse_ends = True
    worker = rig.worker()
    await rig.begun()
    await rig.cancel()
    await worker
    for _ in range(MAX_END_TRIES + 2):
        await rig.sweep()
        async with rig.store.writing() as session:
            await session.execute(
                text("UPDATE provider_runs SET due_at = 0 WHERE due_at IS NOT NULL")
            )
    assert sum(asked.startswith("END") for asked in rig.provider.asked) == MAX_END_TRIES
    assert (rig.told, await rig.runs_known()) == (["run_not_ended"], 1)
    assert RUNS_ENDED.labels("given_up")._value.get() == before + 1


async def test_a_model_that_left_the_catalogue(rig: Rig) -> None:
    """Its runs cannot be ended: tried, reported, and nothing else is delayed."""
    worker = rig.worker()
    await rig.begun()
    await rig.cancel()
    await worker
    del rig.models.catalogue.models["m"]  # type: ignore[attr-defined]
    await rig.sweep()
    async with rig.store.reading() as session:
        assert (await session.execute(text("SELECT tries FROM provider_runs"))).scalar_one() == 1


async def test_a_run_that_is_gone_costs_no_try(rig: Rig) -> None:
    """Providers keep runs only for a while: the next rung is used at once."""
    worker = rig.worker()
    await rig.begun()
    await rig.kill(worker)
    rig.provider.runs.clear()
    rig.provider.go.set()
    await rig.worker()
    row = await rig.reread()
    assert (row.status, row.tries, row.deaths) == (
        "retrying",
        0,
        1,
    )  # the death of the first; the lost run is no try
    assert rig.jobs.sent[-1] == (row.id, 0)
    await rig.worker()
    assert (await rig.reread()).content == rig.provider.text
    await rig.sweep()
    assert await rig.runs_known() == 0
