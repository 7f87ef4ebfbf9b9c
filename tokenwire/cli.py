"""The `tokenwire` command.

A subcommand is imported only when it is called: a light install (the client, the providers) has the
command, too, and names in one line the extra that a subcommand needs.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from tokenwire import __version__

EXIT_UNAVAILABLE = 69

PROCESSES = {
    "run": (
        (
            "start everything here: web, workers, broadcaster and, without REDIS_URL, an embedded "
            "Valkey"
        ),
        "tokenwire.launcher.__main__",
    ),
    "web": ("serve the HTTP API and the chat page", "tokenwire.web.__main__"),
    "worker": ("make answers", "tokenwire.worker.__main__"),
    "broadcaster": ("send events to readers over WebSocket", "tokenwire.broadcaster.__main__"),
    "migrate": ("bring the database to the newest revision", "tokenwire.models.migrate"),
}
"""Subcommands without options: their help, and the module of their `main`."""


class _Missing(Exception):
    """A package that the subcommand needs is not installed; the text is its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the subcommand; 2 for wrong usage, 69 if a needed package is not installed."""
    options = _parser().parse_args(arguments)
    try:
        code: int | None = options.start(options)
    except _Missing as missing:
        sys.stderr.write(
            f"tokenwire: `tokenwire {options.command}` needs {missing}: pip install "
            f"'tokenwire[server]'\n"
        )
        return EXIT_UNAVAILABLE
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tokenwire",
        description="Durable, resumable language-model replies for web apps.",
        epilog="Settings come from the environment or from .env in this folder. Data is kept in "
        "var/ of this folder.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, (does, module) in PROCESSES.items():
        commands.add_parser(name, help=does, description=f"{does.capitalize()}.").set_defaults(
            start=_starter(module)
        )
    models = commands.add_parser("models", help="check the model catalogue and list what it offers")
    models.add_argument(
        "--models-file",
        metavar="PATH",
        help="another catalogue than the one that MODELS_FILE names",
    )
    models.set_defaults(start=_models)
    return parser


def _starter(module: str) -> Callable[[argparse.Namespace], int | None]:
    return lambda _options: _main_of(module)()


def _models(options: argparse.Namespace) -> int | None:
    _main_of("tokenwire.config.settings", "load")  # otherwise only the presets would be listed
    file = ["--models-file", options.models_file] if options.models_file else []
    return _main_of("tokenwire.providers.__main__")(["list", *file])


def _main_of(module: str, name: str = "main") -> Callable[..., int | None]:
    """A function of a module. Raises _Missing."""
    try:
        found: Callable[..., int | None] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "tokenwire":
            raise
        raise _Missing(error.name) from error
    return found
