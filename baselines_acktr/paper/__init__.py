"""Commands that reproduce the tables and figures of the paper: `python -m baselines_acktr.paper list`."""
