"""Every layer type that K-FAC knows, in one table. A new one is a `Factorization` in this folder and an entry here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras

from baselines_acktr.kfac.layers.affine import dense
from baselines_acktr.kfac.layers.base import Factorization, Tap, is_plain, own_variables
from baselines_acktr.kfac.layers.convolutions import convolution, depthwise, separable, transposed
from baselines_acktr.kfac.layers.diagonal import DiagonalFactorization
from baselines_acktr.kfac.layers.einsum import einsum_dense
from baselines_acktr.kfac.layers.embedding import embedding
from baselines_acktr.kfac.layers.recurrent import CELLS, recurrent
from baselines_acktr.kfac.layers.vectors import FreeVector, free_vector, normalization, prelu

__all__ = ["TYPES", "Factorization", "FreeVector", "LayerType", "Tap", "diagonal", "factorizations_of"]


class LayerType(NamedTuple):
    """A layer type that is known.

    Attributes:
      factorizations: layer -> those of its weights; an empty list where it is used in a way that is not known.
      fixed: names of attributes that a subclass must not have redefined, beside `call`, to count as one.
    """

    factorizations: Callable[[keras.layers.Layer], list[Factorization]]
    fixed: tuple[str, ...] = ()


TYPES: dict[type[keras.layers.Layer], LayerType] = {
    keras.layers.Dense: LayerType(dense, ("kernel",)),
    keras.layers.EinsumDense: LayerType(einsum_dense, ("kernel",)),
    keras.layers.ReversibleEmbedding: LayerType(embedding, ("embeddings",)),
    keras.layers.Embedding: LayerType(embedding, ("embeddings",)),
    keras.layers.Conv1D: LayerType(convolution, ("kernel",)),
    keras.layers.Conv2D: LayerType(convolution, ("kernel",)),
    keras.layers.Conv3D: LayerType(convolution, ("kernel",)),
    keras.layers.DepthwiseConv1D: LayerType(depthwise),
    keras.layers.DepthwiseConv2D: LayerType(depthwise),
    keras.layers.SeparableConv1D: LayerType(separable),
    keras.layers.SeparableConv2D: LayerType(separable),
    keras.layers.Conv1DTranspose: LayerType(transposed),
    keras.layers.Conv2DTranspose: LayerType(transposed),
    keras.layers.Conv3DTranspose: LayerType(transposed),
    keras.layers.LSTM: LayerType(recurrent, ("inner_loop",)),
    keras.layers.GRU: LayerType(recurrent, ("inner_loop",)),
    keras.layers.SimpleRNN: LayerType(recurrent, ("inner_loop",)),
    keras.layers.RNN: LayerType(recurrent, ("inner_loop",)),
    keras.layers.BatchNormalization: LayerType(normalization),
    keras.layers.GroupNormalization: LayerType(normalization),
    keras.layers.LayerNormalization: LayerType(normalization),
    keras.layers.RMSNormalization: LayerType(normalization),
    keras.layers.PReLU: LayerType(prelu),
    FreeVector: LayerType(free_vector),
}


def factorizations_of(layer: keras.layers.Layer) -> list[Factorization]:
    """How the Fisher of a layer's own trainable weights is factored; of an unknown type, by its diagonal.

    A recurrent layer stands for its cell, too; otherwise weights of layers within it are not its own.
    """
    return _known(layer) or diagonal(layer)


def diagonal(layer: keras.layers.Layer) -> list[Factorization]:
    """A layer's own trainable weights, whatever its type, by the diagonal of their Fisher."""
    variables = own_variables(layer)
    return [DiagonalFactorization(layer, variables)] if variables else []


def _known(layer: keras.layers.Layer) -> list[Factorization]:
    for base, (factorizations, fixed) in TYPES.items():
        if not is_plain(layer, base, *fixed):
            continue
        if isinstance(layer, keras.layers.RNN):
            return factorizations(layer) if isinstance(layer.cell, CELLS) and layer.cell.trainable else []
        return factorizations(layer) if own_variables(layer) else []
    return []
