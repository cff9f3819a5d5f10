"""Small Keras models, one for each way in which a layer or a model may be built; all in the current float type.

`MODELS` has for each name a function that makes a model and its inputs, of a number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

layers = keras.layers
Made = tuple[keras.Model, Any]
MODELS: dict[str, Callable[[int], Made]] = {}
TOKENS = 7


def numbers(rows: int, *shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, *shape)).astype(keras.config.floatx())


def tokens(rows: int, length: int) -> np.ndarray:
    found = np.random.default_rng(2).integers(1, TOKENS, (rows, length))
    found[:, length - 1] = 0  # padding
    return found.astype("int32")


def stacked(name: str, shape: tuple[int, ...], *made: Callable[[], Any]) -> None:
    """Adds a sequential model of layers, each made anew for every model."""

    def make(rows: int) -> Made:
        return keras.Sequential([keras.Input(shape), *(one() for one in made)]), numbers(rows, *shape)

    MODELS[name] = make


def model(make: Callable[[int], Made]) -> Callable[[int], Made]:
    MODELS[make.__name__] = make
    return make


def head() -> keras.layers.Layer:
    return layers.Dense(2)


# -- dense ------------------------------------------------------------------------------------------------------------

stacked("dense", (5,), lambda: layers.Dense(4, "tanh"), head)
stacked("dense_without_bias", (5,), lambda: layers.Dense(4, "tanh", use_bias=False), head)
stacked("dense_of_a_sequence", (3, 5), lambda: layers.Dense(4, "tanh"), lambda: layers.Flatten(), head)
stacked("dense_of_images", (3, 2, 5), lambda: layers.Dense(4, "tanh"), lambda: layers.Flatten(), head)
stacked("dense_and_dropout", (5,), lambda: layers.Dense(4, "tanh"), lambda: layers.Dropout(0.5), head)
stacked("time_distributed", (3, 5), lambda: layers.TimeDistributed(layers.Dense(4, "tanh")), layers.Flatten, head)


@model
def bias_alone_is_trained(rows: int) -> Made:
    made = keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh"), head()])
    made.layers[0].kernel.trainable = False
    return made, numbers(rows, 5)


@model
def kernel_alone_is_trained(rows: int) -> Made:
    made = keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh"), head()])
    made.layers[0].bias.trainable = False
    return made, numbers(rows, 5)


@model
def layer_is_frozen(rows: int) -> Made:
    return keras.Sequential([keras.Input((5,)), layers.Dense(4, trainable=False), head()]), numbers(rows, 5)


@model
def constraint(rows: int) -> Made:
    return keras.Sequential([keras.Input((5,)), layers.Dense(2, kernel_constraint="non_neg")]), numbers(rows, 5)


# -- einsum and attention ---------------------------------------------------------------------------------------------

stacked("einsum", (3, 5), lambda: layers.EinsumDense("abc,cd->abd", (3, 4), "tanh", "d"), layers.Flatten, head)
stacked("einsum_ellipsis", (3, 5), lambda: layers.EinsumDense("...c,cd->...d", 4, "tanh", "d"), layers.Flatten, head)
stacked("einsum_heads", (3, 5), lambda: layers.EinsumDense("abc,cde->abde", (3, 2, 2), bias_axes="de"), layers.Flatten)
stacked("einsum_order", (3, 5), lambda: layers.EinsumDense("abc,dce->aebd", (2, 3, 2), bias_axes="ed"), layers.Flatten)
stacked(
    "einsum_two_axes", (3, 2, 2), lambda: layers.EinsumDense("abcd,cde->abe", (3, 4), bias_axes="e"), layers.Flatten
)
stacked("einsum_groups", (3, 2, 4), lambda: layers.EinsumDense("abgc,gcd->abgd", (3, 2, 2), bias_axes="gd"))
stacked("einsum_bias_by_site", (3, 4), lambda: layers.EinsumDense("abc,cd->abd", (3, 2), bias_axes="bd"))
stacked("einsum_without_bias", (5,), lambda: layers.EinsumDense("ab,bc->ac", 4), head)


@model
def self_attention(rows: int) -> Made:
    inputs = keras.Input((3, 4))
    return keras.Model(inputs, layers.MultiHeadAttention(2, 3)(inputs, inputs)), numbers(rows, 3, 4)


@model
def cross_attention(rows: int) -> Made:
    query, value = keras.Input((2, 4)), keras.Input((3, 5))
    outputs = layers.MultiHeadAttention(2, 3, value_dim=2, output_shape=4)(query, value)
    return keras.Model([query, value], outputs), [numbers(rows, 2, 4), numbers(rows, 3, 5)]


@model
def grouped_query_attention(rows: int) -> Made:
    inputs = keras.Input((3, 4))
    return keras.Model(inputs, layers.GroupQueryAttention(3, 4, 2)(inputs, inputs)), numbers(rows, 3, 4)


@model
def causal_attention(rows: int) -> Made:
    inputs = keras.Input((3, 4))
    return keras.Model(inputs, layers.MultiHeadAttention(1, 3)(inputs, inputs, use_causal_mask=True)), numbers(
        rows, 3, 4
    )


@model
def additive_attention(rows: int) -> Made:
    inputs = keras.Input((3, 4))
    outputs = layers.AdditiveAttention()([layers.Dense(4)(inputs), inputs])
    return keras.Model(inputs, outputs), numbers(rows, 3, 4)


# -- embeddings -------------------------------------------------------------------------------------------------------


@model
def embedding(rows: int) -> Made:
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.Flatten()(layers.Embedding(TOKENS, 3)(inputs))
    return keras.Model(inputs, head()(hidden)), tokens(rows, 4)


@model
def embedding_alone(rows: int) -> Made:
    inputs = keras.Input((1,), dtype="int32")
    return keras.Model(inputs, layers.Embedding(TOKENS, 3)(inputs)), tokens(rows, 2)[:, :1]


@model
def masked_embedding(rows: int) -> Made:
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.GlobalAveragePooling1D()(layers.Embedding(TOKENS, 3, mask_zero=True)(inputs))
    return keras.Model(inputs, head()(hidden)), tokens(rows, 4)


@model
def tied_embedding(rows: int) -> Made:
    inputs = keras.Input((4,), dtype="int32")
    table = layers.ReversibleEmbedding(TOKENS, 3, logit_soft_cap=5.0)
    return keras.Model(inputs, table(layers.Dense(3, "tanh")(table(inputs)), reverse=True)), tokens(rows, 4)


@model
def untied_embedding(rows: int) -> Made:
    inputs = keras.Input((4,), dtype="int32")
    table = layers.ReversibleEmbedding(TOKENS, 3, tie_weights=False)
    return keras.Model(inputs, table(layers.Dense(3, "tanh")(table(inputs)), reverse=True)), tokens(rows, 4)


# -- convolutions -----------------------------------------------------------------------------------------------------

stacked("conv1d", (6, 3), lambda: layers.Conv1D(4, 3, activation="tanh"), layers.Flatten, head)
stacked("conv1d_causal", (6, 3), lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2), layers.Flatten, head)
stacked("conv2d", (5, 4, 2), lambda: layers.Conv2D(3, 3, 2, "same", activation="tanh"), layers.Flatten, head)
stacked("conv2d_of_one_site", (3, 3, 2), lambda: layers.Conv2D(3, 3), layers.Flatten)
stacked("conv2d_groups", (4, 4, 4), lambda: layers.Conv2D(6, 3, padding="same", groups=2), layers.Flatten, head)
stacked("conv2d_groups_of_one_site", (2, 2, 4), lambda: layers.Conv2D(4, 2, groups=2), layers.Flatten)
stacked("conv3d", (3, 4, 3, 2), lambda: layers.Conv3D(3, 2, 2, "same"), layers.Flatten, head)
stacked("depthwise_conv1d", (6, 3), lambda: layers.DepthwiseConv1D(3, 2, depth_multiplier=2), layers.Flatten, head)
stacked("depthwise_conv2d", (5, 4, 3), lambda: layers.DepthwiseConv2D(3, 2, "same", 2), layers.Flatten, head)
stacked(
    "depthwise_conv2d_of_one_site", (3, 3, 3), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Flatten
)
stacked("separable_conv1d", (6, 3), lambda: layers.SeparableConv1D(4, 3, 2, activation="tanh"), layers.Flatten, head)
stacked("separable_conv2d", (4, 4, 3), lambda: layers.SeparableConv2D(4, 3, padding="same"), layers.Flatten, head)
stacked("conv1d_transpose", (4, 3), lambda: layers.Conv1DTranspose(2, 3, 2, "same"), layers.Flatten, head)
stacked("conv2d_transpose", (3, 2, 2), lambda: layers.Conv2DTranspose(3, 3, 2, activation="tanh"), layers.Flatten, head)
stacked("conv2d_transpose_same", (3, 2, 2), lambda: layers.Conv2DTranspose(3, 2, 3, "same"), layers.Flatten, head)
stacked("conv3d_transpose", (2, 2, 2, 2), lambda: layers.Conv3DTranspose(2, 2, 2), layers.Flatten, head)

# -- recurrent --------------------------------------------------------------------------------------------------------

stacked("lstm", (4, 3), lambda: layers.LSTM(2), head)
stacked("lstm_of_one_step", (1, 3), lambda: layers.LSTM(2))
stacked("lstm_without_bias", (4, 3), lambda: layers.LSTM(2, use_bias=False), head)
stacked(
    "lstm_backwards", (4, 3), lambda: layers.LSTM(2, return_sequences=True, go_backwards=True), layers.Flatten, head
)
stacked("lstm_stacked", (4, 3), lambda: layers.LSTM(3, return_sequences=True), lambda: layers.LSTM(2))
stacked("lstm_unrolled", (4, 3), lambda: layers.LSTM(2, unroll=True), head)
stacked("lstm_recurrent_dropout", (4, 3), lambda: layers.LSTM(2, recurrent_dropout=0.5), head)
stacked("gru", (4, 3), lambda: layers.GRU(2), head)
stacked("gru_of_one_step", (1, 3), lambda: layers.GRU(2))
stacked("gru_without_bias", (4, 3), lambda: layers.GRU(2, use_bias=False), head)
stacked("gru_reset_before", (4, 3), lambda: layers.GRU(2, reset_after=False), head)
stacked("simple_rnn", (4, 3), lambda: layers.SimpleRNN(2), head)
stacked("rnn_of_a_cell", (4, 3), lambda: layers.RNN(layers.GRUCell(2)), head)
stacked("rnn_of_stacked_cells", (4, 3), lambda: layers.RNN([layers.LSTMCell(2), layers.LSTMCell(2)]), head)
stacked(
    "bidirectional", (4, 3), lambda: layers.Bidirectional(layers.LSTM(2, return_sequences=True)), layers.Flatten, head
)
stacked("conv_lstm", (3, 4, 2), lambda: layers.ConvLSTM1D(2, 2), layers.Flatten, head)


@model
def lstm_with_a_mask(rows: int) -> Made:
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.LSTM(2)(layers.Embedding(TOKENS, 3, mask_zero=True)(inputs))
    return keras.Model(inputs, head()(hidden)), tokens(rows, 4)


@model
def encoder_and_decoder(rows: int) -> Made:
    source, target = keras.Input((4, 3)), keras.Input((2, 3))
    _, h, c = layers.LSTM(2, return_state=True)(source)
    outputs = layers.LSTM(2, return_sequences=True)(target, initial_state=[h, c])
    return keras.Model([source, target], outputs), [numbers(rows, 4, 3), numbers(rows, 2, 3, seed=5)]


# -- normalizations and activations -----------------------------------------------------------------------------------

stacked("batch_normalization", (5,), lambda: layers.Dense(4), layers.BatchNormalization, layers.ReLU, head)
stacked("layer_normalization", (5,), lambda: layers.Dense(4), layers.LayerNormalization, head)
stacked("layer_normalization_of_axes", (3, 2, 2), lambda: layers.LayerNormalization(axis=[1, 2]), layers.Flatten, head)
stacked("group_normalization", (3, 4), lambda: layers.GroupNormalization(2), layers.Flatten, head)
stacked("rms_normalization", (3, 4), lambda: layers.RMSNormalization(axis=[1, 2]), layers.Flatten, head)
stacked("prelu", (5,), lambda: layers.Dense(4), layers.PReLU, head)
stacked("prelu_of_shared_axes", (3, 2, 2), lambda: layers.PReLU(shared_axes=[1, 2]), layers.Flatten, head)

# -- what no type is known of -----------------------------------------------------------------------------------------


class Scaled(layers.Dense):
    """A Dense that computes something else."""

    def call(self, inputs, training=None):
        return 3 * super().call(inputs)


class Named(layers.Dense):
    """A Dense of another name."""


class Custom(layers.Layer):
    """A layer with weights of its own and one within."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.inner = layers.Dense(units, "tanh")
        self.units = units

    def build(self, shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones")
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs) * self.scale


