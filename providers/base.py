"""Pure: the one vocabulary of deltas, the request, and the tree of errors that every dialect maps to.

ProviderError                 base; carries message, code, status, retry_after_s
  RateLimited                 429, 529, Gemini RetryInfo          retryable
  Unavailable                 connect error, timeout, 5xx, cut before any text, an answer that cannot be read    retryable
  Interrupted                 cut or stalled after text           retryable (by continuation)
  QuotaExhausted              402, insufficient_quota
  AuthenticationFailed        401, API_KEY_INVALID
  PermissionDenied            403
  ModelNotFound               404
  InvalidRequest              400, 422
    ContextLengthExceeded     413 and its many spellings
    ContentFiltered           the prompt was refused by a filter
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from tokenwire.providers.history import HistoryMessage as HistoryMessage
from tokenwire.providers.history import Kept as Kept
from tokenwire.providers.redaction import redacted
from tokenwire.providers.spec import Rung

FinishReason = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "paused", "error", "unknown"
]


# --- deltas ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The provider has begun. `id` is its own name for this run (what a re-attach needs), `model` what really answers."""

    id: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of visible reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """Tool call number `index` of this answer begins. `id` is never empty (made up where the provider gives none)."""

    index: int
    id: str
    name: str
    made_up: bool = False
    """The provider gave no id; this one is ours."""


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """A piece of the JSON text of the arguments."""

    index: int
    json: str


@dataclass(frozen=True, slots=True)
class ToolCallEnd:
    """All arguments have arrived.

    `kept`: what the provider's call holds beside its id, name and arguments.
    """

    index: int
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class ReasoningEnd:
    """The reasoning so far is one whole; what follows belongs to another part.

    `kept`: the provider's own form of it, with its signature. Without it, the reasoning does not
    go back. Where no reasoning came before, the kept value is all that there is of this part.
    """

    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A piece of a refusal; shown to people as text."""

    text: str


@dataclass(frozen=True, slots=True)
class SourceDelta:
    """Something that the answer cites: an address, or a place in a document that was sent along.

    `cites`: where the cited passage begins and ends, in UTF-16 units *back from the end* of the
    text so far: (6, 0) are the last six units. Counted so, it holds whatever came before this
    decoder's text. `quote`: the words of the source. `kept`: the citation as it came, where it
    must go back.
    """

    url: str | None = None
    title: str | None = None
    media_type: str | None = None
    cites: tuple[int, int] | None = None
    quote: str | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class FileDelta:
    """A file that the model made: its bytes or its address. `kept`: the provider's whole item."""

    media_type: str
    data: bytes | None = None
    url: str | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Asked to go on, the model began the answer anew: what follows takes the place of all that was held of it."""


@dataclass(frozen=True, slots=True)
class KeptDelta(Kept):
    """A part of its own that no other delta says: a block or item of a kind that the decoder does
    not know, the result of a tool that the provider ran, the signature of a text.

    It goes back to the same dialect, in its place: a paused turn cannot be resumed without it.
    """


REASONING = "reasoning"
"""The kind of what only carries the model's thoughts."""


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """Tokens so far; each one replaces what was said before, field by field where it is not None.

    The numbers are the provider's own. `input_tokens` of Anthropic excludes `cached_tokens` and `cache_write_tokens`, others include
    them; `output_tokens` of Gemini and xAI excludes `reasoning_tokens`, others include them (`cost.py` knows which is which).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None


def merge_usage(old: UsageDelta, new: UsageDelta) -> UsageDelta:
    """`new` over `old`, field by field where it is not None."""
    return UsageDelta(
        *(
            getattr(old, name) if value is None else value
            for name in UsageDelta.__slots__
            for value in (getattr(new, name),)
        )
    )


@dataclass(frozen=True, slots=True)
class Finish:
    """Proof that the answer is whole. `raw` is the provider's own word; an unknown one is `unknown`, never `stop`."""

    reason: FinishReason
    raw: str | None = None


Delta = (
    RunStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallStart
    | ToolCallArguments
    | ToolCallEnd
    | ReasoningEnd
    | RefusalDelta
    | SourceDelta
    | FileDelta
    | KeptDelta
    | Restart
    | UsageDelta
    | Finish
)


# --- errors ---------------------------------------------------------------------------------------------------------


