"""The JSON of requests and answers, as in OpenAPI. PROTOCOL.md, sections 1 and 6, explains the
fields.

Texts are already storable (`bodies`).
"""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tokenwire.models.call_states import DecisionKind
from tokenwire.models.conversations import Policy
from tokenwire.models.tool_choices import MAX_NAMES, ChoiceMode, NamedTool, ToolName, ToolNames
from tokenwire.protocol.states import MAX_SENTENCE_CHARS, AnswerStatus
from tokenwire.protocol.text import input_object
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
DecisionReason = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_SENTENCE_CHARS), AfterValidator(_not_blank)
]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_usable)]


# --- requests -------------------------------------------------------------------------------------


class _StrictBody(BaseModel):
    """Unknown fields are refused: they are misspelt, or ask for something unsupported."""

    model_config = ConfigDict(extra="forbid")


def _refused_as(sentence: str) -> WrapValidator:
    """One refusal at the field itself. Pydantic's are about each member of a union."""

    def check(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValidationError:
            raise PydanticCustomError("union", "{sentence}", {"sentence": sentence}) from None

    return WrapValidator(check)


class NewConversation(_StrictBody):
    """The fields of a new conversation. Without `model`, the default model answers."""

    title: ConversationTitle | None = None
    model: ModelName | None = None
    instructions: Instructions | None = None
    tools: ToolNames | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    options: Parameters | None = None


class ConversationChange(_StrictBody):
    """Missing fields stay. `model` null: the default one; `instructions`, `schema`, `options` null:
    none; `tools` null: all. `archived`: for the caller alone.
    """

    title: ConversationTitle = Field(
        default_factory=str
    )  # never used: OpenAPI would show an invalid default
    model: ModelName | None = None
    instructions: Instructions | None = None
    tools: ToolNames | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    options: Parameters | None = None
    archived: bool = False


class BroughtTool(_StrictBody):
    """A tool that the front end executes. `parameters`: JSON Schema of the type `object`."""

    name: ToolName
    description: str = ""
    parameters: dict[str, Any]


GivenChoice = Annotated[
    ChoiceMode | NamedTool,
    _refused_as('must be "auto", "none", "required" or {"name": "..."} with the name of a tool'),
]


class MessageTools(_StrictBody):
    """The tools of an answer. `use`: names of the server's tools; null: all. `choice`: of the first
    turn. `client`: tools that the front end executes.
    """

    use: ToolNames | None = None
    choice: GivenChoice | None = None
    client: list[BroughtTool] = Field(default_factory=list, max_length=MAX_NAMES)

    def choices(self) -> dict[str, Any]:
        """In the form of `models.tool_choices`."""
        found = self.model_dump()
        return found | {"own": [tool | {"runs_at": "client"} for tool in found.pop("client")]}


def named_in(options: Parameters | None) -> dict[str, Any]:
    """The parameters that a request names."""
    return options.model_dump(exclude_none=True) if options else {}


class NewMessage(_StrictBody):
    """A user's message, and the tools of its answer. `model`, `options`: of this answer, before
    those of the conversation. `schema`: of the answer; null: none, even if the conversation has
    one.
    """

    content: Annotated[str, StringConstraints(min_length=1), AfterValidator(_not_blank)]
    model: ModelName | None = None
    options: Parameters | None = None
    tools: MessageTools | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    while_running: Policy | None = None
    """What happens if an answer is running. Null: as the setting CONCURRENT_POSTS says."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Those that it names."""
        return named_in(self.options)

    @property
    def inherits_schema(self) -> bool:
        """Whether it says nothing about a schema."""
        return "schema_" not in self.model_fields_set

    def hashed(self) -> dict[str, Any]:
        """What an idempotency key stands for: as earlier versions had it, whose keys still count,
        and what they did not know.
        """
        later = {
            "model": self.model,
            "options": self.parameters,
            "while_running": self.while_running,
        }
        silent = {name for name, value in later.items() if not value}
        found = self.model_dump(mode="json", exclude=silent)
        no_schema = self.schema_ is None and not self.inherits_schema
        return found | ({"schema_": False} if no_schema else {})


class AnotherAnswer(_StrictBody):
    """How to make an answer again. `model` null: that of the conversation; `options` null: those of
    the answer that it replaces.
    """

    model: ModelName | None = None
    options: Parameters | None = None


class NewParticipant(_StrictBody):
    """The user to invite."""

    user_id: UserId


def _of_an_object(text: str) -> str:
    if not text.strip() or input_object(text) is None:
        raise ValueError("not of an object")
    return text


GivenArguments = Annotated[
    dict[str, Any] | Annotated[str, StringConstraints(min_length=2), AfterValidator(_of_an_object)],
    _refused_as("must be an object, or the JSON text of one, with each name once"),
]


class NewDecision(_StrictBody):
    """A decision about a tool call. `reason`: of `deny`, and the sentence of `error`. `arguments`:
    of `approve`, in place of those that the model wrote: an object, or the JSON text of one, whose
    numbers no client has parsed. `result`: of `result`. `runs`: how often the call had run when the
    question was shown.
    """

    decision: DecisionKind
    reason: DecisionReason | None = None
    arguments: GivenArguments | None = None
    result: Any = None
    runs: Annotated[int, Field(ge=0, le=MAX_ORDINAL, strict=True)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.reason is not None and self.decision not in ("deny", "error"):
            raise ValueError("reason belongs to deny and error")
        if self.arguments is not None and self.decision != "approve":
            raise ValueError("arguments belong to approve")
        if self.result is not None and self.decision != "result":
            raise ValueError("result belongs to result")
        if self.decision == "error" and self.reason is None:
            raise ValueError("error needs a reason")
        if self.decision == "result" and "result" not in self.model_fields_set:
            raise ValueError("result is missing")
        return self


# --- answers --------------------------------------------------------------------------------------


class ConversationView(BaseModel):
    """A conversation. Times are ISO 8601 in UTC."""

    id: str
    user_id: str
    title: str | None
    model: str | None
    instructions: str | None
    tools: list[str] | None
    schema_: dict[str, Any] | None = Field(alias="schema")
    options: dict[str, Any] | None
    archived: bool
    message_count: int
    last_message_at: str | None
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
    object: Any
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


class DecisionView(BaseModel):
    """What somebody has decided."""

    by: str
    at: str
    decision: DecisionKind
    reason: str | None = None


class CallView(BaseModel):
    """A tool call: the fields of its part, the number of that part, and how often it ran."""

    number: int
    id: str
    name: str
    runs: int
    state: str
    input: str
    length: int
    runs_at: Literal["server", "client", "caller"]
    title: str | None = None
    result: Any = None
    error: str | None = None
    expires_at: str | None = None
    approval: dict[str, Any] | None = None
    ran_with: str | None = None


class DecidedCall(BaseModel):
    """A call, and the decision about it that counts."""

    call: CallView
    decision: DecisionView


class CallWithDecisions(CallView):
    """A call and all decisions about it, the first one first."""

    decisions: list[DecisionView]


class CallList(BaseModel):
    """The calls of an answer whose turns are proven to be whole, in order."""

    calls: list[CallWithDecisions]


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


class UsageSums(BaseModel):
    """Sums over answers. `estimated`: how many have an estimate in it; `unpriced`: how many have no
    cost, and are missing in `cost`.
    """

    answers: int
    estimated: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cache_write_tokens: int
    cost: float


class DayOfUsage(UsageSums):
    """Of one day and model."""

    day: date
    model: str


class UsageView(BaseModel):
    """Sums by day and model, in this order, and over all of them."""

    first: date = Field(alias="from")
    last: date = Field(alias="to")
    days: list[DayOfUsage]
    total: UsageSums


class ChatMessages(BaseModel):
    """UI messages of the AI SDK in order, without an unfinished answer. `next`: the `before` of
    older ones.
    """

    messages: list[dict[str, Any]]
    next: int | None


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]
