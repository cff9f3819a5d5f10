"""The loop that every on-policy learner runs: rollout, update, report, checkpoint."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from baselines_acktr.returns import explained_variance
from baselines_acktr.rollouts import Rollout, Runner
from common.errors import UserError
from common.logger import Logger
from common.schedules import scheduled


class Learner(Protocol):
    """What the loop needs of a model; `config` has nsteps, gamma, lr, lrschedule and schedule_timesteps."""

    config: Any
    timesteps: int
    updates: int

    def step(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]: ...

    def value(self, observations: np.ndarray) -> np.ndarray: ...

    def update(self, rollout: Rollout, lr: float, measure_kl: bool) -> dict[str, Any]: ...

    def counters(self) -> dict[str, int]: ...

    def save(self, path: str) -> None: ...


@dataclasses.dataclass(frozen=True)
class Run:
    """How long to train, and what to write on the way.

    Attributes:
      total_timesteps: steps of all environments together; whole batches only.
      logger: takes the numbers every `log_interval` updates, and those of the first and the last.
      save_path: checkpoint written every `save_interval` updates (0: never) and at the end.
      callback: called with the model after each update; a true result ends the training.
    """

    total_timesteps: int
    logger: Logger | None = None
    log_interval: int = 100
    save_path: str | None = None
    save_interval: int = 0
    callback: Callable[[Any], bool | None] | None = None


def require_same_step(env: gym.vector.VectorEnv) -> None:
    """Raises UserError unless `env` resets a finished episode within the step that ends it."""
    mode = env.metadata.get("autoreset_mode")
    if mode != gym.vector.AutoresetMode.SAME_STEP:
        raise UserError(f"env: its autoreset mode is {mode}; must be AutoresetMode.SAME_STEP")


def train(model: Learner, env: gym.vector.VectorEnv, run: Run) -> None:
    """Trains `model` on `env` until `run.total_timesteps`, counting what it had already done."""
    config = model.config
    batch = config.nsteps * env.num_envs
    if model.timesteps + batch > run.total_timesteps:
        return
    runner = Runner(env, model, config.nsteps, config.gamma)
    horizon = config.schedule_timesteps or run.total_timesteps
    clock = _Clock(model.timesteps)
    stop = False
    while model.timesteps + batch <= run.total_timesteps and not stop:
        last = model.timesteps + 2 * batch > run.total_timesteps
        report = model.updates == 0 or (model.updates + 1) % run.log_interval == 0 or last
        lr = scheduled(config.lrschedule, config.lr, model.timesteps, horizon)
        rollout = runner.run()
        metrics = model.update(rollout, lr, measure_kl=report and run.logger is not None)
        model.timesteps += batch
        model.updates += 1
        stop = bool(run.callback and run.callback(model))
        if run.logger is not None:
            eprewmean, fps = _mean(runner.episode_rewards), clock.fps(model.timesteps)
            run.logger.progress(model.timesteps, run.total_timesteps, eprewmean=eprewmean, fps=fps)
            if report or stop:
                _report(run.logger, model, runner, rollout, metrics | {"lr": lr}, fps)
        if run.save_path and run.save_interval and model.updates % run.save_interval == 0:
            model.save(run.save_path)
    if run.save_path:
        model.save(run.save_path)


class _Clock:
    """Timesteps per second since the start of this process's part of the run."""

    def __init__(self, timesteps: int) -> None:
        self._first, self._start = timesteps, time.perf_counter()

    def fps(self, timesteps: int) -> float:
        return (timesteps - self._first) / (time.perf_counter() - self._start)


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


def _report(logger: Logger, model: Learner, runner: Runner, rollout: Rollout, metrics, fps: float) -> None:
    logger.log(
        {
            "nupdates": model.updates,
            "total_timesteps": model.timesteps,
            "fps": int(fps),
            "eprewmean": _mean(runner.episode_rewards),
            "eplenmean": _mean(runner.episode_lengths),
            "episodes": runner.episodes,
            "explained_variance": explained_variance(rollout.values, rollout.returns),
        }
        | {name: float(value) for name, value in metrics.items()}
        | model.counters()
    )
    logger.dump(model.timesteps)
