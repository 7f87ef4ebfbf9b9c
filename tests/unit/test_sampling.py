"""tests.sampling: a sample of the cases in `make test`, all of them elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sampling import spread
from tokenwire.config.settings import ROOT

TESTS = """
import pytest

@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", range(9))
def test_sampled(case): ...

@pytest.mark.sampled(1)
@pytest.mark.parametrize("case", [pytest.param(0, marks=pytest.mark.long), 1, 2])
def test_one(case): ...

@pytest.mark.parametrize("case", range(4))
def test_all(case): ...
"""


@pytest.mark.parametrize(("quick", "run"), [("yes", 3 + 1 + 4), ("", 9 + 2 + 4)])
def test_a_sample_of_the_cases(tmp_path: Path, quick: str, run: int) -> None:
    """The mark `long` alone is never in a sample."""
    hook = "from tests.sampling import pytest_collection_modifyitems\n"
    (tmp_path / "conftest.py").write_text(hook)
    (tmp_path / "test_it.py").write_text(TESTS)
    options = ["-q", "-p", "no:cacheprovider", "-m", "not long", "-c", str(ROOT / "pyproject.toml")]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "QUICK": quick},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"{run} passed" in found.stdout, found.stdout


@pytest.mark.parametrize(
    ("number", "count", "places"),
    [(1, 5, {0}), (2, 5, {0, 4}), (3, 9, {0, 4, 8}), (5, 3, {0, 1, 2}), (3, 3, {0, 1, 2})],
)
def test_the_sample_is_spread_over_all(number: int, count: int, places: set[int]) -> None:
    assert spread(number, count) == places
