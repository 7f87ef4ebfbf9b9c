"""A provider that another package brings."""

import subprocess
import sys
from pathlib import Path

import pytest

from tokenwire.config.settings import ROOT

PLUGIN = """
from tokenwire.providers.registry import register
from tokenwire.providers.spec import Preset

register(
    Preset("acme", "openai.chat", "https://acme.example/v1", "ACME_KEY", continuation="none")
)
"""
CATALOGUE = "models: {ours: {provider: acme, api: openai.chat}}"
CODE = """
from tokenwire.providers.presets import rung_of
from tokenwire.worker.main import _catalogue
ours = _catalogue.models["ours"]
assert (ours.api_key, rung_of(ours)) == ("k", "none"), ours
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An installed package that names its module in the entry-point group."""
    (tmp_path / "acme.py").write_text(PLUGIN)
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tokenwire.providers]\nacme = acme\n")
    return tmp_path


def test_a_worker_knows_it(package: Path) -> None:
    """Web offers it for its entry's `api`; the worker must know its preset to ask it: its key and
    its rung too, so it is registered before the catalogue is read.
    """
    (package / "models.yml").write_text(CATALOGUE)
    environ = {
        "PYTHONPATH": f"{ROOT}:{package}",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "DATABASE_URL": f"sqlite:///{package}/tokenwire.db",
        "TOKEN_KEY": "k" * 32,
        "MODE": "development",
        "MODELS_FILE": str(package / "models.yml"),
        "ACME_KEY": "k",
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environ, cwd=package, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
