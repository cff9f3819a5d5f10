"""Training in Python: `learn` of every learner, and `learn` of a model that goes on."""

from __future__ import annotations

import dataclasses
import inspect
import os
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym

from baselines_acktr.agent import description
from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.networks import Builder, is_registered, network_name
from baselines_acktr.callbacks import Callbacks, Given, ProgressBar
from baselines_acktr.config import SYNONYMS
from baselines_acktr.foreign_names import OF_LEARN
from baselines_acktr.learning.rollouts import require_same_step
from baselines_acktr.session import schema
from baselines_acktr.session.checkpoints import CheckpointManager, SavedModel, read_model
from baselines_acktr.session.file_checks import check_file
from baselines_acktr.session.learners import kind_of
from baselines_acktr.session.loop import Training, check_budget, seed_global_generators, start
from baselines_acktr.session.settings import settle_config
from common.arguments import whole_number
from common.errors import UserError, brief, closest
from common.foreign_names import answers
from common.logger import Logger
from common.mpi import ALONE, Communicator
from common.named_arrays import Arrays
from common.paths import given_path
from common.random_state import rank_seed
from common.vec_env import make_vec_env
from common.vec_env.given import GivenEnv, opened
from common.vec_env.ids import find_spec, is_atari
from common.vec_env.one import EnvWrapper, checked_kwargs, checked_wrappers

AgentT = TypeVar("AgentT", bound=Agent)
_MOST_SEED = 2**31 - 1
_OF_LOGGERS = ("log", "dump", "progress")  # what a training calls


@dataclasses.dataclass(frozen=True)
class EnvSource:
    """What the environments of a training are made of; attributes as the arguments of `learn`, and so are errors."""

    env: GivenEnv
    num_env: int | None = None
    env_kwargs: Mapping[str, Any] | None = None
    wrappers: EnvWrapper | Iterable[EnvWrapper] | None = ()

    def __post_init__(self) -> None:
        if self.num_env is not None:
            object.__setattr__(self, "num_env", whole_number("num_env", self.num_env, 1))
        object.__setattr__(self, "env_kwargs", checked_kwargs(self.env_kwargs))
        object.__setattr__(self, "wrappers", checked_wrappers(self.wrappers))

    def open(self, agent_class: type[Agent], seed: int, rank: int):
        """A context manager that yields the vector environment, with as many environments as suit the learner."""

        def default_num_env(env_id: str | None) -> int:
            return agent_class.config_class.default_num_env(env_id is not None and is_atari(find_spec(env_id)))

        return opened(self.env, self.num_env, seed, rank, self.env_kwargs, self.wrappers, default_num_env)

    def kind_of_actions(self) -> str:
        """DISCRETE or CONTINUOUS; opens one environment to see it."""
        number = None if isinstance(self.env, gym.Env | gym.vector.VectorEnv) else 1
        with opened(self.env, number, None, 0, self.env_kwargs, self.wrappers) as env:
            return kind_of(env.single_action_space)


def check_names(config_class: type, hyperparameters: Iterable[str]) -> None:
    """Raises UserError for a hyperparameter that the learner does not have, with the closest one that it has."""
    names = [field.name for field in dataclasses.fields(config_class)]
    for name in hyperparameters:
        if name not in names:
            known = SYNONYMS.get(name)
            hint = f" Did you mean {known}?" if known in names else closest(name, names, cutoff=0.7)
            raise UserError(f"{name}: unknown hyperparameter.{hint}")


