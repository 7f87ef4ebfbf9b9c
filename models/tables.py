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
"""Ended, and the log is not known to hold the terminal event."""
UNANNOUNCED_REV_SQL = "announced_rev < rev"
TO_CANCEL_SQL = "cancel_by IS NOT NULL AND " + UNFINISHED_SQL
BEGUN_SQL = "status IN ('streaming', 'retrying')"
UNDELETED_LOG_SQL = "NOT log_deleted"
UNANNOUNCED_REVOCATION_SQL = "NOT told"
ENDED_SQL = "ended_at IS NOT NULL"
RENAMED_SQL = "rev > 1"
"""A title was given after the conversation was made: only such titles are announced."""
FOLLOWS_SQL = "follows IS NOT NULL"
UNLISTED_SQL = "NOT listed"


def is_unfinished(row: Any) -> ColumnElement[bool]:
    """`UNFINISHED_SQL` of a class, an alias or a table's columns, with its name before the column."""
    return col(row.status).in_([literal_column(f"'{state}'") for state in UNFINISHED])


class Table(SQLModel, registry=registry()):
    """The base of all tables, with a registry and a `metadata` of our own.

    SQLModel has one of each for everybody. A host application may define `Message`, `Conversation`
    and a table `messages` on it, and its `SQLModel.metadata.create_all()` must not create ours.
    """


def _json(shape: shapes.Shape) -> Any:
    return Field(default=None, sa_column=Column(shapes.Shaped(shape), nullable=True))


def _of_message() -> Any:
    key = named("messages.id")
    return Field(primary_key=True, foreign_key=key, ondelete="CASCADE", max_length=36)


class Conversation(Table, table=True):
    """A thread of messages; `rev` counts its changes (title), `announced_rev` the last one that the log holds.

    `client_id`: the name that a client of the AI SDK has given it. `listed` false: made for a single answer, shown in no list and
    forgotten after a while. `follows`: an answer of another conversation, which this one goes on from; it and all before it come before
    the first row here.
    """

    __tablename__ = named("conversations")
    __table_args__ = (
        Index(named("ix_conversations_client_id"), "user_id", "client_id", unique=True),
        Index(
            named("ix_conversations_follows"),
            "follows",
            sqlite_where=text(FOLLOWS_SQL),
            postgresql_where=text(FOLLOWS_SQL),
        ),
        Index(
            named("ix_conversations_unlisted"),
            "updated_at",
            sqlite_where=text(UNLISTED_SQL),
            postgresql_where=text(UNLISTED_SQL),
        ),
        Index(
            named("ix_conversations_unannounced_rev"),
            "id",
            sqlite_where=text(UNANNOUNCED_REV_SQL),
            postgresql_where=text(UNANNOUNCED_REV_SQL),
        ),
        Index(
            named("ix_conversations_renamed"),
            "updated_at",
            "id",
            sqlite_where=text(RENAMED_SQL),
            postgresql_where=text(RENAMED_SQL),
        ),
    )

    id: str = Field(primary_key=True, max_length=36)
    client_id: str | None = Field(default=None, max_length=255)
    listed: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    follows: str | None = Field(default=None, max_length=36)
    user_id: str = Field(max_length=255)
    title: str | None = None
    model: str | None = None
    instructions: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    rev: int = 1
    announced_rev: int = 1
    created_at: int = Field(sa_type=BigInteger)
    updated_at: int = Field(sa_type=BigInteger)


class Participant(Table, table=True):
    """Who may read and write a conversation; its owner is one of them."""

    __tablename__ = named("participants")
    __table_args__ = (Index(named("ix_participants_user_id"), "user_id"),)

    conversation_id: str = Field(
        primary_key=True, foreign_key=named("conversations.id"), ondelete="CASCADE", max_length=36
    )
    user_id: str = Field(primary_key=True, max_length=255)


