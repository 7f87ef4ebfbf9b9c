"""`python -m tokenwire`: the command `tokenwire` if it is not on the PATH."""

import sys

from tokenwire.cli import main

if __name__ == "__main__":
    sys.exit(main())
