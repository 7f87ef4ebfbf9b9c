"""Pure: deltas, the request, and the error tree that every dialect uses.

ProviderError                 base; has message, code, status, retry_after_s
  RateLimited                 429, 529, Gemini RetryInfo          retryable
  Unavailable                 connect error, timeout, 5xx, cut    retryable
                              before text, unreadable answer
  Interrupted                 cut or stalled after text           retryable (by continuation)
  QuotaExhausted              402, insufficient_quota
  AuthenticationFailed        401, API_KEY_INVALID
  PermissionDenied            403
  ModelNotFound               404
  InvalidRequest              400, 422
    ContextLengthExceeded     413 and its many spellings
    ContentFiltered           the prompt was refused by a filter
    UnsupportedParameter      the model does not take a parameter; nothing was sent
  AnswerTooLarge              the answer is beyond a limit: an event, a nesting, calls, growth
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from tokenwire.protocol.events import CompleteReason
from tokenwire.providers.history import HistoryMessage as HistoryMessage
from tokenwire.providers.history import Kept as Kept
from tokenwire.providers.parameters import Effort
from tokenwire.providers.redaction import redacted
from tokenwire.providers.spec import Rung

FinishReason = Literal[CompleteReason, "error"]
"""`error`: the provider says that it has failed."""


# --- deltas ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The provider has begun. `id`: its own name for this run, for attaching; `model`: the
    answering model.
    """

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
    """Tool call number `index` of this answer begins. `id` is never empty (ours if the provider
    gives none).
    """

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

    `kept`: other fields of the provider's call besides id, name and arguments.
    """

    index: int
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class ReasoningEnd:
    """The reasoning so far is complete; what follows belongs to another part.

    `kept`: the provider's own form with its signature. Without it, the reasoning does not go back.
    Without earlier reasoning, the kept value is the whole part.
    """

    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A piece of a refusal; shown to people as text."""

    text: str


@dataclass(frozen=True, slots=True)
class SourceDelta:
    """A citation of the answer: an address, or a passage in an attached document.

    `cites`: start and end of the supported text, in UTF-16 units *back from the end* of the text so
    far: (6, 0) are the last six units. This holds whatever text came before this decoder's.
    `quote`: the words of the source. `kept`: the citation in its original form, if it must go back.
    """

    url: str | None = None
    title: str | None = None
    media_type: str | None = None
    cites: tuple[int, int] | None = None
    quote: str | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class FileDelta:
    """A file from the model: its bytes or its address. `kept`: the provider's whole item."""

    media_type: str
    data: bytes | None = None
    url: str | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """The model started over instead of continuing: what follows replaces all held text."""


@dataclass(frozen=True, slots=True)
class KeptDelta(Kept):
    """A part without a delta of its own: a block or item of an unknown kind, the result of a
    provider's tool, the signature of a text.

    It goes back to the same dialect at its place: a paused turn cannot be resumed without it.
    """


REASONING = "reasoning"
"""The kind of values that only carry reasoning."""


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """Tokens so far; each field that is not None replaces the earlier number.

    The numbers are the provider's own. `input_tokens` of Anthropic excludes `cached_tokens` and
    `cache_write_tokens`, others include them; `output_tokens` of Gemini and xAI excludes
    `reasoning_tokens`, others include them (`cost.py` handles both).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None


def counts_of(usage: UsageDelta) -> dict[str, int]:
    """Its numbers by name, without missing ones."""
    counts = ((name, getattr(usage, name)) for name in UsageDelta.__slots__)
    return {name: count for name, count in counts if count is not None}


def merge_usage(old: UsageDelta, new: UsageDelta) -> UsageDelta:
    """`new` over `old`, for each field that is not None."""
    return UsageDelta(
        *(
            getattr(old, name) if value is None else value
            for name in UsageDelta.__slots__
            for value in (getattr(new, name),)
        )
    )


@dataclass(frozen=True, slots=True)
class Finish:
    """Proof that the answer is complete. `raw`: the provider's word; an unknown one is `unknown`,
    never `stop`.
    """

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


# --- errors ---------------------------------------------------------------------------------------


class ProviderError(Exception):
    """Base class; never raised itself. `message` may hold the provider's words, without
    credentials: for operators only.
    """

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
        """Proof that no run continues at the provider: it was not received, was refused, or failed
        there.
        """


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


class UnsupportedParameter(InvalidRequest):
    """The message is ours, names the parameter, and is for everyone."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(reason, code="unsupported_parameter", no_run=True)
        self.parameter = parameter


