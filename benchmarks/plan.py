"""``python benchmarks/plan.py measure|size|check``: how many replicas; see planning/README.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from planning.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
