"""`python -m tests.js.check`: format, lint and types of the page, of tokenwire.js and of their
tests. A part of `make check`.

`--write` writes the format instead. Without Node or npm it says so and passes, so that a change of
Python code needs neither; in CI that is a failure.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from tests.js.packages import HERE, InstallFailed, ToolMissing, installed, tool
from tokenwire.config.settings import ROOT

LAID_OUT = ("web/page/static/*.{js,ts,html,css}", "tests/{js,e2e}/**/*.{js,mjs,jsx,ts}")
LINTED = ("web/page/static", "tests/js", "tests/e2e")
PRETTIER = (
    "prettier/bin/prettier.cjs",
    "--config",
    str(HERE / "prettier.config.mjs"),
    "--log-level",
    "warn",
)
ESLINT = (
    "eslint/bin/eslint.js",
    "--config",
    str(HERE / "eslint.config.mjs"),
    "--no-error-on-unmatched-pattern",
    "--max-warnings",
    "0",
)

TYPES = ("typescript/lib/tsc.js", "--project")


def main(arguments: Sequence[str] = ()) -> int:
    """Run every check, even after a failure; 0 if nothing was found."""
    try:
        tool("node")
        installed()
    except (ToolMissing, InstallFailed) as error:
        sys.stderr.write(f"JavaScript was not checked: {error}\n")
        return 0 if isinstance(error, ToolMissing) and not os.environ.get("CI") else 1
    if "--write" in arguments:
        return run(*PRETTIER, "--write", *LAID_OUT)
    checks = [(*PRETTIER, "--check", *LAID_OUT), (*ESLINT, *LINTED), (*TYPES, str(HERE / "types"))]
    return max([run(*check) for check in checks])


def run(script: str, *arguments: str, standard_input: str | None = None) -> int:
    """Run a script of the installed packages in Node; its exit code. Raises ToolMissing,
    InstallFailed.
    """
    command = [tool("node"), str(installed() / script), *arguments]
    return subprocess.run(
        command, cwd=ROOT, input=standard_input, text=True, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
