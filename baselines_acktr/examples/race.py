"""Counts the updates, and the processor time, that an optimizer needs to solve a problem."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.examples.problems import Problem
from baselines_acktr.examples.rivals import RIVALS, Trainer

WARM_UP = 12  # updates before a run that trace its graphs; their effect is undone
LOOKS = 50  # up to update 2 LOOKS the metric is evaluated after every update, then every (updates // LOOKS)-th
SLACK = 1.5  # a run is given up after this multiple of the updates that the best learning rate so far needs


class RaceResult(NamedTuple):
    """One run, until the problem is solved or given up.

    Attributes:
      problem: name of the problem.
      optimizer: name of the optimizer.
      learning_rate: learning rate; NaN for the optimizer's default.
      seed: seed of the initial weights and of the batches.
      updates: number of updates until the problem was solved or given up.
      seconds: processor time of these updates, without the evaluation of the metric.
      solved: whether the metric came below the target.
    """

    problem: str
    optimizer: str
    learning_rate: float
    seed: int
    updates: int
    seconds: float
    solved: bool


def race(problem: Problem, optimizer: str, rate: float | None, seed: int, limit: int) -> RaceResult:
    """Trains a new model until the problem is solved, for at most `limit` updates.

    Args:
      problem: the problem.
      optimizer: a key of `RIVALS`.
      rate: learning rate; None for the optimizer's default.
      seed: seed of the initial weights and of the batches.
      limit: largest number of updates.
    """
    model = problem.make_model(seed)
    trainer = RIVALS[optimizer].start(problem, model, rate)
    look = tf.function(lambda: problem.metric(problem.targets, model(problem.inputs)), autograph=False)
    _warm_up(trainer, model, problem)
    rng = np.random.default_rng(seed)

    seconds = 0.0
    solved = False
    for update in range(1, limit + 1):
        batch = problem.batch(rng)
        start = time.process_time()
        trainer.update(*batch)
        seconds += time.process_time() - start

        if update % max(1, update // LOOKS) == 0:
            metric = float(look())
            solved = metric < problem.target
            if solved or not np.isfinite(metric):
                break

    learning_rate = float("nan") if rate is None else rate
    return RaceResult(problem.name, optimizer, learning_rate, seed, update, seconds, solved)


def _warm_up(trainer: Trainer, model: keras.Model, problem: Problem) -> None:
    """Traces all graphs with a few updates, then restores model and optimizer."""
    weights = model.get_weights()
    state = trainer.state()
    rng = np.random.default_rng(0)

    for _ in range(WARM_UP):
        trainer.update(*problem.batch(rng))

    model.set_weights(weights)
    trainer.set_state(state)


def tune(problem: Problem, optimizer: str, seeds: Sequence[int]) -> list[list[RaceResult]]:
    """Runs every seed at learning rates of the optimizer's grid, and returns the runs by rate, best rate first.

    The search goes up from the middle of the grid, then down, each time until a rate is worse than the best so far.
    So the best rate has worse ones on both sides, or lies at the end of the grid. Rates are compared by
    `median_updates`.
    """
    rates = RIVALS[optimizer].rates
    found = []
    best = np.inf

    middle = len(rates) // 2
    for side in (rates[middle:], rates[:middle][::-1]):
        for rate in side:
            limit = int(min(problem.limit, SLACK * best))
            runs = [race(problem, optimizer, rate, seed, limit) for seed in seeds]
            found.append(runs)

            updates = median_updates(runs)
            if updates > best:
                break
            best = updates

    return sorted(found, key=median_updates)


def median_updates(runs: list[RaceResult]) -> float:
    """Returns the median over seeds of the updates to the target. It is infinite if at least half of the runs fail."""
    updates = sorted(run.updates if run.solved else np.inf for run in runs)
    return float(updates[len(updates) // 2])
