"""`make run`: check the settings and the ports, then run the Procfile's processes until told to stop."""

import asyncio
import os
import sys

from dotenv import dotenv_values

from config.catalogue import load_from
from config.settings import ROOT, Settings, load
from launcher import environment, probes
from launcher.console import Console
from launcher.launch import EXIT_UNAVAILABLE, Launch
from launcher.procfile import Command, commands

_PORT_SECONDS = 1.0
"""What a run that was just killed may need until its ports are free."""


_MIGRATE = Command("migrate", "migrate", (sys.executable, "-m", "models.migrate"))


def main() -> int:
    environ = environment.combine(os.environ, dotenv_values(".env"))
    os.environ.update(environ)
    settings = load()
    load_from(settings)
    if settings.mode == "development" and settings.token_key is None:
        environ["TOKEN_KEY"] = environment.kept_key(environment.KEY_FILE)
    environ["WORKER_THREADS"] = str(settings.worker_threads)
    return asyncio.run(_run(settings, environ))


async def _run(settings: Settings, environ: dict[str, str]) -> int:
    console = Console()
    for name, (host, port) in _ports(settings).items():
        if not await probes.until(probes.free(host, port), _PORT_SECONDS):
            console.say(f"port {port} is in use ({name}): stop what listens there or choose another")
            return EXIT_UNAVAILABLE
    files = ("Procfile",) if settings.redis_url else ("Procfile.dev", "Procfile")
    text = "\n".join((ROOT / file).read_text() for file in files)
    processes = commands(text, environ, {"worker": settings.workers})
    return await Launch(settings, environ, _MIGRATE, processes, console).run()


def _ports(settings: Settings) -> dict[str, tuple[str, int]]:
    ports = {"PORT": (settings.host, settings.port), "BROADCASTER_PORT": (settings.broadcaster_host, settings.broadcaster_port)}
    return ports if settings.redis_url else {**ports, "REDIS_PORT": ("127.0.0.1", settings.redis_port)}


if __name__ == "__main__":
    sys.exit(main())
