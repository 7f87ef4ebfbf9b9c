"""config.arguments: what no command understands is refused."""

import subprocess
import sys

import pytest

from tokenwire.config.settings import ROOT

COMMANDS = ("broadcaster", "launcher", "models.migrate", "streams.embedded", "web", "worker")


@pytest.mark.parametrize("argument", ["--help", "--port=9000", "now"])
def test_an_argument_ends_the_command(argument: str) -> None:
    """Nothing starts, and a line says where settings come from."""
    ran = subprocess.run(
        [sys.executable, "-m", "tokenwire.launcher", argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"This command takes no arguments ({argument}): settings come")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_refuses_them(name: str) -> None:
    path = ROOT.joinpath(*name.split("."))
    file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    end = file.read_text().partition('if __name__ == "__main__":\n')[2]
    assert end.startswith("    refuse_arguments()\n")
