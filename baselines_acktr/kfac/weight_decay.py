"""Weight decay as a term of the loss, with its own curvature in the quadratic model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.quadratic_model import Fisher, KlParts, Step, Tangents, Vector, inner_product


class WeightDecay:
    """The term 1/2 w^T C w of the loss, where the diagonal matrix C has the decay c, or 0 for weights left out.

    Its gradient is C w and its second derivative is C, both exact (Martens & Grosse 2015, sections 6.1 and 6.4, has it
    as l2 regularization). A vector is a list with a matrix [I, O] for each block.

    Args:
      blocks: whose weights decay.
      amount: c, at least 0.
    """

    def __init__(self, blocks: Sequence[KroneckerBlock], amount: float) -> None:
        self.amount = amount
        self._blocks = blocks
        self._left_out: set[int] = set()  # ids of variables

    def leave_out(self, is_left_out: Callable[[keras.Variable], bool]) -> None:
        """Lets the weights decay of which `is_left_out` is false, and no others."""
        self._left_out = {id(variable) for variable in self._variables() if is_left_out(variable)}

    @property
    def left_out(self) -> list[int]:
        """Which weights do not decay: their places among the optimizer's weights."""
        return [i for i, variable in enumerate(self._variables()) if id(variable) in self._left_out]

    def _variables(self) -> list[keras.Variable]:
        return [variable for block in self._blocks for variable in block.factorization.variables]

    def times(self, vector: Vector) -> Vector:
        """C times a vector."""
        return [
            block.join([self._of(v) * part for v, part in zip(block.factorization.variables, parts, strict=True)])
            for block, parts in self._with_parts(vector)
        ]

    def _with_parts(self, vector: Vector) -> list[tuple[KroneckerBlock, list[tf.Tensor]]]:
        return [(block, block.split(matrix)) for block, matrix in zip(self._blocks, vector, strict=True)]

    def _of(self, variable: keras.Variable) -> float:
        return 0.0 if id(variable) in self._left_out else self.amount

    def added_to(self, gradient: Vector) -> Vector:
        """The gradient of the loss with this term, from that of the loss without it; the same where nothing decays."""
        if not self.amount:
            return gradient
        return [matrix + part for matrix, part in zip(gradient, self.times(self._weights()), strict=True)]

    def loss(self) -> tf.Tensor | float:
        """1/2 w^T C w, which objectives do not know; scalar, 0 where nothing decays."""
        if not self.amount:
            return 0.0
        weights = self._weights()
        return 0.5 * inner_product(weights, self.times(weights))

    def _weights(self) -> Vector:
        return [block.join(block.weights) for block in self._blocks]


class DecayedFisher:
    """F + C, the second derivative of a loss with weight decay (see `quadratic_model.Fisher`).

    The tangents of a vector v are J v and v itself.

    Args:
      fisher: F.
      decay: C.
    """

    def __init__(self, fisher: Fisher, decay: WeightDecay) -> None:
        self._fisher = fisher
        self._decay = decay

    def push(self, vector: Vector) -> Tangents:
        """J v and v."""
        self._outputs = len(tangents := self._fisher.push(vector))
        return [*tangents, *vector]

    def pull(self, tangents: Tangents) -> Vector:
        """(F + C) v for the tangents of v."""
        own, vector = self._apart(tangents)
        return [f + c for f, c in zip(self._fisher.pull(own), self._decay.times(vector), strict=True)]

    def inner(self, ours: Tangents, theirs: Tangents) -> tf.Tensor:
        """u^T (F + C) v for the tangents of u and v; scalar."""
        our_own, our_vector = self._apart(ours)
        their_own, their_vector = self._apart(theirs)
        return self._fisher.inner(our_own, their_own) + inner_product(our_vector, self._decay.times(their_vector))

    def parts(self, tangents: Tangents) -> KlParts:
        """Those of F: decay is no part of the KL."""
        return self._fisher.parts(self._apart(tangents)[0])

    def without_decay(self, step: Step) -> Step:
        """A step that was found with F + C, with x^T F x and x^T C x apart."""
        own, vector = self._apart(step.tangents)
        decay_norm = inner_product(vector, self._decay.times(vector))
        return step._replace(tangents=own, fisher_norm=self._fisher.inner(own, own), decay_norm=decay_norm)

    def _apart(self, tangents: Tangents) -> tuple[Tangents, Vector]:
        return tangents[: self._outputs], tangents[self._outputs :]
