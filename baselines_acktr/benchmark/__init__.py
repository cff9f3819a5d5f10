"""Speed of training, measured side by side: `python -m baselines_acktr.benchmark --help`."""
