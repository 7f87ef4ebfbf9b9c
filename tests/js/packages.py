"""npm packages that tests need: what a folder's lock file names, installed beside it when that has changed.

No Node, no npm or no registry: a skip.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.exclusive import exclusive

HERE = Path(__file__).parent
INSTALL_SECONDS = 300


def need_node() -> str:
    """Path of Node."""
    node = shutil.which("node")
    return node if node is not None else pytest.skip("Node is not installed")


def need_packages(folder: Path = HERE) -> Path:
    """The folder `node_modules` that holds what `package-lock.json` of `folder` names."""
    with exclusive("npm"):
        return _installed(folder)


def _installed(folder: Path) -> Path:
    lock, modules = folder / "package-lock.json", folder / "node_modules"
    stamp = modules / "installed-lock.json"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return modules
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    run = subprocess.run(
        [npm, "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if run.returncode != 0:
        pytest.skip(f"npm ci failed in {folder.name}: {run.stdout}{run.stderr}")
    stamp.write_bytes(lock.read_bytes())
    return modules
