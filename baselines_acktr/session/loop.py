"""The loop that every on-policy learner runs: rollout, update, report, checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import resource
import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import keras

from baselines_acktr.agent.agent import Agent
from baselines_acktr.callbacks import Callbacks, Given
from baselines_acktr.callbacks import Training as CallbackView
from baselines_acktr.kfac import NoInverseError
from baselines_acktr.learning.rollouts import Runner, state_gap
from baselines_acktr.session import ranks
from baselines_acktr.session.checkpoints import CheckpointManager, load_run
from baselines_acktr.session.measurements import Measurements
from baselines_acktr.session.ready_made import POLICY_ONLY
from common.errors import RunFailedError, UserError
from common.logger import Logger
from common.mpi import Communicator
from common.named_arrays import Arrays
from common.random_state import rank_seed

AgentT = TypeVar("AgentT", bound=Agent)
WINDOW = 30.0  # seconds that the speed is a mean of


@dataclasses.dataclass(frozen=True)
class Training:
    """How long to train, and what to write on the way.

    Attributes:
      total_timesteps: steps of all environments of all ranks together; whole batches only.
      logger: takes the numbers every `log_interval` updates, and those of the first and the last.
      save_path: file that the model is written to at the end.
      keeper: writes checkpoints to resume from, on the way and at the end.
      callback: called beside the training (see `callbacks.Callbacks`).
      sync_check_interval: updates between two looks at whether all ranks have the same model; 0: none.
      resumed: checkpoint of a `CheckpointManager`; the run goes on with its environments, its unfinished episodes and
        its log files.
      unfinished: state of the `Runner` of an earlier training of this model in this process, whose episodes go on.
    """

    total_timesteps: int
    logger: Logger | None = None
    log_interval: int = 100
    save_path: str | None = None
    keeper: CheckpointManager | None = None
    callback: Given | Iterable[Given] | None = None
    sync_check_interval: int = 100
    resumed: Path | None = None
    unfinished: Arrays | None = None


def check_budget(argument: str, total: int, trained: int, batch: int) -> None:
    """Raises UserError, naming `argument`, where timesteps are not 0 and yet too few for a batch beyond `trained`."""
    if 0 < total < trained + batch:
        done = f"the checkpoint's {trained} timesteps, which count, plus " if trained else ""
        raise UserError(f"{argument}={total}: must be 0, or at least {done}one batch of {batch}")


def seed_global_generators(seed: int, comm: Communicator) -> None:
    """Gives ranks above 0 their own seed for what environments draw from the generators of the process.

    Building a model has given all ranks the same one, so that their first weights are the same.
    """
    if comm.rank:
        keras.utils.set_random_seed(rank_seed(seed, comm.rank))


def start(model: Agent, env: gym.vector.VectorEnv, run: Training) -> Runner:
    """Trains a model, new or restored, and ends its background threads; raises as `learn`."""
    if model.policy_only and run.total_timesteps:
        raise UserError(f"model: {POLICY_ONLY}")
    model.env_arguments = getattr(env, "arguments", {})
    with contextlib.closing(model):
        try:
            return train(model, env, run)
        except NoInverseError as error:
            raise RunFailedError(str(error)) from error


def train(model: Agent, env: gym.vector.VectorEnv, run: Training) -> Runner:
    """Trains `model` on `env` until `run.total_timesteps`, counting what it had already done.

    Returns:
      What has collected its rollouts, which knows the unfinished episodes.
    """
    comm = model.comm
    batch = model.config.batch_size(env.num_envs * comm.size)
    runner = model.make_runner(env)
    keeps, reports = (not comm.all(part is None) for part in (run.keeper, run.logger))
    callbacks = Callbacks(run.callback)
    if run.resumed and model.timesteps + batch <= run.total_timesteps:
        ranks.restore(model, runner, run.logger, callbacks, None if comm.rank else load_run(run.resumed))
    elif run.unfinished is not None:
        runner.set_state(run.unfinished, rank_seed(model.seed + model.updates, comm.rank))
    elif keeps:
        runner.begin()  # only then it is known what an environment holds
    if run.keeper is not None and (gap := state_gap(env)):
        print(f"if this run is resumed, it will start new episodes: {gap}", file=sys.stderr, flush=True)
    clock = _Clock(model)
    training = CallbackView(
        model, env, run.logger, run.total_timesteps, batch, runner.episode_rewards, runner.episode_lengths
    )
    callbacks.on_start(training)
    stop = False
    while model.timesteps + batch <= run.total_timesteps and not stop:
        last = model.timesteps + 2 * batch > run.total_timesteps
        due = model.updates == 0 or (model.updates + 1) % run.log_interval == 0
        report = reports and (due or last)
        rollout = runner.run()
        training.rollout = rollout
        callbacks.after_rollout(training)

        measurements = Measurements(model, rollout) if report else None
        metrics = model.update(rollout, run.total_timesteps)
        measured = measurements.after_update() if measurements else {}
        model.timesteps += rollout.rewards.size * comm.size
        model.updates += 1
        clock.tick()
        training.metrics = metrics | measured
        wanted = callbacks.after_update(training)
        now = ranks.progress(comm, runner, wanted, bool(run.keeper and run.keeper.due(model.updates)))
        stop = now.stop
        if comm.size > 1 and (every := run.sync_check_interval) and model.updates % every == 1 % every:
            ranks.check_in_sync(model)
        if run.logger is not None:
            run.logger.progress(model.timesteps, run.total_timesteps, eprewmean=now.reward, fps=clock.fps())
            noted = due or getattr(run.logger, "pending", False)  # where a callback has logged something
            if noted:
                _report(run.logger, model, now, metrics | measured if due else metrics, clock)
        ended = stop or model.timesteps + batch > run.total_timesteps
        if keeps and (ended or now.save):
            snapshot = ranks.snapshot(model, runner, run.logger, callbacks, now)
            if run.keeper is not None and snapshot is not None:
                run.keeper.save(snapshot, wait=ended)
        if run.logger is not None and ended and not noted:
            _report(run.logger, model, now, metrics | measured, clock)  # a resumed run takes this row back
    callbacks.on_end(training)
    if run.save_path and comm.rank == 0:
        model.save(run.save_path)
    return runner


class _Clock:
    """Time since the start of this process's part of the run.

    Args:
      model: what is trained.
    """

    def __init__(self, model: Agent) -> None:
        self._model, self._comm = model, model.comm
        self._start, self._waited = time.perf_counter(), model.comm.seconds
        self._ticks: deque[tuple[float, int]] = deque()  # time and timesteps after updates

    def tick(self) -> None:
        """Notes the end of an update."""
        now = time.perf_counter()
        self._ticks.append((now, self._model.timesteps))
        while len(self._ticks) > 2 and self._ticks[1][0] < now - WINDOW:
            self._ticks.popleft()

    def fps(self) -> int | float:
        """Timesteps per second of the last updates, of all ranks together; NaN after the first, which compiles."""
        (start, before), (end, after) = self._ticks[0], self._ticks[-1]
        return round((after - before) / (end - start)) if after > before else math.nan

    def comm_share(self) -> float:
        """The part of the time that this rank was in MPI calls, waiting for others included."""
        return (self._comm.seconds - self._waited) / (time.perf_counter() - self._start)


def _report(logger: Logger, model: Agent, now: ranks.Progress, metrics: dict[str, Any], clock: _Clock) -> None:
    logger.log(
        {
            "nupdates": model.updates,
            "total_timesteps": model.timesteps,
            "fps": clock.fps(),
            "eprewmean": now.reward,
            "eplenmean": now.length,
            "episodes": now.episodes,
        }
        | {name: float(value) for name, value in metrics.items()}
        | model.status()
    )
    if model.comm.size > 1:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        logger.log({"ranks": model.comm.size, "comm_share": clock.comm_share(), "memory_mib": memory})
    logger.dump(model.timesteps)
