"""The loop that every on-policy learner runs: rollout, update, report, checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import resource
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import keras

from baselines_acktr.agent import description
from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.networks import Builder, is_registered, network_name
from baselines_acktr.config import SYNONYMS
from baselines_acktr.kfac import NoInverseError
from baselines_acktr.learning.rollouts import require_same_step, state_gap
from baselines_acktr.session import ranks, schema
from baselines_acktr.session.checkpoints import CheckpointManager, load_run, read_model
from baselines_acktr.session.measurements import Measurements
from baselines_acktr.session.settings import settle_config
from common.errors import RunFailedError, UserError, closest
from common.logger import Logger
from common.mpi import ALONE, Communicator
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
      callback: called with the model after each update; a true result ends the training, in all ranks.
      sync_check_interval: updates between two looks at whether all ranks have the same model; 0: none.
      resumed: checkpoint of a `CheckpointManager`; the run goes on with its environments, its unfinished episodes and
        its log files.
    """

    total_timesteps: int
    logger: Logger | None = None
    log_interval: int = 100
    save_path: str | None = None
    keeper: CheckpointManager | None = None
    callback: Callable[[Any], bool | None] | None = None
    sync_check_interval: int = 100
    resumed: Path | None = None


def check_names(config_class: type, hyperparameters: Iterable[str]) -> None:
    """Raises UserError for a hyperparameter that the learner does not have, with the closest one that it has."""
    names = [field.name for field in dataclasses.fields(config_class)]
    for name in hyperparameters:
        if name not in names:
            known = SYNONYMS.get(name)
            hint = f" Did you mean {known}?" if known in names else closest(name, names, cutoff=0.7)
            raise UserError(f"{name}: unknown hyperparameter.{hint}")


def check_budget(argument: str, total: int, trained: int, batch: int) -> None:
    """Raises UserError, naming `argument`, where timesteps are not 0 and yet too few for a batch beyond `trained`."""
    if 0 < total < trained + batch:
        done = f"the checkpoint's {trained} timesteps, which count, plus " if trained else ""
        raise UserError(f"{argument}={total}: must be 0, or at least {done}one batch of {batch}")


def learn(
    agent_class: type[AgentT],
    network: str | Builder | None = None,
    *,
    env: gym.vector.VectorEnv,
    seed: int | None = 0,
    total_timesteps: int,
    logger: Logger | None = None,
    log_interval: int = 100,
    save_path: str | None = None,
    keeper: CheckpointManager | None = None,
    load_path: str | None = None,
    resume: bool = False,
    callback: Callable[[AgentT], bool | None] | None = None,
    sync_check_interval: int = 100,
    comm: Communicator = ALONE,
    **hyperparameters: Any,
) -> AgentT:
    """Trains a model.

    Args:
      agent_class: the learner's `Model`.
      network: `cnn`, `mlp`, a registered name, `module:function` or the function itself; None takes that of the
        checkpoint, or chooses by the observation space.
      env: SAME_STEP vector environment (see `common.vec_env.make_vec_env`).
      seed: of the weights and of every draw of the learner; None draws one and says it.
      total_timesteps: steps of all environments of all ranks together, those of a loaded checkpoint included.
      logger: takes the numbers every `log_interval` updates (and after the first and the last).
      save_path: where rank 0 writes the model at the end.
      keeper: writes checkpoints to resume from, on the way and at the end; in rank 0 alone.
      load_path: checkpoint, or log folder of run.py, to go on from: parameters, optimizers, counters, schedule and
        random generators.
      resume: `load_path` was written by a `CheckpointManager`, and the run goes on with its environments, unfinished
        episodes and log files, too.
      callback: called after each update; a true result, in any rank, ends the training.
      sync_check_interval: updates between two looks at whether all ranks have the same model; 0: none.
      comm: the ranks that train together (`common.mpi.connect`), each of which calls this.
      **hyperparameters: fields of the learner's config; those that are not given are the checkpoint's, else defaults.

    Raises:
      UserError: for a mistake in the arguments, named.
      RunFailedError: if a number is not finite, naming where it comes from; nothing is saved then.
    """
    require_same_step(env)
    if seed is None:
        seed = comm.scatter([secrets.randbelow(2**31)] * comm.size if comm.rank == 0 else None)
        if comm.rank == 0:
            print(f"seed={seed} was drawn", file=sys.stderr, flush=True)
    network = network if network is None else network_name(network)
    load_path, save_path = (path and os.path.expanduser(path) for path in (load_path, save_path))
    saved = read_model(load_path, "load_path") if load_path else None
    meta = saved.meta if saved else {}
    if saved and network is None and not is_registered(meta["network"]):
        schema.require_trust(saved.path, "network", meta["network"], "network")
    check_names(agent_class.config_class, hyperparameters)
    config, _ = settle_config(
        agent_class.config_class,
        ("environment preset", agent_class.preset(env.single_observation_space)),
        ("checkpoint", description.hyperparameters(meta)),
        ("argument", hyperparameters),
    )
    network = network or meta.get("network") or agent_class.default_network(env.single_observation_space)
    env_id = env.spec.id if env.spec else None
    if isinstance(logger, Logger) and comm.rank == 0 and not saved and any(logger.positions().values()):
        print(f"{logger.folder} has the logs of another run, which this one's follow", file=sys.stderr, flush=True)
    model = agent_class(env.single_observation_space, env.single_action_space, network, config, seed, env_id, comm)
    seed_global_generators(seed, comm)
    if saved:
        model.restore(*saved)
    else:
        check_budget("total_timesteps", total_timesteps, 0, config.batch_size(env.num_envs * comm.size))
    resumed = Path(saved.path) if saved and resume else None
    start(
        model,
        env,
        Training(total_timesteps, logger, log_interval, save_path, keeper, callback, sync_check_interval, resumed),
    )
    return model


