"""The benchmark is run as a folder of scripts; its tests find it so."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
