"""A disk that is full at will: a small file system in memory.

Mounting needs root; where it is refused the test is skipped, in CI it fails.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_BALLAST = "ballast"


class Disk:
    """A file system of its own, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Not a byte is left."""
        with (self.path / _BALLAST).open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        """End of `fill`."""
        (self.path / _BALLAST).unlink()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk of 128 MB, that servers which run as somebody else can reach."""
    path = Path(tempfile.mkdtemp(prefix="tokenwire-disk-"))
    path.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128m,mode=755", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        path.rmdir()
        if os.environ.get("CI"):
            pytest.fail(f"no small disk can be mounted here: {mounted.stderr.strip()}")
        pytest.skip("mounting a small disk needs root")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", path], check=True)
    path.rmdir()
