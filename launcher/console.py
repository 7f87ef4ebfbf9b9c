"""The terminal output: each line with its time and process (honcho's printer)."""

import datetime as dt
import sys

from honcho.colour import get_colours
from honcho.printer import Message, Printer


class Console:
    """Writes lines. When nobody can read them any more, it sets `closed` and writes nothing."""

    def __init__(self) -> None:
        self.closed = False
        self._printer = Printer(sys.stdout, width=len("broadcaster"))
        self._colours = get_colours()
        self._colour_of: dict[str, str | None] = {"tokenwire": None}

    def line(self, name: str, text: str | bytes) -> None:
        """One line of the process `name`."""
        if name not in self._colour_of:
            self._colour_of[name] = next(self._colours)
        self._guarded(
            Message("line", text, dt.datetime.now().astimezone(), name, self._colour_of[name])
        )

    def print_line(self, text: str) -> None:
        """One line of the launcher itself."""
        self.line("tokenwire", text)

    def _guarded(self, message: Message) -> None:
        if self.closed:
            return
        try:
            self._printer.write(message)
        except OSError:
            self.closed = True
