"""Setting a run up: its flags settled, one environment looked at, its model made or restored."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines_acktr.session import environments
from baselines_acktr.session.file_checks import check_files
from baselines_acktr.session.learners import LEARNERS, kind_of
from baselines_acktr.session.options import FLAGS
from baselines_acktr.session.provenance import from_config_file
from baselines_acktr.session.settings import Settings
from baselines_acktr.session.settling import settle
from baselines_acktr.session.showing import check_shown
from common.errors import UserError
from common.mpi import ALONE, Communicator
from common.process import (
    quiet_tensorflow,
    raise_descriptor_limit,
    require_temporary_files,
    shield_resource_tracker,
    suit_tensorflow,
    tell_terminal,
)

if TYPE_CHECKING:  # TensorFlow and Gymnasium are imported late: --help is instant and environment workers stay small
    import gymnasium as gym

    from baselines_acktr.agent.agent import Agent
    from baselines_acktr.session.checkpoints import SavedModel


def set_up(argv: Sequence[str], comm: Communicator, stack: contextlib.ExitStack) -> tuple[Settings, bool, Agent]:
    """Settles the flags in rank 0, and builds the model in all ranks; writes nothing but a lock, as `prepare`."""
    _require_same_flags(argv, comm)
    comm.everywhere(_require_resources)
    settled, locked = comm.on_root(lambda: prepare(argv, stack))
    if comm.size > 1:  # which may be in other folders
        settled = settled.with_log_path(comm.on_root(lambda: os.path.abspath(settled.log_path)))
    if comm.rank == 0 and settled.options.num_timesteps:
        tell_terminal(f"log folder: {settled.log_path}")
    settings, model = comm.everywhere(lambda: probe(settled, comm))
    if comm.rank == 0 and (line := from_config_file(settings)):
        print(line, file=sys.stderr, flush=True)
    return settings, locked, model


def _require_same_flags(argv: Sequence[str], comm: Communicator) -> None:
    """Raises UserError unless all ranks were started with the same flags."""
    first = comm.scatter([list(argv)] * comm.size if comm.rank == 0 else None)

    def compare() -> None:
        if list(argv) != first:
            own = [word for word in argv if word not in first] or ["fewer flags"]
            raise UserError(f"rank {comm.rank}: was started with {' '.join(own)}; must have the same flags as rank 0")

    comm.everywhere(compare)


def _require_resources() -> None:
    """Asks the system for what every run needs; raises UserError where it does not have that."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder has been deleted; change to one that exists") from error
    raise_descriptor_limit()
    require_temporary_files()
    shield_resource_tracker()


def prepare(argv: Sequence[str], stack: contextlib.ExitStack) -> tuple[Settings, bool]:
    """Settles the flags and looks at the files that they name; creates nothing.

    Returns:
      The settings, and whether the log folder is locked, until `stack` is left: that of a run to be resumed is before
      its newest checkpoint is chosen, as another process may still write one.
    """
    typed = FLAGS.parse(argv)
    folder = Path(typed.get("log_path") or os.environ.get("OPENAI_LOGDIR") or "").expanduser()
    locked = bool(typed.get("resume")) and folder != Path() and os.path.isdir(folder)
    if locked:
        from baselines_acktr.session import run_info  # late: NumPy

        stack.enter_context(run_info.lock(folder))
    from common.logger import default_folder  # late: rich

    settings = settle(typed).preset(log_path=str(default_folder()))
    check_files(settings)
    return settings, locked


def probe(settings: Settings, comm: Communicator = ALONE) -> tuple[Settings, Agent]:
    """Opens one environment to see whether it can be learned and shown, before anything is written.

    Returns:
      The settings with the network that suits the observations, and the model, that of the checkpoint where there is
      one.

    Raises:
      UserError: no learner has its spaces, the network does not fit them, there are too few timesteps for one update,
        the checkpoint was trained on other spaces, or a video is wanted and there are no frames.
    """
    options = settings.options
    filmed = options.video or options.save_video_interval
    details: dict[str, Any] = environments.FRAMES if filmed else {"backend": options.env_backend}
    with environments.make_env(settings, 1, **details) as env:
        kind = kind_of(env.single_action_space, f"--env={settings.env}")
        observations = env.single_observation_space
        suit_tensorflow(observations)
        if "tensorflow" not in sys.modules and comm.rank == 0:
            tell_terminal("loading TensorFlow, which takes some seconds ...")
        with quiet_tensorflow():
            model_class = LEARNERS[options.alg, kind].import_class()

        settings = settings.with_learner(kind, model_class.preset(observations, options.network))
        settings = settings.preset(
            network=model_class.default_network(observations), num_env=environments.default_num_env(settings)
        )
        _check_budget(settings, comm)
        if comm.rank == 0 and options.num_timesteps and (names := settings.unknown_to_checkpoint()):
            print(f"the checkpoint is older than --{', --'.join(names)}: now as by default", file=sys.stderr)
        if settings.saved:
            _check_spaces(settings.saved, env)
        check_shown(settings, env, comm.rank)

        return dataclasses.replace(settings, saved=None), _build(model_class, settings, env, comm)


def _build(model_class: type[Agent], settings: Settings, env: gym.vector.VectorEnv, comm: Communicator) -> Agent:
    """Returns the model for an environment like `env`, restored where a checkpoint was read."""
    from baselines_acktr.session.loop import seed_global_generators

    spaces, env_id = (env.single_observation_space, env.single_action_space), env.spec.id if env.spec else None
    model = model_class(*spaces, settings.network, settings.config, settings.seed, env_id, comm)
    seed_global_generators(settings.seed, comm)
    if settings.saved:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(model.close)
            model.restore(*settings.saved)
            on_failure.pop_all()
    return model


def _check_budget(settings: Settings, comm: Communicator) -> None:
    from baselines_acktr.session.loop import check_budget

    total, trained = settings.options.num_timesteps, settings.trained
    batch = settings.config.batch_size(settings.num_env * comm.size)
    if settings.options.resume and total < trained + batch:
        if comm.rank == 0:
            print(f"nothing is left to train: {trained} of {total} timesteps are done", file=sys.stderr)
    else:
        check_budget("--num_timesteps", total, trained, batch)


def _check_spaces(saved: SavedModel, env: gym.vector.VectorEnv) -> None:
    from baselines_acktr.agent import description

    observations, actions = env.single_observation_space, env.single_action_space
    description.check_compatible(saved.meta, saved.path, observation_space=observations, action_space=actions)
