"""What the MPI ranks of a run tell each other beside gradients: when to stop, their episodes, their checkpoint."""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np

from baselines_acktr.agent.agent import MISFITS, Agent
from baselines_acktr.callbacks import Callback
from baselines_acktr.learning.rollouts import EPISODES, Runner
from baselines_acktr.session.checkpoints import Content, RunState
from common.errors import RunFailedError, UserError, brief
from common.logger import Logger
from common.mpi import Communicator
from common.named_arrays import Arrays, with_prefix, without_prefix
from common.random_state import get_global_state, rank_seed, set_global_state


class Progress(NamedTuple):
    """What all ranks know of an update once it is done.

    Attributes:
      stop: whether one of them wants the run to end.
      save: whether one of them wants a checkpoint.
      reward, length: mean score and length of their last 100 episodes; not a number before the first.
      remembered: how many of those there are.
      episodes: how many have ended in all.
    """

    stop: bool
    save: bool
    reward: float
    length: float
    remembered: int
    episodes: int


def progress(comm: Communicator, runner: Runner, stop: bool, save: bool) -> Progress:
    """Tells the other ranks how far this one is, and returns how far all of them are together."""
    rewards, lengths = runner.episode_rewards, runner.episode_lengths
    own = [stop, save, sum(rewards), sum(lengths), len(rewards), runner.episodes]
    stops, saves, reward, length, count, episodes = comm.sum(np.array(own, np.float64)).tolist()
    mean_reward, mean_length = (total / count if count else math.nan for total in (reward, length))
    return Progress(stops > 0, saves > 0, mean_reward, mean_length, int(count), int(episodes))


def check_in_sync(model: Agent) -> None:
    """Raises RunFailedError in all ranks, naming the arrays, unless the model's state is the same to the bit in all."""
    arrays = {name: array for name, array in model.state().items() if name not in model.OWN}
    sums = np.array([zlib.crc32(array.tobytes()) for array in arrays.values()], np.uint32)
    differ = (model.comm.stack(sums) != sums).any(axis=0)
    differ = model.comm.sum(differ.astype(np.int32)) > 0
    if differ.any():
        names = [name for name, bad in zip(arrays, differ, strict=True) if bad]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        error = RunFailedError(f"after update {model.updates} the ranks differ in {', '.join(names[:3])}{more}")
        error.agreed = True
        raise error


def snapshot(
    model: Agent, runner: Runner, logger: Logger | None, callbacks: Callback, now: Progress
) -> RunState | None:
    """Copies all that the rest of the run depends on. Rank 0 returns it for all ranks; the others return None."""
    arrays = with_prefix("runner", runner.state()) | with_prefix("random", get_global_state())
    arrays |= with_prefix("own", model.own_state()) | with_prefix("callbacks", callbacks.state())
    parts = model.comm.gather((arrays, {} if logger is None else logger.positions()))
    if parts is None:
        return None
    together: Arrays = {}
    for rank, (part, _) in enumerate(parts):
        together |= with_prefix(f"rank{rank}", part)
    meta: dict[str, Any] = {"logs": [positions for _, positions in parts]}
    score = now.reward if now.remembered >= EPISODES else math.nan
    return RunState(model.updates, model.timesteps, score, model.content(), (together, meta))


def restore(model: Agent, runner: Runner, logger: Logger | None, callbacks: Callback, content: Content | None) -> None:
    """Puts model, environments, random generators, log files and callbacks back to where `snapshot` saw them.

    Where there are more ranks than there were then, the additional ones start new episodes.

    Args:
      model, runner, logger, callbacks: of this rank.
      content: of the checkpoint's run, in rank 0.

    Raises:
      UserError: it is of other environments or another model.
    """
    comm, parts = model.comm, None
    if content is not None:
        arrays, meta = content
        logs = meta["logs"] + [{}] * comm.size
        parts = [(without_prefix(f"rank{rank}", arrays), logs[rank]) for rank in range(comm.size)]
    own, positions = comm.scatter(parts)
    seed = rank_seed(model.seed + model.updates, comm.rank)
    if not own:
        runner.env.reset(seed=seed)
        return
    try:
        model.set_state(model.state() | without_prefix("own", own))
        runner.set_state(without_prefix("runner", own), seed)
        set_global_state(without_prefix("random", own))
        callbacks.set_state(without_prefix("callbacks", own))
    except MISFITS as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the checkpoint's run does not fit this one: {brief(repr(error), 300)}") from error
    if logger is not None:
        logger.cut(positions)
