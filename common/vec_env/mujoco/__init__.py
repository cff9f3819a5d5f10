"""MuJoCo tasks: batches that are stepped in threads, the tasks themselves, and their rendered frames."""
