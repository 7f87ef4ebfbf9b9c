"""What `dramatiq worker.main` loads: settings, broker, actors."""

import dramatiq

from config import catalogue, logs, settings
from worker import actors
from worker.broker import make_broker
from worker.operators import Hook, open_hook
from worker.runtime import Runtime, RuntimeMiddleware


def _hook() -> Hook:
    dsn = _settings.sentry_dsn
    try:
        return open_hook(dsn.get_secret_value() if dsn else None)
    except ValueError as error:
        settings.stop(str(error))


_settings = settings.load(needs=["redis_url", "database_url"])
_catalogue = catalogue.load_from(_settings)
logs.setup_for(_settings, _catalogue.secrets)
_runtime = Runtime(_settings, _catalogue, _hook())
broker = make_broker(_settings.redis, threads=_settings.worker_threads, middleware=[RuntimeMiddleware(_runtime)])
actors.register(broker, _runtime)
dramatiq.set_broker(broker)
