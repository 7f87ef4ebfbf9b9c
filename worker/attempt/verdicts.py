"""Pure: why an attempt ends. The first reason counts, save that a cancel outranks it, and a lost ownership all."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finished:
    """The provider proved that the answer is whole."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider failed, or we did."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody asked to stop."""

    by: str


@dataclass(frozen=True, slots=True)
class HandedOver:
    """This process is going away; another one goes on."""


@dataclass(frozen=True, slots=True)
class Disowned:
    """The generation is somebody else's now, or ended, or deleted: change nothing."""


Verdict = Finished | Failed | CancelAsked | HandedOver | Disowned
