"""The command line: `python -m tokenwire.providers list | stream | decode`.

Decoding needs no HTTP client: only the other two import one.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokenwire.providers import recorded
from tokenwire.providers.dialects import DIALECTS, RELATED, decoder_of

if TYPE_CHECKING:
    from tokenwire.providers.catalogue import Catalogue


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: done; 1: the provider failed; 2: wrong usage."""
    options = _parser().parse_args(arguments)
    result: int = options.run(options)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tokenwire.providers", description=__doc__)
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser(
        "list", help="the models of the catalogue, the presets and the dialects"
    )
    listing.add_argument("--models-file", type=Path, help="another catalogue")
    listing.set_defaults(run=_list)
    stream = commands.add_parser("stream", help="ask a model and print its answer as it comes")
    stream.add_argument("--model", help="a name of the catalogue; default: its default")
    stream.add_argument("--models-file", type=Path, help="another catalogue")
    stream.add_argument("--provider", help="without a catalogue: a preset ...")
    stream.add_argument("--base-url", help="... and another address for it")
    stream.add_argument("--api", help="... and another dialect")
    stream.add_argument("--api-key", help="... and a key; default: its variable")
    stream.add_argument("--system", help="instructions")
    stream.add_argument("--max-tokens", type=int)
    stream.add_argument("prompt")
    stream.set_defaults(run=_stream)
    decode = commands.add_parser(
        "decode", help="read a recorded body and print what is in it as one JSON object"
    )
    decode.add_argument("--api", required=True, choices=[*DIALECTS, *RELATED])
    decode.add_argument("--status", type=int, default=200)
    decode.add_argument("--content-type")
    decode.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    decode.add_argument("file", type=Path, help="- is standard input")
    decode.set_defaults(run=_decode)
    return parser


def _decode(options: argparse.Namespace) -> int:
    headers: dict[str, str] = {"content-type": options.content_type} if options.content_type else {}
    for line in options.header:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    try:
        body = sys.stdin.buffer.read() if str(options.file) == "-" else options.file.read_bytes()
    except OSError as error:
        sys.stderr.write(f"{options.file}: {error.strerror}\n")
        return 2
    result = recorded.decode(decoder_of(options.api), options.status, headers, body)
    sys.stdout.write(recorded.dump(result) + "\n")
    return 0


def _list(options: argparse.Namespace) -> int:
    from tokenwire.providers import shell

    _load_plugins()
    return shell.list_models(_catalogue(options.models_file))


def _stream(options: argparse.Namespace) -> int:
    from tokenwire.providers import shell

    _load_plugins()
    catalogue = None if options.provider else _catalogue(options.models_file)
    try:
        return asyncio.run(shell.stream(options, catalogue))
    except KeyboardInterrupt:
        return 130


def _load_plugins() -> None:
    """Before the catalogue is read; a mistake of a plugin ends the program with one line."""
    from tokenwire.providers import registry
    from tokenwire.providers.base import InvalidRequest

    try:
        registry.load_plugins()
    except InvalidRequest as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def _catalogue(models_file: Path | None) -> "Catalogue | None":
    """The catalogue; None if no file is given and none was installed.

    A mistake in it ends the program with one line.
    """
    from tokenwire.providers import catalogue

    environ, shipped = _surroundings()
    named = models_file or environ.get("MODELS_FILE") or shipped
    try:
        return None if named is None else catalogue.load(Path(named), environ)
    except catalogue.CatalogueError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def _surroundings() -> tuple[Mapping[str, str], Path | None]:
    """The variables, and the server's own catalogue. A light install has no settings: no `.env`."""
    try:
        from tokenwire.config import settings
    except ModuleNotFoundError:
        return os.environ, None
    return settings.variables(), settings.MODELS_FILE


if __name__ == "__main__":
    sys.exit(main())
