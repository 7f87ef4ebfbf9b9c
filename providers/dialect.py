"""Pure: what a dialect is.

A dialect is a wire format: how a request is written and how its answer is read. A preset is a provider that speaks one: where it lives, how
it wants its key, and how it deviates, as data. A new provider is a file that makes either and registers it (`registry.register`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenwire.providers.base import Request, UsageDelta
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.spec import ModelSpec, Preset


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, but for address and key: `path` below the base URL, a JSON `body` (None: no body)."""

    path: str
    body: Mapping[str, Any] | None
    method: Literal["POST", "GET", "DELETE"] = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    base_url: str | None = None
    """Another base than the preset's, for this call only."""
    decoder: Callable[[], Decoder] | None = None
    """Another reader than the dialect's."""
    attaches: bool = False
    """It goes on with a run of the provider's; if that is not there any more, nothing else is wrong."""
    ends_run: bool = False
    """It ends a run of the provider's."""
    begins_run: bool = False
    """It begins a run that goes on without us, whose name comes with the answer."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire format, without any I/O."""

    api: str
    decoder: Callable[[], Decoder]
    build: Callable[[Request, ModelSpec, Preset], Call]
    cancel: Callable[[str], Call] | None = None
    """The call that stops a run on the provider's side where closing the connection does not; given the run's id."""
    embed: Callable[[Sequence[str], ModelSpec], Call] | None = None
    vectors: Callable[[Mapping[str, Any]], tuple[Sequence[Sequence[float]], UsageDelta]] | None = (
        None
    )
    """Embeddings: the call for some texts, and what its answer holds."""
    takes_prefix: bool = True
    """A request can end with the beginning of the answer."""
    strips_prefix: bool = False
    """A prefix to go on from is sent without its trailing white space."""
