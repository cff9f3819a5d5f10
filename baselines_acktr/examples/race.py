"""How many updates, and how much of a processor's time, an optimizer needs until a problem is solved."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.examples.problems import Problem
from baselines_acktr.examples.rivals import RIVALS, Trainer

WARM_UP = 12  # updates before a run, taken back: they trace graphs
LOOKS = 50  # the metric is looked at after every update at first, later whenever the updates grew by a LOOKS-th
SLACK = 1.5  # a run is given up after so many times the updates that the best learning rate so far needs


class Run(NamedTuple):
    """One run until a problem is solved.

    Attributes:
      problem: its name.
      optimizer: its name.
      learning_rate: NaN for the optimizer's default.
      seed: of the initial weights and of the rows that updates take.
      updates: until it was solved, or given up.
      seconds: of processor time that these took, without looks at the metric.
      solved: whether the metric came below the target.
    """

    problem: str
    optimizer: str
    learning_rate: float
    seed: int
    updates: int
    seconds: float
    solved: bool


def race(problem: Problem, optimizer: str, rate: float | None, seed: int, limit: int) -> Run:
    """Trains a new model until the problem is solved, for `limit` updates at most."""
    model = problem.make_model(seed)
    trainer = RIVALS[optimizer].start(problem, model, rate)
    look = tf.function(lambda: problem.metric(problem.targets, model(problem.inputs)))
    _warm_up(trainer, model, problem)
    rng, seconds, solved = np.random.default_rng(seed), 0.0, False
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
    return Run(problem.name, optimizer, learning_rate, seed, update, seconds, solved)


def _warm_up(trainer: Trainer, model: keras.Model, problem: Problem) -> None:
    """Has graphs traced by a few updates, whose effect is taken back."""
    weights, state, rng = model.get_weights(), trainer.state(), np.random.default_rng(0)
    for _ in range(WARM_UP):
        trainer.update(*problem.batch(rng))
    model.set_weights(weights)
    trainer.set_state(state)


def tune(problem: Problem, optimizer: str, seeds: Sequence[int]) -> list[list[Run]]:
    """Runs of every seed at the learning rates of the optimizer's grid, best rate first; see `median_updates`.

    From the middle of the grid it goes up, then down, until a rate is worse than the best so far: so the best one has a
    worse one on either side, or is the last of the grid.
    """
    rates, found, best = RIVALS[optimizer].rates, [], np.inf
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


def median_updates(runs: list[Run]) -> float:
    """Median over seeds of the updates to the target; infinite where most do not get there."""
    updates = sorted(run.updates if run.solved else np.inf for run in runs)
    return float(updates[len(updates) // 2])
