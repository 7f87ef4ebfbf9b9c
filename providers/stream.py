"""An answer over HTTP: opens the call, feeds the decoder, watches the time.

Two clocks run: the socket's (`http.Timeouts`) and, per model, the time since the last delta, since
comments and pings are no progress. The consumer's own time does not count. `decoding.py` and the
dialects interpret the bytes.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from tokenwire.protocol.text import storable
from tokenwire.providers.base import (
    RUN_GONE,
    Delta,
    Finish,
    InvalidRequest,
    ProviderError,
    RateLimited,
    Request,
    Restart,
    TextDelta,
    ToolCallStart,
    Unavailable,
)
from tokenwire.providers.classify import classify, is_page
from tokenwire.providers.content import check_abilities
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.http import HttpClient, Reply
from tokenwire.providers.presets import rung_of
from tokenwire.providers.redaction import redacted
from tokenwire.providers.seams import Seam
from tokenwire.providers.spec import LADDER, ModelSpec, Preset

log_line = logging.getLogger(__name__)

_END_SECONDS = 10.0
"""Longest wait for the call that ends a run."""
_LEAVE_SECONDS = 2.0
"""The same when a stream is left."""
_OVER = (400, 404, 409, 410)
"""Providers' codes for ending a run that has ended already."""
_PAGE = "page"
"""Code of a refusal that no API wrote."""
_STEP_BYTES = 32 * 1024
"""Bytes decoded at once; other tasks run between two steps."""
_DRAIN_SECONDS = 0.05
"""How long a complete answer waits for the end of its body, so that its connection can be
reused.
"""
Presentable = Callable[[ProviderError], ProviderError]
"""Prepares an error for the log."""


class HttpProvider:
    """A model behind an HTTP API; implements `base.Provider`."""

    def __init__(
        self, spec: ModelSpec, preset: Preset, dialect: Dialect, client: HttpClient
    ) -> None:
        self.spec = spec
        self._preset = preset
        self.dialect = dialect
        self._client = client
        self.continuation = rung_of(spec)
        self.stall_seconds: float = spec.stall_seconds or preset.stall_seconds

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator["HttpStream"]:
        """Begin an answer; see `base.Provider`. Raises InvalidRequest for an impossible request;
        other errors come with the iteration.
        """
        request = _possible(request, self.dialect)
        self._check(request)
        call = self.dialect.build(request, self.spec, self._preset)
        decoder = (call.decoder or self.dialect.decoder)()
        stream = HttpStream(
            self.open(call),
            decoder,
            self.stall_seconds,
            self._seam(request),
            self._without_secrets,
            call.begins_run,
        )
        try:
            yield stream
        finally:
            await stream.aclose()
            if stream.abandoned and stream.run_id:
                await self._leave(stream.run_id)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Reply]:
        """Send a call of the dialect. Raises the error of an answer from 400 on."""
        url = (self.spec.base_url or call.base_url or self._preset.base_url or "").rstrip(
            "/"
        ) + call.path
        body = None if call.body is None else _encoded(call.body)
        headers = {**self._headers(), **call.headers}
        async with self._client.send(call.method, url, headers, body) as reply:
            if reply.status >= 300:
                raise self._without_secrets(_refusal(call, reply, await reply.beginning()))
            yield reply

    def _without_secrets(self, error: ProviderError) -> ProviderError:
        """The error without this entry's credentials in any form: some providers repeat them."""
        secrets = [secret for secret in (self.spec.api_key, *self.spec.headers.values()) if secret]
        error.message = redacted(error.message, secrets)
        error.code = error.code and redacted(error.code, secrets)
        error.args = (error.message,)
        return error

    def _headers(self) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream, application/json",
            "user-agent": "tokenwire",
        }
        headers |= auth_headers(self._preset, self.spec.api_key)
        return {**headers, **self._preset.headers, **self.spec.headers}

    def _check(self, request: Request) -> None:
        check_abilities(request, self.spec.options.get("cannot", ()))
        going_on = request.continuation
        if going_on is None:
            return
        if LADDER.index(going_on.rung) < LADDER.index(self.continuation):
            raise InvalidRequest(
                f"{self.spec.name} cannot go on by {going_on.rung}", code="unsupported_continuation"
            )
        if going_on.rung != "attach" and request.schema is not None:
            raise InvalidRequest(
                "an answer that must be JSON cannot be pieced together",
                code="unsupported_continuation",
            )

    def _seam(self, request: Request) -> Seam | None:
        going_on = request.continuation
        if going_on is None or going_on.rung == "attach":
            return None
        echoes = bool({**self._preset.quirks, **self.spec.options}.get("echoes"))
        return Seam(
            going_on.rung, going_on.text, stripped=self.dialect.strips_prefix, echoes=echoes
        )

    async def end(self, run_id: str) -> None:
        """Stop a run at its provider by the dialect's call; a dialect without one has no runs.

        Returns once the run is over or unknown there. Raises ProviderError: it may continue.
        """
        if self.dialect.cancel is None:
            return
        try:
            async with asyncio.timeout(_END_SECONDS), self.open(self.dialect.cancel(run_id)):
                pass
        except TimeoutError as error:
            raise Unavailable(f"no answer within {_END_SECONDS:g} s", code="timeout") from error
        except ProviderError as error:
            if error.status not in _OVER or error.code == _PAGE:
                raise

    async def _leave(self, run_id: str) -> None:
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self.end(run_id)
        except (ProviderError, TimeoutError) as error:
            log_line.warning("a run of %s could not be cancelled: %s", self.spec.name, error)


