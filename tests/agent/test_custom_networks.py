"""Claims about networks of the user's own: what may be given, and what is refused in one line."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr import a2c, acktr_discrete, load, trpo
from baselines_acktr.networks import find_network, register
from common.errors import UserError
from common.vec_env import make_vec_env

BOX = gym.spaces.Box(-1, 1, (4,), np.float32)
ACTIONS = gym.spaces.Discrete(2)


def plain(space: gym.spaces.Box, config: Any) -> keras.Model:
    inputs = keras.Input(space.shape)
    return keras.Model(inputs, keras.layers.Dense(8, "tanh")(inputs))


def with_layers(*layers: keras.Layer, size: int = 8) -> str:
    """Registers a network that ends in these layers; returns its name."""

    def build(space: gym.spaces.Box, config: Any) -> keras.Model:
        inputs = keras.Input(space.shape)
        x = keras.layers.Dense(size, "tanh")(inputs)
        for layer in layers:
            x = layer(x)
        return keras.Model(inputs, x)

    register("odd")(build)
    return "odd"


def make(network: Any) -> a2c.DiscreteModel:
    return a2c.DiscreteModel(BOX, ACTIONS, network, a2c.DiscreteModel.config_class())


@pytest.mark.parametrize("learner", [acktr_discrete, a2c, trpo])
def test_a_function_is_a_network(learner, tmp_path):
    with make_vec_env("CartPole-v1", 2, 0) as env:
        size = {"timesteps_per_batch": 20, "vf_iters": 1} if learner is trpo else {"nsteps": 10}
        model = learner.learn(plain, env=env, total_timesteps=20, **size)
    assert model.network_name == f"{__name__}:plain"
    model.save(str(tmp_path / "model"))
    assert load(str(tmp_path / "model")).network_name == model.network_name  # used in this process, so it is trusted


def test_a_function_that_has_no_name_elsewhere_is_a_network_here():
    assert make(lambda space, config: plain(space, config)).network_name.endswith("<lambda>")


class Builder:
    def __call__(self, space: gym.spaces.Box, config: Any) -> keras.Model:
        return plain(space, config)


def test_an_object_that_can_be_called_is_a_network():
    assert make(Builder()).network_name == f"{__name__}:Builder"


@pytest.mark.parametrize("network", [5, ["mlp"], None, b"mlp"])
def test_what_is_neither_a_name_nor_a_function_is_refused(network):
    with pytest.raises(UserError, match=r"^network=.*: must be a name or a function"):
        make(network)


@pytest.mark.parametrize("returned", [None, 3, "mlp", np.zeros(3)])
def test_a_builder_that_returns_no_model_is_refused(returned):
    register("odd")(lambda space, config: returned)
    with pytest.raises(UserError, match=r"^--network=odd: returned .*; must be a keras.Model from observations \[B"):
        make("odd")


class Failing(keras.Model):
    def call(self, x):
        raise TypeError("not today")


class Branching(keras.Model):
    def call(self, x):
        return x if tf.reduce_mean(x) > 0 else -x


class Counting(keras.Model):
    def call(self, x):
        for _ in range(tf.shape(x)[0]):
            x = 2 * x
        return x


def failing(space: gym.spaces.Box, config: Any) -> keras.Model:
    raise KeyError("depth")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (failing, r"KeyError: 'depth' \(.*test_custom_networks.py, line \d+\)$"),
        (lambda space, config: Failing(), r"TypeError: .*not today.* \(.*test_custom_networks.py, line \d+\)$"),
        (lambda space: plain(space, None), r"TypeError: .*takes 1 positional argument but 2 were given"),
        (lambda space, config: Branching(), r"has an `if`, .* depends on a tensor \(.*test_custom_networks.py, line"),
        (lambda space, config: Counting(), r"TypeError: .*cannot be interpreted as an integer.*line \d+\)$"),
    ],
)
def test_what_a_network_raises_is_one_line_with_its_place(build, message):
    register("odd")(build)
    with pytest.raises(UserError, match=f"^--network=odd: {message}") as caught:
        make("odd")
    assert "\n" not in str(caught.value) and caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "layer", [keras.layers.Reshape((2, 4)), keras.layers.Reshape((2, 2, 2)), keras.layers.Reshape((8, 1))]
)
def test_features_that_are_not_flat_are_refused(layer):
    with pytest.raises(UserError, match=r"^--network=odd: gives \('B', .*to features \[B, D\] \(is a Flatten missing"):
        make(with_layers(layer))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_features_of_another_type_than_is_trained_in_are_refused(dtype):
    with pytest.raises(UserError, match=rf"^--network=odd: gives features of {dtype}; must be float32$"):
        make(with_layers(keras.layers.Lambda(lambda x: keras.ops.cast(x, dtype))))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_of_another_type_than_is_trained_in_are_refused_by_name(dtype):
    inner = keras.layers.Dense(8, dtype=dtype, name="inner")
    with pytest.raises(UserError, match=rf"^--network=odd: weight inner/kernel is {dtype}; must be float32$"):
        make(with_layers(inner, keras.layers.Dense(8)))


def test_weights_and_features_may_be_of_double_precision_where_all_is(float64):
    make(with_layers(keras.layers.Dense(8)))
    with pytest.raises(UserError, match=r"float32; must be float64$"):
        make(with_layers(keras.layers.Dense(8, dtype="float32")))


@pytest.mark.parametrize("reduce", [keras.ops.sum, keras.ops.max])
def test_one_row_for_all_observations_is_refused(reduce):
    layer = keras.layers.Lambda(lambda x: reduce(x, axis=0, keepdims=True))
    with pytest.raises(UserError, match=r"^--network=odd: gives 1 rows for 2 observations; must be a row for each$"):
        make(with_layers(layer))


def test_two_outputs_are_refused():
    def build(space: gym.spaces.Box, config: Any) -> keras.Model:
        inputs = keras.Input(space.shape)
        return keras.Model(inputs, [keras.layers.Dense(8)(inputs), keras.layers.Dense(8)(inputs)])

    register("odd")(build)
    with pytest.raises(UserError, match=r"^--network=odd: gives (list|tuple); must be a keras.Model"):
        make("odd")


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dropout(0.1),
        keras.layers.GaussianNoise(0.1),
        keras.layers.GaussianDropout(0.1),
        keras.layers.AlphaDropout(0.1),
    ],
)
def test_layers_that_draw_random_numbers_are_refused_by_name(layer):
    message = (
        f"^--network=odd: layer {layer.name} is a {type(layer).__name__}, which draws random numbers: a resumed run"
    )
    with pytest.raises(UserError, match=message):
        make(with_layers(layer))


def test_random_layers_inside_of_others_are_refused():
    inner = keras.Sequential([keras.layers.Dense(8), keras.layers.Dropout(0.5, name="inside")])
    with pytest.raises(UserError, match="layer inside is a Dropout"):
        make(with_layers(inner))


def test_batch_normalization_is_refused_unless_it_is_frozen():
    with pytest.raises(UserError, match=r"layer norm is a BatchNormalization, which would act by other statistics"):
        make(with_layers(keras.layers.BatchNormalization(name="norm")))
    frozen = keras.layers.BatchNormalization()
    frozen.trainable = False
    make(with_layers(frozen))


@pytest.mark.parametrize(
    "layer", [keras.layers.LayerNormalization(), keras.layers.Dropout(0.0), keras.layers.Activation("relu")]
)
def test_layers_without_chance_are_taken(layer):
    make(with_layers(layer))


@pytest.mark.parametrize("shape", [(84, 84), (128,), (6, 7)])
def test_bytes_reach_the_tanh_of_an_mlp_between_0_and_1(shape):
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    network = find_network("mlp")(space, a2c.DiscreteModel.config_class())
    first = keras.Model(network.inputs, network.get_layer("dense1").output)
    space.seed(0)
    units = np.abs(np.asarray(first(np.stack([space.sample() for _ in range(16)]))))
    assert (units > 0.999).mean() < 0.05
    assert units.mean() > 0.1


def test_bytes_of_a_small_range_are_not_made_smaller():
    space = gym.spaces.Box(0, 1, (4,), np.uint8)
    network = find_network("mlp")(space, a2c.DiscreteModel.config_class(hidden_sizes=(3,)))
    kernel = network.get_layer("dense1").kernel.numpy()
    ones = np.ones((1, 4), np.uint8)
    np.testing.assert_allclose(np.asarray(network(ones)), np.tanh(ones @ kernel), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 84, 84), (1, 64, 64), (4, 96, 160)])
def test_images_with_the_channels_first_are_refused_with_the_reason(shape):
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    with pytest.raises(UserError, match=r"look like images with the channels first; must be \[H, W, C\]"):
        find_network("cnn")(space, a2c.DiscreteModel.config_class())
