"""The lock files: each package is pinned by its hash, whatever its origin."""

import re

import pytest

from tokenwire.config.settings import ROOT

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")
OF_CLIENTS = ("tests/e2e/clients/agents.lock", "tests/e2e/clients/langchain.lock")


def _requirements(name: str) -> list[str]:
    """Each requirement on a line of its own."""
    return (ROOT / name).read_text().replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("name", [*LOCKS, *OF_CLIENTS])
def test_every_requirement_is_pinned_by_hashes(name: str) -> None:
    """A package that was replaced at its source does not install."""
    for line in _requirements(name):
        assert re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("name", [*LOCKS, *OF_CLIENTS])
def test_no_index_is_named(name: str) -> None:
    """Each installation chooses where its packages come from."""
    assert "://" not in (ROOT / name).read_text()


def test_production_and_tests_have_the_same_versions() -> None:
    """The longer lock files contain the shorter ones at the same versions."""
    pins = [{line.split(" ", 1)[0] for line in _requirements(name)} for name in LOCKS]
    assert pins[0] <= pins[1] <= pins[2]


def test_nothing_is_installed_without_its_hash() -> None:
    """pip compares hashes only with this option."""
    installs = re.findall(r"\$\(PIP\) install .*", (ROOT / "Makefile").read_text())
    assert len(installs) == 3
    assert all("--require-hashes -r requirements" in line for line in installs)
