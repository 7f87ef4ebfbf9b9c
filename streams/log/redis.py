"""The log on Redis or Valkey: `streams.log.ports.Log` on the Lua scripts beside this file.

Every rule (fence, order of refusals, epoch, floors, trim) is in the scripts. This module builds
their arguments, reads their replies and decides what is repeated: a batch of unknown outcome is
sent again until it is answered, everything else raises LogUnavailable.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any, NoReturn

from redis.exceptions import ResponseError

from tokenwire.config.pauses import GrowingPause
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Entry, check_batch, encode
from tokenwire.streams.hub.log_cursor import fitting
from tokenwire.streams.log import keys
from tokenwire.streams.log.metrics import BLOCKS_DAMAGED
from tokenwire.streams.log.outages import cannot_serve, error_word
from tokenwire.streams.log.packing import BLOCK_BYTES, BLOCK_EVENTS, DamagedBlock, pack, unpack
from tokenwire.streams.log.ports import (
    PAGE_BYTES,
    Appended,
    Busy,
    CancelPending,
    Claim,
    Fenced,
    Gone,
    Limits,
    LogUnavailable,
    Lost,
    Page,
    Refused,
    Sealed,
)
from tokenwire.streams.log.wire import Argument, Script, Wire

log_line = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
READY_MS = 60_000
"""The life of readiness' test key."""

_REFUSALS: dict[bytes, type[Refused]] = {
    b"GONE": Gone,
    b"LOST": Lost,
    b"FENCED": Fenced,
    b"SEALED": Sealed,
    b"BUSY": Busy,
}


def _script(name: str) -> Script:
    here = files("tokenwire.streams.log") / "lua"
    return Script(
        (here / "prelude.lua").read_text("utf-8") + (here / f"{name}.lua").read_text("utf-8")
    )


_CLAIM, _APPEND, _ANNOUNCE = _script("claim"), _script("append"), _script("announce")
_REJOIN, _ADOPT = _script("rejoin"), _script("adopt")
_RENEW, _RELEASE, _CANCEL = _script("renew"), _script("release"), _script("request_cancel")
_LEASED, _DELETE, _READ = _script("leased"), _script("delete"), _script("read")
_PACKABLE, _PACK, _DROP_PACKED = _script("packable"), _script("pack"), _script("drop_packed")


