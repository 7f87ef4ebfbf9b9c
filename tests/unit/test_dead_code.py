"""vulture finds dead code, and its list of exceptions is as short as possible."""

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from tokenwire.config.settings import ROOT

VULTURE = (sys.executable, "-m", "vulture")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["vulture"]


def _found(*more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*VULTURE, *SETTINGS["paths"], *more], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_function_that_nobody_calls_is_found(tmp_path: Path) -> None:
    """And it finds nothing else."""
    planted = tmp_path / "planted.py"
    planted.write_text("def nobody_calls_this() -> None:\n    pass\n")
    found = _found(str(planted))
    assert found.returncode == 3
    assert found.stdout.splitlines() == [
        f"{planted}:1: unused function 'nobody_calls_this' (60% confidence)"
    ]


def test_every_exception_is_needed(tmp_path: Path) -> None:
    """A stale exception would hide dead code of the same name."""
    bare = tmp_path / "pyproject.toml"
    bare.write_text("[tool.vulture]\nmin_confidence = 60\n")
    names = [line.split("'")[1] for line in _found("--config", str(bare)).stdout.splitlines()]
    assert [
        pattern
        for pattern in SETTINGS["ignore_names"]
        if not any(fnmatch(name, pattern) for name in names)
    ] == []
