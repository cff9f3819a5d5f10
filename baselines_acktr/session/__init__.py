"""A run: its settings, its training loop, its ranks and its files."""