class AnswerTooLarge(ProviderError):
    """The answer is beyond a limit of ours. Asking again would cost as much and bring the same."""


def as_interrupted(error: ProviderError) -> ProviderError:
    """An error after the first visible piece becomes an interruption; other errors stay."""
    if not isinstance(error, Unavailable):
        return error
    return Interrupted(
        error.message, code=error.code, status=error.status, retry_after_s=error.retry_after_s
    )


RUN_GONE = "run_gone"
"""Error code: the run to attach to is unknown to its provider, or is gone."""
CONNECT_ERROR = "connect_error"
"""Error code: the provider could not be reached."""
STALE_CONNECTION = "stale_connection"
"""Error code: the provider closed a pooled connection just when it was reused."""
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
"""Error codes about a connection or a silence, not about the request."""


# --- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Continuation:
    """How to continue after a break: the `rung`, the readers' text, and what attaching needs."""

    rung: Literal["attach", "prefix", "turn"]
    text: str
    run_id: str | None = None
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a provider. Every dialect leaves empty messages out.

    Which API takes which parameter (`parameters.NAMES`), and where: `parameters.py`.
    """

    messages: Sequence[HistoryMessage]
    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of one tool."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the answer; an empty one: any JSON object."""
    reasoning_effort: Effort | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    """Id of a token -> what is added to its chance, from -100 to 100."""
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    parallel_tool_calls: bool | None = None
    """False: at most one call in a turn."""
    continuation: Continuation | None = None
    tries: int | None = None
    """How many tries of this answer have failed, if the caller counts them. Only the demo provider
    reads it.
    """
    extra: Mapping[str, Any] = field(default_factory=dict)


class DeltaStream(Protocol):
    """An answer in progress. Iterate over batches: all deltas of one network read, in order.

    Iteration ends after a `Finish`; any other end is a ProviderError (cut after text: Interrupted;
    before: Unavailable). Deltas before an error are delivered before it is raised.
    """

    @property
    def run_id(self) -> str | None:
        """The run's name for attaching; known before the first batch if we choose it."""
        ...

    @property
    def cursor(self) -> int | None:
        """How far the delivered batches reach, in the provider's counting; with `run_id`, this is
        what attaching needs.
        """
        ...

    @property
    def stitching(self) -> bool:
        """Whether text is held back as a possible repetition: a run that is attached to would send
        it again.
        """
        ...

    @property
    def midway(self) -> bool:
        """Whether the delivered batches end within an item of the provider: a stream that attaches
        here would not know what the rest of the item, such as a citation, refers to.
        """
        ...

    @property
    def naming(self) -> bool:
        """Whether a requested run continues without us but has no name yet: leaving now would lose
        it.
        """
        ...

    @property
    def run_over(self) -> bool:
        """Whether the provider has reported the end of the run: nothing is left to attach to, or to
        end.
        """
        ...

    def keep_run(self) -> None:
        """Let the run continue when this stream is left, to attach to or end it later; otherwise
        leaving stops it.
        """
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
        """The longest wait for a delta: the entry's, else the preset's (more for local servers and
        silent reasoners).
        """
        ...

    def stream(self, request: Request) -> AbstractAsyncContextManager[DeltaStream]:
        """Begin an answer. Leaving the context closes the provider's connection at once."""
        ...

    async def end(self, run_id: str) -> None:
        """Stop a run at the provider, whoever began it. Returns once it is over or unknown there.

        Raises ProviderError: it may still be running.
        """
        ...
