"""The metrics of a worker. Operators rely on their names and labels.

A web process that ends answers instead of their worker counts those ends, too.
"""

from prometheus_client import Counter, Gauge

from tokenwire.config.metrics import REGISTRY

RUNNING = Gauge(
    "tokenwire_answers_running", "Answers that this worker writes now", registry=REGISTRY
)
ANSWERS_ENDED = Counter(
    "tokenwire_answers_ended",
    "Answers whose end this process announced",
    ["status"],
    registry=REGISTRY,
)
CHECKPOINTS_REFUSED = Counter(
    "tokenwire_checkpoints_refused",
    "Checkpoints of single answers that the database refused to hold",
    registry=REGISTRY,
)
RUNS_ENDED = Counter(
    "tokenwire_runs_ended",
    "Calls that end runs at providers which nobody wants any more: "
    "ended, failed (tried again), given_up (the last try failed)",
    ["outcome"],
    registry=REGISTRY,
)
