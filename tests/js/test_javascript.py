"""The tests of the browser's modules, run by Node."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_javascript(path: Path) -> None:
    """`node --test` finds no failure in the file."""
    node = shutil.which("node")
    if node is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs Node.js 18 or newer")
    ended = subprocess.run([node, "--test", str(path)], capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stdout
