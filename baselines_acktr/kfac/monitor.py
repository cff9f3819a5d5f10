"""A callback of Keras that shows how K-FAC's updates go."""

from __future__ import annotations

from typing import Any

import keras

from baselines_acktr.kfac.optimizer import Kfac


class KfacMonitor(keras.callbacks.Callback):
    """Adds to the logs of every batch and epoch what K-FAC did in the last update.

        model.fit(images, labels, callbacks=[KfacMonitor(), keras.callbacks.CSVLogger("log.csv")])

    Name it before the callbacks that shall see these numbers, such as `CSVLogger` and `TensorBoard`; the history and
    the progress bar always do.

    The logs get

    * `kfac_damping`: the damping lambda;
    * `kfac_ratio`: by how much of the foretold decrease the loss fell when the damping was adapted last; near 1 the
      quadratic model is right, below 1/4 the damping grows (Martens & Grosse 2015, section 6.5). NaN before the first
      time, and where the damping is not adapted;
    * `kfac_step_length`: how much of the quadratic model's step was taken, at most the learning rate; less where the
      trust region made the step shorter;
    * `kfac_kl`: KL divergence between the model before and after the step, by the quadratic model, in the loss's units;
    * `kfac_inverse_age`: how many updates ago the factors were estimated that the inverses in use belong to.
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        optimizer = self.model.optimizer
        if not isinstance(optimizer, Kfac):
            raise TypeError(f"KfacMonitor: the model's optimizer is {optimizer!r}; must be a Kfac")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._add_to(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._add_to(logs)

    def _add_to(self, logs: dict[str, Any] | None) -> None:
        if logs is None:
            return
        optimizer = self.model.optimizer
        step = optimizer.last_step
        logs["kfac_damping"] = float(optimizer.damping)
        logs["kfac_ratio"] = optimizer.damping_ratio
        logs["kfac_step_length"] = float(step["step_length"])
        logs["kfac_kl"] = float(step["model_kl"])
        logs["kfac_inverse_age"] = optimizer.counters["inverse_age"]
