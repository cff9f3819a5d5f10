"""K-FAC with a trust region (Martens & Grosse 2015; Wu et al. 2017, section 3).

One step is three separate functions: the *direction* `D = F^-1 grad` (the blocks), its *length*
`eta = min(eta_max, sqrt(2 delta / D^T F D))` (`step_length`), and *momentum* on top (`Kfac._move`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.distributed import Group, OwnRows, SharedInverter, averaged, symmetric, triangle
from baselines_acktr.kfac.factors import join, kronecker_factors
from baselines_acktr.kfac.inverses import (
    BackgroundInverter,
    CholeskyForm,
    Factors,
    Form,
    Inverter,
    NoInverseError,
    Refresh,
    Snapshot,
)
from baselines_acktr.kfac.taps import FreeVector, Tap, supported_layers, tap_layers
from baselines_acktr.kfac.trust_region import best_lengths, fisher_matrix, step_length

EARLY = 10  # inverses are refreshed whenever the updates so far grew by an EARLY-th, until that exceeds their interval
MANY = 32  # graphs, from which on a warning is given
_LOG = logging.getLogger(__name__)
Metrics = dict[str, tf.Tensor]
Loss = tuple[tf.Tensor, Metrics]
Derivatives = tuple[Metrics, list[tf.Tensor], list[tf.Tensor]]  # metrics, gradients, factors


class Objective(NamedTuple):
    """What a model is trained on, computed in one forward pass.

    Attributes:
      loss: scalar to minimise.
      log_likelihood: log-likelihood of targets sampled from the model, summed over rows (see `kfac.fisher`).
        Its gradients give the Fisher; only layer calls that it depends on count, so it may be taken on fewer rows
        than the loss by calling the model on those rows apart.
      metrics: further tensors to hand back.
    """

    loss: tf.Tensor
    log_likelihood: tf.Tensor
    metrics: dict[str, tf.Tensor] = {}  # noqa: RUF012 (read only)


class Divergence(NamedTuple):
    """How far apart two sets of a model's outputs are.

    Attributes:
      outputs: `outputs(*batch)` -> the model's outputs [B, ...].
      mean_kl: `mean_kl(old, new)` -> mean KL(old || new) of such outputs, nats; scalar.
      balance: between 0 and 1, how far the step of a FreeVector, beside that of the other layers, is what the exact
        Fisher makes it; see `trust_region.best_lengths`.
    """

    outputs: Callable[..., tf.Tensor]
    mean_kl: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    balance: float = 1.0


class KlLimit(NamedTuple):
    """How far a step may move a model's outputs, beside what the trust region allows.

    Attributes:
      divergence: of any outputs, such as the policy's alone; its balance has no meaning here.
      max_kl: the longest step before momentum by the batch's exact Fisher, nats; above 0.
    """

    divergence: Divergence
    max_kl: float


def first_not_finite(tensors: list[tf.Tensor]) -> tf.Tensor:
    """Index of the first tensor with a number that is not finite, -1 if there is none; scalar."""
    bad = tf.stack([~tf.math.is_finite(tf.reduce_sum(tensor)) for tensor in tensors])
    return tf.where(tf.reduce_any(bad), tf.argmax(bad), -1)


class _Number:
    """An attribute that is a `tf.Variable` and takes numbers, so that graphs follow them.

    A number is assigned as an array: of every Python float that it is given TensorFlow keeps a tensor for good.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        variable = getattr(instance, self._name)
        variable.assign(np.asarray(_number(self._name[1:], value), variable.dtype.as_numpy_dtype))


