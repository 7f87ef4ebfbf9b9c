"""A reader, written from PROTOCOL.md alone: snapshot, subscribe by cursor, apply, resync. It uses
no code of the server.

It complains about whatever a correct service never does: a hole, a repetition, text that shrinks
without a reason, a wrong checksum.
"""

import asyncio
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

FINAL = ("complete", "error", "cancelled")


class Link(Protocol):
    """A WebSocket, from the client's side."""

    def send(self, frame: dict[str, Any]) -> None: ...
    def close(self) -> None: ...
    async def receive(self) -> dict[str, Any] | int:
        """A frame, or the close code (0: none came)."""
        ...


class Door(Protocol):
    """What a client can reach."""

    async def snapshot(self, conversation_id: str) -> dict[str, Any] | None:
        """GET /api/conversations/{id}; None for 404. Raises ConnectionError."""
        ...

    async def connect(self, conversation_id: str) -> tuple[Link, str]:
        """A WebSocket and a token. Raises ConnectionError."""
        ...


@dataclass(slots=True)
class View:
    """A message as this client holds it. `shown`: what a person sees."""

    id: str
    ordinal: int
    role: str
    text: str = ""
    reasoning: str = ""
    status: str = ""
    seq: int = 0
    rev: int = 0
    shown: str = ""
    ends: list[tuple[str, str]] = field(default_factory=list)
    """(epoch, type) of the terminal events received."""


def units(text: str) -> int:
    """Length as JavaScript counts."""
    return len(text.encode("utf-16-le")) // 2


def first_units(text: str, count: int) -> str:
    """The first `count` units."""
    return text.encode("utf-16-le")[: 2 * count].decode("utf-16-le")


