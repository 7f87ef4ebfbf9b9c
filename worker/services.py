"""What attempts work with, and on what terms: put together at the edge of a process."""

from dataclasses import dataclass, field

from tokenwire.models.store import Store
from tokenwire.providers.spec import Rung
from tokenwire.streams.log import ports
from tokenwire.worker.attempt.costs import Budget
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.enqueue import Jobs
from tokenwire.worker.operators import Hook, log_only
from tokenwire.worker.packing import Packing
from tokenwire.worker.retries import LONGEST_WAIT_S
from tokenwire.worker.sweeper.endings import Endings


@dataclass(frozen=True, slots=True)
class WorkerServices:
    """What an attempt works with; one set per process."""

    store: Store
    log: ports.Log
    jobs: Jobs
    checkpointer: Checkpointer
    lease_seconds: float
    endings: Endings
    packing: Packing
    notify_operators: Hook = log_only


@dataclass(frozen=True, slots=True)
class AttemptTerms:
    """On what terms an answer is made. `best`: the best way for a later attempt to resume it."""

    best: Rung
    alone_seconds: float = 0.0
    """How long it may go on without a reader; 0: for ever."""
    longest_wait_seconds: float = LONGEST_WAIT_S
    """The longest wait before the next try that a provider may ask for."""
    bounds: Budget = field(default_factory=Budget)
