"""What a broadcaster counts. Names are part of the interface of operators."""

from prometheus_client import Gauge

from tokenwire.config.metrics import REGISTRY

VIEWERS = Gauge("tokenwire_viewers", "WebSockets of viewers that are open now", registry=REGISTRY)
