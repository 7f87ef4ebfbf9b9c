"""Pure: groups of settings that are handed down whole. `Settings` inherits them.

A function that needs a value takes its group and reads the value there. A process passes its
settings; a test passes the group, whose defaults are those of the settings. So a new setting of a
group touches this file, `.env.example`, and the place that uses it.

Rejected: one dataclass per module with values copied from the settings. Each value then has
several names, and its default stands in several files.
"""

from pydantic import BaseModel, Field


class AnswerTerms(BaseModel, frozen=True):
    """How much one answer may hold, cost and wait for."""

    cancel_without_readers_seconds: float = Field(0.0, ge=0)
    """An answer that nobody has followed or read for this long is cancelled (`by` is `no_readers`);
    0: never.
    """
    max_retry_after_seconds: float = Field(120.0, gt=0, le=600)
    """The longest wait that a provider may ask for; a longer one is shortened to this, because
    somebody waits at the page.
    """
    max_requests_per_answer: int = Field(20, ge=1)
    """Requests to a provider for one answer. Attaching to a running run does not count."""
    max_billed_input_tokens_per_answer: int = Field(1_000_000, ge=1)
    """Input tokens that one answer's requests may be billed together. The first request is never
    refused.
    """
    max_answer_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Longest answer: text, reasoning and tool calls together, in bytes of UTF-8. A longer one is
    cut and ends as `length`.
    """
    max_kept_bytes: int = Field(1024 * 1024, ge=0)
    """What is stored of an answer for its provider (results of the provider's tools, images,
    signatures), as JSON. The turn for which it does not suffice keeps nothing and goes back as
    text. 0: nothing is kept.
    """


class ToolTerms(BaseModel, frozen=True):
    """What calls of tools may take, and how long a person is waited for."""

    tool_seconds: float = Field(60.0, gt=0, le=3600)
    """The longest run of a tool that names no limit of its own. Afterwards its outcome counts as
    unknown.
    """
    tool_threads: int = Field(32, ge=1, le=1000)
    """Tools that are not async and run at the same time in one worker process; for one user, three
    quarters of them.
    """
    max_tool_result_bytes: int = Field(48 * 1024, ge=1024, le=48 * 1024)
    """Longest result of a tool, as JSON with its escapes. The model gets the beginning of a longer
    one.
    """
    max_tool_rounds: int = Field(10, ge=1)
    """Rounds of calls in one answer. Afterwards the model must answer without tools."""
    max_parallel_calls: int = Field(8, ge=1)
    """Calls of one answer that run at the same time."""
    tool_approval_seconds: float = Field(7 * 24 * 3600.0, gt=0)
    """How long a call waits for a person's approval. Afterwards it counts as denied."""
    tool_client_seconds: float = Field(24 * 3600.0, gt=0)
    """How long a call waits for the client that executes it. Afterwards it counts as failed."""
    max_request_tools: int = Field(64, ge=0, le=256)
    """Tools that one request may bring. 0: none."""
    max_request_tools_bytes: int = Field(64 * 1024, ge=1024)
    """Longest definition of these tools together, as JSON in ASCII."""
    tool_unknown_seconds: float = Field(900.0, ge=0)
    """How long a call of unknown outcome waits for a person's decision, before the model learns
    that nobody knows it. 0: at once.
    """


class LogTerms(BaseModel, frozen=True):
    """The window of a log, and how long tokens live whose refusal it remembers."""

    log_max_events: int = Field(10_000, ge=100)
    log_max_bytes: int = Field(4 * 1024 * 1024, ge=64 * 1024)
    log_max_seconds: int = Field(24 * 3600, ge=60)
    token_ttl_seconds: int = Field(600, ge=10)
