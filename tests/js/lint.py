"""`python -m tests.js.lint`: ESLint over the page, tokenwire.js and their tests. A part of `make check`.

Without Node or npm it says so and passes, so that a change of Python code needs neither; in CI that is a failure.
"""

import os
import subprocess
import sys

from tests.js.packages import HERE, InstallFailed, ToolMissing, installed, tool
from tokenwire.config.settings import ROOT

PLACES = ("web/static", "tests/js", "tests/e2e")


def main(arguments: tuple[str, ...] = PLACES, standard_input: str | None = None) -> int:
    """ESLint's exit code; `arguments` are those of its command line."""
    try:
        command = [tool("node"), str(installed() / "eslint" / "bin" / "eslint.js")]
    except ToolMissing as missing:
        sys.stderr.write(f"JavaScript was not checked: {missing}\n")
        return 1 if os.environ.get("CI") else 0
    except InstallFailed as error:
        sys.stderr.write(f"JavaScript was not checked: {error}\n")
        return 1
    options = ["--config", str(HERE / "eslint.config.mjs"), "--no-error-on-unmatched-pattern", "--max-warnings", "0"]
    return subprocess.run([*command, *options, *arguments], cwd=ROOT, input=standard_input, text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
