"""``python -m xpnet``: the command ``xpnet`` where it is not on the path."""

import sys

from xpnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
