"""Counters of the log's readers. Names are part of the interface of operators."""

from prometheus_client import Counter

from tokenwire.config.metrics import REGISTRY

BLOCKS_DAMAGED = Counter(
    "tokenwire_packed_blocks_damaged",
    "Packed parts of logs that could not be read and were dropped: readers read the rows",
    registry=REGISTRY,
)
