"""tests.ci: a skipped test fails in CI, unless the test itself allows the skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tokenwire.config.settings import ROOT

TESTS = """
import pytest
from tests.ci import pytest_runtest_makereport

@pytest.fixture
def server():
    pytest.skip("no server")

def test_in_a_fixture(server): ...

def test_in_the_test():
    pytest.skip("no tool")

@pytest.mark.skipif(True, reason="another system")
def test_elsewhere(): ...

@pytest.mark.may_skip("what it needs is nobody's to give")
def test_allowed():
    pytest.skip("not here")
"""


@pytest.mark.parametrize(
    ("ci", "failed"), [("1", {"test_in_a_fixture", "test_in_the_test"}), ("", set())]
)
def test_a_skip_in_ci_is_a_failure(tmp_path: Path, ci: str, failed: set[str]) -> None:
    """In any phase, with its reason."""
    (tmp_path / "conftest.py").write_text("from tests.ci import pytest_runtest_makereport\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
        str(tmp_path),
    ]
    environ = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    found = {
        line.partition(" - ")[0].rpartition("::")[2]
        for line in run.stdout.splitlines()
        if line.startswith(("FAILED", "ERROR"))
    }
    assert found == failed, run.stdout
    if failed:
        assert "skipped, which CI does not allow: Skipped: no server" in run.stdout
