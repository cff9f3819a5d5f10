"""K-FAC as an optimizer (Martens & Grosse 2015; Wu et al. 2017, section 3).

One update of `Kfac` is, in this order:

1. the gradient and the batch's Kronecker factors, in one forward and two backward passes;
2. new inverses of the factors, where some are ready (`kfac.curvature`);
3. the direction: without a divergence, K-FAC's natural gradient `D = F^-1 grad`; with one, a few iterations of
   conjugate gradient on the batch's exact Fisher and, with momentum, the last step (`kfac.quadratic_model`);
4. the length `eta = min(eta_max, sqrt(2 delta / D^T F D))` (`kfac.trust_region`);
5. the move; without a divergence, heavy-ball momentum before it (`kfac.steps`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.arguments import one_line_errors, seed_of
from baselines_acktr.kfac.batch_fisher import BatchFisher, Divergence, RanksFisher
from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.curvature import Curvature
from baselines_acktr.kfac.damping import adapted_damping, decrease_ratio
from baselines_acktr.kfac.distributed import Group, OwnRows
from baselines_acktr.kfac.graphs import Graphs
from baselines_acktr.kfac.inverses import Inverter
from baselines_acktr.kfac.keras_optimizer import KerasOptimizer
from baselines_acktr.kfac.later import LaterKfac
from baselines_acktr.kfac.movement import Movement
from baselines_acktr.kfac.numbers import Number, Rate
from baselines_acktr.kfac.objective import Derivatives, Loss, Objective, loss_of
from baselines_acktr.kfac.quadratic_model import Fisher, Step, Vector
from baselines_acktr.kfac.settings import settings_from
from baselines_acktr.kfac.steps import Measured, Metrics, full_step, heavy_ball, model_step
from baselines_acktr.kfac.taps import factorizations, layers_of, tell_diagonals
from baselines_acktr.kfac.weight_averages import WeightAverages
from baselines_acktr.kfac.weight_decay import WeightDecay

_LOG = logging.getLogger(__name__)
NO_SETTINGS = "learning_rate", "delta", "damping", "momentum", "seed", "group"  # what the constructor names itself


def _fishers(divergence: Divergence, fisher_of: Callable[[Divergence], Fisher]) -> tuple[Fisher, Fisher]:
    """What a direction is found by, and what its length is measured by: the same object unless the user names two."""
    fisher = fisher_of(divergence)
    if divergence.measured_by is None:
        return fisher, fisher
    return fisher, fisher_of(divergence.measured_by)


class Kfac(KerasOptimizer):
    """Trains a Keras model by natural gradient with Kronecker-factored curvature.

    Use it as a context manager (or call `close`): it owns a background thread. `learning_rate` (eta_max), `delta`,
    `damping`, `momentum` and `decay` may be assigned to at any time, as a schedule wants: nothing is traced again.

    Attributes:
      last_step: what `minimize` returned of the last step, such as its `step_length`; empty before the first.
      damping_ratio: part of the foretold decrease of the loss that came true when the damping was last adapted; NaN
        before.

    Args:
      model: a built Keras model. Through a BatchNormalization rows depend on each other, which the Fisher's factors
        leave out. Without a model the arguments are for `KfacModel.compile`, which makes the optimizer of its model.
      learning_rate: eta_max, the longest step; 1 is the whole step of the quadratic model. A number, or a schedule of
        Keras.
      delta: radius of the trust region, in nats.
      damping: Tikhonov damping lambda; where it is adapted, that of the first updates.
      momentum: at least 0 and below 1. Without a `divergence` it is heavy ball after the trust region:
        m <- momentum m + (eta / eta_max) D;  W <- W - eta_max (1 - momentum) m.
        With a `divergence` only whether it is above 0 here matters: then the last step is one more direction, and the
        quadratic model says how much of it to take (Martens & Grosse 2015, section 7).
      seed: of the random draws: targets (through `generator`) and sites. None draws a seed.
      group: ranks that each train their copy of the model on their part of every batch, each on the same number of
        rows; None for a single process. Then every call of `minimize` is made by all of them. What a
        BatchNormalization averages over batches stays each rank's own.
      iterations: of conjugate gradient on the exact quadratic model, where `minimize` is given a `divergence`; 2. With
        1 the step follows K-FAC's direction as far as the model says.
      blend: part of K-FAC's own curvature in that model, at least 0 and below 1; 0. A Fisher of few rows knows nothing
        of many directions; K-FAC's running averages know more of them.
      damping_interval: updates between two adaptations of the damping; 5. The rule compares the decrease of the loss
        with the one that the quadratic model foretold (Martens & Grosse 2015, section 6.5). None leaves the damping as
        it is. Without a `divergence` there is no adaptation.
      min_damping: the least damping that the rule chooses; 1e-5.
      weight_decay: c, at least 0; 0. The loss gets the term c/2 |w|^2, whose second derivative is part of the quadratic
        model. So weights do not decay faster where the learning rate is larger, as in Keras' own optimizers, whose
        learning rates are smaller. What is logged as the loss leaves the term out, as there. See
        `exclude_from_weight_decay`.
      use_ema, ema_momentum, ema_overwrite_frequency: running averages of the weights, as Keras' optimizers keep them;
        none by default. `fit` ends with the averages in the model.
      decay: of the running averages of the factors; 0.95.
      factor_interval: updates from one estimate of the factors to the next; 1. The first updates all make one.
      inverse_interval: updates from one snapshot of the factors to the next; 1. At the start, where the averages
        change fast, it is at most a tenth of the updates so far.
      max_sites: sites of a convolution's output that the factors are estimated from; None takes all.
      form: how factors are damped and inverted: `CholeskyForm()` or "cholesky", the default; `EigenForm()` or "eigen".
      inverter: where they are inverted: `BackgroundInverter()` or "background", the default; `InlineInverter()` or
        "inline".
      strict: whether to refuse a layer that has no Kronecker factors, computes in mixed precision or has a constraint.
        By default such a layer is trained: with the diagonal of its Fisher, with factors in its weights' type, and with
        the constraint applied after each step.
      diagonal: names of layers that are trained with the diagonal of their Fisher, such as one whose kernel is used in
        two places.

    Raises:
      UnsupportedLayerError: naming a layer (and its type) that K-FAC cannot handle.
      ValueError: if the model has no weights yet or a number is out of range.
    """

    learning_rate = Rate(minimum=0)
    delta = Number(minimum=0)
    damping = Number(above=0)
    momentum = Number(minimum=0, below=1)

    def __new__(cls, model: keras.Model | None = None, **arguments: Any) -> Any:
        if model is not None:
            return super().__new__(cls)
        settings_from({name: value for name, value in arguments.items() if name not in NO_SETTINGS}, NO_SETTINGS)
        return LaterKfac(cls, arguments)

    def __init__(
        self,
        model: keras.Model | None = None,
        *,
        learning_rate: float = 1.0,
        delta: float = 1.0,
        damping: float = 3e-3,
        momentum: float = 0.9,
        seed: int | None = 0,
        group: Group | None = None,
        **settings: Any,
    ) -> None:
        self._model_name = getattr(model, "name", "")
        self._step_settings, of_curvature, of_averages = settings_from(settings, NO_SETTINGS)
        self._seed = seed_of(seed)
        self._draws = tf.random.Generator.from_seed(self._seed)
        self._group = group if group and group.size > 1 else None
        self.generator: Any = OwnRows(self._draws, self._group) if self._group else self._draws

        found = factorizations(model, strict=of_curvature.strict, diagonals=of_curvature.diagonal)
        self.curvature = Curvature(found, of_curvature, self._draws, self._group)
        tell_diagonals(found)

        self.dtype = self.curvature.dtype
        self.learning_rate = learning_rate
        self.delta = delta
        self.damping = damping
        self.momentum = momentum
        self._uses_last_step = momentum > 0

        self._derivatives = Derivatives(self.curvature)
        self._weight_decay = WeightDecay(self.blocks, self._step_settings.weight_decay)
        self.inner_optimizer = WeightAverages(self, self.trained_variables, **vars(of_averages))
        self._movement = Movement(self.blocks, self.inner_optimizer)
        self.last_step: Metrics = {}
        self.damping_ratio = float("nan")
        self.trace_anew()
        self._step = 0
        self._warned = 0  # skipped updates and statistics that a warning was given for

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

    def trace_anew(self) -> None:
        """Forgets all graphs: for where functions that it knows already have come to mean something else."""
        self._graphs = Graphs(self._group)
        self._own_graphs = Graphs(None)

    def __repr__(self) -> str:
        return f"Kfac(model {self._model_name!r}), which KfacModel(model).compile takes"

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
          loss: `loss(*batch)` -> the objective's loss alone, which the adaptation of the damping needs. None calls the
            objective once more for it.

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
        interval = self._step_settings.damping_interval or 0
        adapts = divergence is not None and interval > 0 and (self._step + 1) % interval == 0
        before = metrics["loss"] + self._weight_decay.loss() if adapts else None

        self.last_step = self.follow(gradient, *batch, divergence=divergence)
        metrics |= self.last_step
        self._step += 1

        if adapts:
            after = self._graphs.call(loss_of, loss or objective, *batch) + self._weight_decay.loss()
            self.damping_ratio = decrease_ratio(before, after, metrics["model_decrease"])
            self.damping = adapted_damping(
                float(self.damping), self.damping_ratio, interval, self._step_settings.min_damping
            )
        return metrics

    @tf.autograph.experimental.do_not_convert
    def advance(self, loss: Callable[..., Loss], *batch: Any) -> Metrics:
        """One update with the inverses in use; the factors are not estimated anew.

        It is for many updates on one batch, whose Fisher is wanted once: `minimize` makes the first update, this the
        others. In a single process it may be part of a `tf.function`, for many updates in one graph.

        Args:
          loss: `loss(*batch)` -> scalar to minimise, and further tensors to hand back by their names.
          *batch: as for `minimize`.

        Returns:
          The metrics, as `minimize` returns them without a divergence.
        """
        return self._graphs.call(self._derivatives.of_loss, loss, *batch, then=self._kfac_step_of)

    def differentiate(self, objective: Callable[..., Objective], *batch: Any) -> tuple[Metrics, Vector]:
        """The first part of `minimize`: takes the batch's factors, when they are wanted, into the curvature.

        Returns:
          The objective's metrics with its `loss`, and the gradient, a matrix [I, O] for each layer; means over the
          ranks.
        """
        if self.curvature.wants_factors(self._step):
            differentiate = self._derivatives.with_factors
            return self._graphs.call(differentiate, objective, *batch, then=self._derivatives.observe)
        return self._graphs.call(self._derivatives.of_objective, objective, *batch)

    def refresh_inverses(self) -> None:
        """Takes finished inverses into use and submits a new snapshot when one is due; see `Curvature.refresh`."""
        self.curvature.refresh(self._step, float(self.damping) + self._weight_decay.amount)

    def await_inverses(self) -> None:
        """Waits for the inverses of the last snapshot and takes them into use."""
        self.curvature.await_inverses()

    def follow(self, gradient: Vector, *batch: Any, divergence: Divergence | None = None) -> Metrics:
        """The last part of `minimize`: chooses direction and length of the step, and moves the weights.

        Args:
          gradient: as `differentiate` returns it, a matrix [I, O] for each layer.
          *batch, divergence: as for `minimize`.

        Returns:
          What `minimize` returns of the step, such as its `step_length`; scalars.
        """
        if divergence is None:
            return self._kfac_step(gradient)
        if self._group is None:
            return self._graphs.call(self._quadratic_step_of_batch, divergence, gradient, *batch)

        def fisher_of(each: Divergence) -> Fisher:
            return RanksFisher(self._graphs, self._own_graphs, each, self.blocks, batch)

        return self._quadratic_step(*_fishers(divergence, fisher_of), gradient)

    # -- direction, length, momentum ----------------------------------------------------------------------------------

    @tf.function(autograph=False)
    def _kfac_step(self, gradient: Vector) -> Metrics:
        """A step by K-FAC's own model, with heavy-ball momentum."""
        gradient = self._weight_decay.added_to(gradient)
        move = heavy_ball(
            gradient,
            self.curvature.precondition(gradient),
            self._movement.velocity,
            learning_rate=self.learning_rate,
            delta=self.delta,
            momentum=self.momentum,
        )
        return self._movement.make(move, gradient)

    def _kfac_step_of(self, derivatives: tuple[Metrics, Vector]) -> Metrics:
        metrics, gradient = derivatives
        return metrics | self._kfac_step(gradient)

    def _quadratic_step_of_batch(self, divergence: Divergence, gradient: Vector, *batch: Any) -> Metrics:
        """`_quadratic_step` for the batch of a single process: all of it is one graph."""
        fishers = _fishers(divergence, lambda each: BatchFisher(each, self.blocks, batch))
        return self._quadratic_step(*fishers, gradient)

    def _quadratic_step(self, fisher: Fisher, measure: Fisher, gradient: Vector) -> Metrics:
        """A step towards the minimum of the exact quadratic model; arguments as for `full_step`."""
        gradient = self._weight_decay.added_to(gradient)
        last = [tf.identity(matrix) for matrix in self._movement.velocity] if self._uses_last_step else None
        step, measured = full_step(
            fisher,
            measure,
            self.curvature.precondition,
            gradient,
            last,
            damping=self.damping,
            settings=self._step_settings,
            decay=self._weight_decay if self._weight_decay.amount else None,
        )
        return self._move_along(step, measured, gradient)

    @tf.function(autograph=False)
    def _move_along(self, step: Step, measured: Measured, gradient: Vector) -> Metrics:
        """Moves the weights along a step of the exact quadratic model, as far as the trust region lets it go."""
        move = model_step(step, measured, learning_rate=self.learning_rate, delta=self.delta, damping=self.damping)
        return self._movement.make(move, gradient)

    # -- what it did --------------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """`inverse_age` and how often something was left out.

        The age counts the calls of `minimize` since the snapshot of the inverses in use. Where updates or statistics
        were left out since `counters` was last read, a warning names the layer.
        """
        updates = int(self._movement.skips.count)
        others = self.curvature.counters
        skipped = updates + others["skipped_statistics"]
        if skipped != self._warned:
            self._warned = skipped
            reasons = [self._movement.reason()] if updates else []
            reasons += [self.curvature.reason()] if others["skipped_statistics"] else []
            _LOG.warning(
                "K-FAC left out %d updates and %d statistics; %s",
                updates,
                others["skipped_statistics"],
                ", ".join(reasons),
            )
        age = self._step - 1 - self.curvature.inverse_step
        return {"inverse_age": age} | others | {"skipped_updates": updates}

    @tf.function(autograph=False)
    def last_step_model_kl(self) -> tf.Tensor:
        """1/2 Delta^T F Delta of the last change of the weights by K-FAC's own model, undamped; nats."""
        return 0.5 * self._movement.squared_factor() * self.curvature.quadratic_form(self._movement.velocity)

    # -- state --------------------------------------------------------------------------------------------------------

    def _variables(self) -> dict[str, tf.Variable]:
        own = {"skipped_updates": self._movement.skips.count, "generator": self._draws.state}
        if self._step_settings.damping_interval:
            own["damping"] = self.damping
        return self.curvature.variables() | own | self.inner_optimizer.state()

    def state(self) -> dict[str, np.ndarray]:
        """Everything that updates change, by name, copied: factors, inverses, momentum, counters, random generator.

        A damping that is adapted is part of it; other settings are not. A snapshot that the background thread is still
        working on counts as not submitted.
        """
        arrays = {name: variable.numpy().copy() for name, variable in self._variables().items()}
        return arrays | {"counters": np.array([self._step, *self.curvature.get_steps()], np.int64)}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs.

        A snapshot that the background thread is working on is given up.
        """
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self._step, *steps = map(int, arrays["counters"])
        self.curvature.set_steps(*steps)
        self._warned = int(self._movement.skips.count) + self.curvature.counters["skipped_statistics"]

    def close(self) -> None:
        """Ends the background thread; a snapshot that it is working on is given up and taken anew when it is wanted."""
        self.curvature.close()

    def __enter__(self) -> Kfac:
        return self

    def __exit__(self, *exception) -> None:
        self.close()