class Invitation(Table, table=True):
    """Who may take part in a conversation as soon as they accept. The row goes when they answer."""

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
    """A row of a conversation. For an assistant message the answer that fills it has the same id.

    `seq` and `epoch`: the cursor that `content` reaches (the checkpoint). `attempt` is the fencing token. `rev` counts changes that
    readers are told of, `announced_rev` the last one that the log holds; `terminal_announced`: the log holds the terminal event.
    `client_id`: the id that a client of the AI SDK has given a user's message. `superseded_by`: the row that took the place of this one
    and of all after it (an answer made again, a message edited): such rows are kept, and no longer part of the conversation.
    `response_schema`: what the answer must be, as JSON Schema ({}: any JSON). `options`: what else the provider is asked for
    (`temperature`, `max_tokens`, `reasoning_effort`, `stop`). `asked`: what a client of OpenAI's API wants to read again.
    `started_with`: characters of text and reasoning that the current attempt began with; more of them are progress.
    `deaths`: attempts in a row whose worker died without having got on (`worker/retries.py`).
    `starts`: attempts begun since the last one that came to its own end: to a retry or a hand-over.
    `saves`: number of the newest checkpoint of the current attempt: an earlier one that comes late changes nothing.
    `charged_to`: the user whose request wrote the row, against whose quotas it counts (`quotas.py`).
    `kept`: what an answer held beside text and tool calls, as its provider wrote it and only for that provider (`worker/resume/kept.py`).
    `run_id`, `run_cursor`: the provider's own run and a place in it, where it can be attached to again; `run_text`, `run_reasoning`: how
    many characters of `content` and `reasoning` lie before that place. `run_silent_since`: when an attempt first had nothing of it, if none
    has had anything since.
    `ended_at`: when an answer ended.
    `billed_input`: input tokens that the requests so far were billed, as far as is known, else estimated; None: only one was begun.
    `requests`: requests that were sent to providers for the answer; a first one is not counted before there is a second.
    `reported`: the usage that these requests have reported (`worker/attempt/usage.py`); the sum becomes `usage` when the answer ends.

    `parts`: the layout of an answer that has ended; NULL: reasoning, then text (`models/parts.py`).
    `parts_kept`: what only the provider understands of each part, `{part, dialect, kind?, value}`.
    `part_count`: above 0 the parts are rows of `unfinished_parts`, and `content` and `reasoning`
    hold the texts of the parts `open_text` and `open_reasoning` alone. In SQL, `content` of an
    **unfinished** row is therefore not its text; rows that the store gives are whole
    (`models/whole.py`). `run_parts`: parts before the place in the provider's run.
    """

    __tablename__ = named("messages")
    __table_args__ = (
        UniqueConstraint("conversation_id", "ordinal"),
        Index(
            named("ix_messages_unfinished"),
            "conversation_id",
            "ordinal",
            sqlite_where=text(UNFINISHED_SQL),
            postgresql_where=text(UNFINISHED_SQL),
        ),
        Index(
            named("ix_messages_unfinished_of"),
            "charged_to",
            sqlite_where=text(UNFINISHED_SQL),
            postgresql_where=text(UNFINISHED_SQL),
        ),
        Index(named("ix_messages_client_id"), "conversation_id", "client_id", unique=True),
        Index(
            named("ix_messages_unannounced_end"),
            "id",
            sqlite_where=text(UNANNOUNCED_END_SQL),
            postgresql_where=text(UNANNOUNCED_END_SQL),
        ),
        Index(
            named("ix_messages_to_cancel"),
            "id",
            sqlite_where=text(TO_CANCEL_SQL),
            postgresql_where=text(TO_CANCEL_SQL),
        ),
        Index(
            named("ix_messages_begun"),
            "id",
            sqlite_where=text(BEGUN_SQL),
            postgresql_where=text(BEGUN_SQL),
        ),
        Index(
            named("ix_messages_unannounced_rev"),
            "id",
            sqlite_where=text(UNANNOUNCED_REV_SQL),
            postgresql_where=text(UNANNOUNCED_REV_SQL),
        ),
        # Not on `updated_at`: an index on a column that every checkpoint changes would make each of them write every index of the row.
        Index(
            named("ix_messages_ended"),
            "ended_at",
            "id",
            sqlite_where=text(ENDED_SQL),
            postgresql_where=text(ENDED_SQL),
        ),
    )

    id: str = Field(primary_key=True, max_length=36)
    conversation_id: str = Field(
        foreign_key=named("conversations.id"), ondelete="CASCADE", max_length=36
    )
    ordinal: int
    role: str = Field(max_length=16)
    content: str = Field(default="", sa_column=Column(Text, nullable=False))
    reasoning: str = Field(default="", sa_column=Column(Text, nullable=False))
    status: str = Field(max_length=16)
    seq: int = Field(default=0, sa_type=BigInteger)
    epoch: str | None = Field(default=None, max_length=32)
    attempt: int = 0
    tries: int = 0
    deaths: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    starts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    started_with: int = 0
    saves: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    run_id: str | None = Field(default=None, max_length=255)
    run_cursor: int | None = Field(default=None, sa_type=BigInteger)
    run_text: int | None = None
    run_reasoning: int | None = None
    run_silent_since: int | None = Field(default=None, sa_type=BigInteger)
    billed_input: int | None = Field(default=None, sa_type=BigInteger)
    requests: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    reported: dict[str, Any] | None = _json(shapes.reported)
    rev: int = 1
    announced_rev: int = 0
    terminal_announced: bool = False
    model: str | None = None
    finish_reason: str | None = Field(default=None, max_length=32)
    error: dict[str, Any] | None = _json(shapes.error)
    usage: dict[str, Any] | None = _json(shapes.usage)
    seams: list[int] | None = _json(shapes.seams)
    tool_calls: list[dict[str, Any]] | None = _json(shapes.tool_calls)
    kept: list[dict[str, Any]] | None = _json(shapes.kept)
    attachments: list[dict[str, Any]] | None = _json(shapes.json_list)
    parts: list[Any] | None = _json(shapes.json_list)
    parts_kept: list[dict[str, Any]] | None = _json(shapes.parts_kept)
    part_count: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    open_text: int | None = None
    open_reasoning: int | None = None
    run_parts: int | None = None
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
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    type: str = Field(sa_column=Column(Text, nullable=False))
    text: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    value: dict[str, Any] | None = _json(shapes.json_object)
    kept: dict[str, Any] | None = _json(shapes.part_kept)


