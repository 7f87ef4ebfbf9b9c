"""The services that attempts use, built at the start of a process."""

from dataclasses import dataclass, field

from tokenwire.config.terms import AnswerTerms
from tokenwire.models.store import Store
from tokenwire.streams.log import ports
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.enqueue import Jobs
from tokenwire.worker.operators import OperatorHook, log_only
from tokenwire.worker.packing import Packing
from tokenwire.worker.sweeper.run_ender import RunEnder


@dataclass(frozen=True, slots=True)
class WorkerServices:
    """The services of one process. `terms`: the settings for answers."""

    store: Store
    log: ports.Log
    jobs: Jobs
    checkpointer: Checkpointer
    lease_seconds: float
    run_ender: RunEnder
    packing: Packing
    notify_operators: OperatorHook = log_only
    terms: AnswerTerms = field(default_factory=AnswerTerms)