class Windows(layers.Layer):
    """A layer that folds time steps into rows for the one within."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(4, "tanh")

    def build(self, shape):
        self.inner.build((None, shape[-1]))

    def call(self, inputs):
        steps, features = inputs.shape[1:]
        return keras.ops.reshape(self.inner(keras.ops.reshape(inputs, (-1, features))), (-1, steps * 4))


class Recurrent(layers.Layer):
    """A cell with a layer within."""

    def __init__(self) -> None:
        super().__init__()
        self.state_size = self.units = 2
        self.inner = layers.Dense(2, "tanh")

    def build(self, shape):
        self.inner.build((None, shape[-1] + 2))

    def call(self, inputs, states, training=False):
        output = self.inner(keras.ops.concatenate([inputs, states[0]], axis=-1))
        return output, [output]


class Subclassed(keras.Model):
    """A model with a `call`, and a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = layers.Dense(4, "tanh"), head()
        self.shift = self.add_weight(shape=(2,), initializer="zeros")

    def call(self, inputs, training=None):
        return self.out(self.hidden(inputs)) + self.shift


stacked("dense_that_scales", (5,), lambda: Scaled(4), head)
stacked("dense_of_another_name", (5,), lambda: Named(4, "tanh"), head)
stacked("custom_layer", (5,), lambda: Custom(4), head)
stacked("windows", (3, 5), Windows, head)
stacked("rnn_of_a_custom_cell", (4, 3), lambda: layers.RNN(Recurrent()), head)


