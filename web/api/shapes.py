"""The JSON of requests and answers, as in OpenAPI. PROTOCOL.md, sections 1 and 6, explains the
fields.

Texts are already storable (`bodies`).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from tokenwire.protocol.states import AnswerStatus
from tokenwire.providers.parameters import Parameters
from tokenwire.web.http.bodies import is_id

MAX_PAGE = 200
MAX_ORDINAL = 2**31 - 1


def _usable(value: str) -> str:
    if not is_id(value):
        raise ValueError("not an id")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


ConversationTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)
]
Instructions = Annotated[str, StringConstraints(max_length=32_768)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_usable)]


# --- requests -------------------------------------------------------------------------------------


class _StrictBody(BaseModel):
    """Unknown fields are refused: they are misspelt, or ask for something unsupported."""

    model_config = ConfigDict(extra="forbid")


class NewConversation(_StrictBody):
    """The fields of a new conversation. Without `model`, the default model answers."""

    title: ConversationTitle | None = None
    model: ModelName | None = None
    instructions: Instructions | None = None


class ConversationChange(_StrictBody):
    """Missing fields stay. `model` null: the default one; `instructions` null: none."""

    title: ConversationTitle = Field(
        default_factory=str
    )  # never used: OpenAPI would show an invalid default
    model: ModelName | None = None
    instructions: Instructions | None = None


class NewMessage(_StrictBody):
    """A user's message. Tools and schema are reserved and must be absent."""

    content: Annotated[str, StringConstraints(min_length=1), AfterValidator(_not_blank)]
    options: Parameters | None = None
    tools: list[Any] | None = Field(default=None, max_length=0)
    schema_: None = Field(default=None, alias="schema")


class NewParticipant(_StrictBody):
    """The user to invite."""

    user_id: UserId


# --- answers --------------------------------------------------------------------------------------


class ConversationView(BaseModel):
    """A conversation. Times are ISO 8601 in UTC."""

    id: str
    user_id: str
    title: str | None
    model: str | None
    instructions: str | None
    rev: int
    created_at: str
    updated_at: str


class AnswerError(BaseModel):
    """Why an answer ended in `error`; anyone may see `error`."""

    code: str
    error: str
    retryable: bool


class MessageView(BaseModel):
    """A row of a conversation."""

    id: str
    conversation_id: str
    ordinal: int
    role: Literal["user", "assistant", "system", "tool"]
    content: str
    reasoning: str
    status: AnswerStatus
    seq: int
    attempt: int
    rev: int
    model: str | None
    finish_reason: str | None
    error: AnswerError | None
    usage: dict[str, Any] | None
    user_id: str | None
    parent_id: str | None
    parts: list[dict[str, Any]]
    created_at: str
    updated_at: str


class Subscription(BaseModel):
    """How to follow a conversation: connect to `url` and send `token` in the first frame, within
    `expires_in` seconds.
    """

    url: str
    token: str
    expires_in: int


class ConversationPage(BaseModel):
    """Conversations, newest change first. `next`: the `before` of the next page, null at the
    end.
    """

    conversations: list[ConversationView]
    next: str | None


class ConversationSnapshot(BaseModel):
    """A conversation and its newest messages in order. `next`: the `before` of older ones.
    `cursor`: where to subscribe.
    """

    conversation: ConversationView
    messages: list[MessageView]
    next: int | None
    cursor: str | None


class PostedMessage(BaseModel):
    """The rows of a post, the cursor before them, and the subscription."""

    user_message: MessageView
    assistant_message: MessageView
    cursor: str | None
    subscription: Subscription


class CancelResult(BaseModel):
    """Ids of the unfinished answers: they end as `cancelled`, unless they are ending otherwise
    right now.
    """

    cancelled: list[str]


class ParticipantsView(BaseModel):
    """User ids of participants and of open invitations."""

    participants: list[str]
    invited: list[str]


class InvitationView(BaseModel):
    """A conversation to which the caller is invited."""

    conversation_id: str
    title: str | None
    invited_by: str
    created_at: str


class Invitations(BaseModel):
    """The caller's newest invitations."""

    invitations: list[InvitationView]


class Me(BaseModel):
    """The caller."""

    user_id: str


class OfferedModel(BaseModel):
    """A model for conversations."""

    name: str


class OfferedModels(BaseModel):
    """The models on offer, the default first."""

    default: str
    models: list[OfferedModel]


class ChatMessages(BaseModel):
    """UI messages of the AI SDK in order, without an unfinished answer. `next`: the `before` of
    older ones.
    """

    messages: list[dict[str, Any]]
    next: int | None


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]
