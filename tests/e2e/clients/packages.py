"""Clients by other makers whose packages do not fit beside those of the project.

Each has a lock file here that names them all with their hashes. They are fetched once into `var/`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.exclusive import exclusive
from tokenwire.config.settings import ROOT

_HERE = Path(__file__).parent


def packages(client: str) -> Path:
    """The folder with the packages of this lock file. The test is skipped where they cannot be
    fetched.
    """
    lock = _HERE / f"{client}.lock"
    folder = ROOT / "var" / "tests" / client
    stamp = folder / lock.name
    with exclusive(client):
        if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
            _fetch(lock, folder)
            stamp.write_bytes(lock.read_bytes())
    return folder


def _fetch(lock: Path, folder: Path) -> None:
    asked = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--require-hashes"]
    asked += ["--python", sys.executable, "--target", str(folder), "-r", str(lock)]
    run = subprocess.run(asked, capture_output=True, text=True, timeout=300, check=False)
    if run.returncode:
        pytest.skip(f"the packages of {lock.name} cannot be fetched: {run.stderr}")
