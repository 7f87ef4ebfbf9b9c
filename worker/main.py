"""What `dramatiq worker.main` loads: settings, broker, actors."""

import dramatiq

from config import catalogue, logs, settings
from worker import actors
from worker.broker import make_broker
from worker.runtime import Runtime, RuntimeMiddleware

_settings = settings.load()
logs.setup(_settings.log_level)
_runtime = Runtime(_settings, catalogue.load_from(_settings))
broker = make_broker(_settings.redis, threads=_settings.worker_threads, middleware=[RuntimeMiddleware(_runtime)])
actors.register(broker, _runtime)
dramatiq.set_broker(broker)