class Kfac:
    """Trains a Keras model by natural gradient with Kronecker-factored curvature.

    Use it as a context manager (or call `close`): it owns a background thread. `learning_rate` (eta_max), `delta`,
    `damping`, `momentum` and `decay` may be assigned to at any time, as a schedule wants: nothing is traced again.

    Args:
      model: a built Keras model whose trainable weights are in Dense, Conv1D, Conv2D, normalization or FreeVector
        layers. Through a BatchNormalization rows depend on each other, which the Fisher's factors leave out.
      learning_rate: eta_max, the longest step.
      delta: radius of the trust region, in nats.
      damping: Tikhonov damping lambda.
      momentum: heavy-ball momentum applied after the trust region:
        m <- momentum m + (eta / eta_max) D;  W <- W - eta_max (1 - momentum) m.
      decay: of the running averages of the factors.
      inverse_interval: updates from one snapshot of the factors to the next; fewer at the start, where the averages
        change fast: a tenth of the updates so far.
      max_sites: sites of a convolution's output that the factors are estimated from; 0 takes all.
      form: how factors are damped and inverted; `CholeskyForm()` or `EigenForm()`.
      inverter: where; `BackgroundInverter()` or `InlineInverter()`.
      seed: of the random draws (sampled targets through `generator`, sites).
      group: ranks that each train their copy of the model on their part of every batch, each on the same number of
        rows; None for a single process. Then every call of `minimize` is made by all of them. What a
        BatchNormalization averages over batches stays each rank's own.

    Raises:
      UnsupportedLayerError: naming a layer (and its type) that K-FAC cannot handle.
      ValueError: if the model has no weights yet or a number is out of range.
    """

    learning_rate, delta, damping, momentum, decay = _Number(), _Number(), _Number(), _Number(), _Number()
    built = True  # what Keras' callbacks ask of a model's optimizer

    def __init__(
        self,
        model: keras.Model,
        *,
        learning_rate: float = 0.25,
        delta: float = 1e-3,
        damping: float = 1e-2,
        momentum: float = 0.9,
        decay: float = 0.99,
        inverse_interval: int = 1,
        max_sites: int = 0,
        form: Form | None = None,
        inverter: Inverter | None = None,
        seed: int = 0,
        group: Group | None = None,
    ) -> None:
        _check_positive(learning_rate=learning_rate, delta=delta, damping=damping, inverse_interval=inverse_interval)
        _check_fraction(momentum=momentum, decay=decay)
        self.layers = supported_layers(model)
        dtype = self.layers[0].trainable_variables[0].dtype
        numbers = learning_rate, delta, damping, momentum, decay
        self._learning_rate, self._delta, self._damping, self._momentum, self._decay = (
            tf.Variable(number, dtype=dtype, trainable=False) for number in numbers
        )
        self.max_sites, self.inverse_interval = max_sites, inverse_interval
        self.form = form or CholeskyForm()
        self.inverter = inverter or BackgroundInverter()
        self._draws = tf.random.Generator.from_seed(seed)
        self.generator: Any = self._draws
        self.blocks = [
            KroneckerBlock(f"{i}-{type(layer).__name__}", layer, self.form) for i, layer in enumerate(self.layers)
        ]
        self._parts = _parts(self.layers)
        self._group = group if group and group.size > 1 else None
        if self._group:
            self.generator = OwnRows(self._draws, self._group)
            sizes = [(block.averages[0].shape[0], block.averages[1].shape[0]) for block in self.blocks]
            self.inverter = SharedInverter(self.inverter, self._group, self.form, sizes, dtype)
        self._total_weight = tf.Variable(0, dtype=dtype, trainable=False)
        self._skipped_updates, self._skipped_statistics, self._bad_gradient, self._bad_factor = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(4)
        )
        self._told = 0  # skipped updates and statistics that a warning was given for
        self._step, self._inverse_step, self._submitted_step, self._skipped_refreshes = 0, -1, -1, 0
        self._graphs: dict[tuple, Callable] = {}

    # -- one update ---------------------------------------------------------------------------------------------------

    def minimize(
        self,
        objective: Callable[..., Objective],
        *batch: Any,
        divergence: Divergence | None = None,
        limit: KlLimit | None = None,
    ) -> Metrics:
        """One update on one batch.

        Args:
          objective: `objective(*batch) -> Objective`, built from TensorFlow operations; pass the same function every
            time: it is traced once for a batch, and once more for batches of other numbers of rows.
          *batch: tensors or arrays, or structures of them.
          divergence: of all outputs; its exact Fisher of the batch says how far D is followed at most, and gives the
            D^T F D of the trust region: K-FAC's own leaves out what layers do together (Martens & Grosse 2015, section
            6.4). Like `objective` the same functions every time.
          limit: shortens steps that the trust region would let go too far; the same functions every time.

        Returns:
          The objective's metrics, and `loss`, `step_length` (eta), `trust_region_scale` (eta / eta_max) and
          `model_kl` (KL of the unaveraged step by the quadratic model, nats); scalars, means over the ranks.

        Raises:
          NoInverseError: if there are no inverses at all yet because the first factors are bad.
          ValueError: if a layer has no influence on the sampled log-likelihood, or `max_kl` is not above 0.
          RuntimeError: inside a `tf.function`.
        """
        if not tf.executing_eagerly():
            raise RuntimeError("Kfac.minimize cannot be part of a tf.function; Kfac.advance can")
        metrics, gradients = self._graph(self._differentiate, self._observe, objective, batch)
        self.refresh_inverses()
        metrics |= self.follow(gradients, *batch, divergence=divergence, limit=limit)
        self._step += 1
        return metrics

    @tf.autograph.experimental.do_not_convert
    def advance(self, loss: Callable[..., Loss], *batch: Any) -> Metrics:
        """One update with the inverses that there are, without a look at the Fisher.

        Many updates on one batch need its Fisher once: the first is made by `minimize`, the others by this. In a single
        process it may be part of a `tf.function`, for many updates in one graph.

        Args:
          loss: `loss(*batch)` -> scalar to minimise, and further tensors to hand back by their names.
          *batch: as for `minimize`, like the result.
        """
        return self._graph(self._differentiate_loss, self._advance, loss, batch)

    def refresh_inverses(self) -> None:
        """Publishes finished inverses and hands out a new snapshot when one is due; blocks only if there are none.

        What a background thread makes of the snapshot is for later updates, however fast it is.
        """
        self._publish(self.inverter.poll())
        interval = min(self.inverse_interval, max(1, self._step // EARLY))
        due = self._inverse_step < 0 or self._step >= self._submitted_step + interval
        if due and self.inverter.idle:
            self._submitted_step = self._step
            self.inverter.submit(self._snapshot(), self.form, float(self.damping))
            if self._inverse_step < 0 or self.inverter.immediate:
                self._publish(self.inverter.poll(wait=True))

    def await_inverses(self) -> None:
        """Publishes the inverses of the last snapshot as soon as they are there."""
        self._publish(self.inverter.poll(wait=True))

    def _graph(self, differentiate: Callable, apply: Callable, function: Callable | tuple, batch: tuple) -> Any:
        """`apply(mean over the ranks of differentiate(function, *batch))`; a graph for each function and row shape."""
        shapes = tuple(tuple(np.shape(part)[1:]) for part in tf.nest.flatten(batch))
        key = apply.__name__, function, shapes
        if key not in self._graphs:
            self._graphs[key] = averaged(functools.partial(differentiate, function), apply, self._group)
            if len(self._graphs) == MANY:
                _LOG.warning("K-FAC has %d graphs, each for another function or shape: pass the same function", MANY)
        return self._graphs[key](*batch)

    def _differentiate(self, objective: Callable[..., Objective], *batch: Any) -> Derivatives:
        """Metrics, gradients of the loss as matrices and factors, from one forward and two backward passes."""
        with tf.GradientTape(persistent=True) as tape, tap_layers(self.layers) as taps:
            loss, log_likelihood, metrics = objective(*batch)
        gradients = self._gradients(tape, loss)
        factors = self._factors(taps, tape.gradient(log_likelihood, [tap.outputs for tap in taps]))
        if self._group:
            factors = [triangle(factor) for factor in factors]
        return {**metrics, "loss": loss}, gradients, factors

    def _differentiate_loss(self, function: Callable[..., Loss], *batch: Any) -> tuple[Metrics, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss, metrics = function(*batch)
        return {**metrics, "loss": loss}, self._gradients(tape, loss)

    def _gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> list[tf.Tensor]:
        """The gradient of each layer as a matrix [I, O]."""
        weights = [block.weights for block in self.blocks]
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [join(parts) for parts in gradients]

    def _factors(self, taps: list[Tap], gradients: list[tf.Tensor | None]) -> list[tf.Tensor]:
        """A and S of every layer, one after the other."""
        factors: list[tf.Tensor] = []
        for block in self.blocks:
            calls = [(t, g) for t, g in zip(taps, gradients, strict=True) if t.layer is block.layer and g is not None]
            if not calls:
                raise ValueError(f"the sampled log-likelihood does not depend on layer {block.layer.name!r}")
            factors += kronecker_factors([t for t, _ in calls], [g for _, g in calls], self.max_sites, self._draws)
        return factors

    def _observe(self, derivatives: Derivatives) -> tuple[Metrics, list[tf.Tensor]]:
        """Takes a batch's factors into the running averages, unless one of them is not finite; returns the rest."""
        metrics, gradients, factors = derivatives
        if self._group:
            factors = [symmetric(factor) for factor in factors]
        bad = first_not_finite(factors)
        if bad < 0:
            for block, a, s in zip(self.blocks, factors[::2], factors[1::2], strict=True):
                block.observe((a, s), self.decay)
            self._total_weight.assign(self.decay * self._total_weight + (1 - self.decay))
        else:
            self._skipped_statistics.assign_add(1)
            self._bad_factor.assign(bad)
        return metrics, gradients

    def _advance(self, derivatives: tuple[Metrics, list[tf.Tensor]]) -> Metrics:
        metrics, gradients = derivatives
        return metrics | self._apply(gradients)

    def follow(
        self,
        gradients: list[tf.Tensor],
        *batch: Any,
        divergence: Divergence | None = None,
        limit: KlLimit | None = None,
    ) -> Metrics:
        """The part of `minimize` behind the gradients: preconditions them and moves the weights.

        Args:
          gradients: the mean over the ranks, a matrix [I, O] for each layer.
          *batch: as for `minimize`, like the others and the result.
        """
        if divergence is None and limit is None:
            return self._apply(gradients)
        divergences = divergence, limit and limit.divergence
        max_kl = limit.max_kl if limit else np.inf
        if not max_kl > 0:
            raise ValueError(f"max_kl={max_kl}: must be above 0")
        arguments = gradients, np.asarray(max_kl, gradients[0].dtype.as_numpy_dtype), *batch
        if self._group:
            return self._apply_measured(divergences, *arguments)
        return self._graph(self._apply_measured, dict, divergences, arguments)  # `dict`: as it is

    @tf.function
    def _apply(self, gradients: list[tf.Tensor]) -> Metrics:
        directions = self._directions(gradients)
        return self._move(gradients, directions, _inner_product(gradients, directions), self.learning_rate)

    @tf.autograph.experimental.do_not_convert
    def _apply_measured(
        self,
        divergences: tuple[Divergence | None, Divergence | None],
        gradients: list[tf.Tensor],
        max_kl: float,
        *batch: Any,
    ) -> Metrics:
        """The update whose length the batch's exact Fisher measures, or limits, or both."""
        measure, limit = divergences
        directions = self._directions(gradients)
        norm, longest = _inner_product(gradients, directions), self.learning_rate
        if measure:
            fisher = self._graph(self._curvature, tf.identity, measure, (directions, *batch))
            slopes, squares = (self._by_part(directions, others) for others in (gradients, directions))
            lengths = best_lengths(slopes, tf.linalg.diag_part(fisher) + self.damping * squares, measure.balance)
            directions = [lengths[part] * d for part, d in zip(self._parts, directions, strict=True)]
            norm = tf.reduce_sum(lengths * tf.linalg.matvec(fisher, lengths))
        if limit:
            fisher = self._graph(self._curvature, tf.identity, limit, (directions, *batch))
            longest = step_length(tf.nn.relu(tf.reduce_sum(fisher)), longest, max_kl)
        return self._move(gradients, directions, norm, longest)

    @tf.function
    def _directions(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        return [block.precondition(gradient) for block, gradient in zip(self.blocks, gradients, strict=True)]

    def _curvature(self, divergence: Divergence, directions: list[tf.Tensor], *batch: Any) -> tf.Tensor:
        """D_i^T F D_j with the batch's exact Fisher, for the network and each FreeVector; [P, P]."""
        variables: list[list[tf.Variable]] = [[] for _ in range(1 + max(self._parts))]
        tangents: list[list[tf.Tensor]] = [[] for _ in variables]
        for part, block, direction in zip(self._parts, self.blocks, directions, strict=True):
            variables[part] += block.weights
            tangents[part] += block.split(direction)
        return fisher_matrix(lambda: divergence.outputs(*batch), divergence.mean_kl, variables, tangents)

    def _by_part(self, ours: list[tf.Tensor], theirs: list[tf.Tensor]) -> tf.Tensor:
        """Inner products [P] of two lists of matrices, one for each block."""
        products = [tf.reduce_sum(a * b) for a, b in zip(ours, theirs, strict=True)]
        return tf.math.unsorted_segment_sum(tf.stack(products), self._parts, 1 + max(self._parts))

    @tf.function
    def _move(
        self, gradients: list[tf.Tensor], directions: list[tf.Tensor], norm: tf.Tensor, longest: tf.Tensor
    ) -> Metrics:
        length = step_length(norm, longest, self.delta)
        scale = tf.math.divide_no_nan(length, self.learning_rate)  # of a rate of 0: no step
        if tf.math.is_finite(norm) and norm >= 0 and tf.math.is_finite(length):
            for block, direction in zip(self.blocks, directions, strict=True):
                block.velocity.assign(self.momentum * block.velocity + scale * direction)
                block.move(self.learning_rate * (1 - self.momentum) * block.velocity)
        else:
            self._skipped_updates.assign_add(1)
            self._bad_gradient.assign(first_not_finite(gradients))
        return {"step_length": length, "trust_region_scale": scale, "model_kl": 0.5 * length**2 * norm}

    @tf.function
    def _unbiased_averages(self) -> list[list[tf.Tensor]]:
        return [[average / self._total_weight for average in block.averages] for block in self.blocks]

    def _snapshot(self) -> Snapshot:
        averages = self._unbiased_averages()  # new tensors: later updates of the running averages leave them alone
        factors = [Factors(b.layer.name, a, s) for b, (a, s) in zip(self.blocks, averages, strict=True)]
        return Snapshot(self._step, factors)

    def _publish(self, refresh: Refresh | None) -> None:
        if refresh is None:
            return
        if refresh.inverses is None:
            if self._inverse_step < 0:
                raise NoInverseError(f"K-FAC cannot start: no inverse of the first factors of {refresh.failure}")
            self._skipped_refreshes += 1
            _LOG.warning("K-FAC keeps its inverses of update %d: %s", self._inverse_step, refresh.failure)
            return
        self._take_inverses(refresh.inverses)
        self._inverse_step = refresh.step

    @tf.function
    def _take_inverses(self, inverses: tf.Tensor) -> None:
        variables = [variable for block in self.blocks for variable in block.tensors]
        parts = tf.split(inverses, [variable.shape.num_elements() for variable in variables])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(tf.reshape(part, variable.shape))

    # -- what it did --------------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """`inverse_age` and how often something was left out.

        The age is in calls of `minimize` since the snapshot of the inverses in use. Where updates or statistics were
        left out since the last time, a warning names the layer.
        """
        updates, statistics = int(self._skipped_updates), int(self._skipped_statistics)
        if updates + statistics != self._told:
            self._told = updates + statistics
            _LOG.warning("K-FAC left out %d updates and %d statistics; %s", updates, statistics, self._culprits())
        return {
            "inverse_age": self._step - 1 - self._inverse_step,
            "skipped_refreshes": self._skipped_refreshes,
            "skipped_statistics": statistics,
            "skipped_updates": updates,
        }

    def _culprits(self) -> str:
        """What was not finite last, by layer; a step may also be left out because its length has no meaning."""
        texts = []
        if int(self._skipped_updates):
            index = int(self._bad_gradient)
            what = "D^T F D" if index < 0 else f"the gradient of layer {self.layers[index].name!r}"
            texts.append(f"{what} was not finite")
        if int(self._skipped_statistics):
            layer, factor = divmod(int(self._bad_factor), 2)
            texts.append(f"factor {'AS'[factor]} of layer {self.layers[layer].name!r} was not finite")
        return ", ".join(texts)

    @tf.function
    def last_step_model_kl(self) -> tf.Tensor:
        """1/2 Delta^T F Delta of the last change of the weights, momentum included, undamped; nats."""
        total = tf.zeros((), self.learning_rate.dtype)
        for block in self.blocks:
            a, s = (average / self._total_weight for average in block.averages)
            total += tf.reduce_sum(block.velocity * tf.matmul(a, tf.matmul(block.velocity, s)))
        return 0.5 * tf.square(self.learning_rate * (1 - self.momentum)) * total

    # -- state --------------------------------------------------------------------------------------------------------

    def _variables(self) -> dict[str, tf.Variable]:
        own = {
            "total_weight": self._total_weight,
            "skipped_updates": self._skipped_updates,
            "skipped_statistics": self._skipped_statistics,
            "generator": self._draws.state,
        }
        return own | {name: variable for block in self.blocks for name, variable in block.variables.items()}

    def state(self) -> dict[str, np.ndarray]:
        """What updates have left behind, by name, copied: factors, inverses, momentum, counters, random generator.

        Rates and other settings are the caller's; a snapshot that the background thread is still working on is not
        part of it either: it counts as not submitted.
        """
        arrays = {name: variable.numpy().copy() for name, variable in self._variables().items()}
        submitted = self._submitted_step if self.inverter.idle else self._inverse_step
        counters = [self._step, self._inverse_step, submitted, self._skipped_refreshes]
        return arrays | {"counters": np.array(counters, np.int64)}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs.

        A snapshot that the background thread is working on is given up.
        """
        self.inverter.close()
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self._step, self._inverse_step, self._submitted_step, self._skipped_refreshes = map(int, arrays["counters"])
        self._told = int(self._skipped_updates) + int(self._skipped_statistics)

    def close(self) -> None:
        """Ends the background thread; a snapshot that it is working on is given up and taken anew when it is wanted."""
        if not self.inverter.idle:
            self._submitted_step = self._inverse_step
        self.inverter.close()

    def __enter__(self) -> Kfac:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _inner_product(ours: list[tf.Tensor], theirs: list[tf.Tensor]) -> tf.Tensor:
    return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(ours, theirs, strict=True)])


def _parts(layers: list[keras.layers.Layer]) -> list[int]:
    """The part of the weights that each layer belongs to: a number for each FreeVector, the first for all others."""
    keys = [layer if isinstance(layer, FreeVector) else None for layer in layers]
    order = sorted(dict.fromkeys(keys), key=lambda key: key is not None)
    return [order.index(key) for key in keys]


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}={value}: must be a number; assign it anew where it follows a schedule") from error


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(_number(name, value)) and value > 0):
            raise ValueError(f"{name}={value}: must be a finite number above 0")


def _check_fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= _number(name, value) < 1:
            raise ValueError(f"{name}={value}: must be at least 0 and below 1")
