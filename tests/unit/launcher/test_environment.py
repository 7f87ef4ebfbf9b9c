"""What the processes find in their environment."""

import os
import stat
import sys
from pathlib import Path

from launcher.environment import combine, kept_key


def test_who_wins() -> None:
    """The environment wins over .env, .env over development's defaults; an empty value counts as none."""
    combined = combine({"PORT": "1", "LOG_LEVEL": "", "MODE": ""}, {"PORT": "2", "LOG_LEVEL": "debug", "WORKERS": "3", "HOST": None})
    assert {name: combined.get(name) for name in ("PORT", "LOG_LEVEL", "WORKERS", "MODE", "HOST")} == {
        "PORT": "1",
        "LOG_LEVEL": "debug",
        "WORKERS": "3",
        "MODE": "development",
        "HOST": None,
    }


def test_a_short_drain_unless_asked() -> None:
    """Ctrl-C must not wait for 25 s, unless somebody says so."""
    assert combine({}, {})["DRAIN_SECONDS"] == "1"
    assert combine({"DRAIN_SECONDS": "9"}, {})["DRAIN_SECONDS"] == "9"


def test_commands_are_found_beside_this_python() -> None:
    """`python` and `dramatiq` of the Procfile are those of the virtual environment, whatever PATH says."""
    assert combine({"PATH": "/usr/bin"}, {})["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/usr/bin"


def test_nothing_of_make_is_inherited() -> None:
    """A `make` inside a process is not part of the one that started the launcher."""
    assert "MAKELEVEL" not in combine({"MAKELEVEL": "1"}, {})


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """The key survives a restart, and only its owner can read it."""
    path = tmp_path / "var" / "token.key"
    key = kept_key(path)
    assert len(key) == 64
    assert kept_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
