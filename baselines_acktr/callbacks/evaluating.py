"""Evaluations beside training, and the best model by them."""

from __future__ import annotations

import contextlib
import math
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from baselines_acktr.agent.description import require_same_spaces
from baselines_acktr.callbacks.base import Callback, Training
from baselines_acktr.callbacks.files import make_folder, report_failure
from baselines_acktr.evaluation import Evaluation, evaluate, share
from baselines_acktr.foreign_names import OF_EVAL_CALLBACK
from baselines_acktr.learning.rollouts import require_same_step
from common.arguments import whole_number
from common.atomic_file import replacing
from common.errors import UserError, brief
from common.foreign_names import answers
from common.named_arrays import Arrays
from common.paths import given_path
from common.random_state import rank_seed
from common.vec_env.given import GivenEnv, opened

if TYPE_CHECKING:
    from baselines_acktr.agent.agent import Agent

EVALUATIONS = "evaluations.npz"  # in the folder of an `EvalCallback`
BEST = "best.model"
_ENVIRONMENTS = 8  # of an evaluation, at most


class EvalCallback(Callback):
    """Evaluates the model every so many timesteps, and keeps the best.

    Every evaluation plays the same games, in environments and with random numbers of their own: training goes on as it
    would without it, to the bit. Several ranks share the games.

    With a `folder`, `evaluations.npz` has the arrays of Stable-Baselines3: `timesteps` [K], `results` [K, E] and
    `ep_lengths` [K, E]. `best.model` is the model of the evaluation with the highest mean so far. The logs have
    `eval/mean`, `eval/std` and `eval/episodes`. A model that is trained further goes on with what it has left there.

    Attributes:
      timesteps: when the evaluations were, [K].
      evaluations: their scores and lengths, [K]; in rank 0 alone.
      best_mean: the highest mean score; minus infinity before the first evaluation.

    Args:
      env: as for `learn`, but not what the model is trained in. Of an id or a function one environment is made for each
        game of an evaluation, up to 8, and closed after it.
      interval: timesteps from one evaluation to the next. The last update before the next multiple is passed is
        followed by one, and so is the last of a training of a multiple.
      episodes: E, whole games in an evaluation.
      greedy: take the most likely actions instead of sampled ones.
      folder: where the two files go; it is created.

    Raises:
      UserError: a number below 1, or a folder that is no path. When a training starts: an `env` that cannot be opened,
        is that of the training, or has other spaces than the model.
    """

    @answers(OF_EVAL_CALLBACK, "EvalCallback")
    def __init__(
        self,
        env: GivenEnv,
        interval: int,
        episodes: int = 10,
        greedy: bool = True,
        folder: str | Path | None = None,
    ) -> None:
        self._env = env
        self._interval = whole_number("interval", interval, 1)
        self._episodes = whole_number("episodes", episodes, 1)
        self._greedy = greedy
        self._folder = None if folder is None else Path(given_path(folder, "folder"))

        self.timesteps: list[int] = []
        self.evaluations: list[Evaluation] = []
        self.best_mean = -math.inf
        self._done = 0

    def on_start(self, training: Training) -> None:
        self._require_env(training)
        self._done = self._reached(training)
        if self._folder is not None and training.model.comm.rank == 0:
            make_folder(self._folder, "folder")
            if training.model.timesteps and not self.evaluations:
                self._take_over(self._folder, training.model.timesteps)

    def after_update(self, training: Training) -> None:
        if (reached := self._reached(training)) <= self._done:
            return
        self._done = reached
        played = self._play(training.model)
        if played is not None:
            self._note(training, played)

    def state(self) -> Arrays:
        return self._arrays() if self.evaluations else {}

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned, and with it what is in `evaluations.npz`.

        Raises:
          ValueError: the evaluations had another number of games.
        """
        self._set_evaluations(arrays["timesteps"], arrays["results"], arrays["ep_lengths"])
        if (folder := self._folder) is not None and self.evaluations:
            report_failure(lambda: self._write(folder))

    def _require_env(self, training: Training) -> None:
        """Opens the environment of the evaluations once; raises UserError where the model cannot play in it."""
        model = training.model
        if not self._part_of(model):
            return
        try:
            self._require_own(training.env)
            with model.apart(self._seed(model)), self._opened(1) as env:
                require_same_step(env)
                require_same_spaces(model, env)
        except UserError as error:
            raise UserError(f"EvalCallback's {str(error).removeprefix('--')}") from error

    def _require_own(self, trained: gym.vector.VectorEnv) -> None:
        """Raises UserError where the environment is the one that the model is trained in, or one of those."""
        own = self._env
        inside = isinstance(own, gym.Env) and any(
            one.unwrapped is own.unwrapped for one in getattr(trained.unwrapped, "envs", ())
        )
        if own is trained or inside:
            raise UserError("env: is that of the training; evaluation needs one of its own, or its id")

    def _take_over(self, folder: Path, timesteps: int) -> None:
        """Goes on with the evaluations that an earlier training of the model has left in the folder.

        A file that is damaged, or of evaluations of another number of games, is moved aside.
        """
        path = folder / EVALUATIONS
        if not path.exists():
            return
        try:
            with np.load(path) as file:
                times, results, lengths = (file[name] for name in ("timesteps", "results", "ep_lengths"))
            earlier = times <= timesteps  # [K]
            self._set_evaluations(times[earlier], results[earlier], lengths[earlier])
        except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError) as error:
            aside = path.with_name(f"{path.name}.earlier")
            path.rename(aside)
            said = f"{path}: cannot be gone on with: {brief(error)}; it is now {aside.name}"
            print(said, file=sys.stderr, flush=True)

    def _set_evaluations(self, timesteps: np.ndarray, results: np.ndarray, lengths: np.ndarray) -> None:
        """Takes evaluations at timesteps [K] with scores and lengths [K, E]; raises ValueError for another E."""
        if results.shape[1] != self._episodes:
            raise ValueError(f"its evaluations have {results.shape[1]} games, not {self._episodes}")
        self.timesteps = timesteps.tolist()
        self.evaluations = [Evaluation(*pair) for pair in zip(results, lengths, strict=True)]
        self.best_mean = max((float(one.scores.mean()) for one in self.evaluations), default=-math.inf)

    def _reached(self, training: Training) -> int:
        """How many multiples of the interval lie before the end of the next update."""
        return (training.model.timesteps + training.batch - 1) // self._interval

    def _play(self, model: Agent) -> Evaluation | None:
        """Plays this rank's part of the games; returns those of all ranks, in rank 0 alone."""
        episodes = self._part_of(model)
        seed = self._seed(model)
        played = Evaluation(np.empty(0), np.empty(0, np.int64))
        if episodes:
            # Opening environments may draw from the generators of the process, too.
            with model.apart(seed), self._opened(episodes) as env:
                played = evaluate(model, env, episodes, self._greedy, seed)
        parts = model.comm.gather(played)
        if parts is None:
            return None
        return Evaluation(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _part_of(self, model: Agent) -> int:
        """How many games of an evaluation this rank plays."""
        return int(share(self._episodes, model.comm.size)[model.comm.rank])

    def _seed(self, model: Agent) -> int:
        """The seed of this rank's games, that of no training environment."""
        return rank_seed(model.seed, -1 - model.comm.rank)

    def _opened(self, episodes: int) -> contextlib.AbstractContextManager[gym.vector.VectorEnv]:
        made = isinstance(self._env, gym.Env | gym.vector.VectorEnv)
        return opened(self._env, None if made else min(episodes, _ENVIRONMENTS))

    def _note(self, training: Training, played: Evaluation) -> None:
        mean = float(played.scores.mean())
        better = mean > self.best_mean
        self.timesteps.append(training.model.timesteps)
        self.evaluations.append(played)
        self.best_mean = max(mean, self.best_mean)

        if training.logger is not None:
            numbers = {"eval/mean": mean, "eval/std": played.scores.std(), "eval/episodes": len(played.scores)}
            training.logger.log(numbers)
        if (folder := self._folder) is not None:
            if better:
                report_failure(lambda: training.model.save(str(folder / BEST)))
            report_failure(lambda: self._write(folder))

    def _arrays(self) -> Arrays:
        return {
            "timesteps": np.array(self.timesteps, np.int64),  # [K]
            "results": np.array([one.scores for one in self.evaluations], np.float64),  # [K, E]
            "ep_lengths": np.array([one.lengths for one in self.evaluations], np.int64),  # [K, E]
        }

    def _write(self, folder: Path) -> None:
        arrays: Mapping[str, Any] = self._arrays()
        with replacing(folder / EVALUATIONS) as file:
            np.savez(file, **arrays)