class ProviderError(Exception):
    """Base; never raised itself. `message` may hold the provider's own words, without credentials: for operators, not for readers."""

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        no_run: bool = False,
    ) -> None:
        self.message = redacted(message)
        self.code = None if code is None else redacted(code)
        super().__init__(self.message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.no_run = no_run
        """It proves that what was asked for does not go on at the provider: nobody heard it, it was refused, or it failed there."""


class RateLimited(ProviderError):
    retryable = True


class Unavailable(ProviderError):
    retryable = True


class Interrupted(ProviderError):
    retryable = True


class QuotaExhausted(ProviderError):
    pass


class AuthenticationFailed(ProviderError):
    pass


class PermissionDenied(ProviderError):
    pass


class ModelNotFound(ProviderError):
    pass


class InvalidRequest(ProviderError):
    pass


class ContextLengthExceeded(InvalidRequest):
    pass


class ContentFiltered(InvalidRequest):
    pass


def as_interrupted(error: ProviderError) -> ProviderError:
    """What cuts an answer after something of it was seen is an interruption; other errors stay what they are."""
    if not isinstance(error, Unavailable):
        return error
    return Interrupted(
        error.message, code=error.code, status=error.status, retry_after_s=error.retry_after_s
    )


RUN_GONE = "run_gone"
"""Code of the error of who attaches to a run that its provider does not know, or not any more."""
CONNECT_ERROR = "connect_error"
"""Code of the error of who could not reach a provider at all."""
STALE_CONNECTION = "stale_connection"
"""Code of the error of who used a connection of the pool again just when the provider closed it."""
NOT_HEARD = frozenset(
    {
        CONNECT_ERROR,
        STALE_CONNECTION,
        "connection_lost",
        "page",
        "read_timeout",
        "stalled",
        "timeout",
        "truncated",
    }
)
"""Codes of errors that speak of a connection, or of a silence, and not of what was asked for over it."""


# --- requests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Continuation:
    """How to go on after a break: `rung` of the ladder, the text that readers hold, what a re-attach needs."""

    rung: Literal["attach", "prefix", "turn"]
    text: str
    run_id: str | None = None
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a provider. Messages with nothing in them are left out by every dialect."""

    messages: Sequence[HistoryMessage]
    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of one tool."""
    schema: Mapping[str, Any] | None = None
    """What the answer must be, as JSON Schema; an empty one: any JSON object."""
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    continuation: Continuation | None = None
    tries: int | None = None
    """How many tries of this very answer have failed before, if the caller counts them. Only the demo provider asks."""
    extra: Mapping[str, Any] = field(default_factory=dict)


class DeltaStream(Protocol):
    """An answer in progress. Iterate over batches: all deltas of one network read come together, in order.

    Iteration ends after a `Finish`; whatever else ends it is a ProviderError (cut after text: Interrupted; before: Unavailable).
    Deltas that came before an error are delivered before it is raised.
    """

    @property
    def run_id(self) -> str | None:
        """The name of this run at the provider, if it can be attached to again: known before the first batch where we choose it."""
        ...

    @property
    def cursor(self) -> int | None:
        """How far the batches given so far reach in the provider's own counting; with `run_id`, what a re-attach needs."""
        ...

    @property
    def stitching(self) -> bool:
        """Whether text is held back until it is known whether it repeats what readers hold: a re-attach would say it again."""
        ...

    @property
    def naming(self) -> bool:
        """Whether a run was asked for that goes on without us, and that has yet to tell its name: who leaves now leaves it for good."""
        ...

    @property
    def run_over(self) -> bool:
        """Whether the provider has said that the run has ended, well or not: nothing is left to attach to, or to end."""
        ...

    def keep(self) -> None:
        """Let the provider's run go on when this stream is left, to be attached to again or ended later; else leaving stops it."""
        ...

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]: ...


class Provider(Protocol):
    """One configured model of one provider."""

    @property
    def continuation(self) -> Rung:
        """The best rung of the ladder that this model supports."""
        ...

    @property
    def stall_seconds(self) -> float:
        """The longest wait for a delta: the entry's, else the preset's (local servers and silent reasoners get more)."""
        ...

    def stream(self, request: Request) -> AbstractAsyncContextManager[DeltaStream]:
        """Begin an answer. Leaving the context closes the provider's connection at once, finished or not."""
        ...

    async def end(self, run_id: str) -> None:
        """Stop a run that goes on at the provider, whoever began it. Returns once it is over, or not known there any more.

        Raises ProviderError: it may still be running.
        """
        ...
