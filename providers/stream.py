"""An answer over HTTP: opens the call, feeds the decoder, watches the clock.

Two clocks run: the socket's (`http.Timeouts`) and the time since the last delta, per model, since comments and pings are not progress.
Time that the consumer takes for itself does not count. What the bytes mean is decided in `decoding.py` and the dialects.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from providers.base import Delta, ModelSpec, ProviderError, Request, Rung, Unavailable
from providers.classify import classify
from providers.decoding import Decoder
from providers.dialect import Call, Dialect, Preset
from providers.http import HttpClient, Reply


class HttpProvider:
    """A model behind an HTTP API; implements `base.Provider`."""

    def __init__(self, spec: ModelSpec, preset: Preset, dialect: Dialect, client: HttpClient) -> None:
        self.spec = spec
        self._preset = preset
        self._dialect = dialect
        self._client = client
        self.continuation: Rung = spec.continuation or preset.continuation

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator["HttpStream"]:
        """Begin an answer; see `base.Provider`. Errors of the call itself are raised by the first step of the iteration."""
        call = self._dialect.build(request, self.spec, self._preset)
        stall = self.spec.stall_seconds or self._preset.stall_seconds
        stream = HttpStream(self._open(call), (call.decoder or self._dialect.decoder)(), stall)
        try:
            yield stream
        finally:
            await stream.aclose()

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Reply]:
        url = (self.spec.base_url or call.base_url or self._preset.base_url or "").rstrip("/") + call.path
        body = None if call.body is None else json.dumps(call.body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {**self._headers(), **call.headers}
        async with self._client.send(call.method, url, headers, body) as reply:
            if reply.status >= 400:
                raise classify(reply.status, reply.headers, await reply.read())
            yield reply

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "text/event-stream, application/json", "user-agent": "tokenwire"}
        headers |= auth_headers(self._preset, self.spec.api_key)
        return {**headers, **self._preset.headers, **self.spec.headers}


def auth_headers(preset: Preset, key: str | None) -> Mapping[str, str]:
    """The header that carries the key."""
    if not key or preset.auth == "none":
        return {}
    return {"authorization": f"Bearer {key}"} if preset.auth == "bearer" else {preset.auth: key}


class HttpStream:
    """An answer in progress; implements `base.DeltaStream`. Iterate once."""

    def __init__(self, opening: AbstractAsyncContextManager[Reply], decoder: Decoder, stall_seconds: float) -> None:
        self._decoder = decoder
        self._opening = opening
        self._watch = StallWatch(stall_seconds)
        self._batches = self._read()

    @property
    def run_id(self) -> str | None:
        """See `base.DeltaStream`."""
        return self._decoder.run_id

    @property
    def cursor(self) -> int | None:
        """See `base.DeltaStream`."""
        return self._decoder.cursor

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self._batches

    async def aclose(self) -> None:
        """Leave the answer: its connection is closed."""
        await self._batches.aclose()

    async def _read(self) -> AsyncGenerator[Sequence[Delta]]:
        decoder = self._decoder
        self._watch.progress()
        try:
            async with self._opening as reply:
                async for deltas in self._decoded(reply):
                    if deltas:
                        self._watch.pause()
                        yield deltas
                        self._watch.progress()
        except asyncio.CancelledError:
            # The watch stops a wait by cancelling it; any other cancellation goes on its way.
            if not self._watch.claim():
                raise
            deltas = decoder.cut(Unavailable(f"nothing came for {self._watch.seconds:g} s", code="stalled"))
            if deltas:
                yield deltas
        finally:
            self._watch.stop()
        if decoder.failure:
            raise decoder.failure

    async def _decoded(self, reply: Reply) -> AsyncIterator[Sequence[Delta]]:
        decoder = self._decoder
        try:
            async for data in reply.chunks():
                yield decoder.feed(data)
                if decoder.done or decoder.failure:
                    return
        except ProviderError as error:
            yield decoder.cut(error)
            return
        yield decoder.close()


class StallWatch:
    """Cancels the task that waits for a delta once it has waited too long. One timer a stream, moved lazily."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._fired = False

    def progress(self) -> None:
        """The consumer waits for the next delta from now on."""
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._task = asyncio.current_task()
        if self._timer is None:
            self._timer = loop.call_at(self._since + self.seconds, self._check)

    def pause(self) -> None:
        """Nobody waits."""
        self._since = None

    def stop(self) -> None:
        """The answer is over."""
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def claim(self) -> bool:
        """Whether the cancellation that just arrived is the watch's own and nobody else's; takes it back if so."""
        if not self._fired or self._task is None:
            return False
        self._fired = False
        return self._task.uncancel() == 0

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        since = self._since
        if since is None or loop.time() - since < self.seconds:
            self._timer = loop.call_at((loop.time() if since is None else since) + self.seconds, self._check)
            return
        self._timer = None
        if self._task is not None:
            self._fired = True
            self._task.cancel()
