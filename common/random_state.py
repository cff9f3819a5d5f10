"""The state of a NumPy generator as an array, for checkpoints."""

from __future__ import annotations

import numpy as np


def get_random_state(generator: np.random.Generator) -> np.ndarray:
    """State of a generator on PCG64 (`numpy.random.default_rng`), uint64 [6]."""
    state = generator.bit_generator.state
    words = [word for key in ("state", "inc") for word in divmod(state["state"][key], 2**64)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def set_random_state(generator: np.random.Generator, array: np.ndarray) -> None:
    """Takes back what `get_random_state` returned; raises ValueError if it is not of shape [6]."""
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in array)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
