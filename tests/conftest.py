"""What all tests share."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # so that tests may import toys

# a shell that runs the tests in the background has SIGINT ignored, here and in every child: the
# tests of Ctrl-C need it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
