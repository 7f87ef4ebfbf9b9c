"""The services that attempts use, built at the start of a process."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tokenwire.config.terms import AnswerTerms
from tokenwire.models.store import Store
from tokenwire.providers.base import ModelNotFound, Provider
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log import ports
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.enqueue import Jobs
from tokenwire.worker.operators import OperatorHook, log_only
from tokenwire.worker.packing import Packing
from tokenwire.worker.sweeper.run_ender import RunEnder
from tokenwire.worker.tools.toolbox import Toolbox


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
    toolbox: Toolbox = field(default_factory=Toolbox)


@dataclass(frozen=True, slots=True)
class Models:
    """The models on offer. `open` returns the provider of an entry of the catalogue."""

    catalogue: Catalogue
    open: Callable[[ModelSpec], Provider]

    def provider(self, name: str) -> Provider:
        """The provider of a catalogue entry. Raises ProviderError if there is none."""
        spec = self.catalogue.models.get(name)
        if spec is None:
            raise ModelNotFound(f"{name} is not in the catalogue")
        return self.open(spec)
