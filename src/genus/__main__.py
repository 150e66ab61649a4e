"""``python -m genus`` is the command ``genus``."""

import sys

from genus.cli import main

if __name__ == "__main__":
    sys.exit(main())