@model
def subclassed(rows: int) -> Made:
    made, inputs = Subclassed(), numbers(rows, 5)
    made(inputs)
    return made, inputs


@model
def lora(rows: int) -> Made:
    made = keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh"), head()])
    made.layers[0].enable_lora(2)
    return made, numbers(rows, 5)


@model
def lora_embedding(rows: int) -> Made:
    inputs = keras.Input((4,), dtype="int32")
    table = layers.Embedding(TOKENS, 3)
    made = keras.Model(inputs, head()(layers.Flatten()(table(inputs))))
    table.enable_lora(2)
    return made, tokens(rows, 4)


@model
def quantized(rows: int) -> Made:
    made = keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh"), head()])
    made.layers[0].quantize("int8")
    return made, numbers(rows, 5)


# -- graphs -----------------------------------------------------------------------------------------------------------


@model
def shared_layer(rows: int) -> Made:
    inputs, shared = keras.Input((4,)), layers.Dense(4, "tanh")
    return keras.Model(inputs, shared(shared(inputs))), numbers(rows, 4)


@model
def siamese(rows: int) -> Made:
    left, right, shared = keras.Input((5,)), keras.Input((5,)), layers.Dense(4, "tanh")
    outputs = head()(layers.Concatenate()([shared(left), shared(right)]))
    return keras.Model([left, right], outputs), [numbers(rows, 5), numbers(rows, 5, seed=3)]


