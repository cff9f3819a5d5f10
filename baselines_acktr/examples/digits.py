"""The problem "digits" of `baselines_acktr.examples.compare` alone: `python -m baselines_acktr.examples.digits`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from baselines_acktr.examples import compare


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code. The flags are those of `compare`."""
    return compare.main(["--problems=digits", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
