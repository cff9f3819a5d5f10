"""Atari games: native worker processes, and the classic wrappers that they are compared with."""
