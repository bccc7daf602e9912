#!/usr/bin/env python3
"""Load-test a SpineServe server or cluster; ``--help`` lists the options. See benchmarks/load/README.md."""

from load.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