@answers(OF_LEARN)
def learn(
    agent_class: type[AgentT] | Mapping[str, type[AgentT]],
    network: str | Builder | None = None,
    *,
    env: GivenEnv | None,
    num_env: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: EnvWrapper | Iterable[EnvWrapper] | None = (),
    seed: int | None = 0,
    total_timesteps: int,
    logger: Logger | None = None,
    log_interval: int = 100,
    save_path: str | os.PathLike[str] | None = None,
    keeper: CheckpointManager | None = None,
    load_path: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callback: Given | Iterable[Given] | None = None,
    progress: bool = False,
    sync_check_interval: int = 100,
    comm: Communicator = ALONE,
    **hyperparameters: Any,
) -> AgentT:
    """Trains a model.

    Args:
      agent_class: the learner's `Model`, or that of each kind of actions (`learners.kind_of`).
      network: `cnn`, `mlp`, a registered name, `module:function` or the function itself; None takes that of the
        checkpoint, or chooses by the observation space.
      env: id of a registered environment, an environment, a function that makes one, such as its class, or a SAME_STEP
        vector environment (see `common.vec_env.make_vec_env`). What is made here is also closed here.
      num_env: how many environments to make of an id or a function; None: as many as suit the learner.
      env_kwargs: keyword arguments for each of them.
      wrappers: one or several functions, such as `gymnasium.Wrapper` classes, around each of them; None: none.
      seed: of the weights and of every draw of the learner; None draws one and says it.
      total_timesteps: steps of all environments of all ranks together, those of a loaded checkpoint included.
      logger: takes the numbers every `log_interval` updates (and after the first and the last).
      save_path: where rank 0 writes the model at the end.
      keeper: writes checkpoints to resume from, on the way and at the end; in rank 0 alone.
      load_path: checkpoint, or log folder of run.py, to go on from: parameters, optimizers, counters, schedule and
        random generators.
      resume: `load_path` was written by a `CheckpointManager`, and the run goes on with its environments, unfinished
        episodes and log files, too.
      callback: a function of the model that is called after each update, and ends the training in all ranks where its
        result is true; a `Callback`; or a list of these (see `baselines_acktr.callbacks`).
      progress: show a progress bar on stderr.
      sync_check_interval: updates between two looks at whether all ranks have the same model; 0: none.
      comm: the ranks that train together (`common.mpi.connect`), each of which calls this.
      **hyperparameters: fields of the learner's config; those that are not given are the checkpoint's, else defaults.

    Returns:
      The model, which `model.learn(timesteps)` trains further.

    Raises:
      UserError: for a mistake in the arguments, named.
      RunFailedError: if a number is not finite, naming where it comes from; nothing is saved then.
    """
    total_timesteps = whole_number("total_timesteps", total_timesteps, 0)
    sync_check_interval = whole_number("sync_check_interval", sync_check_interval, 0)
    if resume and not load_path:
        raise UserError("resume: has no effect without load_path=, the checkpoint of the run that goes on")
    beside = _beside(comm, logger, log_interval, save_path, callback, progress)
    if seed is not None:
        seed = whole_number("seed", seed, 0, _MOST_SEED)
    else:
        seed = comm.scatter([secrets.randbelow(2**31)] * comm.size if comm.rank == 0 else None)
        if comm.rank == 0:
            print(f"seed={seed} was drawn", file=sys.stderr, flush=True)
    if env is None:
        raise UserError('env: missing; an id such as "CartPole-v1", an environment, or a function that makes one')
    source = EnvSource(env, num_env, env_kwargs, wrappers)
    if isinstance(agent_class, Mapping):
        agent_class = agent_class[source.kind_of_actions()]
    check_names(agent_class.config_class, hyperparameters)
    saved = read_model(given_path(load_path, "load_path"), "load_path") if load_path else None

    with source.open(agent_class, seed, comm.rank) as vector_env:
        require_same_step(vector_env)
        model = _make_model(agent_class, network, vector_env, seed, comm, saved, hyperparameters)
        if saved is None:
            batch = model.config.batch_size(vector_env.num_envs * comm.size)
            check_budget("total_timesteps", total_timesteps, 0, batch)
        _note_earlier_logs(logger, saved, comm)
        resumed = Path(saved.path) if saved and resume else None
        run = Training(
            total_timesteps, keeper=keeper, sync_check_interval=sync_check_interval, resumed=resumed, **beside
        )
        runner = start(model, vector_env, run)
        model.trainer = GoingOn(model, source, runner.state() if runner.begun else None)
    return model


def _make_model(
    agent_class: type[AgentT],
    network: str | Builder | None,
    env: gym.vector.VectorEnv,
    seed: int,
    comm: Communicator,
    saved: SavedModel | None,
    hyperparameters: Mapping[str, Any],
) -> AgentT:
    """A new model for the environments, or that of a checkpoint."""
    network = network if network is None else network_name(network)
    meta = saved.meta if saved else {}
    if saved and network is None and not is_registered(meta["network"]):
        schema.require_trust(saved.path, "network", meta["network"], "network")
    network = network or meta.get("network") or agent_class.default_network(env.single_observation_space)
    config, _ = settle_config(
        agent_class.config_class,
        ("environment preset", agent_class.preset(env.single_observation_space, network)),
        ("checkpoint", description.hyperparameters(meta)),
        ("argument", hyperparameters),
    )
    env_id = env.spec.id if env.spec else None
    model = agent_class(env.single_observation_space, env.single_action_space, network, config, seed, env_id, comm)
    seed_global_generators(seed, comm)
    if saved:
        model.restore(*saved)
    return model


def _note_earlier_logs(logger: Logger | None, saved: SavedModel | None, comm: Communicator) -> None:
    """Says where the logs of a new model follow those of another run."""
    if isinstance(logger, Logger) and comm.rank == 0 and not saved and any(logger.positions().values()):
        print(f"{logger.folder} has the logs of another run, which this one's follow", file=sys.stderr, flush=True)


