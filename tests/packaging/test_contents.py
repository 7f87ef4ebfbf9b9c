"""What the wheel and the source distribution hold."""

import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.conftest import Venv, build, made_venv
from tests.unit.test_import_name import FOLDERS
from tokenwire import __version__
from tokenwire.config.settings import ROOT

INFO = f"tokenwire-{__version__}.dist-info"


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _written() -> set[str]:
    """Every file of the program, as the wheel should name it."""
    own = {f"tokenwire/{path.name}" for path in (ROOT / "tokenwire").glob("*.py")}
    found = [
        path
        for name in FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".md")
    ]
    return own | {f"tokenwire/{path.relative_to(ROOT)}" for path in found}


def test_the_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    """`tokenwire` and its metadata: no folder that another application may have, and no missing
    file.
    """
    names = _names(wheel)
    assert {name.partition("/")[0] for name in names} == {"tokenwire", INFO}
    assert {
        name for name in names if name.startswith("tokenwire/") and not name.endswith(".md")
    } == _written()
    assert f"{INFO}/licenses/LICENSE" in names


def test_the_wheel_holds_files_and_no_links(wheel: Path) -> None:
    """Even the Procfile: its text, wherever it is installed."""
    with zipfile.ZipFile(wheel) as archive:
        kinds = {
            info.filename: stat.S_IFMT(info.external_attr >> 16) for info in archive.infolist()
        }
        assert set(kinds.values()) <= {0, stat.S_IFREG}
        assert archive.read("tokenwire/launcher/Procfile") == (ROOT / "Procfile").read_bytes()


def test_its_metadata(wheel: Path) -> None:
    """Name, licence, extras and the command."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(f"{INFO}/METADATA").decode().splitlines()
        assert (
            archive.read(f"{INFO}/entry_points.txt").decode()
            == "[console_scripts]\ntokenwire = tokenwire.cli:main\n"
        )
    assert {
        "Name: tokenwire",
        f"Version: {__version__}",
        "License-Expression: MIT",
        "License-File: LICENSE",
    } <= set(lines)
    assert {"Provides-Extra: server", "Provides-Extra: embedded", "Provides-Extra: sentry"} <= set(
        lines
    )
    light = [
        line.split(": ")[1]
        for line in lines
        if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    assert sorted(Requirement(line).name for line in light) == [
        "PyYAML",
        "httpx",
        "msgspec",
        "pydantic",
        "websockets",
    ]


@pytest.mark.timeout(300)
def test_the_source_distribution_builds_the_same_wheel(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    """It holds real files, so that it unpacks on systems without links."""
    with tarfile.open(sdist) as archive:
        assert {
            member.name for member in archive if not (member.isfile() or member.isdir())
        } == set()
        archive.extractall(tmp_path, filter="data")
    [unpacked] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert _names(build("wheel", unpacked, tmp_path / "wheel")) == _names(wheel)


def test_an_editable_install_maps_one_name(checkout: Path, tmp_path: Path) -> None:
    """The folders beside it, such as `models`, cannot be imported because of it."""
    venv = made_venv(tmp_path / "venv")
    venv.install("--no-build-isolation", "--editable", str(checkout))
    assert _imports(venv, "tokenwire.models.tables", tmp_path) == str(
        checkout / "tokenwire" / "models" / "tables.py"
    )
    assert [name for name in FOLDERS if _imports(venv, name, tmp_path)] == []


def _imports(venv: Venv, name: str, folder: Path) -> str:
    """A module's file; nothing if it is not found."""
    code = (
        "import importlib, sys\n"
        "try: print(importlib.import_module(sys.argv[1]).__file__)\n"
        "except ModuleNotFoundError as error: assert error.name == sys.argv[1], error\n"
    )
    return venv.says(["-c", code, name], folder).strip()
