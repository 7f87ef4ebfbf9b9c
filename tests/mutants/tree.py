"""A copy of the project for planted bugs: the checkout itself is never changed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.mutant import Mutant
from tokenwire.config.parent import dying_with_us
from tokenwire.config.settings import ROOT

CHECK_SECONDS = 300.0
"""A longer check is too slow for an area."""
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "var", "node_modules", "__pycache__", ".*_cache", "*.egg-info"
)
_SHARED = (
    ".venv",
    "var/servers",
    "tests/js/node_modules",
    "tests/js/aisdk/node_modules",
    "tests/js/openai/node_modules",
)
"""Installed once, and only read."""


class Tree:
    """One copy. Two trees may be used at the same time, each by one check at a time."""

    def __init__(self, root: Path = ROOT) -> None:
        self._directory = tempfile.mkdtemp(prefix="tokenwire-mutants-")
        self.path = Path(self._directory) / "tree"
        shutil.copytree(root, self.path, ignore=_LEFT_OUT, symlinks=True)
        (self.path / "var").mkdir(exist_ok=True)
        for name in _SHARED:
            if (root / name).exists():
                (self.path / name).symlink_to((root / name).resolve())
        self._plantings = 0

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def check(
        self, checks: tuple[str, ...], mutant: Mutant | None = None
    ) -> tuple[int | None, str]:
        """Run pytest on `checks`, with the mutant if there is one: exit code (None: it hung) and
        output. Raises Stale.
        """
        if mutant is None:
            return self._run(checks)
        file = self.path / mutant.file
        source = file.read_text("utf-8")
        try:
            self._write(file, mutant.applied(source))
            return self._run(checks)
        finally:
            self._write(file, source)

    def _write(self, file: Path, source: str) -> None:
        # Python considers compiled code current if size and second of change agree: no two
        # plantings may have the same time.
        self._plantings += 1
        file.write_text(source, "utf-8")
        changed = file.stat().st_mtime + self._plantings
        os.utime(file, (changed, changed))

    def _run(self, checks: tuple[str, ...]) -> tuple[int | None, str]:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            *checks,
        ]
        process = subprocess.Popen(
            command,
            cwd=self.path,
            env={
                **os.environ,
                "CI": "1",
            },  # a missing file fails the check instead of letting every mutant survive
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=dying_with_us(),
        )
        try:
            output, _ = process.communicate(timeout=CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            return None, "hung"
        else:
            return process.returncode, output
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End it and its processes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
