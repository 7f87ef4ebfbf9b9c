"""The lock files: everything that is installed is pinned by its content, wherever it comes from."""

import re

import pytest

from tokenwire.config.settings import ROOT

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")


def _requirements(name: str) -> list[str]:
    """Each requirement on a line of its own."""
    return (ROOT / name).read_text().replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_by_hashes(name: str) -> None:
    """A package that was replaced where it is kept does not install."""
    for line in _requirements(name):
        assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("name", LOCKS)
def test_no_place_is_named(name: str) -> None:
    """Where packages come from is the business of whoever installs."""
    assert "://" not in (ROOT / name).read_text()


def test_what_runs_is_what_is_tested() -> None:
    """The longer lock files hold what the shorter ones hold, at the same versions."""
    pins = [{line.split(" ", 1)[0] for line in _requirements(name)} for name in LOCKS]
    assert pins[0] <= pins[1] <= pins[2]


def test_nothing_is_installed_without_its_hash() -> None:
    """Whatever the lock files say, pip compares only when told to."""
    installs = re.findall(r"\$\(PIP\) install .*", (ROOT / "Makefile").read_text())
    assert len(installs) == 3
    assert all("--require-hashes -r requirements" in line for line in installs)
