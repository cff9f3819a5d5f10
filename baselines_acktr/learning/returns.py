"""Returns, advantages and explained variance, as pure functions on arrays [T, N]: T steps of N environments."""

from __future__ import annotations

import numpy as np

from common.mpi import ALONE, Communicator
from common.running_mean_std import moments


def generalized_advantages(
    r_t: np.ndarray, v_tm1: np.ndarray, v_t: np.ndarray, ended: np.ndarray, gamma: float, lam: float
) -> np.ndarray:
    """A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma v_t - v_tm1 (Schulman et al. 2016, equation 16).

    The sum stops at the end of an episode and at the end of the batch, where `v_t` stands for the rest.

    Args:
      r_t: rewards, [T, N].
      v_tm1: value of the observation before each step, [T, N].
      v_t: value of the observation after it in the same episode, 0 where the episode terminated, [T, N].
      ended: whether the episode ended with this step, by termination or truncation, [T, N].
      gamma: discount.
      lam: lambda; 1 gives k-step returns minus `v_tm1`, 0 one-step temporal differences.

    Returns:
      [T, N].
    """
    if not r_t.shape == v_tm1.shape == v_t.shape == ended.shape:
        raise ValueError(f"shapes differ: r_t {r_t.shape}, v_tm1 {v_tm1.shape}, v_t {v_t.shape}, ended {ended.shape}")
    advantages = r_t + gamma * v_t - v_tm1
    decay = (gamma * lam * ~ended).astype(advantages.dtype)
    for t in reversed(range(len(r_t) - 1)):
        advantages[t] += decay[t] * advantages[t + 1]
    return advantages


def lambda_returns(
    r_t: np.ndarray, v_tm1: np.ndarray, v_t: np.ndarray, ended: np.ndarray, gamma: float, lam: float = 1.0
) -> np.ndarray:
    """G_t = A_t + v_tm1, for lambda = 1 the k-step returns of Wu et al. 2017, section 5.

    Those are G_t = r_t + gamma G_{t+1}, with `v_t` for what lies beyond the end of the episode or of the batch.
    Arguments as for `generalized_advantages`; returns [T, N].
    """
    return generalized_advantages(r_t, v_tm1, v_t, ended, gamma, lam) + v_tm1


def explained_variance(predictions: np.ndarray, targets: np.ndarray, comm: Communicator = ALONE) -> float:
    """1 - Var[targets - predictions] / Var[targets], over all ranks; nan where the targets are constant."""
    columns = np.stack([targets.ravel(), (targets - predictions).ravel()], axis=-1)
    total, unexplained = moments(columns, comm)[1]
    return float("nan") if total == 0 else float(1 - unexplained / total)
