"""``python -m genus`` is the command ``genus``."""

import sys

from genus_command import main

if __name__ == "__main__":
    sys.exit(main())
