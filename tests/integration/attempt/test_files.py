"""worker.attempt.writing: files are stored before readers are told of them, and what happens if the
answer ends, begins anew or is refused meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from tests.integration.attempt.rig import DONE, Rig
from tests.integration.worker_rig import Script, kinds
from tokenwire.models.errors import FileTooLong, NotFound
from tokenwire.models.parts import answer_of
from tokenwire.protocol import events
from tokenwire.protocol.events import AnyEvent
from tokenwire.protocol.files import digest_of
from tokenwire.providers import base
from tokenwire.streams.log.ports import Claim
from tokenwire.worker.attempt.lifecycle import CancelAsked

PICTURE = base.FileDelta("image/png", b"a picture")
OTHER = base.FileDelta("image/png", b"another picture")


def storing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, before: Callable[[bytes], Awaitable[None]]
) -> None:
    """Something happens whenever a file is about to be stored."""
    save = rig.store.save_file

    async def slowly(
        message_id: str, attempt: int, number: int, media_type: str, data: bytes
    ) -> Any:
        await before(data)
        return await save(message_id, attempt, number, media_type, data)

    monkeypatch.setattr(rig.store, "save_file", slowly)


def appending(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The batches that the log is given, by the kinds of their events."""
    batches: list[list[str]] = []
    append = rig.log.append

    async def noting(claim: Claim, index: int, covered: int, batch: Sequence[AnyEvent]) -> Any:
        batches.append(kinds(batch))
        return await append(claim, index, covered, batch)

    monkeypatch.setattr(rig.log, "append", noting)
    return batches


async def is_stored(rig: Rig, data: bytes) -> bool:
    try:
        await rig.store.visible_file(rig.row.id, digest_of(data), "me")
    except NotFound:
        return False
    return True


def files(told: list[events.AnyEvent]) -> list[dict[str, Any]]:
    return [dict(event.value) for event in told if isinstance(event, events.PartEvent)]


async def test_a_file_is_stored_before_readers_are_told_of_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the address gets the bytes."""
    told: list[int] = []

    async def look(_data: bytes) -> None:
        told.append(len(files(await rig.events())))

    storing(rig, monkeypatch, look)
    await rig.run([base.TextDelta("Look: "), PICTURE, OTHER, *DONE])
    assert told == [0, 0]
    assert len(files(await rig.events())) == 2
    assert await is_stored(rig, b"a picture")
    assert await is_stored(rig, b"another picture")


async def test_a_cancel_while_a_file_is_being_stored(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer ends once, with what readers hold; the file is no part of it."""
    asked = asyncio.Event()
    batches = appending(rig, monkeypatch)

    async def cancel(_data: bytes) -> None:
        await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
        attempt.check_cancel()
        asked.set()
        while (await rig.reread()).status == "streaming" and not attempt.work.draft.idle:
            await asyncio.sleep(0)

    storing(rig, monkeypatch, cancel)
    attempt = await rig.attempt()
    script = Script([[base.TextDelta("Look: ")], rig.said, [PICTURE], asyncio.Event().wait])
    await attempt.run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    row, log = await rig.reread(), await rig.events()
    assert asked.is_set()
    assert (row.status, row.content) == ("cancelled", "Look: ")
    assert [part.type for part in answer_of(row).parts] == ["text"]
    assert kinds(log) == ["Start", "Chunk", "Cancelled"]
    assert [kind for batch in batches for kind in batch] == kinds(log)
    assert [] not in batches


async def test_a_cancel_once_a_file_is_stored(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its event was appended: nothing more is, not even an empty batch."""
    batches, save = appending(rig, monkeypatch), rig.store.save_file

    async def then_cancel(
        message_id: str, attempt_number: int, number: int, media_type: str, data: bytes
    ) -> Any:
        digest = await save(message_id, attempt_number, number, media_type, data)
        attempt.stop(CancelAsked("me"))
        return digest

    monkeypatch.setattr(rig.store, "save_file", then_cancel)
    attempt = await rig.attempt()
    script = Script([[base.TextDelta("Look: ")], rig.said, [PICTURE], asyncio.Event().wait])
    await attempt.run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    assert (await rig.reread()).status == "cancelled"
    assert [] not in batches
    assert kinds(await rig.events()) == ["Start", "Chunk", "Cancelled"]


async def test_an_answer_that_begins_anew_while_a_file_is_being_stored(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file has the number of the old one, and is stored itself."""
    anew, stored = asyncio.Event(), list[bytes]()

    async def wait(data: bytes) -> None:
        stored.append(data)
        if data == b"a picture":
            asking.set()
            await anew.wait()

    asking = asyncio.Event()

    async def begun() -> None:
        await asking.wait()

    async def go_on() -> None:
        anew.set()

    storing(rig, monkeypatch, wait)
    await rig.run([PICTURE], begun, [base.Restart(), OTHER], go_on, DONE)
    assert stored == [b"a picture", b"another picture"]
    row = await rig.reread()
    [part] = answer_of(row).parts
    assert part.fields["url"].endswith(digest_of(b"another picture"))


async def test_a_file_that_is_refused_does_not_hold_the_answer_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its part says so, without an address; the others are stored."""

    async def refuse(data: bytes) -> None:
        if data == b"a picture":
            raise FileTooLong(rig.row.id)

    storing(rig, monkeypatch, refuse)
    await rig.run([PICTURE, OTHER, base.TextDelta("Look."), *DONE])
    row = await rig.reread()
    first, second, _ = answer_of(row).parts
    assert (row.status, row.content) == ("complete", "Look.")
    assert ("url" in first.fields, first.fields["dropped"]) == (False, True)
    assert "url" in second.fields
    assert not await is_stored(rig, b"a picture")


async def test_the_answer_of_another_attempt_takes_no_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that was taken for dead wakes up with a file: it writes nothing more."""

    batches = appending(rig, monkeypatch)

    async def take_over(_data: bytes) -> None:
        await rig.log.release(rig.claim)
        successor = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 60)
        assert await rig.store.begin_attempt(rig.row.id, successor.attempt, "m")

    storing(rig, monkeypatch, take_over)
    await rig.run([base.TextDelta("a")], rig.said, [PICTURE], asyncio.Event().wait)
    row = await rig.reread()
    assert (row.status, row.attempt) == ("streaming", 2)
    assert [kind for batch in batches for kind in batch] == ["Start", "Chunk"]
    assert not await is_stored(rig, b"a picture")
