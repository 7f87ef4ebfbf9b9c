"""Pure: the lines of a Procfile. The syntax is honcho's; there is no shell, so `$NAME` is expanded
here.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from honcho.environ import parse_procfile

_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\})")


@dataclass(frozen=True, slots=True)
class Command:
    """One process to run: `name` is unique (`worker.2` for copies), `kind` is the word before the
    colon.
    """

    kind: str
    name: str
    argv: tuple[str, ...]


def commands(text: str, environ: Mapping[str, str], copies: Mapping[str, int]) -> list[Command]:
    """The processes of a Procfile in order, each as often as `copies` says (default: once)."""
    return [
        Command(kind, f"{kind}.{number}" if kind in copies else kind, _argv(line, environ))
        for kind, line in parse_procfile(text).processes.items()
        for number in range(1, copies.get(kind, 1) + 1)
    ]


def _argv(line: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    def value(match: re.Match[str]) -> str:
        return environ.get(match["bare"] or match["name"]) or match["default"] or ""

    return tuple(_VARIABLE.sub(value, word) for word in shlex.split(line))
