"""Runs the tests of the page's modules in Node."""

import subprocess

import pytest

from tests.js.packages import HERE, need_node, need_packages


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.test.mjs")))
def test_in_node(name: str) -> None:
    """Every test of the file passes."""
    need_packages()
    run = subprocess.run(
        [need_node(), "--test", str(HERE / name)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "\n# pass 0\n" not in run.stdout
