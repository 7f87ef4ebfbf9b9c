"""No line of code or prose is longer than 100 columns, in whatever language.

Ruff and Prettier wrap most code. They leave strings, comments, pragmas, Makefiles and prose as they
are, so this reads every file that git tracks.
"""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenwire.config.settings import ROOT

MAX_COLUMNS = 100
DATA = {".json", ".lock", ".ndjson", ".sse", ".svg"}
"""Recordings, vectors, locked packages and drawings: nobody reads them line by line."""
FOREIGN = ("web/page/static/vendor/",)
"""Code of others, and its licences, as they published it."""
UNWRAPPABLE = re.compile(r"\||\S+$|\[[^\]]*\]: \S+$")
"""In Markdown: a row of a table, a line of one word, the address of a link."""


NOT_OURS = re.compile(r"\.|(var|node_modules|__pycache__|build|dist)$")
"""Folders of tools: caches, packages, data."""


def tracked() -> list[str]:
    """Files that git tracks; in a copy without git, all files outside of caches and packages."""
    command = ["git", "ls-files", "-z"]
    with contextlib.suppress(OSError):
        found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if found.returncode == 0 and found.stdout:
            return found.stdout.rstrip("\0").split("\0")
    return sorted(walked(ROOT))


def walked(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.is_file():
            yield path.relative_to(ROOT).as_posix()
        elif not path.is_symlink() and (path.name == ".ci" or not NOT_OURS.match(path.name)):
            yield from walked(path)


def text(file: str) -> str:
    """What the file says; nothing for a link, and for bytes that are no text."""
    path = ROOT / file
    if path.is_symlink() or not path.is_file():
        return ""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def checked(file: str) -> bool:
    return Path(file).suffix not in DATA and not file.startswith(FOREIGN)


def too_long(file: str, content: str) -> list[str]:
    """Each line that is too long, as `file:line`."""
    prose = file.endswith(".md")
    return [
        f"{file}:{number}"
        for number, line in enumerate(content.split("\n"), 1)
        if len(line) > MAX_COLUMNS and not (prose and UNWRAPPABLE.match(line))
    ]


def test_lines_are_short() -> None:
    files = [file for file in tracked() if checked(file)]
    endings = {Path(file).suffix for file in files}
    assert endings >= {"", ".css", ".html", ".js", ".lua", ".md", ".mjs", ".py", ".toml", ".yml"}
    assert [at for file in files for at in too_long(file, text(file))] == []


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("a.py", "x" * 100, []),
        ("a.py", "# " + "é" * 99, ["a.py:1"]),
        ("a.py", "x = f()  # type: ignore[" + "x" * 90 + "]", ["a.py:1"]),
        ("a.py", "| " + "x" * 99, ["a.py:1"]),
        ("a.md", "| " + "x" * 99, []),
        ("a.md", "[a]: https://example.com/" + "x" * 99, []),
        ("a.md", "some words " * 10, ["a.md:1"]),
        ("Makefile", "\t" + "x" * 100, ["Makefile:1"]),
    ],
)
def test_a_line_that_is_too_long_is_found(file: str, line: str, found: list[str]) -> None:
    """Characters count, not bytes. A pragma is no excuse."""
    assert too_long(file, line) == found
    assert checked(file)


def test_a_copy_without_git_is_checked_as_well() -> None:
    """Mutants run in one."""
    assert {file for file in tracked() if checked(file) and text(file)} <= {*walked(ROOT)}
