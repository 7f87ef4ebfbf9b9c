"""npm packages of tests and checks: a folder's lock file names them, and they are installed beside
it when it changes.

For tests (`need_node`, `need_packages`), a missing Node, npm or registry is a skip.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.exclusive import exclusive

HERE = Path(__file__).parent
INSTALL_SECONDS = 300


class ToolMissing(Exception):
    """Node or npm is not installed."""


class InstallFailed(Exception):
    """npm could not install the packages of the lock file; its message says why."""


def need_node() -> str:
    """Path of Node."""
    try:
        return tool("node")
    except ToolMissing as missing:
        pytest.skip(str(missing))


def need_packages(folder: Path = HERE) -> Path:
    """The folder `node_modules` with the packages in `package-lock.json` of `folder`."""
    try:
        return installed(folder)
    except (ToolMissing, InstallFailed) as error:
        pytest.skip(str(error))


def tool(name: str) -> str:
    """Path of a program. Raises ToolMissing."""
    path = shutil.which(name)
    if path is None:
        raise ToolMissing(f"{name} is not installed")
    return path


def installed(folder: Path = HERE) -> Path:
    """The folder `node_modules` with the packages in `package-lock.json` of `folder`. Raises
    ToolMissing, InstallFailed.
    """
    with exclusive("npm"):
        return _installed(folder)


def _installed(folder: Path) -> Path:
    lock, modules = folder / "package-lock.json", folder / "node_modules"
    stamp = modules / "installed-lock.json"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return modules
    run = subprocess.run(
        [tool("npm"), "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if run.returncode != 0:
        raise InstallFailed(f"npm ci failed in {folder.name}: {run.stdout}{run.stderr}")
    stamp.write_bytes(lock.read_bytes())
    return modules
