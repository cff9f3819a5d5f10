"""The state of random generators as arrays, for checkpoints."""

from __future__ import annotations

import random

import numpy as np

from common.named_arrays import Arrays

_RANK_STRIDE = 1_000_003  # a prime far above any number of environments


def rank_seed(seed: int, rank: int) -> int:
    """The seed of what each MPI rank draws for itself: seed + 1000003 rank, modulo 2^31."""
    return (seed + _RANK_STRIDE * rank) % 2**31


def is_supported(generator: object) -> bool:
    """Whether a generator is one that `get_random_state` knows."""
    return isinstance(generator, np.random.Generator) and isinstance(generator.bit_generator, np.random.PCG64)


def get_random_state(generator: np.random.Generator) -> np.ndarray:
    """State of a generator on PCG64 (`numpy.random.default_rng`), uint64 [6]."""
    state = generator.bit_generator.state
    words = [word for key in ("state", "inc") for word in divmod(state["state"][key], 2**64)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def set_random_state(generator: np.random.Generator, array: np.ndarray) -> None:
    """Restores what `get_random_state` returned; raises ValueError if it is not of shape [6]."""
    high, low, inc_high, inc_low, has_uint32, uinteger = (int(word) for word in array)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }


def get_global_state() -> Arrays:
    """State of the generators that belong to the process, Python's and NumPy's old one, which environments may use."""
    _, words, gauss = random.getstate()
    kind, keys, position, has_gauss, old_gauss = np.random.get_state()
    assert kind == "MT19937"
    return {
        "python": np.array(words, np.uint64),
        "python_gauss": np.array([] if gauss is None else [gauss], np.float64),
        "numpy": np.array([*keys, position, has_gauss], np.uint64),
        "numpy_gauss": np.array(old_gauss),
    }


def set_global_state(arrays: Arrays) -> None:
    """Restores what `get_global_state` returned."""
    gauss = arrays["python_gauss"].tolist()
    random.setstate((3, tuple(arrays["python"].tolist()), gauss[0] if gauss else None))
    *keys, position, has_gauss = arrays["numpy"].tolist()
    np.random.set_state(("MT19937", keys, position, has_gauss, float(arrays["numpy_gauss"])))


def seed_global_state(seed: int) -> None:
    """Seeds the generators of `get_global_state`; seeds count modulo 2^32."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
