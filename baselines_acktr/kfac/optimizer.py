"""K-FAC as an optimizer (Martens & Grosse 2015; Wu et al. 2017, section 3).

One update of `Kfac` is, in this order:

1. the gradient and the batch's Kronecker factors, in one forward and two backward passes;
2. new inverses of the factors, where some are ready (`kfac.curvature`);
3. the direction: the natural gradient `D = F^-1 grad`, by K-FAC's model alone or, where the batch's exact Fisher is
   known, by a few iterations of conjugate gradient on it (`kfac.quadratic_model`);
4. the length `eta = min(eta_max, sqrt(2 delta / D^T F D))` (`kfac.trust_region`);
5. momentum, and the move.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.arguments import (
    form_of,
    inverter_of,
    one_line_errors,
    real_number,
    refuse,
    seed_of,
    whole_number,
)
from baselines_acktr.kfac.batch_fisher import BatchFisher, Divergence, RanksFisher
from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.curvature import Curvature, first_not_finite
from baselines_acktr.kfac.damping import adapted_damping
from baselines_acktr.kfac.distributed import Group, OwnRows
from baselines_acktr.kfac.forms import Form
from baselines_acktr.kfac.graphs import Graphs
from baselines_acktr.kfac.inverses import Inverter
from baselines_acktr.kfac.keras_optimizer import KerasOptimizer
from baselines_acktr.kfac.numbers import Number, Rate
from baselines_acktr.kfac.quadratic_model import (
    Fisher,
    KlParts,
    Step,
    Vector,
    conjugate_gradient,
    seen_by,
    step_along,
    step_with_last,
)
from baselines_acktr.kfac.steps import Metrics, Move, heavy_ball, model_step
from baselines_acktr.kfac.taps import factorizations, layers_of, tap_layers, tell_diagonals
from baselines_acktr.kfac.uses import Uses

_LOG = logging.getLogger(__name__)
Loss = tuple[tf.Tensor, Metrics]
NO_SETTINGS = "self", "model", "group", "others"  # of the constructor's arguments


class Objective(NamedTuple):
    """What a model is trained on, computed in one forward pass.

    Attributes:
      loss: scalar to minimise.
      log_likelihood: log-likelihood of targets sampled from the model, summed over rows (see `kfac.fisher`).
        Its gradients give the Fisher; only layer calls that it depends on count, so it may be taken on fewer rows
        than the loss by calling the model on those rows apart. With several, [D], the factors are means over them.
      metrics: further tensors to hand back.
      rows: how many rows the log-likelihood is the sum of; scalar. None: as many as each layer is called on, which
        layers without Kronecker factors do not say.
      row_weights: how much each of these rows counts, [B], where the log-likelihood has weights; None: all the same.
    """

    loss: tf.Tensor
    log_likelihood: tf.Tensor
    metrics: dict[str, tf.Tensor] = {}  # noqa: RUF012 (read only)
    rows: tf.Tensor | None = None
    row_weights: tf.Tensor | None = None


Derivatives = tuple[Metrics, Vector, list[tf.Tensor]]  # metrics, gradient, factors


def _direction_and_measure(divergence: Divergence) -> list[Divergence]:
    """What the direction is found by, and what its length is measured by: one and the same where nothing is said."""
    return [divergence, divergence.measured_by] if divergence.measured_by else [divergence]


class Kfac(KerasOptimizer):
    """Trains a Keras model by natural gradient with Kronecker-factored curvature.

    Use it as a context manager (or call `close`): it owns a background thread. `learning_rate` (eta_max), `delta`,
    `damping`, `momentum` and `decay` may be assigned to at any time, as a schedule wants: nothing is traced again.

    Attributes:
      last_step: what `minimize` said of the last step, such as its `step_length`; empty before the first.
      damping_ratio: by how much of the foretold decrease the loss fell when the damping was adapted last; NaN before.

    Args:
      model: a built Keras model. Through a BatchNormalization rows depend on each other, which the Fisher's factors
        leave out.
      learning_rate: eta_max, the longest step; 1 is the whole step of the quadratic model. A number, or a schedule of
        Keras.
      delta: radius of the trust region, in nats.
      damping: Tikhonov damping lambda; where it is adapted, that of the first updates.
      momentum: without a `divergence`, heavy ball after the trust region:
        m <- momentum m + (eta / eta_max) D;  W <- W - eta_max (1 - momentum) m.
        With one, a momentum above 0 (here, not assigned later) makes the last step one more direction, of which the
        quadratic model says how much to take (Martens & Grosse 2015, section 7).
      decay: of the running averages of the factors.
      iterations: of conjugate gradient on the exact quadratic model, where a `divergence` is given; 1 follows
        K-FAC's direction as far as the model says.
      blend: part of K-FAC's own curvature in that model, between 0 and 1: it keeps a Fisher of few rows from being
        taken at its word in directions that those rows know nothing of.
      damping_interval: updates between two adaptations of the damping, by how much of the decrease that the quadratic
        model foretold came true (Martens & Grosse 2015, section 6.5); 0: it stays. Only with a `divergence`.
      min_damping: the least damping that it is adapted to.
      factor_interval: updates from one estimate of the factors to the next; the first ones all have one.
      inverse_interval: updates from one snapshot of the factors to the next; fewer at the start, where the averages
        change fast: a tenth of the updates so far.
      max_sites: sites of a convolution's output that the factors are estimated from; 0 takes all.
      form: how factors are damped and inverted; `CholeskyForm()` or "cholesky", `EigenForm()` or "eigen".
      inverter: where; `BackgroundInverter()` or "background", `InlineInverter()` or "inline".
      seed: of the random draws (sampled targets through `generator`, sites); None draws one.
      group: ranks that each train their copy of the model on their part of every batch, each on the same number of
        rows; None for a single process. Then every call of `minimize` is made by all of them. What a
        BatchNormalization averages over batches stays each rank's own.
      strict: refuse a layer that has no Kronecker factors, computes in mixed precision or has a constraint. Otherwise
        it is trained with the diagonal of its Fisher, factors in its weights' type, and steps that are followed by the
        constraint.
      diagonal: names of layers whose block shall be the diagonal of their Fisher: such as use a kernel in two places.

    Raises:
      UnsupportedLayerError: naming a layer (and its type) that K-FAC cannot handle.
      ValueError: if the model has no weights yet or a number is out of range.
    """

    learning_rate = Rate(minimum=0)
    delta = Number(minimum=0)
    damping = Number(above=0)
    momentum = Number(minimum=0, below=1)

    def __init__(
        self,
        model: keras.Model,
        *,
        learning_rate: float = 1.0,
        delta: float = 1.0,
        damping: float = 3e-3,
        momentum: float = 0.9,
        decay: float = 0.95,
        iterations: int = 2,
        blend: float = 0.0,
        damping_interval: int = 5,
        min_damping: float = 1e-5,
        factor_interval: int = 1,
        inverse_interval: int = 1,
        max_sites: int = 0,
        form: Form | str | None = None,
        inverter: Inverter | str | None = None,
        seed: int | None = 0,
        group: Group | None = None,
        strict: bool = False,
        diagonal: Sequence[str] = (),
        **others: Any,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name not in NO_SETTINGS}
        refuse(others, list(settings))
        self._settings = settings
        seed = settings["seed"] = seed_of(seed)
        self._draws = tf.random.Generator.from_seed(seed)
        self.generator: Any = self._draws
        self._group = group if group and group.size > 1 else None
        if self._group:
            self.generator = OwnRows(self._draws, self._group)
        self.curvature = Curvature(
            factorizations(model, strict=strict, diagonals=diagonal),
            decay=decay,
            factor_interval=whole_number("factor_interval", factor_interval, 1),
            inverse_interval=whole_number("inverse_interval", inverse_interval, 1),
            max_sites=whole_number("max_sites", max_sites, 0),
            form=form_of(form),
            inverter=inverter_of(inverter),
            draws=self._draws,
            group=self._group,
        )
        tell_diagonals(self.curvature.factorizations)
        self.dtype = self.curvature.dtype
        self.learning_rate, self.delta, self.damping, self.momentum = learning_rate, delta, damping, momentum
        self._iterations = whole_number("iterations", iterations, 1)
        self._blend = real_number("blend", blend, minimum=0, below=1)
        self._uses_last_step = momentum > 0
        self._damping_interval = whole_number("damping_interval", damping_interval, 0)
        self._min_damping = real_number("min_damping", min_damping, minimum=0)
        self._skipped_updates, self._bad_gradient = (tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2))
        self._last_factor = tf.Variable(0, dtype=self.dtype, trainable=False)  # of the velocity, in the last move
        self.last_step: Metrics = {}
        self.damping_ratio = float("nan")
        self._warned = 0  # skipped updates and statistics that a warning was given for
        self._step = 0
        self._graphs = Graphs(self._group)
        self._own_graphs = Graphs(None)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that it trains."""
        return layers_of(self.curvature.factorizations)

    @property
    def blocks(self) -> list[KroneckerBlock]:
        """The state of each layer."""
        return self.curvature.blocks

    @property
    def inverter(self) -> Inverter:
        """Where inverses are computed."""
        return self.curvature.inverter

    @property
    def decay(self) -> Any:
        """Decay of the running averages of the factors."""
        return self.curvature.decay

    @decay.setter
    def decay(self, value: float) -> None:
        self.curvature.decay = value

    # -- one update ---------------------------------------------------------------------------------------------------

    def minimize(
        self,
        objective: Callable[..., Objective],
        *batch: Any,
        divergence: Divergence | None = None,
        loss: Callable[..., tf.Tensor] | None = None,
    ) -> Metrics:
        """One update on one batch.

        Args:
          objective: `objective(*batch) -> Objective`, built from TensorFlow operations; pass the same function every
            time: it is traced once for a batch, and once more for batches of other numbers of rows.
          *batch: tensors or arrays, or structures of them.
          divergence: how far apart two sets of the model's outputs are. With it the step is the minimum of the exact
            quadratic model in the directions of a few iterations of conjugate gradient, and its trust region is that
            of the exact Fisher. Pass the same functions every time.
          loss: `loss(*batch)` -> the objective's loss alone, which the damping is adapted by; None: the objective is
            called once more for it.

        Returns:
          The objective's metrics, and `loss`, `step_length` (eta), `trust_region_scale` (eta / eta_max) and
          `model_kl` (KL of the step by the quadratic model, nats, before heavy-ball momentum), with a divergence also
          `model_decrease` (how far the loss should fall) and `model_NAME_kl` for the parts of the KL; scalars, means
          over the ranks.

        Raises:
          NoInverseError: if there are no inverses at all yet because the first factors are bad.
          ValueError: if a layer has no influence on the sampled log-likelihood.
          RuntimeError: inside a `tf.function`.
        """
        if not tf.executing_eagerly():
            raise RuntimeError("Kfac.minimize cannot be part of a tf.function; Kfac.advance can")
        Kfac.learning_rate.follow(self, self._step)
        with one_line_errors():
            metrics, gradient = self.differentiate(objective, *batch)
        self.refresh_inverses()
        self.last_step = self.follow(gradient, *batch, divergence=divergence)
        metrics |= self.last_step
        self._step += 1
        if divergence and self._damping_interval and self._step % self._damping_interval == 0:
            self._adapt_damping(loss or objective, batch, metrics)
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
        return self._graphs.call(self._differentiate_loss, loss, *batch, then=self._advance)

    def differentiate(self, objective: Callable[..., Objective], *batch: Any) -> tuple[Metrics, Vector]:
        """The first part of `minimize`: takes the batch's factors, when they are wanted, into the curvature.

        Returns:
          The objective's metrics with its `loss`, and the gradient, a matrix [I, O] for each layer; means over the
          ranks.
        """
        if self.curvature.wants_factors(self._step):
            return self._graphs.call(self._differentiate, objective, *batch, then=self._observe)
        return self._graphs.call(self._differentiate_alone, objective, *batch)

    def refresh_inverses(self) -> None:
        """Publishes finished inverses and hands out a new snapshot when one is due; see `Curvature.refresh`."""
        self.curvature.refresh(self._step, float(self.damping))

    def await_inverses(self) -> None:
        """Publishes the inverses of the last snapshot as soon as they are there."""
        self.curvature.await_inverses()

    def follow(self, gradient: Vector, *batch: Any, divergence: Divergence | None = None) -> Metrics:
        """The part of `minimize` behind the gradient: chooses direction and length, and moves the weights.

        Args:
          gradient: as `differentiate` returns it.
          *batch: as for `minimize`, like the other arguments and the result.
        """
        if divergence is None:
            return self._follow_kfac(gradient)
        if self._group:
            fishers = [
                RanksFisher(self._graphs, self._own_graphs, each, self.blocks, batch)
                for each in _direction_and_measure(divergence)
            ]
            return self._follow_model(fishers, gradient)
        return self._graphs.call(self._follow_batch, divergence, gradient, *batch)

    # -- gradient and factors -----------------------------------------------------------------------------------------

    def _differentiate(self, objective: Callable[..., Objective], *batch: Any) -> Derivatives:
        """Metrics, gradient of the loss as matrices and factors, from one forward and two backward passes."""
        found = self.curvature.factorizations
        uses = Uses(found)
        with tf.GradientTape(persistent=True) as tape, tap_layers(found) as taps, uses.watching():
            loss, log_likelihood, metrics, rows, row_weights = objective(*batch)
        uses.check(taps, log_likelihood)
        gradient = self._gradient(tape, loss)
        factors = self.curvature.factors_of_draws(taps, tape, log_likelihood, rows, row_weights)
        if self._group:
            factors = self.curvature.pack(factors)
        return {**metrics, "loss": loss}, gradient, factors

    def _differentiate_alone(self, objective: Callable[..., Objective], *batch: Any) -> tuple[Metrics, Vector]:
        """Metrics and gradient of an objective, without its factors."""
        with tf.GradientTape() as tape:
            loss, _, metrics, *_ = objective(*batch)
        return {**metrics, "loss": loss}, self._gradient(tape, loss)

    def _differentiate_loss(self, function: Callable[..., Loss], *batch: Any) -> tuple[Metrics, Vector]:
        """Metrics and gradient of a loss."""
        with tf.GradientTape() as tape:
            loss, metrics = function(*batch)
        return {**metrics, "loss": loss}, self._gradient(tape, loss)

    def _gradient(self, tape: tf.GradientTape, loss: tf.Tensor) -> Vector:
        """The gradient of each layer as a matrix [I, O]."""
        weights = [block.weights for block in self.blocks]
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [block.join(parts) for block, parts in zip(self.blocks, gradients, strict=True)]

    def _observe(self, derivatives: Derivatives) -> tuple[Metrics, Vector]:
        """Takes a batch's factors into the running averages; returns the rest."""
        metrics, gradient, factors = derivatives
        if self._group:
            factors = self.curvature.unpack(factors)
        self.curvature.observe(factors)
        return metrics, gradient

    # -- direction, length, momentum ----------------------------------------------------------------------------------

    def _advance(self, derivatives: tuple[Metrics, Vector]) -> Metrics:
        metrics, gradient = derivatives
        return metrics | self._follow_kfac(gradient)

    @tf.function
    def _follow_kfac(self, gradient: Vector) -> Metrics:
        """A step by K-FAC's own model, with heavy-ball momentum."""
        move = heavy_ball(
            gradient,
            self.curvature.precondition(gradient),
            [block.velocity for block in self.blocks],
            learning_rate=self.learning_rate,
            delta=self.delta,
            momentum=self.momentum,
        )
        return self._make(move, gradient)

    def _follow_batch(self, divergence: Divergence, gradient: Vector, *batch: Any) -> Metrics:
        """`_follow_model` for the batch of a single process: all of it is one graph."""
        fishers = [BatchFisher(each, self.blocks, batch) for each in _direction_and_measure(divergence)]
        return self._follow_model(fishers, gradient)

    @tf.autograph.experimental.do_not_convert
    def _follow_model(self, fishers: Sequence[Fisher], gradient: Vector) -> Metrics:
        """A step towards the minimum of the exact quadratic model.

        Args:
          fishers: what the direction is found by, and what its length is measured by; one if they are the same.
          gradient: of the loss.
        """
        fisher, measure = fishers[0], fishers[-1]
        found = conjugate_gradient(
            fisher,
            self.curvature.precondition,
            gradient,
            iterations=self._iterations,
            damping=self.damping,
            blend=self._blend,
        )
        if self._uses_last_step:
            last = [tf.identity(block.velocity) for block in self.blocks]
            step = step_with_last(fisher, found, gradient, last, self.damping)
        else:
            step = step_along(fisher, found, gradient)

        if measure is not fisher:
            step = seen_by(measure, step)
        return self._follow_step(step, measure.parts(step.tangents), gradient)

    @tf.function
    def _follow_step(self, step: Step, kl_parts: KlParts, gradient: Vector) -> Metrics:
        """Moves the weights along a step of the exact quadratic model, as far as the trust region lets it go."""
        move = model_step(step, kl_parts, learning_rate=self.learning_rate, delta=self.delta, damping=self.damping)
        return self._make(move, gradient)

    def _make(self, move: Move, gradient: Vector) -> Metrics:
        """Moves the weights, unless the step is not finite; part of a graph.

        Args:
          move: as `steps` has chosen it.
          gradient: of the loss, to name what was not finite.
        """
        if tf.math.is_finite(move.norm) and move.norm >= 0 and tf.math.is_finite(move.length):
            for block, matrix in zip(self.blocks, move.velocity, strict=True):
                block.velocity.assign(matrix)
                block.move(move.factor * matrix)
            self._last_factor.assign(move.factor)
        else:
            self._skipped_updates.assign_add(1)
            self._bad_gradient.assign(first_not_finite(gradient))
        return move.metrics

    def _adapt_damping(self, loss: Callable, batch: tuple, metrics: Metrics) -> None:
        """Sets lambda by how much of the foretold decrease of the loss came true (Martens & Grosse 2015, 6.5)."""
        after = float(self._graphs.call(self._loss_of, loss, *batch))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.divide(float(metrics["loss"]) - after, float(metrics["model_decrease"]))
        self.damping_ratio = float(ratio)
        self.damping = adapted_damping(
            float(self.damping), self.damping_ratio, self._damping_interval, self._min_damping
        )

    def _loss_of(self, function: Callable, *batch: Any) -> tf.Tensor:
        result = function(*batch)
        return result.loss if isinstance(result, Objective) else result

    # -- what it did --------------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """`inverse_age` and how often something was left out.

        The age is in calls of `minimize` since the snapshot of the inverses in use. Where updates or statistics were
        left out since the last time, a warning names the layer.
        """
        updates, others = int(self._skipped_updates), self.curvature.counters
        skipped = updates + others["skipped_statistics"]
        if skipped != self._warned:
            self._warned = skipped
            _LOG.warning(
                "K-FAC left out %d updates and %d statistics; %s",
                updates,
                others["skipped_statistics"],
                self._culprits(),
            )
        age = self._step - 1 - self.curvature.inverse_step
        return {"inverse_age": age} | others | {"skipped_updates": updates}

    def _culprits(self) -> str:
        """What was not finite last, by layer; a step may also be left out because its length has no meaning."""
        texts = []
        if int(self._skipped_updates):
            index = int(self._bad_gradient)
            what = "D^T F D" if index < 0 else f"the gradient of layer {self.blocks[index].layer.name!r}"
            texts.append(f"{what} was not finite")
        if self.curvature.counters["skipped_statistics"]:
            texts.append(f"{self.curvature.last_bad_factor} was not finite")
        return ", ".join(texts)

    @tf.function
    def last_step_model_kl(self) -> tf.Tensor:
        """1/2 Delta^T F Delta of the last change of the weights by K-FAC's own model, undamped; nats."""
        velocity = [block.velocity for block in self.blocks]
        return 0.5 * tf.square(self._last_factor) * self.curvature.quadratic_form(velocity)

    # -- state --------------------------------------------------------------------------------------------------------

    def _variables(self) -> dict[str, tf.Variable]:
        own = {"skipped_updates": self._skipped_updates, "generator": self._draws.state}
        if self._damping_interval:
            own["damping"] = self.damping
        return self.curvature.variables() | own

    def state(self) -> dict[str, np.ndarray]:
        """What updates have left behind, by name, copied: factors, inverses, momentum, counters, random generator.

        Rates and other settings are the caller's, but for a damping that is adapted. A snapshot that the background
        thread is still working on is not part of it either: it counts as not submitted.
        """
        arrays = {name: variable.numpy().copy() for name, variable in self._variables().items()}
        return arrays | {"counters": np.array([self._step, *self.curvature.get_steps()], np.int64)}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs.

        A snapshot that the background thread is working on is given up.
        """
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self._step, *steps = map(int, arrays["counters"])
        self.curvature.set_steps(*steps)
        self._warned = int(self._skipped_updates) + self.curvature.counters["skipped_statistics"]

    def close(self) -> None:
        """Ends the background thread; a snapshot that it is working on is given up and taken anew when it is wanted."""
        self.curvature.close()

    def __enter__(self) -> Kfac:
        return self

    def __exit__(self, *exception) -> None:
        self.close()
