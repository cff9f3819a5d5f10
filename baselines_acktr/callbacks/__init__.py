"""What may happen beside training: callbacks of `learn`.

A callback is an object of a class that derives from `Callback`, of whose four methods `learn` calls one at the start,
one after each rollout, one after each update and one at the end:

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
