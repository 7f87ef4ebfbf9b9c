"""What every process counts, whatever it does: one registry per process, in Prometheus' text format.

A process may add a registry of its own (web does, for its requests). Who serves the text, and on which port, is the process' business.
"""

from prometheus_client import CollectorRegistry, Counter, generate_latest

REGISTRY = CollectorRegistry()
"""Counts of this process. Not prometheus-client's global one: what libraries register there is not part of our interface."""

TASK_FAILURES = Counter(
    "tokenwire_task_failures", "Unexpected failures of background tasks, which are run again", ["task"], registry=REGISTRY
)
CHECKPOINTS_REFUSED = Counter(
    "tokenwire_checkpoints_refused", "Checkpoints of single answers that the database refused to hold", registry=REGISTRY
)


def text() -> bytes:
    """All of it, as Prometheus reads it."""
    return generate_latest(REGISTRY)
