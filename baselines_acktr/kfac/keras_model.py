"""K-FAC inside Keras' own training loop: `fit` with its callbacks, metrics and validation."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.models.functional import Functional

from baselines_acktr.kfac import terms
from baselines_acktr.kfac.arguments import real_number, refuse_replicas, whole_number
from baselines_acktr.kfac.batch_fisher import Divergence
from baselines_acktr.kfac.fisher_kinds import fisher_kind
from baselines_acktr.kfac.later import LaterKfac
from baselines_acktr.kfac.likelihoods import KNOWN, SiteLikelihood, site_likelihood
from baselines_acktr.kfac.objective import Objective
from baselines_acktr.kfac.optimizer import Kfac
from common.graph import graph

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


def likelihood_of(loss: str | keras.Loss | Callable) -> Likelihood:
    """The likelihood whose Fisher is the generalized Gauss-Newton matrix of a mean over rows of `loss`.

    Where a row's loss is a mean over M terms, its Fisher is divided by M, too.

    Args:
      loss: one of those in `likelihoods`, by name, function or object.

    Raises:
      ValueError: for another loss, with those that are known, or one that is not a mean.
    """
    found = keras.losses.get(loss)
    likelihood = site_likelihood(found)
    if likelihood is None:
        raise ValueError(f"loss={loss!r}: has no likelihood here; must be one of {KNOWN}, or come with log_likelihood")
    reduction = getattr(found, "reduction", "sum_over_batch_size")
    if reduction not in ("sum_over_batch_size", "mean"):
        raise ValueError(f"loss={loss!r}: its reduction is {reduction!r}; must be 'sum_over_batch_size'")
    return _of_rows(likelihood)


def _of_rows(likelihood: SiteLikelihood) -> Likelihood:
    def log_likelihood(outputs: tf.Tensor, generator: Any) -> tf.Tensor:
        sites = likelihood.draw(outputs, generator)  # [B, ...]
        count = tf.cast(tf.size(sites) / tf.shape(sites)[0], sites.dtype)
        return tf.reduce_sum(sites) / tf.sqrt(count)

    return Likelihood(log_likelihood, lambda old, new: tf.reduce_mean(likelihood.kl(old, new)))


@keras.saving.register_keras_serializable("baselines_acktr")
class KfacModel(keras.Model):
    """A Keras model that `Kfac` trains in `fit` and `train_on_batch`; else a `keras.Model` as any other.

        model = KfacModel(inputs, outputs)     # functional
        model = KfacModel(another_model)       # around a model of any kind, with its layers and weights
        class Mine(KfacModel): ...             # with a `call`, as with `keras.Model`

        model.compile("kfac", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels, epochs=10)

    Its files (.keras, .weights.h5) keep the optimizer's state, too, so a loaded model trains on as if nothing had
    happened; a legacy .h5 keeps architecture and weights alone.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is KfacModel and len(args) == 1 and not kwargs.keys() & {"inputs", "outputs"}:
            if not isinstance(args[0], keras.Model):
                raise TypeError(f"model={args[0]!r}: must be a Keras model, or inputs and outputs of one")
            return super().__new__(WrappedKfacModel)
        is_functional = len(args) == 2 or kwargs.keys() >= {"inputs", "outputs"} or (args and "outputs" in kwargs)
        return super().__new__(FunctionalKfacModel if cls is KfacModel and is_functional else cls)

    def compile(
        self,
        optimizer: Kfac | LaterKfac | str = "kfac",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
        *,
        log_likelihood: LogLikelihood | None = None,
        mean_kl: Callable[[Any, Any], tf.Tensor] | None = None,
        fisher: str = "sampled",
    ) -> None:
        """Sets what `fit` does; arguments as for `keras.Model.compile`, in its order.

        The curvature is the generalized Gauss-Newton matrix of the loss (Martens & Grosse 2015, section 6.2), with its
        weights, masks and reductions, without penalties of layers: K-FAC's factors are estimated from targets that the
        model itself draws, and the step is the minimum of the batch's exact quadratic model in a few directions. So a
        learning rate of 1 is a whole step of that model, and `delta` is in the units of the loss.

        Args:
          optimizer: a `Kfac` of this model; or one without a model, whose arguments this model's own gets: now or,
            where there are no weights yet, when training starts. "kfac" stands for `Kfac()`.
          loss: any of Keras' or of your own, one for each output. What has no likelihood here (see `likelihoods`)
            enters by its own second derivative.
          loss_weights: at least 0.
          metrics, weighted_metrics: as in Keras.
          run_eagerly: whether an update runs operation by operation, to be debugged.
          steps_per_execution: updates between two calls of the callbacks for batches.
          jit_compile: "auto" or False: an update is no XLA graph.
          auto_scale_loss: without effect, as mixed_float16 is refused.
          log_likelihood: as in `Likelihood`, of all outputs; None: what the loss says.
          mean_kl: as in `Likelihood`, of all outputs; None: what the loss says. Where `log_likelihood` is given without
            it there is no KL, and K-FAC's own model says how far a step goes.
          fisher: which Fisher K-FAC's factors are estimated from: "sampled", "exact" or "empirical" (see
            `kfac.fisher_kinds`). The quadratic model that the step minimises is the exact one in any case.

        Raises:
          TypeError: if the optimizer is not a `Kfac`.
          ValueError: if it is another model's, or an argument is out of range.
        """
        optimizer = Kfac() if optimizer == "kfac" else optimizer
        if isinstance(optimizer, LaterKfac) and all(layer.built for layer in self._flatten_layers()):
            optimizer = optimizer.of(self)
        self._check_optimizer(optimizer)
        self._close_optimizer()
        if jit_compile not in ("auto", False):
            raise ValueError(f"jit_compile={jit_compile!r}: K-FAC's update is no XLA graph; must be 'auto' or False")
        if mean_kl is not None and log_likelihood is None:
            raise ValueError("mean_kl: must come with log_likelihood")
        _check_loss(loss, loss_weights, log_likelihood is not None)

        self._fisher = fisher
        self._fisher_kind = fisher_kind(fisher, log_likelihood is not None)
        self._steps = whole_number("steps_per_execution", steps_per_execution, 1)
        self._given = Likelihood(log_likelihood, mean_kl) if log_likelihood else None

        super().compile(
            None,
            loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=bool(run_eagerly),
            steps_per_execution=self._steps,
            jit_compile=False,
        )
        self.optimizer: Any = optimizer
        if isinstance(optimizer, Kfac):
            optimizer.trace_anew()  # as it may have been compiled with another loss before
        self._count = graph(self._take_into_metrics)

    def _check_optimizer(self, optimizer: Any) -> None:
        if isinstance(optimizer, LaterKfac):
            return
        if not isinstance(optimizer, Kfac):
            raise TypeError(f"optimizer={optimizer!r}: must be a Kfac of this model, or 'kfac'")
        trained = {id(variable) for one in optimizer.curvature.factorizations for variable in one.variables}
        if trained != {id(variable) for variable in self.trainable_variables}:
            raise ValueError(f"optimizer: trains other weights than {self.name!r} has; must be a Kfac of this model")
        if any(layer.compute_dtype == "float16" for layer in optimizer.layers):
            raise ValueError("dtype='mixed_float16': K-FAC does not scale the loss; must be mixed_bfloat16 or float32")

    # -- files --------------------------------------------------------------------------------------------------------

    @property
    def kfac_state(self) -> Any:
        """What this model's files keep of its optimizer; None where it is not compiled with a `Kfac`."""
        optimizer = getattr(self, "optimizer", None)
        return optimizer.saved_state if isinstance(optimizer, Kfac) else None

    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
        """As `keras.Model.save`; a legacy .h5 file has architecture and weights, without the optimizer."""
        if str(filepath).endswith((".h5", ".hdf5")):
            kwargs.setdefault("include_optimizer", False)
        super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def get_state_tree(self, value_format: str = "backend_tensor") -> Any:
        """As `keras.Model.get_state_tree`; raises a ValueError where the model is compiled with a `Kfac`."""
        if self.kfac_state is not None:
            raise ValueError(
                "OrbaxCheckpoint: K-FAC's state is no tree of Keras variables; must be ModelCheckpoint or "
                "BackupAndRestore"
            )
        return super().get_state_tree(value_format)

    def get_compile_config(self) -> dict[str, Any] | None:
        """What `compile` was called with; None where that was a likelihood, which files do not keep."""
        if not isinstance(getattr(self, "optimizer", None), Kfac) or self._given:
            return None
        return super().get_compile_config() | {"optimizer": self.optimizer.get_config(), "fisher": self._fisher}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as `get_compile_config` says, with an optimizer of this model."""
        arguments = keras.saving.deserialize_keras_object({**config, "optimizer": None})
        self.compile(**arguments | {"optimizer": Kfac.from_config(config["optimizer"], self)})

    # -- training -----------------------------------------------------------------------------------------------------

    @functools.wraps(keras.Model.fit)
    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`, which sets the weights to their averages for optimizers of its own alone."""
        arguments = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs).arguments
        given = arguments.get("callbacks")
        if isinstance(given, keras.callbacks.CallbackList):
            given.callbacks[:] = [WeightAveragesAtEnd(self), *_others(given.callbacks)]
        else:
            arguments["callbacks"] = [WeightAveragesAtEnd(self), *keras.tree.flatten(given or [])]
        try:
            return super().fit(**{name: value for name, value in arguments.items() if name != "self"})
        finally:
            self._close_optimizer()

    def _close_optimizer(self) -> None:
        """Ends the background thread, which the next update starts again."""
        if isinstance(getattr(self, "optimizer", None), Kfac):
            self.optimizer.close()

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Makes the weights before training starts, where the optimizer waits for them."""
        if isinstance(self.optimizer, LaterKfac):
            self._symbolic_build(iterator, data_batch)
        else:
            super()._maybe_symbolic_build(iterator, data_batch)

    def make_train_function(self, force: bool = False) -> None:
        refuse_replicas(self)
        if isinstance(self.optimizer, LaterKfac):
            optimizer = self.optimizer.of(self)
            self._check_optimizer(optimizer)
            self.optimizer = optimizer
        self.train_function = self._train_on

    def _train_on(self, iterator: Iterator) -> dict[str, tf.Tensor]:
        logs = self.train_step(next(iterator))
        for _ in range(self._steps - 1):
            try:
                data = next(iterator)
            except StopIteration:
                break
            logs = self.train_step(data)
        return logs

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One update on a batch (x, y, sample_weight); returns the metrics since they were reset."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with _running_eagerly(self.run_eagerly):
            result = self.optimizer.minimize(
                self._objective, x, y, sample_weight, divergence=self._divergence(), loss=self._loss_alone
            )
        self._count(x, y, result["outputs"], sample_weight, result["loss"])
        return self.get_metrics_result()

    def _divergence(self) -> Divergence | None:
        if self._given is None:
            return Divergence(self._judged_outputs, terms.mean_kl)
        return Divergence(self._training_outputs, self._given.mean_kl) if self._given.mean_kl else None

    def _objective(self, x: Any, y: Any, sample_weight: Any) -> Objective:
        outputs = self(x, training=True)
        rows = tf.shape(tf.nest.flatten(outputs)[0])[0]
        generator = self.optimizer.generator
        if self._given:
            loss = self.compute_loss(x, y, outputs, sample_weight, training=True)
            return Objective(loss, self._given.log_likelihood(outputs, generator), {"outputs": outputs}, rows)

        def compute() -> tf.Tensor:
            return self.compute_loss(x, y, outputs, sample_weight, training=True)

        loss, found = terms.loss_with_terms(self, compute)
        judged = terms.judged(found)
        log_likelihood = self._fisher_kind(found, judged, generator)
        return Objective(loss, log_likelihood, {"outputs": outputs}, rows, terms.row_weights(judged))

    def _training_outputs(self, x: Any, y: Any, sample_weight: Any) -> Any:
        """The outputs as in training, without a change to the state of a BatchNormalization or Dropout."""
        with self._apart():
            return self(x, training=True)

    def _apart(self) -> keras.StatelessScope:
        """Within the context calls leave the state of layers and metrics alone, and have the `losses` of their own."""
        return keras.StatelessScope([(v, v.value) for v in self.trainable_variables], collect_losses=True)

    def _judged_outputs(self, x: Any, y: Any, sample_weight: Any) -> terms.Judged:
        """The outputs as in training, and what the loss says of them."""
        outputs = self._training_outputs(x, y, sample_weight)

        def compute() -> tf.Tensor:
            return self.compute_loss(x, y, outputs, sample_weight, training=True)

        with terms.without_counting(self):
            _, found = terms.loss_with_terms(self, compute)
        return terms.judged(found)

    def _loss_alone(self, x: Any, y: Any, sample_weight: Any) -> tf.Tensor:
        with self._apart(), terms.without_counting(self):
            return self.compute_loss(x, y, self(x, training=True), sample_weight, training=True)

    def _take_into_metrics(self, x: Any, y: Any, outputs: Any, sample_weight: Any, loss: tf.Tensor) -> None:
        """Takes a batch into the metrics."""
        rows = tf.shape(tf.nest.flatten(outputs)[0])[0]
        self.metrics[0].update_state(loss, sample_weight=rows)  # that of the loss
        self.compute_metrics(x, y, outputs, sample_weight)


@keras.saving.register_keras_serializable("baselines_acktr")
class FunctionalKfacModel(KfacModel, Functional):
    """What `KfacModel(inputs, outputs)` makes."""


@keras.saving.register_keras_serializable("baselines_acktr")
class WrappedKfacModel(KfacModel):
    """What `KfacModel(model)` makes: it computes what the model does, with its weights."""

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.built = model.built

    def build(self, input_shape: Any) -> None:
        if not self.model.built:
            self.model.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return self.model(inputs, training=training)

    def get_config(self) -> dict[str, Any]:
        return {"model": keras.saving.serialize_keras_object(self.model), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> WrappedKfacModel:
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects=custom_objects)
        return cls(model, name=config["name"])


class WeightAveragesAtEnd(keras.callbacks.Callback):
    """Sets the weights to their averages when training is over, where the optimizer keeps them."""

    def __init__(self, model: KfacModel) -> None:
        super().__init__()
        self.set_model(model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.model.optimizer.finalize_variable_values()


def _others(callbacks: list[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    return [one for one in callbacks if not isinstance(one, WeightAveragesAtEnd)]


def _check_loss(loss: Any, loss_weights: Any, has_likelihood: bool) -> None:
    losses = [one for one in keras.tree.flatten(loss) if one is not None]
    if not losses and not has_likelihood:
        raise ValueError("loss=None: must be given, or come with log_likelihood")
    for one in losses:
        if isinstance(one, str) and one.lower() not in ("crossentropy", "ce"):  # which Keras chooses by the targets
            keras.losses.get(one)  # raises a ValueError for what is no loss
        if getattr(one, "reduction", "") in (None, "none"):
            raise ValueError(f"loss={one!r}: its reduction is {one.reduction!r}; must be one that gives a number")
    for weight in keras.tree.flatten(loss_weights):
        if weight is not None:
            real_number("loss_weights", weight, minimum=0)


@contextlib.contextmanager
def _running_eagerly(eagerly: bool) -> Iterator[None]:
    """Within the context TensorFlow's functions run operation by operation, where that is wanted."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(before or eagerly)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


# Legacy .h5 files name classes without their package.
keras.saving.get_custom_objects().update(
    {model_class.__name__: model_class for model_class in (FunctionalKfacModel, WrappedKfacModel)}
)
