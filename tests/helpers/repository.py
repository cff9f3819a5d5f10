"""Where the repository and the modules of these tests are, for programs that tests start."""

from __future__ import annotations

import os
from pathlib import Path

HELPERS = Path(__file__).resolve().parent
ROOT = HELPERS.parent.parent
PYTHONPATH = os.pathsep.join(map(str, (ROOT, HELPERS)))
