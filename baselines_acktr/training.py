"""The loop that every on-policy learner runs: rollout, update, report, checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np

from baselines_acktr.agents import Agent
from baselines_acktr.keeper import Content, Keeper, Snapshot, load_run
from baselines_acktr.rollouts import Runner, state_gap
from common.errors import UserError, closest
from common.logger import Logger
from common.named_arrays import with_prefix, without_prefix
from common.random_state import get_global_state, set_global_state

AgentT = TypeVar("AgentT", bound=Agent)


@dataclasses.dataclass(frozen=True)
class Run:
    """How long to train, and what to write on the way.

    Attributes:
      total_timesteps: steps of all environments together; whole batches only.
      logger: takes the numbers every `log_interval` updates, and those of the first and the last.
      save_path: file that the model is written to at the end.
      keeper: writes checkpoints to resume from, on the way and at the end.
      callback: called with the model after each update; a true result ends the training.
    """

    total_timesteps: int
    logger: Logger | None = None
    log_interval: int = 100
    save_path: str | None = None
    keeper: Keeper | None = None
    callback: Callable[[Any], bool | None] | None = None


def require_same_step(env: gym.vector.VectorEnv) -> None:
    """Raises UserError unless `env` resets a finished episode within the step that ends it."""
    mode = env.metadata.get("autoreset_mode")
    if mode != gym.vector.AutoresetMode.SAME_STEP:
        raise UserError(f"env: its autoreset mode is {mode}; must be AutoresetMode.SAME_STEP")


def make_config(config_class: type, **hyperparameters: Any) -> Any:
    """The config with these hyperparameters; raises UserError for an unknown name, with the closest one."""
    names = [field.name for field in dataclasses.fields(config_class)]
    for name in hyperparameters:
        if name not in names:
            raise UserError(f"{name}: unknown hyperparameter.{closest(name, names)}")
    return config_class(**hyperparameters)


def learn(
    agent_class: type[AgentT],
    network: str | None = None,
    *,
    env: gym.vector.VectorEnv,
    seed: int = 0,
    total_timesteps: int,
    logger: Logger | None = None,
    log_interval: int = 100,
    save_path: str | None = None,
    keeper: Keeper | None = None,
    load_path: str | None = None,
    resume: bool = False,
    callback: Callable[[AgentT], bool | None] | None = None,
    **hyperparameters: Any,
) -> AgentT:
    """Trains a model.

    Args:
      agent_class: the learner's `Model`.
      network: `cnn`, `mlp`, a registered name or `module:function`; None chooses by the observation space.
      env: SAME_STEP vector environment (see `common.vec_env.make_vec_env`).
      seed: of the weights and of every draw of the learner.
      total_timesteps: steps of all environments together, those of a loaded checkpoint included.
      logger: takes the numbers every `log_interval` updates (and after the first and the last).
      save_path: where to write the model at the end.
      keeper: writes checkpoints to resume from, on the way and at the end.
      load_path: checkpoint to go on from: parameters, optimizers, counters, schedule and random generators.
      resume: `load_path` is one of a `Keeper`: go on with its environments, unfinished episodes and log files, too.
      callback: called after each update; a true result ends the training.
      **hyperparameters: fields of the learner's config.

    Raises:
      UserError: for a mistake in the arguments, named.
      RunFailedError: if a number is not finite, naming where it comes from; nothing is saved then.
    """
    require_same_step(env)
    preset = agent_class.preset(env.single_observation_space)
    config = make_config(agent_class.config_class, **preset | hyperparameters)
    network = network or agent_class.default_network(env.single_observation_space)
    env_id = env.spec.id if env.spec else None
    model = agent_class(env.single_observation_space, env.single_action_space, network, config, seed, env_id)
    with contextlib.closing(model):
        if load_path:
            model.load(load_path)
        start = load_run(Path(load_path)) if load_path and resume else None
        train(model, env, Run(total_timesteps, logger, log_interval, save_path, keeper, callback), start)
    return model


def train(model: Agent, env: gym.vector.VectorEnv, run: Run, start: Content | None = None) -> None:
    """Trains `model` on `env` until `run.total_timesteps`, counting what it had already done.

    Args:
      model, env, run: what is trained, on what, and how long.
      start: content of the file of a run to go on from, where the model is (see `keeper`).
    """
    batch = model.config.batch_size(env.num_envs)
    runner = model.make_runner(env)
    if run.keeper is not None and (gap := state_gap(env)):
        print(f"a resumed run will start its episodes anew, all else will be exact: {gap}", file=sys.stderr, flush=True)
    if start:
        _restore(runner, run.logger, start, seed=model.seed + model.updates)
    clock = _Clock(model.timesteps)
    stop = False
    while model.timesteps + batch <= run.total_timesteps and not stop:
        last = model.timesteps + 2 * batch > run.total_timesteps
        report = model.updates == 0 or (model.updates + 1) % run.log_interval == 0 or last
        rollout = runner.run()
        metrics = model.update(rollout, run.total_timesteps, report=report and run.logger is not None)
        model.timesteps += rollout.rewards.size
        model.updates += 1
        stop = bool(run.callback and run.callback(model))
        if run.logger is not None:
            eprewmean, fps = _mean(runner.episode_rewards), clock.fps(model.timesteps)
            run.logger.progress(model.timesteps, run.total_timesteps, eprewmean=eprewmean, fps=fps)
            if report:
                _report(run.logger, model, runner, metrics, fps)
        ended = stop or model.timesteps + batch > run.total_timesteps
        if run.keeper is not None and (ended or run.keeper.due(model.updates)):
            run.keeper.save(_snapshot(model, runner, run.logger), wait=ended)
        if run.logger is not None and stop and not report:
            _report(run.logger, model, runner, metrics, fps)  # a resumed run takes this row back
    if run.save_path:
        model.save(run.save_path)


def _snapshot(model: Agent, runner: Runner, logger: Logger | None) -> Snapshot:
    score = _mean(runner.episode_rewards) if len(runner.episode_rewards) == runner.episode_rewards.maxlen else math.nan
    arrays = with_prefix("runner", runner.state()) | with_prefix("random", get_global_state())
    log = {} if logger is None else logger.positions()
    return Snapshot(model.updates, model.timesteps, score, model.content(), (arrays, {"log": log}))


def _restore(runner: Runner, logger: Logger | None, content: Content, seed: int) -> None:
    """Goes on with what `_snapshot` took note of; `seed` is of environments whose own state is not known."""
    arrays, meta = content
    runner.set_state(without_prefix("runner", arrays), seed)
    set_global_state(without_prefix("random", arrays))
    if logger is not None:
        logger.cut(meta["log"])


class _Clock:
    """Timesteps per second since the start of this process's part of the run."""

    def __init__(self, timesteps: int) -> None:
        self._first, self._start = timesteps, time.perf_counter()

    def fps(self, timesteps: int) -> float:
        return (timesteps - self._first) / (time.perf_counter() - self._start)


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


def _report(logger: Logger, model: Agent, runner: Runner, metrics: dict[str, Any], fps: float) -> None:
    logger.log(
        {
            "nupdates": model.updates,
            "total_timesteps": model.timesteps,
            "fps": int(fps),
            "eprewmean": _mean(runner.episode_rewards),
            "eplenmean": _mean(runner.episode_lengths),
            "episodes": runner.episodes,
        }
        | {name: float(value) for name, value in metrics.items()}
        | model.counters()
    )
    logger.dump(model.timesteps)
