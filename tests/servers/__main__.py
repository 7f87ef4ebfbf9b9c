"""`python -m tests.servers install`: fetch every foreign server of the tests."""

import sys

from tests.servers import aimock, llamacpp, llmock
from tests.servers.service import NotInstalled


def main() -> int:
    missing = 0
    for server in (llamacpp, aimock, llmock):
        try:
            server.install()
        except NotInstalled as error:
            sys.stderr.write(f"{error}\n")
            missing += 1
    return missing


if __name__ == "__main__":
    sys.exit(main())
