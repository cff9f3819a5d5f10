"""K-FAC's approximation of the Fisher: running averages of Kronecker factors and their damped inverses.

`Curvature` knows nothing of gradients' length or momentum: it takes in factors, hands out snapshots to be inverted, and
preconditions (Martens & Grosse 2015, sections 5 and 6.3; Wu et al. 2017, sections 3.1 and 4).
"""

from __future__ import annotations

import logging

import tensorflow as tf

from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.distributed import Group, SharedInverter, symmetric, triangle
from baselines_acktr.kfac.factors import Sampling
from baselines_acktr.kfac.forms import Form
from baselines_acktr.kfac.inverses import Factors, Inverter, NoInverseError, Refresh, Snapshot
from baselines_acktr.kfac.layers import Factorization, Tap
from baselines_acktr.kfac.numbers import Number
from baselines_acktr.kfac.settings import CurvatureSettings
from baselines_acktr.kfac.skips import Skips, first_not_finite

EARLY = 10  # the first EARLY intervals have factors in every update; see `Curvature.refresh` for the inverses
_LOG = logging.getLogger(__name__)


class Curvature:
    """The Kronecker factors of a model's layers and their damped inverses.

    A vector is a list with a matrix W, [I, O] or in groups [G, I, O], for each block.

    Attributes:
      factorizations: how the Fisher of each layer's weights is factored.
      blocks: the state of each layer, in the same order.
      settings: as they were given.
      decay: of the running averages.
      form: how factors are damped and inverted.
      inverter: where inverses are computed.

    Args:
      factorizations: how the Fisher of a model's weights is factored (see `taps.factorizations`).
      settings: how the factors are estimated and inverted.
      draws: generator that chooses sites of convolutions.
      group: ranks that share the inverses out; None for a single process.
    """

    decay = Number(minimum=0, below=1)

    def __init__(
        self,
        factorizations: list[Factorization],
        settings: CurvatureSettings,
        draws: tf.random.Generator,
        group: Group | None,
    ) -> None:
        self.factorizations = factorizations
        self.settings = settings
        self.dtype = factorizations[0].variables[0].value.dtype
        self.form: Form = settings.form
        self.blocks = [
            KroneckerBlock(f"{i}-{type(one.layer).__name__}", one, self.form, self.dtype)
            for i, one in enumerate(factorizations)
        ]
        self.decay = settings.decay
        self._draws = draws

        self._ranks = 1 if group is None else group.size
        self.inverter: Inverter = settings.inverter
        if group is not None:
            shapes = [one.factor_shapes for one in factorizations]
            self.inverter = SharedInverter(self.inverter, group, self.form, shapes, self.dtype.as_numpy_dtype)

        self._total_weight = tf.Variable(0, dtype=self.dtype, trainable=False)
        self._skips = Skips()  # statistics that were left out
        self.inverse_step = -1  # the update whose factors the inverses in use are of; -1: there are none yet
        self._submitted_step = -1  # the update of the last snapshot
        self._skipped_refreshes = 0

    # -- statistics ---------------------------------------------------------------------------------------------------

    def wants_factors(self, step: int) -> bool:
        """Whether the update after `step` others is one that estimates the factors."""
        interval = self.settings.factor_interval
        return step < EARLY * interval or step % interval == 0

    def factors_of_draws(
        self,
        taps: list[Tap],
        tape: tf.GradientTape,
        log_likelihood: tf.Tensor,
        rows: tf.Tensor | None = None,
        row_weights: tf.Tensor | None = None,
    ) -> list[tf.Tensor]:
        """What A and S of every block are made of (see `Factorization.means`), one after the other.

        Args:
          taps: the calls of the layers.
          tape: a persistent tape, that has recorded them.
          log_likelihood: scalar, or [D].
          rows, row_weights: as for `factors`.
        """
        outputs = [tap.outputs for tap in taps]
        if not log_likelihood.shape.rank:
            return self.factors(taps, tape.gradient(log_likelihood, outputs), rows, row_weights)
        draws = log_likelihood.shape[0]
        each = [
            self.factors(taps, tape.gradient(log_likelihood, outputs, part), rows, row_weights)
            for part in tf.unstack(tf.eye(draws, dtype=log_likelihood.dtype))
        ]
        may_average = [one.is_mean_over_draws for one in self.factorizations for _ in range(2)]
        return [
            tf.add_n(parts) / draws if may else tf.stack(parts)
            for parts, may in zip(zip(*each, strict=True), may_average, strict=True)
        ]

    def factors(
        self,
        taps: list[Tap],
        gradients: list[tf.Tensor | None],
        rows: tf.Tensor | None = None,
        row_weights: tf.Tensor | None = None,
    ) -> list[tf.Tensor]:
        """What A and S of every block are made of on one batch, one after the other.

        Args:
          taps: the calls of the layers.
          gradients: of the sampled log-likelihood at the outputs of each call; None where it does not depend on them.
          rows: how many rows that is the sum of; scalar. None: as many as each layer was called on.
          row_weights: how much each of them counts, [B]; None: all the same.

        Raises:
          ValueError: if it does not depend on a layer at all.
        """
        pairs = [pair for pair in zip(taps, gradients, strict=True) if pair[1] is not None]
        called = [tf.shape(gradient)[0] for tap, gradient in pairs if tap.inputs is not None]
        sampling = Sampling(self.settings.max_sites, self._draws, rows, row_weights, called[0] if called else None)
        found: list[tf.Tensor] = []
        for one in self.factorizations:
            calls = [(tap, gradient) for tap, gradient in pairs if tap.factorization is one]
            if not calls:
                raise ValueError(
                    f"the sampled log-likelihood does not depend on layer {one.layer.name!r}; must be frozen "
                    "(layer.trainable = False), or part of the loss"
                )
            found += [tf.cast(factor, self.dtype) for factor in one.means(calls, sampling)]
        return found

    def pack(self, means: list[tf.Tensor]) -> list[tf.Tensor]:
        """What `factors` returned as it is sent to other ranks, if there are any: of a symmetric matrix a triangle."""
        if self._ranks == 1:
            return means
        return [triangle(part) if is_matrix else part for part, is_matrix in zip(means, self._matrices(), strict=True)]

    def unpack(self, packed: list[tf.Tensor]) -> list[tf.Tensor]:
        """A and S of every block, one after the other, from what `pack` gave, averaged over the ranks."""
        if self._ranks > 1:
            pairs = zip(packed, self._matrices(), strict=True)
            packed = [symmetric(part) if is_matrix else part for part, is_matrix in pairs]
        triples = zip(self.factorizations, packed[::2], packed[1::2], strict=True)
        return [factor for one, a, s in triples for factor in one.from_means(a, s, self._ranks)]

    def _matrices(self) -> list[bool]:
        """Which factors are matrices, or groups of them, and not diagonals."""
        return [len(average.shape) > 1 for block in self.blocks for average in block.averages]

    def observe(self, factors: list[tf.Tensor]) -> None:
        """Takes a batch's factors into the running averages, unless one of them is not finite; part of a graph."""
        bad = first_not_finite(factors)
        tf.cond(bad < 0, lambda: self._average(factors), lambda: self._skips.add(bad))

    def _average(self, factors: list[tf.Tensor]) -> None:
        for block, a, s in zip(self.blocks, factors[::2], factors[1::2], strict=True):
            block.observe((a, s), self.decay)
        self._total_weight.assign(self.decay * self._total_weight + (1 - self.decay))

    @tf.function(autograph=False)
    def _unbiased_averages(self) -> list[list[tf.Tensor]]:
        return [[average / self._total_weight for average in block.averages] for block in self.blocks]

    def snapshot(self, step: int) -> Snapshot:
        """A copy of all factors as they are after `step` updates, which later updates leave alone."""
        averages = self._unbiased_averages()
        factors = [Factors(b.layer.name, a, s) for b, (a, s) in zip(self.blocks, averages, strict=True)]
        return Snapshot(step, factors)

    # -- inverses -----------------------------------------------------------------------------------------------------

    def refresh(self, step: int, damping: float) -> None:
        """Takes finished inverses into use, and submits a new snapshot of the factors when one is due.

        It waits for the inverses only while there are none at all. Those of this snapshot come into use in a later
        update, however fast the background thread is.

        Args:
          step: updates so far.
          damping: Tikhonov damping lambda.

        Raises:
          NoInverseError: if there are no inverses at all yet because the first factors are bad.
        """
        self._publish(self.inverter.poll())
        interval = min(self.settings.inverse_interval, max(1, step // EARLY))
        due = self.inverse_step < 0 or step >= self._submitted_step + interval
        if due and self.inverter.idle:
            self._submitted_step = step
            self.inverter.submit(self.snapshot(step), self.form, damping)
            if self.inverse_step < 0 or self.inverter.immediate:
                self.await_inverses()

    def await_inverses(self) -> None:
        """Waits for the inverses of the last snapshot and takes them into use."""
        self._publish(self.inverter.poll(wait=True))

    def _publish(self, refresh: Refresh | None) -> None:
        if refresh is None:
            return
        if refresh.inverses is None:
            if self.inverse_step < 0:
                raise NoInverseError(f"K-FAC cannot start: no inverse of the first factors of {refresh.failure}")
            self._skipped_refreshes += 1
            _LOG.warning("K-FAC keeps its inverses of update %d: %s", self.inverse_step, refresh.failure)
            return
        self._take_inverses(refresh.inverses)
        self.inverse_step = refresh.step

    @tf.function(autograph=False)
    def _take_inverses(self, inverses: tf.Tensor) -> None:
        variables = [variable for block in self.blocks for variable in block.tensors]
        parts = tf.split(inverses, [variable.shape.num_elements() for variable in variables])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(tf.reshape(part, variable.shape))

    # -- products -----------------------------------------------------------------------------------------------------

    def precondition(self, vector: list[tf.Tensor]) -> list[tf.Tensor]:
        """(A (x) S + lambda)^-1 times a vector, with the inverses in use; part of a graph."""
        return [block.precondition(matrix) for block, matrix in zip(self.blocks, vector, strict=True)]

    def quadratic_form(self, vector: list[tf.Tensor]) -> tf.Tensor:
        """x^T (A (x) S) x of a vector x, undamped, with the running averages as they are; scalar."""
        total = tf.zeros((), self.dtype)
        for block, matrix in zip(self.blocks, vector, strict=True):
            a, s = (average / self._total_weight for average in block.averages)
            right = tf.matmul(matrix, s) if len(s.shape) > 1 else matrix * s
            total += tf.reduce_sum(matrix * (tf.matmul(a, right) if len(a.shape) > 1 else a[:, None] * right))
        return total

    # -- what it did, and state ---------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """How many refreshes and statistics were left out because something was not finite."""
        return {
            "skipped_refreshes": self._skipped_refreshes,
            "skipped_statistics": int(self._skips.count),
        }

    def reason(self) -> str:
        """Why statistics were left out the last time: which factor of which layer was not finite."""
        layer, factor = divmod(int(self._skips.culprit), 2)
        return f"factor {'AS'[factor]} of layer {self.blocks[layer].layer.name!r} was not finite"

    def variables(self) -> dict[str, tf.Variable]:
        """Every variable that updates change, the momentum of the blocks included, by its name in a checkpoint."""
        own = {"total_weight": self._total_weight, "skipped_statistics": self._skips.count}
        return own | {name: variable for block in self.blocks for name, variable in block.variables.items()}

    def get_steps(self) -> list[int]:
        """The update of the inverses in use, that of the last snapshot, and how many refreshes were left out.

        A snapshot that the background thread is still working on counts as not submitted.
        """
        submitted = self._submitted_step if self.inverter.idle else self.inverse_step
        return [self.inverse_step, submitted, self._skipped_refreshes]

    def set_steps(self, inverse_step: int, submitted_step: int, skipped_refreshes: int) -> None:
        """Restores what `get_steps` returned; a snapshot that is being worked on is given up."""
        self.inverter.close()
        self.inverse_step = inverse_step
        self._submitted_step = submitted_step
        self._skipped_refreshes = skipped_refreshes

    def close(self) -> None:
        """Ends the background thread; a snapshot that it is working on is given up and taken anew when it is wanted."""
        if not self.inverter.idle:
            self._submitted_step = self.inverse_step
        self.inverter.close()
