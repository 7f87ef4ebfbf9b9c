"""The JSON of requests and answers, as OpenAPI shows it. What fields mean is said in PROTOCOL.md, section 1 and 6.

Texts are fit for storage already (`bodies`).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from tokenwire.protocol.states import State
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


Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Instructions = Annotated[str, StringConstraints(max_length=32_768)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_usable)]


# --- requests -------------------------------------------------------------------------------------


class _Request(BaseModel):
    """A field that nobody knows is refused: it is a slip of the pen, or asks for what is not done."""

    model_config = ConfigDict(extra="forbid")


class NewConversation(_Request):
    """What a conversation begins with. Without `model` the default one answers."""

    title: Title | None = None
    model: ModelName | None = None
    instructions: Instructions | None = None


class ConversationChange(_Request):
    """What is absent stays. `model` null: the default one; `instructions` null: none."""

    title: Title = Field(
        default_factory=str
    )  # never used: a default that OpenAPI showed would be one that is not valid
    model: ModelName | None = None
    instructions: Instructions | None = None


class NewMessage(_Request):
    """A user's message. Attachments, tools and schema are reserved: nothing else than their absence is taken yet."""

    content: Annotated[str, StringConstraints(min_length=1), AfterValidator(_not_blank)]
    attachments: list[Any] | None = Field(default=None, max_length=0)
    tools: list[Any] | None = Field(default=None, max_length=0)
    schema_: None = Field(default=None, alias="schema")


class NewParticipant(_Request):
    """Whom to invite."""

    user_id: UserId


class ChatPost(BaseModel):
    """What `useChat` sends: the whole history, or the last message alone; only the last message is read."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messages: list[dict[str, Any]] | None = None
    message: dict[str, Any] | None = None
    messageId: str | None = None  # noqa: N815 -- the protocol's word
    model: ModelName | None = None


class CompletionBody(BaseModel):
    """What `useCompletion` sends."""

    prompt: str
    model: ModelName | None = None


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
    """Why an answer ended in `error`; `error` may be shown to anyone."""

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
    status: State
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
    tool_calls: list[dict[str, Any]]
    attachments: list[dict[str, Any]]
    created_at: str
    updated_at: str


class Subscription(BaseModel):
    """Where to follow a conversation: connect to `url` and send `token` in the first frame, within `expires_in` seconds."""

    url: str
    token: str
    expires_in: int


class ConversationPage(BaseModel):
    """Conversations, last changed first. `next`: the `before` of the next page, null at the end."""

    conversations: list[ConversationView]
    next: str | None


class ConversationSnapshot(BaseModel):
    """A conversation and its newest messages in order. `next`: the `before` of older ones. `cursor`: where to subscribe after."""

    conversation: ConversationView
    messages: list[MessageView]
    next: int | None
    cursor: str | None


class PostedMessage(BaseModel):
    """The rows of a post, the cursor before them, and what it takes to follow."""

    user_message: MessageView
    assistant_message: MessageView
    cursor: str | None
    subscription: Subscription


class CancelResult(BaseModel):
    """Ids of the answers that were unfinished: they end as `cancelled`, unless they ended otherwise at this moment."""

    cancelled: list[str]


class ParticipantsView(BaseModel):
    """User ids of all who take part, and of those who were invited and have not answered."""

    participants: list[str]
    invited: list[str]


class InvitationView(BaseModel):
    """A conversation that the caller may take part in."""

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
    """A model that conversations may name."""

    name: str


class OfferedModels(BaseModel):
    """The models that can be used now, the default first."""

    default: str
    models: list[OfferedModel]


class ChatMessages(BaseModel):
    """UI messages of the AI SDK in order, without an answer that is being written. `next`: the `before` of older ones."""

    messages: list[dict[str, Any]]
    next: int | None


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]
