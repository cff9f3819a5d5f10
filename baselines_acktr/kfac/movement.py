"""Moving the weights, and what there is to know of the last move."""

from __future__ import annotations

import tensorflow as tf

from baselines_acktr.kfac.blocks import KroneckerBlock
from baselines_acktr.kfac.quadratic_model import Vector
from baselines_acktr.kfac.skips import Skips, first_not_finite
from baselines_acktr.kfac.steps import Metrics, Move
from baselines_acktr.kfac.weight_averages import WeightAverages


class Movement:
    """Moves the weights of blocks, unless a step is not finite.

    Attributes:
      skips: the moves that were left out.

    Args:
      blocks: whose weights move; at least one.
      averages: of these weights; they are brought up to date with each move.
    """

    def __init__(self, blocks: list[KroneckerBlock], averages: WeightAverages) -> None:
        self._blocks = blocks
        self._averages = averages
        self._factor = tf.Variable(0, dtype=blocks[0].dtype, trainable=False)  # of the velocity, in the last move
        self.skips = Skips()

    @property
    def velocity(self) -> list[tf.Variable]:
        """The velocity of the last move, a matrix [I, O] for each layer."""
        return [block.velocity for block in self._blocks]

    def make(self, move: Move, gradient: Vector) -> Metrics:
        """W <- W - factor velocity; part of a graph.

        Args:
          move: as `kfac.steps` has chosen it.
          gradient: of the loss, to name the layer whose gradient was not finite.
        """
        good = tf.math.is_finite(move.norm) & (move.norm >= 0) & tf.math.is_finite(move.length)
        tf.cond(good, lambda: self._move(move), lambda: self.skips.add(first_not_finite(gradient)))
        self._averages.update()
        return move.metrics

    def _move(self, move: Move) -> None:
        for block, matrix in zip(self._blocks, move.velocity, strict=True):
            block.velocity.assign(matrix)
            block.move(move.factor * matrix)
        self._factor.assign(move.factor)

    def squared_factor(self) -> tf.Tensor:
        """The square of the factor that the last move had; scalar."""
        return tf.square(self._factor)

    def reason(self) -> str:
        """Why a move was left out the last time: a gradient, or a length that has no meaning."""
        index = int(self.skips.culprit)
        what = "D^T F D" if index < 0 else f"the gradient of layer {self._blocks[index].layer.name!r}"
        return f"{what} was not finite"
