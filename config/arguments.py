"""Commands without arguments: their settings come from the environment."""

import sys

EXIT_USAGE = 2


def refuse_arguments() -> None:
    """End the command with a line if it has any: `--help` must not start servers, and `--port 9000`
    must not be ignored.
    """
    if sys.argv[1:]:
        sys.stderr.write(
            f"This command takes no arguments ({sys.argv[1]}): settings come from the environment "
            "or from .env (.env.example lists them).\n"
        )
        raise SystemExit(EXIT_USAGE)
