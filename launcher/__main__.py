"""`tokenwire run`, `make run`: check the settings and ports, then run the Procfile's processes
until stopped.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dotenv import dotenv_values

from tokenwire.config.arguments import refuse_arguments
from tokenwire.config.settings import Settings, env_file, load, variables
from tokenwire.launcher import environment, probes
from tokenwire.launcher.console import Console
from tokenwire.launcher.launch import EXIT_UNAVAILABLE, Launch
from tokenwire.launcher.procfile import Command, commands
from tokenwire.providers.catalogue import load_or_exit, variables_of

_PORT_SECONDS = 1.0
"""The time in which the ports of a killed run become free."""

_HERE = Path(__file__).parent
"""The Procfiles are beside this module: links to the top of a checkout, the files themselves in a
wheel.
"""
_MIGRATE = Command("migrate", "migrate", (sys.executable, "-m", "tokenwire.models.migrate"))


def main() -> int:
    environ = environment.combine(os.environ, dotenv_values(env_file()))
    os.environ.update(environ)
    settings = load()
    load_or_exit(settings.models_file, variables())
    if settings.mode == "development" and settings.token_key is None:
        environ["TOKEN_KEY"] = environment.kept_key(environment.KEY_FILE)
    if not settings.redis_url and settings.redis_password is None:
        environ["REDIS_PASSWORD"] = environment.kept_key(environment.REDIS_KEY_FILE)
    return asyncio.run(_run(settings, environ))


async def _run(settings: Settings, environ: dict[str, str]) -> int:
    console = Console()
    for name, (host, port) in _ports(settings).items():
        if not await probes.until(probes.free(host, port), _PORT_SECONDS):
            console.print_line(
                f"port {port} is in use ({name}): stop what listens there or choose another"
            )
            return EXIT_UNAVAILABLE
    files = ("Procfile",) if settings.redis_url else ("Procfile.dev", "Procfile")
    text = "\n".join(_HERE.joinpath(file).read_text() for file in files)
    several = {
        kind: count
        for kind, count in (("web", settings.webs), ("broadcaster", settings.broadcasters))
        if count > 1
    }
    processes = commands(text, environ, {**several, "worker": settings.workers})
    return await Launch(
        settings, _environments(settings, environ, processes), _MIGRATE, processes, console
    ).run()


def _environments(
    settings: Settings, environ: dict[str, str], processes: list[Command]
) -> Callable[[Command], dict[str, str]]:
    catalogue = variables_of(settings.models_file)
    counted = [command for command in processes if command.kind != "redis"]

    def environment_of(command: Command) -> dict[str, str]:
        found = environment.for_kind(command.kind, environ, catalogue)
        if settings.metrics_port and command in counted:
            found["METRICS_PORT"] = str(settings.metrics_port + counted.index(command))
        return found

    return environment_of


def _ports(settings: Settings) -> dict[str, tuple[str, int]]:
    ports = {
        "PORT": (settings.host, settings.port),
        "BROADCASTER_PORT": (settings.broadcaster_host, settings.broadcaster_port),
    }
    return (
        ports if settings.redis_url else {**ports, "REDIS_PORT": ("127.0.0.1", settings.redis_port)}
    )


if __name__ == "__main__":
    refuse_arguments()
    sys.exit(main())