def _possible(request: Request, dialect: Dialect) -> Request:
    """The possible rung: attaching needs the run's name, and not every dialect takes a prefix;
    otherwise an extra turn.
    """
    going_on = request.continuation
    if going_on is None or (
        bool(going_on.run_id)
        if going_on.rung == "attach"
        else dialect.takes_prefix or going_on.rung != "prefix"
    ):
        return request
    return replace(request, continuation=replace(going_on, rung="turn"))


def _encoded(body: Mapping[str, Any]) -> bytes:
    """The body in UTF-8. Lone halves of a surrogate pair, which a model may write as escapes, are
    U+FFFD: providers refuse a whole request for one.
    """
    text = json.dumps(body, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return storable(text).encode()


def auth_headers(preset: Preset, key: str | None) -> Mapping[str, str]:
    """The header that carries the key."""
    if not key or preset.auth == "none":
        return {}
    return {"authorization": f"Bearer {key}"} if preset.auth == "bearer" else {preset.auth: key}


def _refusal(call: Call, reply: Reply, body: bytes) -> ProviderError:
    """The error of an answer from 300 on. Only the provider can say that a run is gone, not a
    proxy's page.
    """
    error = classify(reply.status, reply.headers, body)
    if (call.attaches or call.ends_run) and is_page(body) and not isinstance(error, RateLimited):
        return Unavailable(error.message, code=_PAGE, status=error.status)
    if call.attaches and reply.status in (400, 404) and not error.retryable:
        return Unavailable(
            f"the run is not there any more: {error.message}", code=RUN_GONE, status=error.status
        )
    return error


class HttpStream:
    """An answer in progress; implements `base.DeltaStream`. Iterate once."""

    def __init__(
        self,
        opening: AbstractAsyncContextManager[Reply],
        decoder: Decoder,
        stall_seconds: float,
        seam: Seam | None,
        presentable: Presentable,
        begins_run: bool = False,
    ) -> None:
        self._decoder = decoder
        self._begins_run = begins_run
        self._asked = False
        self._presentable = presentable
        self._opening = opening
        self._watch = StallWatch(stall_seconds)
        self._seam = seam
        self._began_anew = False
        self._kept = False
        self._batches = self._read()

    @property
    def run_id(self) -> str | None:
        """The run's name, as the decoder has read or chosen it."""
        return self._decoder.run_id

    @property
    def cursor(self) -> int | None:
        """How far the decoder is, in the provider's counting."""
        return self._decoder.cursor

    @property
    def stitching(self) -> bool:
        """Whether the seam holds text back."""
        return self._seam is not None and not self._seam.settled

    @property
    def midway(self) -> bool:
        """Whether the decoder is within an item."""
        return self._decoder.midway

    @property
    def naming(self) -> bool:
        """Whether a requested run outlives us and has no name yet."""
        return (
            self._begins_run and self._asked and self._decoder.run_id is None and not self.run_over
        )

    @property
    def run_over(self) -> bool:
        """Whether the answer is complete, or the provider has reported the end of its run."""
        return self._decoder.done or self._decoder.run_over

    @property
    def abandoned(self) -> bool:
        """Whether the stream was left before its end, without a fault of the provider, and nothing
        will attach to its run again.
        """
        return not (self._decoder.done or self._decoder.failure or self._kept)

    def keep_run(self) -> None:
        """Let the run continue when this stream is left."""
        self._kept = True

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self._batches

    async def aclose(self) -> None:
        """Leave the answer and close its connection."""
        await self._batches.aclose()

    async def _read(self) -> AsyncGenerator[Sequence[Delta]]:
        self._asked = True
        self._watch.progress()
        try:
            async with self._opening as reply, aclosing(self._decoded(reply)) as batches:
                async for deltas in batches:
                    if deltas:
                        self._watch.pause()
                        yield deltas
                        self._watch.progress()
        except asyncio.CancelledError:
            # The watch cancels a wait to stop it; any other cancellation is passed on.
            if not self._watch.claim():
                raise
            error = Unavailable(f"nothing came for {self._watch.seconds:g} s", code="stalled")
            if deltas := self._joined(self._decoder.cut(error)):
                yield deltas
        except ProviderError as error:
            self._decoder.cut(error)
        except Exception as error:
            # Any exception that foreign bytes cause ends this answer, with the project's own error.
            log_line.exception("an answer could not be read")
            self._decoder.cut(
                Unavailable(
                    f"the answer cannot be read ({type(error).__name__})", code="unreadable"
                )
            )
        finally:
            self._watch.stop()
        if self._decoder.failure:
            raise self._presentable(self._decoder.failure)

    async def _decoded(self, reply: Reply) -> AsyncGenerator[Sequence[Delta]]:
        decoder = self._decoder
        try:
            async with aclosing(reply.chunks()) as chunks, aclosing(_in_steps(chunks)) as pieces:
                async for data in pieces:
                    yield self._joined(decoder.feed(data))
                    if decoder.done:
                        await _drain(chunks)
                    if decoder.done or decoder.failure:
                        return
        except ProviderError as error:
            yield self._joined(decoder.cut(error))
            return
        yield self._joined(decoder.close())

    def _joined(self, deltas: list[Delta]) -> list[Delta]:
        """The deltas, with the text fitted to the readers' text."""
        seam = self._seam
        if seam is None:
            return deltas
        joined: list[Delta] = []
        for delta in deltas:
            if isinstance(delta, TextDelta):
                joined += self._fitted(seam.push(delta.text))
                continue
            if isinstance(delta, Finish | ToolCallStart):
                joined += self._fitted(seam.end())
            joined.append(delta)
        if self._decoder.failure:
            joined += self._fitted(seam.end(finished=False))
        return joined

    def _fitted(self, text: str) -> list[Delta]:
        if not text:
            return []
        if self._seam is not None and self._seam.over and not self._began_anew:
            self._began_anew = True
            return [Restart(), TextDelta(text)]
        return [TextDelta(text)]


async def _in_steps(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same bytes in pieces; other tasks run between some of them, even if more input is
    ready.
    """
    given = 0
    async for data in chunks:
        for start in range(0, len(data), _STEP_BYTES):
            piece = data[start : start + _STEP_BYTES]
            given += len(piece)
            if given > _STEP_BYTES:
                await asyncio.sleep(0)
                given = len(piece)
            yield piece


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in chunks:
                pass


class StallWatch:
    """Cancels a task that has waited too long for a delta. One timer per stream, moved lazily."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._fired = False

    def progress(self) -> None:
        """The consumer now waits for the next delta."""
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._task = asyncio.current_task()
        if self._timer is None:
            self._timer = loop.call_at(self._since + self.seconds, self._check)

    def pause(self) -> None:
        """Stop the clock: nobody waits."""
        self._since = None

    def stop(self) -> None:
        """The answer is over."""
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def claim(self) -> bool:
        """Whether the current cancellation is only the watch's own; takes it back if so."""
        if not self._fired or self._task is None:
            return False
        self._fired = False
        return self._task.uncancel() == 0

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        since = self._since
        if since is None or loop.time() - since < self.seconds:
            self._timer = loop.call_at(
                (loop.time() if since is None else since) + self.seconds, self._check
            )
            return
        self._timer = None
        if self._task is not None:
            self._fired = True
            self._task.cancel()