@model
def nested(rows: int) -> Made:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh"), layers.LayerNormalization()])
    inputs = keras.Input((5,))
    return keras.Model(inputs, head()(inner(layers.Dense(4, "tanh")(inputs)))), numbers(rows, 5)


@model
def residual(rows: int) -> Made:
    inputs = keras.Input((4,))
    hidden = layers.Add()([inputs, layers.Dense(4, "tanh")(inputs)])
    return keras.Model(inputs, head()(hidden)), numbers(rows, 4)


@model
def inputs_by_name(rows: int) -> Made:
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    hidden = layers.Concatenate()([layers.Dense(2, "tanh")(inputs["a"]), inputs["b"]])
    return keras.Model(inputs, head()(hidden)), {"a": numbers(rows, 3), "b": numbers(rows, 2, seed=3)}


@model
def several_outputs(rows: int) -> Made:
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, "tanh")(inputs)
    return keras.Model(inputs, [head()(hidden), layers.Dense(3)(hidden)]), numbers(rows, 5)


@model
def transformer(rows: int) -> Made:
    inputs = keras.Input((4,), dtype="int32")
    hidden = layers.Embedding(TOKENS, 4)(inputs)
    hidden = layers.LayerNormalization()(hidden + layers.MultiHeadAttention(2, 2)(hidden, hidden))
    hidden = hidden + layers.Dense(4)(layers.Dense(6, "gelu")(hidden))
    return keras.Model(inputs, layers.Dense(TOKENS)(hidden)), tokens(rows, 4)
