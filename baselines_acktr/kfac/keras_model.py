"""K-FAC inside Keras' own training loop: `fit` with its callbacks, metrics and validation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from baselines_acktr.kfac.batch_fisher import Divergence
from baselines_acktr.kfac.fisher import (
    bernoulli_kl,
    bernoulli_log_likelihood,
    categorical_kl,
    categorical_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
)
from baselines_acktr.kfac.optimizer import Kfac, Objective
from baselines_acktr.kfac.taps import supported_layers

LogLikelihood = Callable[[tf.Tensor, Any], tf.Tensor]


class Likelihood(NamedTuple):
    """What the outputs of a model stand for, with the generalized Gauss-Newton matrix of its loss as its Fisher.

    Attributes:
      log_likelihood: (outputs [B, ...], generator) -> log-likelihood of targets drawn from the distribution that the
        outputs stand for, summed over rows; scalar.
      mean_kl: (old, new) -> mean KL over rows between two such outputs, nats; scalar. None: not known.
    """

    log_likelihood: LogLikelihood
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None


def _terms(outputs: tf.Tensor, classes: bool) -> int:
    """How many terms a row's loss is the mean of."""
    return math.prod(outputs.shape[1:-1] if classes else outputs.shape[1:])


def _categorical(from_logits: bool) -> Likelihood:
    def logits(outputs: tf.Tensor) -> tf.Tensor:
        return outputs if from_logits else _log(outputs)

    def log_likelihood(outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        return categorical_log_likelihood(logits(outputs), generator) / math.sqrt(_terms(outputs, classes=True))

    return Likelihood(log_likelihood, lambda old, new: categorical_kl(logits(old), logits(new)))


def _bernoulli(from_logits: bool) -> Likelihood:
    def logits(outputs: tf.Tensor) -> tf.Tensor:
        return outputs if from_logits else _log(outputs) - _log(1 - outputs)

    def log_likelihood(outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        return bernoulli_log_likelihood(logits(outputs), generator) / math.sqrt(_terms(outputs, classes=False))

    def mean_kl(old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        return bernoulli_kl(logits(old), logits(new)) / _terms(old, classes=False)

    return Likelihood(log_likelihood, mean_kl)


def _gaussian(from_logits: bool) -> Likelihood:
    def sigma(outputs: tf.Tensor) -> float:
        return math.sqrt(_terms(outputs, classes=False) / 2)

    return Likelihood(
        lambda outputs, generator: gaussian_log_likelihood(outputs, generator, sigma(outputs)),
        lambda old, new: gaussian_kl(old, new, sigma(old)),
    )


def _log(probabilities: tf.Tensor) -> tf.Tensor:
    return tf.math.log(tf.maximum(probabilities, keras.config.epsilon()))


_LIKELIHOODS: dict[Any, Callable[[bool], Likelihood]] = {
    keras.losses.CategoricalCrossentropy: _categorical,
    keras.losses.SparseCategoricalCrossentropy: _categorical,
    keras.losses.BinaryCrossentropy: _bernoulli,
    keras.losses.MeanSquaredError: _gaussian,
    keras.losses.categorical_crossentropy: _categorical,
    keras.losses.sparse_categorical_crossentropy: _categorical,
    keras.losses.binary_crossentropy: _bernoulli,
    keras.losses.mean_squared_error: _gaussian,
}


def likelihood_of(loss: str | keras.Loss | Callable) -> Likelihood:
    """The likelihood whose Fisher is the generalized Gauss-Newton matrix of a mean over rows of `loss`.

    Where a row's loss is a mean over M terms, its Fisher is divided by M, too.

    Args:
      loss: a cross-entropy or mean squared error of Keras, by name, function or object.

    Raises:
      ValueError: for another loss, with those that are supported, or one that is not a mean or whose classes are not
        on the last axis.
    """
    found = keras.losses.get(loss)
    likelihood = _LIKELIHOODS.get(type(found) if isinstance(found, keras.Loss) else found)
    if likelihood is None:
        raise ValueError(
            f"loss={loss!r}: has no likelihood here; must be (sparse_)categorical_crossentropy, binary_crossentropy or "
            "mean_squared_error, or come with log_likelihood"
        )
    config = found.get_config() if isinstance(found, keras.Loss) else {}
    if (axis := getattr(found, "_fn_kwargs", {}).get("axis", -1)) != -1:
        raise ValueError(f"loss={loss!r}: its classes are on axis {axis}; must be on the last one, -1")
    if (reduction := config.get("reduction", "sum_over_batch_size")) != "sum_over_batch_size":
        raise ValueError(f"loss={loss!r}: its reduction is {reduction!r}; must be 'sum_over_batch_size'")
    return likelihood(config.get("from_logits", False))


@keras.saving.register_keras_serializable("baselines_acktr")
class KfacModel(keras.Model):
    """A functional Keras model that `Kfac` trains in `fit` and `train_on_batch`; else a `keras.Model` as any other.

        model = KfacModel(inputs, outputs)
        with Kfac(model) as optimizer:
            model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(images, labels, epochs=10)

    `KfacModel(sequential.inputs[0], sequential.outputs[0])` has the layers and weights of a `Sequential`. `save`, into
    a .keras file, writes architecture and weights, not the optimizer: compile a loaded model with a new one.
    """

    def compile(
        self,
        optimizer: Kfac,
        loss: str | keras.Loss | Callable,
        metrics: list | None = None,
        weighted_metrics: list | None = None,
        log_likelihood: LogLikelihood | None = None,
        mean_kl: Callable[[Any, Any], tf.Tensor] | None = None,
    ) -> None:
        """Sets what `fit` does.

        The curvature is the generalized Gauss-Newton matrix of the loss (Martens & Grosse 2015, section 6.2), with all
        rows weighted alike and without penalties of layers: K-FAC's factors are estimated from targets that the model
        itself draws, and the step is the minimum of the batch's exact quadratic model in a few directions. So a
        learning rate of 1 is a whole step of that model, and `delta` is in the units of the loss.

        Args:
          optimizer: made of this model.
          loss: as for `likelihood_of`; with `log_likelihood` any, and of any number of outputs.
          metrics: as for `keras.Model.compile`.
          weighted_metrics: as for `keras.Model.compile`.
          log_likelihood: as in `Likelihood`, of all outputs; None: that of the loss.
          mean_kl: as in `Likelihood`, of all outputs; None: that of the loss, and where `log_likelihood` is given
            alone there is none: then K-FAC's own model says how far a step goes.

        Raises:
          TypeError: if the optimizer is not a `Kfac`.
          ValueError: if it is another model's, if a likelihood is missing, and as for `likelihood_of`.
        """
        if not isinstance(optimizer, Kfac):
            raise TypeError(f"optimizer={optimizer!r}: must be a Kfac of this model")
        if optimizer.layers != supported_layers(self):
            raise ValueError(f"optimizer: trains other layers than {self.name!r} has; must be a Kfac of this model")
        if log_likelihood is None and len(self.outputs) != 1:
            raise ValueError(
                f"loss={loss!r}: {self.name!r} has {len(self.outputs)} outputs; must have one, or come with "
                "log_likelihood"
            )
        likelihood = Likelihood(log_likelihood, mean_kl) if log_likelihood else likelihood_of(loss)
        self._log_likelihood: LogLikelihood = likelihood.log_likelihood
        self._mean_kl: Callable | None = likelihood.mean_kl
        super().compile(None, loss, metrics=metrics, weighted_metrics=weighted_metrics, jit_compile=False)
        self.optimizer = optimizer

    def get_compile_config(self) -> None:
        """None: a `Kfac` belongs to one model and owns a thread."""

    def make_train_function(self, force: bool = False) -> None:
        self.train_function = lambda iterator: self.train_step(next(iterator))

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update on a batch (x, y, sample_weight); returns the metrics since they were reset."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        divergence = Divergence(self._training_outputs, self._mean_kl) if self._mean_kl else None
        result = self.optimizer.minimize(
            self._objective, x, y, sample_weight, divergence=divergence, loss=self._loss_alone
        )
        self._count(x, y, result["outputs"], sample_weight, result["loss"])
        return self.get_metrics_result()

    def _objective(self, x: Any, y: tf.Tensor, sample_weight: tf.Tensor | None) -> Objective:
        outputs = self(x, training=True)
        loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
        return Objective(loss, self._log_likelihood(outputs, self.optimizer.generator), {"outputs": outputs})

    def _training_outputs(self, x: Any, y: tf.Tensor, sample_weight: tf.Tensor | None) -> Any:
        """The outputs as in training, without a change to the state of a BatchNormalization or Dropout."""
        trainable = [variable.value for variable in self.trainable_variables]
        others = [variable.value for variable in self.non_trainable_variables]
        return self.stateless_call(trainable, others, x, training=True)[0]

    def _loss_alone(self, x: Any, y: tf.Tensor, sample_weight: tf.Tensor | None) -> tf.Tensor:
        return self.compute_loss(x, y, self._training_outputs(x, y, sample_weight), sample_weight, training=True)

    @tf.function(reduce_retracing=True)
    def _count(self, x: Any, y: tf.Tensor, outputs: Any, sample_weight: tf.Tensor | None, loss: tf.Tensor) -> None:
        """Takes a batch into the metrics."""
        rows = tf.shape(tf.nest.flatten(outputs)[0])[0]
        self.metrics[0].update_state(loss, sample_weight=rows)  # that of the loss
        self.compute_metrics(x, y, outputs, sample_weight)
