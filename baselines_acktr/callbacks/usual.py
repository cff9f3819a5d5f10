"""Callbacks that stop, save and show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from baselines_acktr.callbacks.base import Callback, Training
from baselines_acktr.callbacks.files import make_folder, report_failure
from baselines_acktr.foreign_names import OF_CHECKPOINT_CALLBACK
from common.arguments import real_number, whole_number
from common.foreign_names import answers
from common.paths import given_path


class StopAtReward(Callback):
    """Ends the training when the mean score of the last 100 training episodes has reached a threshold.

    With several ranks, each looks at its own part of the last 100 episodes.

    Args:
      reward: the threshold.

    Raises:
      UserError: it is no finite number.
    """

    def __init__(self, reward: float) -> None:
        self._reward = real_number("reward", reward)

    def after_update(self, training: Training) -> bool:
        scores = training.episode_rewards
        remembered = getattr(scores, "maxlen", None)
        return len(scores) == remembered and sum(scores) / len(scores) >= self._reward


class CheckpointCallback(Callback):
    """Saves the model every so many timesteps, as `model-<timesteps>.model`.

    Args:
      folder: where the files go; it is created.
      interval: timesteps from one file to the next.

    Raises:
      UserError: the interval is no whole number of at least 1, or the folder no path.
    """

    @answers(OF_CHECKPOINT_CALLBACK, "CheckpointCallback")
    def __init__(self, folder: str | Path, interval: int) -> None:
        self._folder = Path(given_path(folder, "folder"))
        self._interval = whole_number("interval", interval, 1)
        self._done = 0

    def on_start(self, training: Training) -> None:
        if training.model.comm.rank == 0:
            make_folder(self._folder, "folder")
        self._done = training.model.timesteps // self._interval

    def after_update(self, training: Training) -> None:
        model = training.model
        reached = model.timesteps // self._interval
        if reached > self._done and model.comm.rank == 0:
            report_failure(lambda: model.save(str(self._folder / f"model-{model.timesteps:09d}.model")))
        self._done = reached


class ProgressBar(Callback):
    """A progress bar on stderr, with the mean score of the last training episodes; in rank 0 alone."""

    def on_start(self, training: Training) -> None:
        model = training.model
        self._bar = tqdm(
            total=training.total_timesteps,
            initial=model.timesteps,
            disable=model.comm.rank > 0,
            dynamic_ncols=True,
            unit=" timesteps",
        )

    def after_update(self, training: Training) -> None:
        if training.episode_rewards:
            self._bar.set_postfix(eprewmean=f"{np.mean(training.episode_rewards):.4g}", refresh=False)
        self._bar.update(training.model.timesteps - self._bar.n)

    def on_end(self, training: Training) -> None:
        self._bar.close()
