"""One command connection to Redis or Valkey, shared by all concurrent calls of scripts.

One pipeline is in flight; calls that arrive meanwhile leave together when its replies are back, so
that load creates batches and an idle first call never waits. The caller interprets the replies
(`redis.py`).

Guarantees: calls reach the server in the order in which they were made. A call whose reply is lost
raises LogUnavailable: its outcome is unknown, and the caller decides whether to repeat it.

Rejected: a pool of connections (calls could overtake each other, and load would not form batches).
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError

from tokenwire.streams.log.outages import cannot_serve, error_word
from tokenwire.streams.log.ports import LogUnavailable

CONNECT_SECONDS = 2.0
REPLY_SECONDS = 5.0
KEY_COUNT = 5
MAX_CALLS = 256
"""Calls in one pipeline."""
MAX_BYTES = 1024 * 1024
"""No further call joins a pipeline of this length."""


class Script:
    """A Lua script: its text for EVAL and its hash for EVALSHA."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


Argument = bytes | str | int


class _RedisCommand:
    """A command under way. Packed at the call, so a wrong argument fails its caller alone."""

    __slots__ = ("_arguments", "_packed", "_script", "future")

    def __init__(
        self, script: Script | None, arguments: Sequence[Argument], future: asyncio.Future[Any]
    ) -> None:
        self._script = script
        self._arguments = arguments
        self._packed = _pack(
            arguments if script is None else (b"EVALSHA", script.sha, KEY_COUNT, *arguments)
        )
        self.future = future

    def packed(self, known: set[bytes]) -> bytes:
        """The command as bytes. A script is sent in full at its first use on this connection."""
        script = self._script
        if script is None or script.sha in known:
            return self._packed
        known.add(script.sha)
        return _pack((b"EVAL", script.text, KEY_COUNT, *self._arguments))


def _pack(command: Sequence[Argument]) -> bytes:
    # Its stub means a tuple of any length.
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
    return packed


class Wire:
    """Runs scripts with five keys. `interval_seconds`: the minimum time between pipelines (0:
    none).
    """

    def __init__(self, url: str, interval_seconds: float = 0.0) -> None:
        # One connection by design; the pool only creates it from the URL (TLS, user, password,
        # database).
        pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_SECONDS,
            driver_info=None,
        )
        self._connection: AbstractConnection = pool.make_connection()
        self._interval = interval_seconds
        self._known: set[bytes] = set()
        self._waiting: deque[_RedisCommand] = deque()
        self._sender: asyncio.Task[None] | None = None
        self.closed = False

    async def run(self, script: Script, arguments: Sequence[Argument]) -> Any:
        """Run a script and return its reply. `arguments` are its five keys, then ARGV.

        Raises LogUnavailable, or ResponseError for a faulty script.
        """
        return await self._call(script, arguments)

    async def execute(self, *command: Argument) -> Any:
        """The reply of an ordinary command. Raises like `run`."""
        return await self._call(None, command)

    async def _call(self, script: Script | None, arguments: Sequence[Argument]) -> Any:
        if self.closed:
            raise LogUnavailable("the connection was closed")
        call = _RedisCommand(script, arguments, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await call.future

    async def aclose(self) -> None:
        """Close the connection. Waiting callers get LogUnavailable."""
        self.closed = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        _fail(self._waiting, ConnectionAbortedError("closed"))
        await self._connection.disconnect(nowait=True)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                began = time.monotonic()
                await self._send()
                if self._interval:
                    await asyncio.sleep(self._interval - (time.monotonic() - began))
        finally:
            self._sender = None

    async def _send(self) -> None:
        """One pipeline: connect if needed, send the waiting calls, settle them."""
        calls: list[_RedisCommand] = []
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                await self._connect()
                calls, data = self._next()
                await self._write(data)
                await self._settle(calls)
        except (OSError, RedisError, TimeoutError) as error:
            # Without a connection all waiting callers get the error, not only one pipeline's worth.
            await self._fail_and_disconnect(calls or self._take_waiting(), error)
        except BaseException:  # closed, or a bug: no caller is left waiting
            await self._fail_and_disconnect(
                [*calls, *self._take_waiting()], ConnectionAbortedError("closed")
            )
            raise

    async def _write(self, data: bytes) -> None:
        try:
            await self._connection.send_packed_command(data, check_health=False)
        except RuntimeError as error:  # uvloop's error for a connection that was closed meanwhile
            raise ConnectionAbortedError(str(error)) from error

    async def _connect(self) -> None:
        connection = self._connection
        if (
            connection.is_connected and await connection.can_read()
        ):  # no reply is due between pipelines: the server has closed
            await connection.disconnect(nowait=True)
        if not connection.is_connected:
            self._known.clear()
            await connection.connect()
            # A server that is loading, or requires a password, reports it here rather than within
            # a pipeline.
            await connection.send_packed_command(_pack(("PING",)), check_health=False)
            await connection.read_response()

    def _take_waiting(self) -> list[_RedisCommand]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _next(self) -> tuple[list[_RedisCommand], bytes]:
        calls: list[_RedisCommand] = []
        packed: list[bytes] = []
        size = 0
        while self._waiting and len(calls) < MAX_CALLS and size < MAX_BYTES:
            call = self._waiting.popleft()
            if not call.future.done():  # its caller was cancelled
                calls.append(call)
                packed.append(call.packed(self._known))
                size += len(packed[-1])
        return calls, b"".join(packed)

    async def _settle(self, calls: list[_RedisCommand]) -> None:
        """Read the reply of each call."""
        reconnect = False
        for call in calls:
            try:
                reply = await self._connection.read_response()
            except NoScriptError:  # the server's scripts were flushed: send this one in full
                self._known.clear()
                self._waiting.appendleft(call)
            except ResponseError as error:
                reconnect = _settle_error(call, error) or reconnect
            else:
                if not call.future.done():
                    call.future.set_result(reply)
        if reconnect:  # after a failover this may be a replica: connect again
            await self._connection.disconnect(nowait=True)

    async def _fail_and_disconnect(self, calls: Iterable[_RedisCommand], error: Exception) -> None:
        _fail(calls, error)
        await self._connection.disconnect(nowait=True)


def _settle_error(call: _RedisCommand, error: ResponseError) -> bool:
    passing = cannot_serve(error)
    if passing:
        _fail([call], error)
    elif not call.future.done():
        call.future.set_exception(error)
    return passing


def _fail(calls: Iterable[_RedisCommand], cause: Exception) -> None:
    for call in calls:
        if not call.future.done():
            what = (
                f"cannot serve: {error_word(cause)}" if cannot_serve(cause) else "does not answer"
            )
            unavailable = LogUnavailable(f"Redis {what}: {cause or type(cause).__name__}")
            unavailable.__cause__ = cause
            call.future.set_exception(unavailable)
