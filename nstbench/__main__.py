"""``python -m nstbench``: the command line from a checkout that is not installed."""

import sys

from nstbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
