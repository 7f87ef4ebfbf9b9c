"""Counters of a broadcaster. Names are part of the interface of operators."""

from prometheus_client import Gauge

from tokenwire.config.metrics import REGISTRY

READERS = Gauge("tokenwire_readers", "WebSockets of readers that are open now", registry=REGISTRY)
