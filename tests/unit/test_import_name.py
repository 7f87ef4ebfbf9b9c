"""One import name, `tokenwire.…`, from a checkout and a wheel alike, whatever packages a host
has.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tokenwire.config.settings import ROOT

PACKAGE = ROOT / "tokenwire"
FOLDERS = (
    "broadcaster",
    "client",
    "config",
    "launcher",
    "models",
    "protocol",
    "providers",
    "streams",
    "web",
    "worker",
)
_WRITTEN = [
    path
    for path in ROOT.rglob("*.py")
    if path.relative_to(ROOT).parts[0] in (*FOLDERS, "tests", "benchmarks", "examples")
]


def test_links_point_to_the_folders() -> None:
    """Relative links, so that a checkout can be moved, and exactly one for each folder of the
    program.
    """
    assert {path.name: path.readlink() for path in PACKAGE.iterdir() if path.is_symlink()} == {
        name: Path("..", name) for name in FOLDERS
    }
    assert all((PACKAGE / name / "__init__.py").is_file() for name in FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_cannot_be_imported_by_its_bare_name(name: str) -> None:
    """A second copy of every class would follow."""
    run = subprocess.run(
        [sys.executable, "-c", f"import {name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr.rstrip().endswith(f"ImportError: import tokenwire.{name}, not {name}")


def test_nothing_imports_a_bare_name() -> None:
    """Not in the program, not in tests, benchmarks or examples."""
    assert len(_WRITTEN) > 400
    assert [
        (str(path), name)
        for path in _WRITTEN
        for name in _imported(path)
        if name.partition(".")[0] in FOLDERS
    ] == []


def _imported(path: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]
