"""Whole calls for programs that do not stream: `complete`, the callback form `run`, and `embed`.

They retry retryable errors until something was delivered. After that, the caller may continue with
the partial answer in `Broken.response`.
"""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokenwire.providers.base import (
    STALE_CONNECTION,
    Delta,
    Finish,
    Interrupted,
    InvalidRequest,
    Provider,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Request,
    Restart,
    RunStarted,
    SourceDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Unavailable,
    UsageDelta,
    merge_usage,
)
from tokenwire.providers.collected import Collected
from tokenwire.providers.history import CallPart, HistoryPart
from tokenwire.providers.hooks import Hook, call_hooks, with_hooks
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import http_provider
from tokenwire.providers.spec import ModelSpec

_LONGEST_PAUSE_S = 60.0
_LONGEST_ASKED_S = 120.0
"""A longer wait that a provider asks for is shortened to this."""
_EMBEDDINGS_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class Response:
    """A whole answer, or the part of a broken one (`finish` is None)."""

    sources: list[SourceDelta] = field(default_factory=list)
    usage: UsageDelta | None = None
    finish: Finish | None = None
    id: str | None = None
    model: str | None = None
    called: bool = False
    """A tool call has begun."""
    chars: int = 0
    """Characters of text, reasoning, refusal and arguments together."""
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _collected: Collected = field(default_factory=Collected, repr=False)

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The visible reasoning of the answer."""
        return "".join(self._reasoning)

    @property
    def refusal(self) -> str:
        """The text with which the model refused to answer."""
        return "".join(self._refusal)

    @property
    def parts(self) -> Sequence[HistoryPart]:
        """All parts in order, to send back as `HistoryMessage("assistant", parts)`."""
        return self._collected.parts

    @property
    def tool_calls(self) -> Sequence[CallPart]:
        """The calls of the model."""
        return [part for part in self.parts if isinstance(part, CallPart)]

    def add(self, delta: Delta) -> None:
        """Add a delta at its place."""
        self._collected.add(delta)
        match delta:
            case TextDelta(text):
                self._text.append(text)
                self.chars += len(text)
            case ReasoningDelta(text):
                self._reasoning.append(text)
                self.chars += len(text)
            case RefusalDelta(text):
                self._refusal.append(text)
                self.chars += len(text)
            case ToolCallArguments(json=text):
                self.chars += len(text)
            case ToolCallStart():
                self.called = True
            case RunStarted(id, model):
                self.id, self.model = id, model
            case SourceDelta():
                self.sources.append(delta)
            case UsageDelta():
                self.usage = delta if self.usage is None else merge_usage(self.usage, delta)
            case Restart():
                self._text = []
            case Finish():
                self.finish = delta


class Broken(Interrupted):
    """An answer that failed after partial delivery; `response` holds the part, `__cause__` the
    error.
    """

    def __init__(self, error: ProviderError, response: Response) -> None:
        super().__init__(
            error.message, code=error.code, status=error.status, retry_after_s=error.retry_after_s
        )
        self.response = response


async def complete(
    provider: Provider,
    request: Request,
    *,
    hooks: Sequence[Hook] = (),
    tries: int = 3,
    max_chars: int | None = None,
) -> Response:
    """The whole answer in one object; see `run`. Raises ProviderError."""
    return await run(provider, request, None, hooks=hooks, tries=tries, max_chars=max_chars)


async def run(
    provider: Provider,
    request: Request,
    on_delta: Callable[[Delta], None] | None,
    *,
    hooks: Sequence[Hook] = (),
    tries: int = 3,
    max_chars: int | None = None,
) -> Response:
    """The whole answer, with each delta passed to `on_delta`. One longer than `max_chars` is cut,
    and ends as `length`.

    Raises ProviderError: Broken after the first visible piece.
    """
    observed = with_hooks(provider, hooks)
    failed = 0
    while True:
        response = Response()
        try:
            return await _once(observed, request, response, on_delta, max_chars)
        except ProviderError as error:
            delivered = on_delta is not None and bool(response.chars or response.called)
            if delivered and error.retryable:
                raise Broken(error, response) from error
            failed += 1
            if not error.retryable or failed >= tries:
                raise
            delay = pause(error, failed)
            call_hooks(hooks, "retry", error, delay, failed)
            await asyncio.sleep(delay)


async def _once(
    provider: Provider,
    request: Request,
    response: Response,
    on_delta: Callable[[Delta], None] | None,
    max_chars: int | None,
) -> Response:
    async with provider.stream(request) as stream:
        async for deltas in stream:
            for delta in deltas:
                response.add(delta)
                if on_delta:
                    on_delta(delta)
            if max_chars is not None and response.chars > max_chars:
                response.finish = Finish("length")
                break
    return response


def pause(error: ProviderError, failed: int) -> float:
    """Seconds before the next try: the provider's hint, or polynomially longer with each
    failure.
    """
    if error.code == STALE_CONNECTION and failed == 1:
        return 0.0
    # Spreads clients, guards nothing.
    own = min(_LONGEST_PAUSE_S, (failed**4 + 2) * 0.1) * random.uniform(1.0, 1.15)  # noqa: S311
    return max(own, min(error.retry_after_s or 0.0, _LONGEST_ASKED_S))


async def embed(
    spec: ModelSpec, client: HttpClient, texts: Sequence[str]
) -> tuple[Sequence[Sequence[float]], UsageDelta]:
    """A vector for each text, and the usage. Raises ProviderError; InvalidRequest for dialects
    without embeddings.
    """
    provider = http_provider(spec, client)
    dialect = provider.dialect
    if dialect.embed is None or dialect.vectors is None:
        raise InvalidRequest(f"{dialect.api} has no embeddings", code="unsupported_option")
    async with provider.open(dialect.embed(texts, provider.spec)) as reply:
        body = await reply.whole(_EMBEDDINGS_BYTES)
    try:
        return dialect.vectors(json.loads(body))
    except Exception as error:  # an answer may hold anything
        raise Unavailable(
            f"not an answer with embeddings: {len(body)} bytes", code="unreadable"
        ) from error
