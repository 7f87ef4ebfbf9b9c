"""The package as users get it: built from a copy of the checkout and installed into its own virtual
environment, without network.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tokenwire.config.settings import ROOT

_LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "var",
    "node_modules",
    "__pycache__",
    ".*_cache",
    "*.egg-info",
    "build",
    "dist",
    "tests",
)
_THIRD_PARTY = [sysconfig.get_path(name) for name in ("purelib", "platlib")]


@dataclass(frozen=True)
class Venv:
    """A virtual environment that sees the installed packages of others, and only its own
    Tokenwire.
    """

    path: Path

    def install(self, *what: str) -> None:
        """With pip, from files alone."""
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
        ]
        _run([*pip, *what], self.path)

    def run(self, arguments: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
        """Its Python in a folder, without this checkout's environment variables."""
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.python), *arguments]
        return subprocess.run(
            command,
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def says(self, arguments: Sequence[str], folder: Path) -> str:
        """The output of that; it must succeed."""
        done = self.run(arguments, folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def tokenwire(self) -> Path:
        """The command."""
        return self.path / "bin" / "tokenwire"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def made_venv(path: Path) -> Venv:
    """An empty one."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(path)], path.parent)
    venv = Venv(path)
    [packages] = path.glob("lib/python3*/site-packages")
    (packages / "third_party.pth").write_text("\n".join(_THIRD_PARTY) + "\n")
    return venv


def copy_of_checkout(path: Path) -> Path:
    """With its links, as git creates them."""
    shutil.copytree(ROOT, path, ignore=_LEFT_OUT, symlinks=True)
    return path


def build(kind: str, project: Path, into: Path) -> Path:
    """`wheel`, `sdist` or `editable` of a project, by its own build backend."""
    into.mkdir(exist_ok=True)
    code = f"import sys; from setuptools.build_meta import build_{kind}; build_{kind}(sys.argv[1])"
    _run([sys.executable, "-c", code, str(into)], project)
    [built] = into.iterdir()
    return built


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout; builds leave files in it."""
    return copy_of_checkout(tmp_path_factory.mktemp("checkout") / "tokenwire")


@pytest.fixture(scope="session")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    return build("sdist", checkout, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A virtual environment with the wheel."""
    made = made_venv(tmp_path_factory.mktemp("venv") / "venv")
    made.install(str(wheel))
    return made
