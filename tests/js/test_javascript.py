"""Runs the tests of the page's modules in Node. No Node: a skip on a laptop, a failure where CI is set."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_in_node(name: str) -> None:
    """Every test of the file passes."""
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI"):
            pytest.fail("Node is not installed")
        pytest.skip("Node is not installed")
    run = subprocess.run([node, "--test", str(HERE / name)], capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "\n# pass 0\n" not in run.stdout
