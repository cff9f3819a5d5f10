"""The tables and figures of the paper as commands: `python -m baselines_acktr.paper list`."""