class GoingOn:
    """Trains a model further, from where its last training in this process has ended.

    Its unfinished episodes go on, where the environments can be set back to where they were; else new ones start.

    Args:
      model: is trained.
      source: its environments.
      runner_state: of the `Runner` that has collected its last rollouts.
    """

    def __init__(self, model: Agent, source: EnvSource, runner_state: Arrays | None = None) -> None:
        self._model = model
        self._source = source
        self._unfinished = runner_state

    def __call__(
        self,
        timesteps: int,
        *,
        env: GivenEnv | None = None,
        num_env: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: EnvWrapper | Iterable[EnvWrapper] | None = (),
        logger: Logger | None = None,
        log_interval: int = 100,
        save_path: str | os.PathLike[str] | None = None,
        callback: Given | Iterable[Given] | None = None,
        progress: bool = False,
        **unknown: Any,
    ) -> None:
        """Trains for so many more timesteps; arguments and errors as for `learn`.

        A call that is refused leaves the model, and what it goes on in, as they were.
        """
        model = self._model
        comm = model.comm
        self._refuse(unknown)
        timesteps = whole_number("timesteps", timesteps, 0)
        beside = _beside(comm, logger, log_interval, save_path, callback, progress)
        if env is None and (num_env is not None or env_kwargs or wrappers):
            raise UserError("num_env, env_kwargs, wrappers: have no effect without env=")
        source = self._source if env is None else EnvSource(env, num_env, env_kwargs, wrappers)
        unfinished = self._unfinished if env is None else None

        seed = rank_seed(model.seed + model.updates, 0)
        with source.open(type(model), seed, comm.rank) as vector_env:
            require_same_step(vector_env)
            description.require_same_spaces(model, vector_env)
            batch = model.config.batch_size(vector_env.num_envs * comm.size)
            check_budget("timesteps", timesteps, 0, batch)
            run = Training(model.timesteps + timesteps, unfinished=unfinished, **beside)
            self._train(source, vector_env, run)

    def _train(self, source: EnvSource, env: gym.vector.VectorEnv, run: Training) -> None:
        """Trains in `env`, which `source` has opened, and goes on in it from then on, once something is learned."""
        model = self._model
        updates = model.updates
        arguments = model.env_arguments
        unfinished = run.unfinished
        try:
            unfinished = start(model, env, run).state()
        except BaseException:
            if model.updates == updates:
                source = self._source
                unfinished = self._unfinished
                model.env_arguments = arguments
            raise
        finally:
            self._source = source
            self._unfinished = unfinished

    def _refuse(self, unknown: Mapping[str, Any]) -> None:
        """Raises UserError for the first argument that there is not."""
        hyperparameters = [field.name for field in dataclasses.fields(self._model.config)]
        for name in unknown:
            if name in hyperparameters:
                raise UserError(
                    f"{name}: a model keeps its hyperparameters; save it, and give load_path= and {name}= to `learn` "
                    "of its module"
                )
            own = [known for known in inspect.signature(self).parameters if known not in ("timesteps", "unknown")]
            raise UserError(f"{name}: unknown argument; must be one of {', '.join(own)}.{closest(name, own)}")


def _beside(
    comm: Communicator,
    logger: Logger | None,
    log_interval: int,
    save_path: str | os.PathLike[str] | None,
    callback: Given | Iterable[Given] | None,
    progress: bool,
) -> dict[str, Any]:
    """What is written and called beside a training, as `Training` has it; arguments and errors as for `learn`."""
    if not (logger is None or all(callable(getattr(logger, name, None)) for name in _OF_LOGGERS)):
        folder = logger if isinstance(logger, str) else "logs"
        raise UserError(f'logger={brief(logger)}: must be a Logger of common.logger, such as Logger("{brief(folder)}")')
    path = given_path(save_path, "save_path") if save_path else None
    comm.on_root(lambda: None if path is None else check_file("save_path", path))
    return {
        "logger": logger,
        "log_interval": whole_number("log_interval", log_interval, 1),
        "save_path": path,
        "callback": _with_progress(callback, progress, logger),
    }


def _with_progress(callback: Given | Iterable[Given] | None, progress: bool, logger: Logger | None) -> Callbacks:
    """The callbacks that were given, and a progress bar where one is wanted and no logger shows its own."""
    if logger is not None and sys.stderr.isatty():
        progress = False
    return Callbacks([Callbacks(callback), ProgressBar()]) if progress else Callbacks(callback)


def go_on_with(model: Agent) -> GoingOn:
    """What trains a model that was loaded from a checkpoint: on what it was trained on, unless `env` is given."""

    def make() -> gym.vector.VectorEnv:
        arguments = model.env_arguments
        if "env_id" not in arguments:
            raise UserError("env: missing; the model does not say what it was trained on")
        number = model.config.default_num_env(is_atari(find_spec(arguments["env_id"])))
        return make_vec_env(**arguments, num_env=number, seed=rank_seed(model.seed + model.updates, 0))

    return GoingOn(model, EnvSource(make))
