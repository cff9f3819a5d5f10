"""Training speed of the algorithms, measured side by side: `python -m baselines_acktr.benchmark --help`."""
