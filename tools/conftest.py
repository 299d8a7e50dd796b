"""Let the tests of the tools import the steps of beyond/ by their names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "beyond"))
