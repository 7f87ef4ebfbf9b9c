"""Lifecycle hooks: they watch answers and cannot break them.

A hook is a subclass of `Hook` that overrides some methods. Several may watch one provider
(`with_hooks`). An exception in one is logged and affects neither the stream nor other hooks. Hooks
are called in the given order on the event loop: be quick.
"""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tokenwire.providers.base import (
    Delta,
    DeltaStream,
    Finish,
    Provider,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Request,
    TextDelta,
    ToolCallStart,
)
from tokenwire.providers.spec import Rung

log_line = logging.getLogger(__name__)
_OUTPUT = (TextDelta, ReasoningDelta, RefusalDelta, ToolCallStart)


class Hook:
    """Every method does nothing; override some."""

    def before_request(self, request: Request) -> None:
        """A request is about to be sent."""

    def first_token(self, seconds: float) -> None:
        """The first visible piece has come, this long after the request."""

    def delta(self, delta: Delta) -> None:
        """A delta has come; the consumer gets it next."""

    def finish(self, finish: Finish, seconds: float) -> None:
        """The answer is complete."""

    def error(self, error: ProviderError) -> None:
        """The answer failed; the consumer gets the error next."""

    def retry(self, error: ProviderError, delay_seconds: float, tries: int) -> None:
        """After `tries` failures another try begins in `delay_seconds` (from `calls.run`, which
        retries).
        """


def call_hooks(hooks: Sequence[Hook], event: str, *arguments: object) -> None:
    """Call the method named `event` of every hook; exceptions are logged."""
    for hook in hooks:
        try:
            getattr(hook, event)(*arguments)
        except Exception:
            log_line.exception("a hook failed in %s", event)


def with_hooks(provider: Provider, hooks: Sequence[Hook]) -> Provider:
    """The same provider, with hooks."""
    return Watched(provider, hooks) if hooks else provider


class Watched:
    """Implements `base.Provider` around another one."""

    def __init__(self, provider: Provider, hooks: Sequence[Hook]) -> None:
        self._provider = provider
        self._hooks = tuple(hooks)

    @property
    def continuation(self) -> Rung:
        """The rung of the provider that is watched."""
        return self._provider.continuation

    @property
    def stall_seconds(self) -> float:
        """The longest wait of the provider that is watched."""
        return self._provider.stall_seconds

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator["WatchedStream"]:
        """The provider's answer; hooks get each delta before the consumer."""
        call_hooks(self._hooks, "before_request", request)
        began = time.monotonic()
        async with self._provider.stream(request) as inner:
            outer = WatchedStream(inner, self._hooks, began)
            try:
                yield outer
            finally:
                await outer.aclose()

    async def end(self, run_id: str) -> None:
        """Stop a run at the provider that is watched. Raises ProviderError."""
        await self._provider.end(run_id)


class WatchedStream:
    """Implements `base.DeltaStream` around another one."""

    def __init__(self, inner: DeltaStream, hooks: Sequence[Hook], began: float) -> None:
        self._inner = inner
        self._hooks = hooks
        self._began = began
        self._batches = self._watch()

    @property
    def run_id(self) -> str | None:
        """The run of the answer that is watched."""
        return self._inner.run_id

    @property
    def cursor(self) -> int | None:
        """How far the answer that is watched has been read."""
        return self._inner.cursor

    @property
    def stitching(self) -> bool:
        """Whether the answer that is watched holds text back."""
        return self._inner.stitching

    @property
    def midway(self) -> bool:
        """Whether the answer that is watched has been read up to within an item."""
        return self._inner.midway

    @property
    def naming(self) -> bool:
        """Whether the run of the answer that is watched has yet to tell its name."""
        return self._inner.naming

    @property
    def run_over(self) -> bool:
        """Whether the run of the answer that is watched has ended."""
        return self._inner.run_over

    def keep_run(self) -> None:
        """Let the run of the answer that is watched go on."""
        self._inner.keep_run()

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self._batches

    async def aclose(self) -> None:
        """Stop watching."""
        await self._batches.aclose()

    async def _watch(self) -> AsyncGenerator[Sequence[Delta]]:
        begun = False
        try:
            async for deltas in self._inner:
                for delta in deltas:
                    if not begun and isinstance(delta, _OUTPUT):
                        begun = True
                        call_hooks(self._hooks, "first_token", time.monotonic() - self._began)
                    call_hooks(self._hooks, "delta", delta)
                    if isinstance(delta, Finish):
                        call_hooks(self._hooks, "finish", delta, time.monotonic() - self._began)
                yield deltas
        except ProviderError as error:
            call_hooks(self._hooks, "error", error)
            raise
