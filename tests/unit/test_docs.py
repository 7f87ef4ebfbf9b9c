"""What documents name exists: links, files, commands, settings, code. Words are plain."""

import ast
import importlib
import importlib.util
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokenwire.cli import PROCESSES
from tokenwire.config.settings import ROOT

PAGES = sorted(
    path
    for folder in (
        ".",
        "docs",
        "providers",
        "benchmarks",
        "protocol/vectors",
        "web/page/static/vendor",
    )
    for path in (ROOT / folder).glob("*.md")
)
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The changelog may name what is gone."""
AVOIDED = re.compile(
    r"\b(whoever|whom|that which|gone on with|who comes|thereof|anew)\b", re.IGNORECASE
)
"""Turns that make a sentence hard to read."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of that language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def prose(page: Path) -> str:
    """The text without code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_there_are_pages() -> None:
    """A folder that moved would no longer be checked."""
    assert len(PAGES) >= 18


CONFIGURATION = [ROOT / ".env.example", ROOT / "config" / "models.yml"]


@pytest.mark.parametrize("page", [*PAGES, *CONFIGURATION], ids=name)
def test_words(page: Path) -> None:
    """Plain words, in the order subject, verb, object."""
    assert [found[0] for found in AVOIDED.finditer(prose(page))] == []


# --- what is named exists -----------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The headings, as GitHub calls them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links(page: Path) -> None:
    """Each leads to a file or a heading of this project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, heading = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not heading or heading in anchors(found), target


PATHS = re.compile(
    r"`((?:tests|docs|web|worker|models|protocol|providers|streams|config|client|broadcaster"
    r"|launcher|tokenwire|examples|benchmarks)/[\w./-]*)`"
)


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_files(page: Path) -> None:
    """Paths from the top of the checkout."""
    gone = [path for path in PATHS.findall(prose(page)) if not (ROOT / path).exists()]
    assert gone == []


DOTTED = re.compile(
    r"`((?:tokenwire\.)?(?:web|worker|models|protocol|providers|streams|config|client|broadcaster"
    r"|launcher)\.[a-zA-Z_][\w.]*)`"
)


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_modules(page: Path) -> None:
    """Modules, classes and functions by their dotted names."""
    for dotted in DOTTED.findall(prose(page)):
        if not dotted.endswith((".py", ".yml", ".lua")):
            assert pkgutil.resolve_name(f"tokenwire.{dotted.removeprefix('tokenwire.')}")


def test_the_map_of_folders_is_whole() -> None:
    """ARCHITECTURE.md names every folder of the program, and in each the files to open first."""
    section = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("## Where things are\n")[1]
    rows = [line.split("|")[1:4] for line in section.strip().split("\n\n")[0].splitlines()[2:]]
    listed = {folder for folders, *_ in rows for folder in re.findall(r"`([^`]+)`", folders)}
    for folders, _, files in rows:
        for folder in re.findall(r"`([^`]+)`", folders):
            for file in re.findall(r"`([\w/]+\.\w+)`", files):
                assert (ROOT / folder / file).exists(), f"{folder}/{file}"
    program = [ROOT / path.name for path in (ROOT / "tokenwire").iterdir() if path.is_symlink()]
    folders = {"tokenwire"} | {
        module.parent.relative_to(ROOT).as_posix()
        for top in program
        for module in top.rglob("__init__.py")
    }
    assert folders - listed == PARENTS
    assert listed - folders == set()


PARENTS = {"streams", "models/migrations", "models/migrations/versions"}
"""Folders that hold no room of their own: the table lists what is inside, or they are SQL's."""


def sources() -> str:
    """What may name a variable: the program, its tests, and what configures them."""
    files = [ROOT / ".env.example", ROOT / "Makefile", ROOT / "config" / "models.yml"]
    folders = ("config", "providers", "tests", "protocol", "models", "worker", "streams", "web")
    for folder in folders:
        files += (ROOT / folder).rglob("*.py")
    return "\n".join(file.read_text("utf-8") for file in files if file != Path(__file__))


@pytest.fixture(scope="module")
def known_names() -> set[str]:
    text = sources()
    return {word.upper() for word in re.findall(r"\b\w*_\w*\b", text)}


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_settings(page: Path, known_names: set[str]) -> None:
    """Names in capitals with an underscore are settings, variables or constants of today."""
    text = page.read_text("utf-8")
    used = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))
    assert used - known_names - EXAMPLES == set()


EXAMPLES = {"HOUSE_KEY", "SHOP_SECRET", "SQLITE_CORRUPT"}
"""Variables that a reader makes up; a code of SQLite's."""


def commands(page: Path) -> Iterator[str]:
    """Commands in code and in code blocks."""
    text = page.read_text("utf-8")
    yield from re.findall(r"`([^`\n]+)`", text)
    for block in re.findall(r"^```(?:sh|ini)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_commands(page: Path) -> None:
    """Targets of make, modules that are run, and what `tokenwire` can do."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in commands(page):
        for target in re.findall(r"(?:^|[|;&] *|[A-Z]+=\S+ )make ([a-z-]+)", command):
            assert target in targets, command
        for module in re.findall(r"python3? -m (tokenwire[\w.]*|tests[\w.]*|benchmarks)", command):
            assert importlib.util.find_spec(module), command
        for verb in re.findall(r"(?:^|-m )tokenwire ([a-z]+)", command):
            assert verb in {*PROCESSES, "models"}, command


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python(page: Path) -> None:
    """Code compiles, at the top level or in a coroutine, and what it imports of us is there."""
    for block in blocks(page, "python"):
        body = "\n".join(f"    {line}" for line in block.splitlines())
        tree = ast.parse(f"async def page():\n{body}\n")
        compile(tree, name(page), "exec")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tokenwire"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_the_example_of_the_encoder_runs() -> None:
    """docs/ai-sdk.md: what it yields is a whole stream."""
    code = blocks(ROOT / "docs" / "ai-sdk.md", "python")[0]
    program, _, last = code.rpartition("\nreturn StreamingResponse(")
    names: dict[str, Any] = {}
    exec(compile(program, "docs/ai-sdk.md", "exec"), names)  # noqa: S102 - our own page
    sent = b"".join(eval(last.split(", headers=")[0], names))  # noqa: S307 - our own page
    chunks = [json.loads(line[6:]) for line in sent.splitlines() if line.startswith(b"data: {")]
    assert (chunks[0]["type"], chunks[-1]["type"]) == ("start", "finish")
    assert "".join(chunk.get("delta", "") for chunk in chunks) == "Hm.It is 21 °C."
    assert sent.endswith(b"data: [DONE]\n\n")