class RedisLog:
    """`streams.log.ports.Log` on the server at `url` (redis:// or rediss://).

    Concurrent calls share one pipeline (`wire.py`). `coalesce_ms`: the minimum time between
    pipelines. Belongs to one event loop.
    """

    _end_hooks: tuple[Callable[[str], None], ...] = ()

    def __init__(self, url: str, limits: Limits | None = None, coalesce_ms: int = 0) -> None:
        self._wire = Wire(url, coalesce_ms / 1000)
        limits = limits or Limits()
        self.tombstone_seconds = limits.tombstone_seconds
        self._window = (limits.max_seconds * 1000, limits.max_events, limits.max_bytes)

    async def claim(
        self,
        conversation_id: str,
        message_id: str,
        sql_attempt: int,
        lease_seconds: float,
        disobeyed: bool = False,
    ) -> Claim:
        reply = await self._run(
            _CLAIM, conversation_id, message_id, sql_attempt, _ms(lease_seconds), int(disobeyed)
        )
        return Claim(conversation_id, message_id, reply[1].decode(), reply[2])

    async def append(
        self, claim: Claim, index: int, covered: int, events: Sequence[AnyEvent]
    ) -> Appended:
        """Append a batch, and repeat it until it is answered. Raises ValueError for an empty batch
        and for a terminal event with others.
        """
        terminal = check_batch(events)
        batch = [encode(event) for event in events]
        pause = GrowingPause(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            try:
                reply = await self._run(
                    _APPEND,
                    claim.conversation_id,
                    claim.message_id,
                    claim.epoch,
                    claim.attempt,
                    index,
                    covered,
                    int(terminal),
                    *batch,
                )
            except LogUnavailable:
                if self._wire.closed:
                    raise
                await asyncio.sleep(pause.spread())
            else:
                break
        for hook in self._end_hooks if terminal else ():
            hook(claim.conversation_id)
        return _appended(reply)

    def on_end(self, hook: Callable[[str], None]) -> None:
        self._end_hooks = (*self._end_hooks, hook)

    async def rejoin(
        self, claim: Claim, index: int, lease_seconds: float, covered: int = 0
    ) -> Claim:
        lease_ms = _ms(lease_seconds)
        arguments = (claim.message_id, claim.epoch, claim.attempt, index, lease_ms, covered)
        reply = await self._run(_REJOIN, claim.conversation_id, *arguments)
        return replace(claim, epoch=reply[1].decode())

    async def adopt(
        self, claim: Claim, seen: Cursor, events: Sequence[AnyEvent], lease_seconds: float
    ) -> tuple[Claim, Appended]:
        batch = [encode(event) for event in events]
        arguments: tuple[Argument, ...] = (
            claim.message_id,
            claim.attempt,
            _ms(lease_seconds),
            seen.epoch,
            seen.seq,
            *batch,
        )
        appended = _appended(await self._run(_ADOPT, claim.conversation_id, *arguments))
        return replace(claim, epoch=appended.epoch), appended

    async def announce(
        self, conversation_id: str, row_id: str, rev: int, event: AnyEvent
    ) -> Cursor:
        reply = await self._run(_ANNOUNCE, conversation_id, row_id, rev, encode(event))
        return Cursor(reply[1].decode(), reply[2])

    async def renew(self, claim: Claim, lease_seconds: float) -> str | None:
        reply = await self._run(
            _RENEW,
            claim.conversation_id,
            claim.message_id,
            claim.epoch,
            claim.attempt,
            _ms(lease_seconds),
        )
        return reply[1].decode() or None

    async def release(self, claim: Claim) -> None:
        await self._run(_RELEASE, claim.conversation_id, claim.message_id, claim.attempt)

    async def leased(self, conversation_id: str, message_id: str) -> bool:
        reply = await self._run(_LEASED, conversation_id, message_id)
        return bool(reply[1])

    async def has_readers(self, conversation_id: str) -> bool:
        _channel, count = await self._wire.execute(
            "PUBSUB", "NUMSUB", keys.channel(conversation_id)
        )
        return bool(count) or bool(await self._wire.execute("EXISTS", keys.wanted(conversation_id)))

    async def note_interest(self, conversation_id: str, seconds: float) -> None:
        await self._wire.execute("SET", keys.wanted(conversation_id), b"", "PX", _ms(seconds))

    async def request_cancel(self, conversation_id: str, message_id: str, by: str) -> bool:
        if not by:
            raise ValueError("a cancel names who asks for it")
        reply = await self._run(_CANCEL, conversation_id, message_id, by, keys.CONTROL)
        return bool(reply[1])

    async def delete(self, conversation_id: str) -> None:
        await self._run(_DELETE, conversation_id, _ms(self.tombstone_seconds))

    async def touch(self, conversation_id: str) -> None:
        await self._wire.execute("PUBLISH", keys.CHANGES, conversation_id)

    async def revoke(self, conversation_id: str, user_id: str) -> None:
        key = keys.revoked(conversation_id)
        # In this order: readers of the message must find the revocation. A retry repeats both.
        await self._wire.execute("HSET", key, user_id, _ms(time.time() + self.tombstone_seconds))
        await self._wire.execute("PEXPIRE", key, _ms(self.tombstone_seconds))
        await self._wire.execute("PUBLISH", keys.channel(conversation_id), keys.ACCESS)

    async def readmit(self, conversation_id: str, user_id: str) -> None:
        await self._wire.execute("HDEL", keys.revoked(conversation_id), user_id)
        await self._wire.execute("PUBLISH", keys.channel(conversation_id), keys.ACCESS)

    async def revoked(self, conversation_id: str) -> frozenset[str]:
        held: list[bytes] = await self._wire.execute("HGETALL", keys.revoked(conversation_id))
        now = _ms(time.time())
        return frozenset(
            user.decode()
            for user, until in zip(held[::2], held[1::2], strict=True)
            if int(until) > now
        )

    async def read(
        self,
        conversation_id: str,
        epoch: str | None,
        after: int,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        while True:
            reply = await self._run(_READ, conversation_id, epoch or "", after, limit, max_bytes)
            try:
                found = _entries(reply[6:], after)
            except DamagedBlock as error:
                await self._drop_packed(conversation_id, reply[1], error)
                continue
            floor = int(reply[4]) if reply[4] else None
            entries = list(fitting(found[:limit], max_bytes))
            return Page(
                reply[1].decode(), reply[2], reply[3], floor, entries, _forks(reply[5].decode())
            )

    async def _drop_packed(self, conversation_id: str, epoch: bytes, damage: DamagedBlock) -> None:
        """Readers of packed events read the rows instead, which hold everything. Another process
        may have done it already.
        """
        with contextlib.suppress(Lost):
            await self._run(_DROP_PACKED, conversation_id, epoch, damage.last)
            BLOCKS_DAMAGED.inc()
            log_line.error(
                "the packed part of the log of %s was dropped: %s", conversation_id, damage
            )

    async def pack(self, conversation_id: str) -> int:
        count = 0
        while True:
            _, epoch, first, *events = await self._run(
                _PACKABLE, conversation_id, BLOCK_EVENTS, BLOCK_BYTES
            )
            if not events:
                return count
            size, block = sum(map(len, events)), pack(events)
            await self._run(
                _PACK, conversation_id, epoch, first, first + len(events) - 1, size, block
            )
            count += len(events)

    async def new_server(self) -> str | None:
        """The scripts identify a server by the same words (`prelude.lua`)."""
        try:
            replies = [
                await self._wire.execute("INFO", section) for section in ("server", "replication")
            ]
        except ResponseError:  # some servers do not report it
            return None
        found = re.findall(rb"^(?:run_id|master_replid):(\w+)", b"\n".join(replies), re.MULTILINE)
        identity = b":".join(found)
        return (
            None
            if not identity or await self._wire.execute("GET", keys.SERVER) == identity
            else identity.decode()
        )

    async def note_server(self, identity: str) -> None:
        await self._wire.execute("SET", keys.SERVER, identity)

    async def note_time(self, milliseconds: int) -> None:
        await self._wire.execute("SET", keys.TIME, milliseconds)

    async def noted_time(self) -> int | None:
        noted = await self._wire.execute("GET", keys.TIME)
        return None if noted is None else int(noted)

    async def check(self) -> str | None:
        """For readiness: what is wrong with the server, or None. Raises LogUnavailable."""
        try:
            memory = await self._wire.execute("INFO", "memory")
        except ResponseError:  # stand-ins do not report it
            return None
        policy = memory.partition(b"maxmemory_policy:")[2].split(None, 1)[0].decode()
        return (
            None if policy == "noeviction" else f"maxmemory-policy is {policy}, must be noeviction"
        )

    async def check_write(self) -> str | None:
        """For readiness: why the server refuses writes, or None.

        A server may answer every read and refuse every write. Raises LogUnavailable if it does not
        answer.
        """
        try:
            await self._wire.execute("SET", keys.READY, 1, "PX", READY_MS)
        except LogUnavailable as error:
            if error.__cause__ is None or not cannot_serve(error.__cause__):
                raise
            return f"{error_word(error.__cause__)}: it cannot write"
        return None

    async def aclose(self) -> None:
        """Close the connection; waiting callers get LogUnavailable."""
        await self._wire.aclose()

    async def _run(self, script: Script, conversation_id: str, *arguments: Argument) -> list[Any]:
        candidate = secrets.token_hex(4)
        reply: list[Any] = await self._wire.run(
            script, (*keys.keys(conversation_id), candidate, *self._window, *arguments)
        )
        if reply[0] != b"OK":
            _refuse(reply)
        return reply


def _refuse(reply: list[Any]) -> NoReturn:
    if reply[0] == b"CANCELLED":
        raise CancelPending(reply[1].decode())
    raise _REFUSALS[reply[0]]


def _entries(found: list[Any], after: int) -> list[Entry]:
    """Events after seq `after`, from the blocks and entries of a reply. Raises DamagedBlock."""
    entries: list[Entry] = []
    for item in found:
        following = after + len(entries) + 1
        if isinstance(item, list):
            first, last, block = item
            if first > following:
                raise DamagedBlock(last, f"there is none from seq {following} on")
            entries += unpack(first, last, block)[following - first :]
        else:
            entries.append(Entry(following, item))
    return entries


def _forks(text: str) -> dict[str, int]:
    pairs = (word.split(":") for word in text.split()[1:])
    return {epoch: int(seq) for epoch, seq in pairs}


def _appended(reply: list[Any]) -> Appended:
    return Appended(reply[1].decode(), reply[2], reply[3])


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