class Client:
    """One reader of one conversation. `dropping`: seconds after which it loses its connection,
    repeatedly (0: never).
    """

    def __init__(
        self,
        name: str,
        conversation_id: str,
        door: Door,
        rng: random.Random,
        complain: Callable[[str], None],
        dropping: float,
    ) -> None:
        self.name, self.conversation_id = name, conversation_id
        self._door, self._rng, self._complain, self.dropping = door, rng, complain, dropping
        self.views: dict[str, View] = {}
        self.epoch, self.seq = "", 0
        self.live = False
        self.gone = False
        self.resyncs = self.forks = 0
        self.reasons: list[str] = []
        """Why it was told to resync."""
        self.withdrawn: list[str] = []
        self._epoch_lost = True
        self._reset: set[str] = set()
        self._ahead: set[str] = set()
        """Messages whose rows were ahead of a cursor that a fork renamed. Such a row may lack what
        a later event withdrew; earlier events then do not fit it: that hole is no fault.
        """

    async def run(self, after: float) -> None:
        """From so many seconds on, follow until the conversation is gone, or for ever."""
        await asyncio.sleep(after)
        while not self.gone:
            try:
                snapshot = await self._door.snapshot(self.conversation_id)
            except ConnectionError:
                await self._pause(0.1, 1.0)
                continue
            if snapshot is None:
                self.gone = True
            elif snapshot["cursor"] is None:
                self._take_rows(snapshot["messages"], None)
                await self._pause(0.1, 1.0)
            else:
                epoch, _, seq = snapshot["cursor"].partition(":")
                self._epoch_lost = self._epoch_lost or epoch != self.epoch
                self.epoch, self.seq = epoch, int(seq)
                self._take_rows(snapshot["messages"], epoch)
                await self._follow()

    async def _pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self._rng.uniform(least, most))

    # --- snapshot ---

    def _take_rows(self, rows: list[dict[str, Any]], epoch: str | None) -> None:
        known, self.views = self.views, {}
        self._ahead.clear()
        for row in rows:
            old = known.get(row["id"])
            view = View(
                row["id"],
                row["ordinal"],
                row["role"],
                row["content"],
                row["reasoning"],
                row["status"],
                row["seq"],
                row["rev"],
            )
            if epoch is None:
                view.seq = 0
            if old is not None:
                view.ends = old.ends
                view.shown = old.shown if old.shown.startswith(view.text) else view.text
                self._check_replaced(old, view)
            else:
                view.shown = view.text
            self.views[view.id] = view

    def _check_replaced(self, old: View, new: View) -> None:
        if not new.text.startswith(old.shown) and not old.shown.startswith(new.text):
            self._note_withdrawal(old, f"{old.shown!r} became {new.text!r}")
        if old.status in FINAL and (new.status != old.status or new.text != old.text):
            self._complain(
                f"{self.name}: {new.id} had ended as {old.status} with {old.text!r}, is "
                f"{new.status} with {new.text!r}"
            )

    def _note_withdrawal(self, view: View, how: str) -> None:
        self.withdrawn.append(view.id)
        if not self._epoch_lost and view.id not in self._reset:
            self._complain(
                f"{self.name}: {view.id} shrank although no epoch was lost and nothing was "
                f"reset: {how}"
            )

    # --- events ---

    async def _follow(self) -> None:
        """Until a resync is needed or the conversation is gone."""
        while True:
            try:
                link, token = await self._door.connect(self.conversation_id)
            except ConnectionError:
                await self._pause(0.1, 1.5)
                continue
            link.send({"type": "subscribe", "token": token, "after": f"{self.epoch}:{self.seq}"})
            self.live = False
            code = await self._listen(link)
            self.live = False
            link.close()
            if code == 4404:
                self.gone = True
                return
            if code == 4410:
                self.resyncs += 1
                await self._pause(0.0, 0.5)
                return
            if code in (4400, 4401, 4403, 4408, 4429):
                self._complain(f"{self.name}: closed with {code}")
            await self._pause(0.0, 0.5)

    async def _listen(self, link: Link) -> int:
        silence = 10.0
        until = asyncio.get_running_loop().time() + (
            self._rng.uniform(0.2, 1.8) * self.dropping if self.dropping else 1e9
        )
        while True:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                return 0
            try:
                async with asyncio.timeout(min(silence, left)):
                    frame = await link.receive()
            except TimeoutError:
                return 0
            if isinstance(frame, int):
                return frame
            silence = frame.get("heartbeat_seconds", silence)
            code = self._take(frame)
            if code is not None:
                return code

    def _take(self, frame: dict[str, Any]) -> int | None:
        kind = frame["type"]
        if kind == "subscribed":
            self.live = False
            if frame["seq"] < self.seq:
                self._complain(f"{self.name}: subscribed to {frame} from {self.epoch}:{self.seq}")
            if frame["epoch"] != self.epoch:
                self._fork(frame["epoch"])
        elif kind == "live":
            self._check_seq(frame, "live")
            self._become_live()
        elif kind == "heartbeat":
            self._check_seq(frame, "heartbeat")
        elif kind == "resync":
            self.reasons.append(frame["reason"])
            self._epoch_lost = (
                self._epoch_lost or frame["reason"] == "trimmed"
            )  # a reset may be among what was missed
            return 4410
        elif kind != "refreshed":
            return self._take_event(frame)
        return None

    def _fork(self, epoch: str) -> None:
        """The cursor has another name; what rows say of later events does not hold."""
        for view in self.views.values():
            if view.seq > self.seq:
                self._ahead.add(view.id)
            view.seq = min(view.seq, self.seq)
            view.ends = [
                (epoch if where == self.epoch else where, kind) for where, kind in view.ends
            ]
        self.epoch = epoch
        self.forks += 1

    def _check_seq(self, frame: dict[str, Any], kind: str) -> None:
        if (frame["epoch"], frame["seq"]) != (self.epoch, self.seq):
            self._complain(
                f"{self.name}: {kind} {frame['epoch']}:{frame['seq']}, holds "
                f"{self.epoch}:{self.seq}"
            )

    def _become_live(self) -> None:
        self.live = True
        for view in self.views.values():
            if view.shown != view.text:
                if not view.text.startswith(view.shown):
                    self._note_withdrawal(view, f"{view.shown!r} was {view.text!r} at `live`")
                view.shown = view.text
        self._epoch_lost = False
        self._reset.clear()

    def _take_event(self, event: dict[str, Any]) -> int | None:
        if event.get("from_seq", event["seq"]) != self.seq + 1:
            self._complain(f"{self.name}: event {event} after {self.seq}")
            return 0
        self.seq = event["seq"]
        if event["type"] == "message":
            self._take_message(event["message"])
            return None
        if "message_id" not in event:
            return None
        # A row may be announced after its first chunks, if Redis was away when it was posted.
        view = self.views.setdefault(event["message_id"], View(event["message_id"], 0, "assistant"))
        return None if event["seq"] <= view.seq else self._apply(view, event)

    def _take_message(self, row: dict[str, Any]) -> None:
        view = self.views.get(row["id"])
        if view is None:
            text = row["content"] if row["role"] != "assistant" or row["status"] in FINAL else ""
            view = self.views[row["id"]] = View(
                row["id"],
                row["ordinal"],
                row["role"],
                text,
                status=row["status"],
                rev=row["rev"],
                shown=text,
            )
            view.seq = row["seq"]
        elif row["rev"] > view.rev:
            view.rev = row["rev"]

    def _apply(self, view: View, event: dict[str, Any]) -> int | None:
        kind = event["type"]
        if view.status in FINAL and kind not in FINAL:  # a log that lost it tells it again
            if any(where == self.epoch for where, _ in view.ends):
                self._complain(
                    f"{self.name}: {view.id} had ended as {view.status}, then came {event}"
                )
            return None
        if kind == "chunk":
            return self._put(view, event, "text")
        if kind == "reasoning":
            return self._put(view, event, "reasoning")
        if kind == "reset":
            view.text = first_units(view.text, event["keep"])
            view.reasoning = first_units(view.reasoning, event["keep_reasoning"])
            self._reset.add(view.id)
            self._show(view)
        elif kind in FINAL:
            return self._end(view, event)
        return None

    def _put(self, view: View, event: dict[str, Any], what: str) -> int | None:
        held, offset, content = getattr(view, what), event["offset"], event["content"]
        length = units(held)
        tail = first_units(content, length - offset) if offset < length else ""
        differs = not held.encode("utf-16-le")[2 * offset :].startswith(tail.encode("utf-16-le"))
        if view.id in self._ahead and (offset > length or differs):
            self._epoch_lost = True  # what the row lacked may have been withdrawn in any epoch
            return 4410
        if offset > length:
            self._complain(
                f"{self.name}: a hole: {view.id} holds {length} units of {what}, {event}"
            )
            return 4410
        if tail and differs:
            self._complain(
                f"{self.name}: {view.id} holds {held!r}, and {event} says something else"
            )
        setattr(view, what, held + content[len(tail) :])
        self._show(view)
        return None

    def _show(self, view: View) -> None:
        if self.live or view.text.startswith(view.shown):
            view.shown = view.text

    def _end(self, view: View, event: dict[str, Any]) -> int | None:
        if (self.epoch, event["type"]) in view.ends and view.seq < event["seq"]:
            self._complain(f"{self.name}: {view.id} ended a second time: {event}")
        view.ends.append((self.epoch, event["type"]))
        view.status = event["type"]
        if (units(view.text), zlib.crc32(view.text.encode())) != (event["length"], event["crc32"]):
            self._complain(
                f"{self.name}: {view.id} ended with another checksum: holds {view.text!r}, {event}"
            )
            return 4410
        return None


def parse_frames(data: bytes) -> list[dict[str, Any]]:
    """The text frames in what a server wrote (RFC 6455, unmasked), decoded."""
    frames = []
    at = 0
    while at < len(data):
        size = data[at + 1]
        at += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + width], "big")
            at += width
        frames.append(json.loads(data[at : at + size]))
        at += size
    return frames
