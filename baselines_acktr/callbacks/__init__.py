"""What may happen beside training: callbacks of `learn`.

A callback is an object with four methods, which `learn` calls at the start, after each rollout, after each update and
at the end:

    class Report(Callback):
        def after_update(self, training):
            print(training.model.timesteps, training.metrics)

A plain function of the model, called after each update, is one too. Several may be given in a list.
"""

from baselines_acktr.callbacks.base import Callback, Callbacks, Given, Training
from baselines_acktr.callbacks.evaluating import BEST, EVALUATIONS, EvalCallback
from baselines_acktr.callbacks.usual import CheckpointCallback, ProgressBar, StopAtReward

__all__ = [
    "BEST",
    "EVALUATIONS",
    "Callback",
    "Callbacks",
    "CheckpointCallback",
    "EvalCallback",
    "Given",
    "ProgressBar",
    "StopAtReward",
    "Training",
]
