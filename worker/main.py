"""The module that Dramatiq's command imports (`__main__`): settings, broker, actors."""
# ruff: noqa: E402

import gc

gc.disable()  # as in web: nothing is garbage while modules load

import dramatiq

from tokenwire.config import logs, settings
from tokenwire.providers import base, catalogue, registry
from tokenwire.worker import actors
from tokenwire.worker.broker import make_broker
from tokenwire.worker.operators import OperatorHook, open_hook
from tokenwire.worker.runtime import Runtime, RuntimeMiddleware
from tokenwire.worker.tools.registry import Tools, ToolsUnusable, all_tools

gc.freeze()
gc.enable()


def _hook() -> OperatorHook:
    dsn = _settings.sentry_dsn
    try:
        return open_hook(dsn.get_secret_value() if dsn else None)
    except ValueError as error:
        settings.stop(str(error))


def _load_plugins() -> None:
    try:
        registry.load_plugins()
    except base.InvalidRequest as error:
        settings.stop(str(error))


def _load_tools() -> Tools:
    try:
        return all_tools(_settings.tools, _catalogue)
    except ToolsUnusable as error:
        settings.stop(str(error))


_settings = settings.load(needs=["redis_url", "database_url"])
_load_plugins()  # before the catalogue, whose entries take the keys of their presets
_catalogue = catalogue.load_or_exit(_settings.models_file, settings.variables())
_tools = _load_tools()
logs.setup_for(_settings, _catalogue.secrets)
_runtime = Runtime(_settings, _catalogue, _tools, _hook())
broker = make_broker(
    _settings.redis, threads=_settings.worker_threads, middleware=[RuntimeMiddleware(_runtime)]
)
actors.register(broker, _runtime)
dramatiq.set_broker(broker)