class PartFile(Table, table=True):
    """The bytes of a `file` part, written once, before the part is told of: they never change.

    `digest`: SHA-256 in hexadecimal, which is in the file's address. `number`: the part that it was
    made for; after a `reset` another part may have that number, and another file.
    """

    __tablename__ = named("part_files")

    message_id: str = _of_message()
    digest: str = Field(primary_key=True, max_length=64)
    number: int
    media_type: str = Field(max_length=255)
    data: bytes = Field(sa_column=Column("bytes", LargeBinary, nullable=False))


class ProviderRun(Table, table=True):
    """A run that goes on at its provider without us, until somebody has proved that it ended: then the row is deleted.

    It outlives its message, which therefore is no foreign key. `model`: the catalogue name that it was asked from. `attempt`: the latest
    one that began it or attached to it. `due_at`: when ending it may be tried (next), None: it was tried often enough.
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
    """A conversation that was deleted. `log_deleted`: its log is, too. Remembered for as long as anybody may hold a token for it."""

    __tablename__ = named("deleted_conversations")
    __table_args__ = (
        Index(
            named("ix_deleted_conversations_log"),
            "id",
            sqlite_where=text(UNDELETED_LOG_SQL),
            postgresql_where=text(UNDELETED_LOG_SQL),
        ),
        Index(named("ix_deleted_conversations_deleted_at"), "deleted_at", "id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    deleted_at: int = Field(sa_type=BigInteger)
    log_deleted: bool = False


class Revocation(Table, table=True):
    """Who takes part in a conversation no more. `told`: the log says so. Remembered for as long as a token of theirs may be good."""

    __tablename__ = named("revocations")
    __table_args__ = (
        UniqueConstraint("conversation_id", "user_id", name=named("uq_revocations_user")),
        Index(
            named("ix_revocations_untold"),
            "id",
            sqlite_where=text(UNANNOUNCED_REVOCATION_SQL),
            postgresql_where=text(UNANNOUNCED_REVOCATION_SQL),
        ),
        Index(named("ix_revocations_revoked_at"), "revoked_at", "id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    conversation_id: str = Field(
        foreign_key=named("conversations.id"), ondelete="CASCADE", max_length=36
    )
    user_id: str = Field(max_length=255)
    revoked_at: int = Field(sa_type=BigInteger)
    told: bool = False


class IdempotencyKey(Table, table=True):
    """What a post with this key has made (`made`: the ids by name), for 24 h. Expired rows are deleted by whoever meets them."""

    __tablename__ = named("idempotency_keys")
    __table_args__ = (Index(named("ix_idempotency_keys_created_at"), "created_at"),)

    user_id: str = Field(primary_key=True, max_length=255)
    route: str = Field(primary_key=True, max_length=255)
    key: str = Field(primary_key=True, max_length=255)
    body_hash: str = Field(max_length=64)
    made: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    created_at: int = Field(sa_type=BigInteger)


class Storage(Table, table=True):
    """How much a user has stored: the sum that `quotas.py` keeps."""

    __tablename__ = named("storage")

    user_id: str = Field(primary_key=True, max_length=255)
    bytes: int = Field(sa_type=BigInteger)
