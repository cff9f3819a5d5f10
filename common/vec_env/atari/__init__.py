"""Atari games: a native backend in worker processes, and the same preprocessing as wrappers of a single game."""
