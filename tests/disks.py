"""A disk that can be filled: a small file system in memory.

Mounting needs root; without it the test is skipped, in CI it fails.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_BALLAST = "ballast"


class Disk:
    """A file system mounted at `path` until `remove`; servers of other accounts can access it."""

    def __init__(self, megabytes: int) -> None:
        """Raises OSError if it cannot be mounted."""
        self.path = Path(tempfile.mkdtemp(prefix="tokenwire-disk-"))
        self.path.chmod(0o755)
        options = f"size={megabytes}m,mode=755"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            self.path.rmdir()
            raise OSError(done.stderr.strip())

    def fill(self) -> None:
        """Use up the last byte."""
        with (self.path / _BALLAST).open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        """End of `fill`."""
        (self.path / _BALLAST).unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it with its contents."""
        subprocess.run(["umount", "--lazy", self.path], check=True)
        self.path.rmdir()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk of 128 MB."""
    try:
        mounted = Disk(128)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    yield mounted
    mounted.remove()
