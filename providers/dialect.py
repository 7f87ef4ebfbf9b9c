"""Pure: what a dialect is.

A dialect is a wire format: how a request is written and how its answer is read. A preset is a
provider that speaks one: its address, how it takes its key, and its deviations, as data. A new
provider is one file that creates either and registers it (`registry.register`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenwire.providers.base import Request, UsageDelta
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.spec import ModelSpec, Preset


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request without address and key: `path` below the base URL, a JSON `body` (None: no
    body).
    """

    path: str
    body: Mapping[str, Any] | None
    method: Literal["POST", "GET", "DELETE"] = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    base_url: str | None = None
    """A base URL for this call in place of the preset's."""
    decoder: Callable[[], Decoder] | None = None
    """A decoder for this call in place of the dialect's."""
    attaches: bool = False
    """Whether the request attaches to a run. If the run is gone, nothing else is wrong."""
    ends_run: bool = False
    """Whether the request ends a run at the provider."""
    begins_run: bool = False
    """Whether the request begins a run that continues without us. The reply has its name."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire format, without any I/O."""

    api: str
    decoder: Callable[[], Decoder]
    build: Callable[[Request, ModelSpec, Preset], Call]
    cancel: Callable[[str], Call] | None = None
    """The call that stops the run with this id, if closing the connection does not."""
    embed: Callable[[Sequence[str], ModelSpec], Call] | None = None
    vectors: Callable[[Mapping[str, Any]], tuple[Sequence[Sequence[float]], UsageDelta]] | None = (
        None
    )
    """Embeddings: the call for some texts, and the vectors of its answer."""
    takes_prefix: bool = True
    """A request may end with the beginning of the answer."""
    strips_prefix: bool = False
    """A prefix to continue is sent without its trailing white space."""
    quirks: frozenset[str] = frozenset()
    """The names of its deviations, in a preset or in an entry's `options`."""