def seed_global_generators(seed: int, comm: Communicator) -> None:
    """Gives ranks above 0 their own seed for what environments draw from the generators of the process.

    Building a model has given all ranks the same one, so that their first weights are the same.
    """
    if comm.rank:
        keras.utils.set_random_seed(rank_seed(seed, comm.rank))


def start(model: Agent, env: gym.vector.VectorEnv, run: Training) -> None:
    """Trains a model, new or restored, and ends its background threads; raises as `learn`."""
    model.env_arguments = getattr(env, "arguments", {})
    with contextlib.closing(model):
        try:
            train(model, env, run)
        except NoInverseError as error:
            raise RunFailedError(str(error)) from error


def train(model: Agent, env: gym.vector.VectorEnv, run: Training) -> None:
    """Trains `model` on `env` until `run.total_timesteps`, counting what it had already done."""
    comm = model.comm
    batch = model.config.batch_size(env.num_envs * comm.size)
    runner = model.make_runner(env)
    keeps, reports = (not comm.all(part is None) for part in (run.keeper, run.logger))
    if run.resumed and model.timesteps + batch <= run.total_timesteps:
        ranks.restore(model, runner, run.logger, None if comm.rank else load_run(run.resumed))
    elif keeps:
        runner.begin()  # only then it is known what an environment holds
    if run.keeper is not None and (gap := state_gap(env)):
        print(f"a resumed run will start its episodes anew, all else will be exact: {gap}", file=sys.stderr, flush=True)
    clock = _Clock(model)
    stop = False
    while model.timesteps + batch <= run.total_timesteps and not stop:
        last = model.timesteps + 2 * batch > run.total_timesteps
        due = model.updates == 0 or (model.updates + 1) % run.log_interval == 0
        report = reports and (due or last)
        rollout = runner.run()
        measurements = Measurements(model, rollout) if report else None
        metrics = model.update(rollout, run.total_timesteps)
        if measurements:
            metrics |= measurements.after_update()
        model.timesteps += rollout.rewards.size * comm.size
        model.updates += 1
        clock.tick()
        wanted = bool(run.callback and run.callback(model))
        now = ranks.progress(comm, runner, wanted, bool(run.keeper and run.keeper.due(model.updates)))
        stop = now.stop
        if comm.size > 1 and (every := run.sync_check_interval) and model.updates % every == 1 % every:
            ranks.check_in_sync(model)
        if run.logger is not None:
            run.logger.progress(model.timesteps, run.total_timesteps, eprewmean=now.reward, fps=clock.fps())
            if due:
                _report(run.logger, model, now, metrics, clock)
        ended = stop or model.timesteps + batch > run.total_timesteps
        if keeps and (ended or now.save):
            snapshot = ranks.snapshot(model, runner, run.logger, now)
            if run.keeper is not None and snapshot is not None:
                run.keeper.save(snapshot, wait=ended)
        if run.logger is not None and ended and not due:
            _report(run.logger, model, now, metrics, clock)  # a resumed run takes this row back
    if run.save_path and comm.rank == 0:
        model.save(run.save_path)


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
