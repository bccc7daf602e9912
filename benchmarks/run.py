#!/usr/bin/env python3
"""Load-test a SpineServe server or cluster; ``--help`` lists the options. See benchmarks/load/README.md."""

import signal
import sys

from load.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing stays behind
    raise SystemExit(main())
