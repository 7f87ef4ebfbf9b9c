"""Pure: the conversation as it is sent to providers: messages of ordered parts.

Each dialect walks the parts in order. A kept value replaces the dialect's own form of its part; it
goes only to the dialect and model that wrote it, others get what text can express.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

REPAIR_BEGINS = "Your last answer does not fit the JSON schema:"
"""How a worker's request for a repair begins. The demo model knows it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What only the provider that wrote a part understands: it goes back with the part, unchanged.

    `dialect`: who understands it. `kind`: the provider's word for its kind. `value`: JSON.
    """

    dialect: str
    kind: str
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text. `kept`: the citations of exactly this text, as their provider wrote them."""

    text: str
    kept: Sequence[Kept] = ()


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """The model's reasoning. It goes back only with its kept value, and only to its writer."""

    text: str
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class CallPart:
    """A tool call. `input`: the JSON text as the model wrote it, which need not be an object."""

    id: str
    name: str
    input: str
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class ResultPart:
    """The result of a tool call. `error`: the text says what went wrong."""

    call_id: str
    name: str
    text: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A non-text part: `data` (bytes) or `url`, and its media type (`image/png`, ...)."""

    media_type: str
    data: bytes | None = None
    url: str | None = None
    name: str | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class KeptPart(Kept):
    """A part that only the provider that wrote it understands."""


@dataclass(frozen=True, slots=True)
class StepPart:
    """The model received a new request here: what follows is another turn."""


HistoryPart = TextPart | ReasoningPart | CallPart | ResultPart | Attachment | KeptPart | StepPart


@dataclass(frozen=True, slots=True, init=False)
class HistoryMessage:
    """One message of the conversation: its parts in order. A plain text is one text part.

    `tool` holds results. An answer may hold steps and results too: it is sent as its turns.
    `model`: the model's name at its provider, which alone gets kept values; None: the requested
    model.
    """

    role: Literal["system", "user", "assistant", "tool"]
    parts: Sequence[HistoryPart]
    model: str | None

    def __init__(
        self,
        role: Literal["system", "user", "assistant", "tool"],
        parts: str | Iterable[HistoryPart] = (),
        model: str | None = None,
    ) -> None:
        held = (TextPart(parts),) if isinstance(parts, str) else tuple(parts)
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "parts", held)
        object.__setattr__(self, "model", model)

    @property
    def text(self) -> str:
        """The text of all text parts."""
        return "".join([part.text for part in self.parts if isinstance(part, TextPart)])
