"""Whole games of a model, and what they score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np

from baselines_acktr.agent.description import require_same_spaces
from baselines_acktr.foreign_names import OF_EVALUATE
from baselines_acktr.learning.rollouts import NO_STATISTICS, Episode, FinishedEpisodes, require_same_step
from common.arguments import whole_number
from common.errors import UserError, brief
from common.foreign_names import answers
from common.vec_env.given import GivenEnv, opened

if TYPE_CHECKING:
    from baselines_acktr.agent.agent import Agent


class Evaluation(NamedTuple):
    """What whole games have brought.

    Attributes:
      scores: undiscounted sum of each game's own rewards, neither clipped nor scaled, float64 [E].
      lengths: steps of the agent in each game, int64 [E].
    """

    scores: np.ndarray
    lengths: np.ndarray


@answers(OF_EVALUATE)
def evaluate(
    model: Agent,
    env: GivenEnv,
    episodes: int = 10,
    greedy: bool = True,
    seed: int | None = None,
) -> Evaluation:
    """Plays whole games and prints nothing.

    A model in training is left as it is: neither its random numbers nor its filter or statistics change.

    Args:
      model: chooses the actions.
      env: an id, an environment, a function that makes one, or a SAME_STEP vector environment (see
        `common.vec_env.make_vec_env`), which is reset first. What is made here is also closed here.
      episodes: how many games in all. They are shared out equally among the environments, so that short games are not
        favoured.
      greedy: take the most likely actions instead of sampled ones.
      seed: of the environments and of the sampled actions; None: the environments go on with their own, and the
        actions are drawn by a random one.

    Returns:
      The games in the order in which they ended.

    Raises:
      UserError: `model` is none, `episodes` is no whole number of at least 1, `seed` none of at least 0, or `env` has
        other spaces than the model or does not follow its contract.
    """
    if not callable(getattr(model, "apart", None)):
        raise UserError(
            f"model={brief(model)}: must be a model, such as baselines_acktr.load gives; the environment comes after it"
        )
    episodes = whole_number("episodes", episodes, 1)
    seed = None if seed is None else whole_number("seed", seed, 0)

    def act(observations: np.ndarray, state: Any, starts: np.ndarray) -> tuple[np.ndarray, Any]:
        return model.predict(observations, state, starts, deterministic=greedy)

    with model.apart(seed), opened(env) as vector_env:
        require_same_spaces(model, vector_env)
        played = list(games(act, vector_env, episodes, seed))
    scores = np.array([episode.score for episode in played], np.float64)
    lengths = np.array([episode.length for episode in played], np.int64)
    return Evaluation(scores, lengths)


def games(
    act: Callable[[np.ndarray, Any, np.ndarray], tuple[np.ndarray, Any]],
    env: gym.vector.VectorEnv,
    episodes: int,
    seed: int | None = None,
    show: Callable[[], None] = lambda: None,
) -> Iterator[Episode]:
    """Plays whole games and yields each when it has ended.

    Args:
      act: from observations [N, ...], its last state (None at first) and where episodes start, bool [N], to actions
        [N, ...] and its next state.
      env: SAME_STEP vector environment with statistics of its episodes.
      episodes: how many games in all, shared out equally among the environments.
      seed: of the first games; None: as the environment has been made.
      show: called after the reset and after every step.

    Raises:
      UserError: it is no such environment.
    """
    require_same_step(env)
    left = share(episodes, env.num_envs)
    finished = FinishedEpisodes(env.num_envs)

    observations, _ = env.reset(seed=seed)
    show()
    state, starts = None, np.ones(env.num_envs, bool)
    while left.any():
        actions, state = act(observations, state, starts)
        observations, _, terminated, truncated, infos = env.step(actions)
        starts = terminated | truncated
        show()

        for i, episode in finished(infos, starts).items():
            if left[i]:
                left[i] -= 1
                yield episode
        if finished.missing:
            raise UserError(f"env: {NO_STATISTICS}")


def share(count: int, parts: int) -> np.ndarray:
    """Returns how many of `count` things each of so many parts has, as equally as possible, [parts]."""
    return np.array([count // parts + (i < count % parts) for i in range(parts)])
