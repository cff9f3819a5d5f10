"""The problem "autoencoder" of `compare` alone: `python -m baselines_acktr.examples.autoencoder --compare`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from baselines_acktr.examples import single


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code (see `single`)."""
    return single.main("autoencoder", argv)


if __name__ == "__main__":
    sys.exit(main())
