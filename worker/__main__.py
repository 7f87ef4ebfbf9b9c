"""`python -m tokenwire.worker`: Dramatiq's own command, with the arguments that Tokenwire needs."""

import sys

from dramatiq import cli

from tokenwire.config.arguments import refuse_arguments
from tokenwire.config.settings import load
from tokenwire.config.stopping import ignore_at_exit


def main() -> int:
    """Serve until SIGTERM or SIGINT; 78 for a wrong setting, otherwise Dramatiq's exit code."""
    threads = load(needs=["redis_url", "database_url"]).worker_threads
    # One process per command: its event loop runs all answers. To run more, start more commands.
    # The timeout notices a process that dies while it boots after a second instead of 30.
    arguments = [
        "tokenwire.worker.main",
        "--processes",
        "1",
        "--threads",
        str(threads),
        "--worker-fork-timeout",
        "1000",
    ]
    parser = cli.make_argument_parser()
    ignore_at_exit()
    return int(cli.main(parser.parse_args(arguments)) or 0)


if __name__ == "__main__":
    refuse_arguments()
    sys.exit(main())
