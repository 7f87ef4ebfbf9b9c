"""The tables (SQLModel). Times are UTC epoch milliseconds: they compare alike on SQLite and
PostgreSQL, without time zones. Every name goes through `named` (`names.py` says why)."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel, col

from tokenwire.models import shapes
from tokenwire.models.names import named
from tokenwire.protocol.states import UNFINISHED

UNFINISHED_SQL = "status IN (" + ", ".join(f"'{state}'" for state in UNFINISHED) + ")"
"""An unfinished row, as a literal condition: with bound values a planner does not recognise the
partial index `ix_messages_unfinished`."""
UNANNOUNCED_END_SQL = "role = 'assistant' AND NOT terminal_announced AND NOT " + UNFINISHED_SQL
"""Ended, and the log may lack the terminal event."""
UNANNOUNCED_REV_SQL = "announced_rev < rev"
TO_CANCEL_SQL = "cancel_by IS NOT NULL AND " + UNFINISHED_SQL
BEGUN_SQL = "status IN ('streaming', 'retrying')"
UNDELETED_LOG_SQL = "NOT log_deleted"
UNANNOUNCED_REVOCATION_SQL = "NOT told"
ENDED_SQL = "ended_at IS NOT NULL"
RENAMED_SQL = "rev > 1"
"""A title was given after the creation: only such titles are announced."""
FOLLOWS_SQL = "follows IS NOT NULL"
UNLISTED_SQL = "NOT listed"
AWAITED_SQL = "expires_at IS NOT NULL"


def is_unfinished(row: Any) -> ColumnElement[bool]:
    """`UNFINISHED_SQL` for a class, an alias or a table, with its name before the column."""
    return col(row.status).in_([literal_column(f"'{state}'") for state in UNFINISHED])


class Table(SQLModel, registry=registry()):
    """The base of all tables, with our own registry and `metadata`.

    SQLModel's own are shared. A host application may define `Message`, `Conversation` and a table
    `messages` on them, and its `SQLModel.metadata.create_all()` must not create ours.
    """


def _json(shape: shapes.Shape) -> Any:
    return Field(default=None, sa_column=Column(shapes.Shaped(shape), nullable=True))


def _zero() -> Any:
    return Field(default=0, sa_column_kwargs={"server_default": "0"})


def _big_zero() -> Any:
    return Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})


def _number() -> Any:
    return Field(primary_key=True, sa_column_kwargs={"autoincrement": False})


def _long_text(default: str | None = "") -> Any:
    return Field(default=default, sa_column=Column(Text, nullable=default is None))


def _partial(name: str, condition: str, *columns: str) -> Index:
    where = text(condition)
    return Index(named(name), *columns, sqlite_where=where, postgresql_where=where)


def _of_message() -> Any:
    key = named("messages.id")
    return Field(primary_key=True, foreign_key=key, ondelete="CASCADE", max_length=36)


class Conversation(Table, table=True):
    """A thread of messages; `rev` counts its changes (title), `announced_rev` is the last one in
    the log.

    `client_id`: its name from a client of the AI SDK. `listed` false: created for a single answer,
    in no list, and expiring; `kept_until`: until then, the program that asked may allow a call of
    it, and it does not expire. `follows`: an answer of another conversation; it and all before it
    come before the first row here. `tools`: names of the tools that its answers may use; None: all.
    `response_schema`: JSON Schema of its answers, unless a post has its own. `options`: parameters
    of its answers; those that a post names come first. `message_count`: its messages, without
    superseded ones; `last_message_at`: when the newest row was added.
    """

    __tablename__ = named("conversations")
    __table_args__ = (
        Index(named("ix_conversations_client_id"), "user_id", "client_id", unique=True),
        _partial("ix_conversations_follows", FOLLOWS_SQL, "follows"),
        _partial("ix_conversations_unlisted", UNLISTED_SQL, "updated_at"),
        _partial("ix_conversations_unannounced_rev", UNANNOUNCED_REV_SQL, "id"),
        _partial("ix_conversations_renamed", RENAMED_SQL, "updated_at", "id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    client_id: str | None = Field(default=None, max_length=255)
    listed: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    follows: str | None = Field(default=None, max_length=36)
    user_id: str = Field(max_length=255)
    title: str | None = None
    model: str | None = None
    instructions: str | None = _long_text(None)
    tools: list[Any] | None = _json(shapes.json_list)
    response_schema: dict[str, Any] | None = _json(shapes.json_object)
    options: dict[str, Any] | None = _json(shapes.json_object)
    rev: int = 1
    announced_rev: int = 1
    created_at: int = Field(sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)
    message_count: int = _zero()
    last_message_at: int | None = Field(default=None, sa_type=BigInteger)
    kept_until: int | None = Field(default=None, sa_type=BigInteger)


class Participant(Table, table=True):
    """A person who may read and write a conversation; its owner is one. `archived_at`: when they
    put it into their archive, which is a list of its own.
    """

    __tablename__ = named("participants")
    __table_args__ = (Index(named("ix_participants_user_id"), "user_id"),)

    conversation_id: str = Field(
        primary_key=True, foreign_key=named("conversations.id"), ondelete="CASCADE", max_length=36
    )
    user_id: str = Field(primary_key=True, max_length=255)
    archived_at: int | None = Field(default=None, sa_type=BigInteger)


class Invitation(Table, table=True):
    """A person who may join a conversation. The row is deleted when they answer."""

    __tablename__ = named("invitations")
    __table_args__ = (
        Index(named("ix_invitations_user_id"), "user_id"),
        Index(named("ix_invitations_invited_by"), "invited_by"),
    )

    conversation_id: str = Field(
        primary_key=True, foreign_key=named("conversations.id"), ondelete="CASCADE", max_length=36
    )
    user_id: str = Field(primary_key=True, max_length=255)
    invited_by: str = Field(max_length=255)
    created_at: int = Field(sa_type=BigInteger)


class Message(Table, table=True):
    """A row of a conversation. An assistant message is also the answer that fills it.

    - `seq`, `epoch`: the cursor that `content` reaches (the checkpoint).
    - `attempt`: the fencing token.
    - `rev`: counts changes that readers learn of; `announced_rev`: the last one in the log.
    - `terminal_announced`: the log holds the terminal event.
    - `client_id`: the id that a client of the AI SDK gave a user's message.
    - `superseded_by`: the row that replaced this one and all after it (a regenerated answer, an
      edited message). Superseded rows are kept, but are no part of the conversation any more.
    - `response_schema`: JSON Schema of the answer ({}: any JSON).
    - `options`: parameters of the answer, by the names in `providers/parameters.py`.
    - `asked`: what a client of OpenAI's API wants to read again.
    - `started_with`: characters of text and reasoning at the start of the current attempt; more
      of them are progress.
    - `deaths`: attempts in a row whose worker died without progress (`worker/retries.py`).
    - `starts`: attempts since the last one that completed, by a retry or a hand-over.
    - `saves`: number of the newest checkpoint of the current attempt; a late earlier one changes
      nothing.
    - `charged_to`: the user whose request wrote the row, and whose quotas it counts for
      (`quotas.py`).
    - `kept`: what the previous version kept for the provider. Only that version reads it.
    - `run_id`, `run_cursor`: the provider's run and a cursor in it, for attaching.
    - `run_text`, `run_reasoning`: characters of `content` and `reasoning` before that cursor.
    - `run_parts`: parts before that cursor.
    - `run_silent_since`: when an attempt first received nothing from the run; None after any
      output.
    - `first_model`: the model that was to answer, if another one took its place.
    - `ended_at`: when an answer ended.
    - `billed_input`: input tokens that the requests so far were billed, estimated if not
      reported; None: there was only one request.
    - `requests`: requests to providers for the answer, counted from the second one on.
    - `reported`: the usage that these requests reported (`worker/attempt/usage.py`); the sum
      becomes `usage` at the end.
    - `parts`: the layout of an ended answer; NULL: reasoning, then text (`models/parts.py`).
    - `parts_kept`: what only the provider understands of each part: `{part, dialect, kind?,
      value}`.
    - `part_count`: above 0 the parts are rows of `unfinished_parts`, and `content` and
      `reasoning` hold only the texts of the parts `open_text` and `open_reasoning`. In SQL,
      `content` of an **unfinished** row is therefore not its text; rows that the store returns
      are whole (`models/whole.py`).
    - `proven_parts`: so many leading parts belong to turns that are whole. It never
      counts more than the checkpoint saves.
    - `rounds`: proven turns with calls.
    - `waits`: attempts that ended because the answer waits for a decision.
    - `calls_rev`: counts changes that no attempt made: of calls, and posts behind the answer.
    - `misfit`: the document that broke the schema, and why: `{text, errors}` (`models/repairs.py`).
    - `object`: what the document of a complete answer with a schema says.
    - `tools`: what the request said about tools; None: nothing.
    - `while_running`: of a placeholder: `steer`, if its post may reach a running answer instead;
      `queue`, if it never may.
    - `steers`: of a user's row: the answer one of whose steps names it.
    """

    __tablename__ = named("messages")
    __table_args__ = (
        UniqueConstraint("conversation_id", "ordinal"),
        _partial("ix_messages_unfinished", UNFINISHED_SQL, "conversation_id", "ordinal"),
        _partial("ix_messages_unfinished_of", UNFINISHED_SQL, "charged_to"),
        Index(named("ix_messages_client_id"), "conversation_id", "client_id", unique=True),
        _partial("ix_messages_unannounced_end", UNANNOUNCED_END_SQL, "id"),
        _partial("ix_messages_to_cancel", TO_CANCEL_SQL, "id"),
        _partial("ix_messages_begun", BEGUN_SQL, "id"),
        _partial("ix_messages_unannounced_rev", UNANNOUNCED_REV_SQL, "id"),
        # Not on `updated_at`: every checkpoint changes it, and an index on it would rewrite every
        # index entry of the row.
        _partial("ix_messages_ended", ENDED_SQL, "ended_at", "id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    conversation_id: str = Field(
        foreign_key=named("conversations.id"), ondelete="CASCADE", max_length=36
    )
    ordinal: int
    role: str = Field(max_length=16)
    content: str = _long_text()
    reasoning: str = _long_text()
    status: str = Field(max_length=16)
    seq: int = Field(default=0, sa_type=BigInteger)
    epoch: str | None = Field(default=None, max_length=32)
    attempt: int = 0
    tries: int = 0
    deaths: int = _zero()
    starts: int = _zero()
    started_with: int = 0
    saves: int = _zero()
    run_id: str | None = Field(default=None, max_length=255)
    run_cursor: int | None = Field(default=None, sa_type=BigInteger)
    run_text: int | None = None
    run_reasoning: int | None = None
    run_silent_since: int | None = Field(default=None, sa_type=BigInteger)
    billed_input: int | None = Field(default=None, sa_type=BigInteger)
    requests: int = _zero()
    reported: dict[str, Any] | None = _json(shapes.reported)
    rev: int = 1
    announced_rev: int = 0
    terminal_announced: bool = False
    model: str | None = None
    first_model: str | None = None
    finish_reason: str | None = Field(default=None, max_length=32)
    error: dict[str, Any] | None = _json(shapes.error)
    usage: dict[str, Any] | None = _json(shapes.usage)
    seams: list[int] | None = _json(shapes.seams)
    tool_calls: list[dict[str, Any]] | None = _json(shapes.tool_calls)
    kept: list[dict[str, Any]] | None = _json(shapes.kept)
    attachments: list[dict[str, Any]] | None = _json(shapes.json_list)
    """Not read any more: `parts` hold files. The column stays for processes of older versions."""
    parts: list[Any] | None = _json(shapes.json_list)
    parts_kept: list[dict[str, Any]] | None = _json(shapes.parts_kept)
    part_count: int = _zero()
    open_text: int | None = None
    open_reasoning: int | None = None
    run_parts: int | None = None
    proven_parts: int = _zero()
    rounds: int = _zero()
    waits: int = _zero()
    calls_rev: int = _zero()
    misfit: dict[str, Any] | None = _json(shapes.json_object)
    object: Any = _json(shapes.any_json)
    tools: dict[str, Any] | None = _json(shapes.json_object)
    while_running: str | None = Field(default=None, max_length=16)
    steers: str | None = Field(default=None, max_length=36)
    user_id: str | None = Field(default=None, max_length=255)
    charged_to: str | None = Field(default=None, max_length=255)
    client_id: str | None = Field(default=None, max_length=255)
    parent_id: str | None = Field(default=None, max_length=36)
    superseded_by: str | None = Field(default=None, max_length=36)
    response_schema: dict[str, Any] | None = _json(shapes.json_object)
    options: dict[str, Any] | None = _json(shapes.json_object)
    asked: dict[str, Any] | None = _json(shapes.json_object)
    cancel_by: str | None = Field(default=None, max_length=255)
    enqueued_at: int | None = Field(default=None, sa_type=BigInteger)
    due_at: int | None = Field(default=None, sa_type=BigInteger)
    created_at: int = Field(sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)
    ended_at: int | None = Field(default=None, sa_type=BigInteger)


class UnfinishedPart(Table, table=True):
    """A part of an answer that has not ended; the answer's end moves it into the message's row.

    `text`: of a text or reasoning that has ended, or the input of a tool call so far. `value`: the
    other public fields. `kept`: what only the provider understands, `{dialect, kind?, value}`.
    The part that is still being written has a row only for `value` and `kept`: its text, which
    every checkpoint changes, stands in the message's row.
    """

    __tablename__ = named("unfinished_parts")

    message_id: str = _of_message()
    number: int = _number()
    type: str = _long_text()
    text: str | None = _long_text(None)
    value: dict[str, Any] | None = _json(shapes.json_object)
    kept: dict[str, Any] | None = _json(shapes.part_kept)


class PartFile(Table, table=True):
    """The bytes of a `file` part, written once before the part is announced, and never changed.

    `digest`: SHA-256 in hexadecimal, as in the file's address. `number`: its part; after a `reset`
    another part may have that number, and another file.
    """

    __tablename__ = named("part_files")

    message_id: str = _of_message()
    digest: str = Field(primary_key=True, max_length=64)
    number: int
    media_type: str = Field(max_length=255)
    data: bytes = Field(sa_column=Column("bytes", LargeBinary, nullable=False))


class CallRow(Table, table=True):
    """A tool call of a proven turn: the part `number` of the message (`models/calls.py`).

    - `input`: what the model wrote. `ran_with`: what the tool gets in its place, after an edit.
    - `key`: the idempotency key, the same for every run. Ids of providers repeat.
    - `runs`: how often a run began; `attempt`: the one that began the last run.
    - `expires_at`: until when a decision is awaited; NULL: none is.
    - `approval`: what a person decided, as the part shows it.
    """

    __tablename__ = named("calls")
    __table_args__ = (
        _partial("ix_calls_expires_at", AWAITED_SQL, "expires_at", "message_id", "number"),
    )

    message_id: str = _of_message()
    number: int = _number()
    id: str = _long_text()
    name: str = _long_text()
    title: str | None = _long_text(None)
    input: str = _long_text()
    ran_with: str | None = _long_text(None)
    runs_at: str = Field(max_length=16)
    state: str = Field(max_length=32)
    repeatable: bool
    key: str = Field(max_length=36)
    runs: int = 0
    attempt: int | None = None
    result: Any = _json(shapes.any_json)
    error: str | None = _long_text(None)
    expires_at: int | None = Field(default=None, sa_type=BigInteger)
    approval: dict[str, Any] | None = _json(shapes.json_object)
    created_at: int = Field(sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)


class CallDecision(Table, table=True):
    """A record of a decision about a call, the `ordinal`-th one. `runs`: those of the call before
    it. `value`: the result, or the edited arguments.
    """

    __tablename__ = named("decisions")

    message_id: str = _of_message()
    number: int = _number()
    ordinal: int = _number()
    by: str = Field(max_length=255)
    at: int = Field(sa_type=BigInteger)
    decision: str = Field(max_length=16)
    reason: str | None = _long_text(None)
    value: Any = _json(shapes.any_json)
    runs: int


class ProviderRun(Table, table=True):
    """A run that continues at its provider without us. The row is deleted when the provider has
    proved its end.

    It outlives its message, so `message_id` is no foreign key. `model`: its catalogue name.
    `attempt`: the latest one that began it or attached to it. `due_at`: when to try (next) to end
    it; None: it was tried often enough.
    """

    __tablename__ = named("provider_runs")
    __table_args__ = (Index(named("ix_provider_runs_due_at"), "due_at"),)

    message_id: str = Field(primary_key=True, max_length=36)
    run_id: str = Field(primary_key=True, max_length=255)
    model: str
    attempt: int
    tries: int = 0
    due_at: int | None = Field(default=None, sa_type=BigInteger)
    created_at: int = Field(sa_type=BigInteger)


class DeletedConversation(Table, table=True):
    """A deleted conversation. `log_deleted`: its log is, too. Kept while a token for it may be
    valid.
    """

    __tablename__ = named("deleted_conversations")
    __table_args__ = (
        _partial("ix_deleted_conversations_log", UNDELETED_LOG_SQL, "id"),
        Index(named("ix_deleted_conversations_deleted_at"), "deleted_at", "id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    deleted_at: int = Field(sa_type=BigInteger)
    log_deleted: bool = False


class Revocation(Table, table=True):
    """A former participant. The row is kept while a token of the user may still be valid.

    `announced` (column `told`): whether the log has the removal.
    """

    __tablename__ = named("revocations")
    __table_args__ = (
        UniqueConstraint("conversation_id", "user_id", name=named("uq_revocations_user")),
        _partial("ix_revocations_untold", UNANNOUNCED_REVOCATION_SQL, "id"),
        Index(named("ix_revocations_revoked_at"), "revoked_at", "id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    conversation_id: str = Field(
        foreign_key=named("conversations.id"), ondelete="CASCADE", max_length=36
    )
    user_id: str = Field(max_length=255)
    revoked_at: int = Field(sa_type=BigInteger)
    announced: bool = Field(default=False, sa_column_kwargs={"name": "told", "key": "announced"})


class IdempotencyKey(Table, table=True):
    """The rows that a post with this key created (`made`: ids by name), kept for 24 h. Any request
    may delete expired ones.
    """

    __tablename__ = named("idempotency_keys")
    __table_args__ = (Index(named("ix_idempotency_keys_created_at"), "created_at"),)

    user_id: str = Field(primary_key=True, max_length=255)
    route: str = Field(primary_key=True, max_length=255)
    key: str = Field(primary_key=True, max_length=255)
    body_hash: str = Field(max_length=64)
    made: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    created_at: int = Field(sa_type=BigInteger)


class UsageDay(Table, table=True):
    """What a user's answers of one model have used, by the day (since 1970, UTC) of their end:
    sums, as `usage.py` adds them up. `cost`: nanos; `unpriced`: answers without a cost;
    `estimated`: answers with an estimate in it.
    """

    __tablename__ = named("usage_days")

    user_id: str = Field(primary_key=True, max_length=255)
    day: int = _number()
    model: str = Field(primary_key=True, max_length=255)
    answers: int = _zero()
    estimated: int = _zero()
    unpriced: int = _zero()
    input_tokens: int = _big_zero()
    output_tokens: int = _big_zero()
    cached_tokens: int = _big_zero()
    reasoning_tokens: int = _big_zero()
    cache_write_tokens: int = _big_zero()
    cost: int = _big_zero()


class Storage(Table, table=True):
    """A user's stored bytes: the sum that `quotas.py` keeps."""

    __tablename__ = named("storage")

    user_id: str = Field(primary_key=True, max_length=255)
    bytes: int = Field(sa_type=BigInteger)
