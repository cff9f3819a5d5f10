"""Returns and explained variance, as pure functions on arrays [T, N]: T steps of N environments."""

from __future__ import annotations

import numpy as np


def n_step_returns(r_t: np.ndarray, discount_t: np.ndarray, bootstrap: np.ndarray) -> np.ndarray:
    """G_t = r_t + discount_t G_{t+1}, with G_T = bootstrap (Wu et al. 2017, section 5: k-step returns).

    Args:
      r_t: rewards, [T, N]; where an episode was truncated, with the discounted value of its final observation added.
      discount_t: gamma, or 0 where the episode ended at this step, [T, N].
      bootstrap: value of the observation after the last step, [N].

    Returns:
      [T, N].
    """
    if r_t.shape != discount_t.shape or r_t.shape[1:] != bootstrap.shape:
        raise ValueError(f"shapes differ: r_t {r_t.shape}, discount_t {discount_t.shape}, bootstrap {bootstrap.shape}")
    returns = np.empty_like(r_t)
    following = bootstrap
    for t in reversed(range(len(r_t))):
        following = r_t[t] + discount_t[t] * following
        returns[t] = following
    return returns


def explained_variance(predictions: np.ndarray, targets: np.ndarray) -> float:
    """1 - Var[targets - predictions] / Var[targets]; nan where the targets are constant."""
    variance = np.var(targets)
    return float("nan") if variance == 0 else float(1 - np.var(targets - predictions) / variance)
