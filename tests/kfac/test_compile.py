"""Every keyword of Keras' `compile`, and its strategies, with K-FAC: it works, or is answered in one line."""

import inspect
import re
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import normal
from repository import ROOT

from baselines_acktr.kfac import InlineInverter, Kfac, KfacModel

pytestmark = pytest.mark.long
ROWS, CLASSES = 12, 3
X = normal(ROWS, 5).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, CLASSES, ROWS)
CROSS_ENTROPY = "sparse_categorical_crossentropy"


def outputs(**options) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    return inputs, keras.layers.Dense(CLASSES, "softmax", **options)(hidden)


def classifier() -> KfacModel:
    return KfacModel(*outputs())


def kfac(model: keras.Model) -> Kfac:
    return Kfac(model, learning_rate=0.5, inverter=InlineInverter())


def compiled(model: KfacModel, loss=CROSS_ENTROPY, **options) -> KfacModel:
    model.compile(kfac(model), loss, **options)
    return model


def trained(model: KfacModel, **options) -> np.ndarray:
    """The weights after three updates."""
    compiled(model, **options).fit(X, LABELS, batch_size=4, shuffle=False, verbose=0)
    return np.concatenate([array.ravel() for array in model.get_weights()])


def test_keywords_are_those_of_keras_in_its_order_and_all_are_in_the_docs():
    theirs = list(inspect.signature(keras.Model.compile).parameters)
    ours = inspect.signature(KfacModel.compile).parameters
    assert [name for name, one in ours.items() if one.kind != inspect.Parameter.KEYWORD_ONLY] == theirs
    table = (ROOT / "docs" / "kfac.md").read_text().split("| of `compile` | |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(theirs) - {"self"}


def test_an_output_of_loss_weight_0_is_left_alone():
    inputs, first = outputs()
    head = keras.layers.Dense(2, name="left_alone")
    model = compiled(KfacModel(inputs, [first, head(inputs)]), [CROSS_ENTROPY, "mse"], loss_weights=[1, 0])
    before, start = head.get_weights(), model.get_weights()[0]
    model.fit(X, [LABELS, normal(ROWS, 2)], verbose=0)
    np.testing.assert_array_equal(head.get_weights()[0], before[0])
    assert np.abs(model.get_weights()[0] - start).max() > 1e-3


def test_a_loss_weight_scales_the_loss_and_the_kl_of_a_step():
    """Twice the loss has twice the gradient and twice the curvature: the damping apart, the same step."""
    one, two = (compiled(classifier(), loss_weights=weight) for weight in (1.0, 2.0))
    for model in one, two:
        model.optimizer.damping = 1e-6
    logs = [model.train_on_batch(X, LABELS, return_dict=True) for model in (one, two)]
    np.testing.assert_allclose(logs[1]["loss"], 2 * logs[0]["loss"], rtol=1e-6)
    kl = [float(model.optimizer.last_step["model_kl"]) for model in (one, two)]
    np.testing.assert_allclose(kl[1], 2 * kl[0], rtol=0.05)


def test_weighted_metrics_use_the_weights_and_metrics_do_not():
    weights = np.linspace(0, 2, ROWS)
    model = compiled(classifier(), metrics=["accuracy"], weighted_metrics=["accuracy"])
    right = model.predict(X, verbose=0).argmax(axis=1) == LABELS
    logs = model.train_on_batch(X, LABELS, sample_weight=weights, return_dict=True)
    np.testing.assert_allclose(logs["accuracy"], right.mean(), rtol=1e-6)
    np.testing.assert_allclose(logs["weighted_accuracy"], np.average(right, weights=weights), rtol=1e-6)
    assert abs(logs["accuracy"] - logs["weighted_accuracy"]) > 1e-3


@pytest.mark.parametrize("eagerly", [False, True])
def test_run_eagerly_runs_a_loss_of_ones_own_with_numbers(eagerly):
    seen = []

    def loss(targets, found):
        seen.append(tf.executing_eagerly())
        return keras.losses.sparse_categorical_crossentropy(targets, found)

    trained(classifier(), loss=loss, run_eagerly=eagerly)
    assert any(seen) == eagerly
    assert not tf.config.functions_run_eagerly()


def test_jit_compile_auto_and_false_and_auto_scale_loss_change_nothing():
    expected = trained(classifier())
    for options in {"jit_compile": False}, {"jit_compile": "auto", "auto_scale_loss": False}:
        np.testing.assert_array_equal(trained(classifier(), **options), expected)


@pytest.mark.parametrize(("steps", "calls"), [(1, 3), (2, 2), (3, 1), (9, 1)])
def test_steps_per_execution_makes_callbacks_rarer_and_updates_the_same(steps, calls):
    seen = []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model = compiled(classifier(), steps_per_execution=steps)
    model.fit(X, LABELS, batch_size=4, shuffle=False, verbose=0, callbacks=[look])
    assert len(seen) == calls
    assert model.optimizer.iterations == 3


def without_weights(kind: str) -> KfacModel:
    """A model of the layers of `classifier`, that was not called yet."""
    keras.utils.set_random_seed(0)
    parts = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(CLASSES, "softmax")]
    if kind == "sequential":
        return KfacModel(keras.Sequential(parts))

    class Network(KfacModel):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = parts

        def call(self, inputs):
            return self.out(self.hidden(inputs))

    return Network()


@pytest.fixture(scope="module")
def after_one_update() -> np.ndarray:
    """The weights of a model that had its own before it was compiled."""
    model = compiled(classifier())
    model.train_on_batch(X, LABELS)
    return np.concatenate([array.ravel() for array in model.get_weights()])


@pytest.mark.parametrize("kind", ["sequential", "subclass"])
@pytest.mark.parametrize("train", ["fit", "train_on_batch"])
def test_a_model_without_weights_gets_its_optimizer_when_training_starts(after_one_update, kind, train):
    model = without_weights(kind)
    model.compile(Kfac(learning_rate=0.5, inverter="inline"), CROSS_ENTROPY)
    if train == "fit":
        model.fit(X, LABELS, batch_size=ROWS, shuffle=False, verbose=0)
    else:
        model.train_on_batch(X, LABELS)
    assert model.optimizer.iterations == 1 and isinstance(model.optimizer, Kfac)
    found = np.concatenate([array.ravel() for array in model.get_weights()])
    np.testing.assert_allclose(found, after_one_update, rtol=1e-5)


def test_an_optimizer_without_a_model_is_for_every_model_that_is_compiled_with_it():
    later = Kfac(learning_rate=0.5, inverter="inline")
    one, two = classifier(), classifier()
    for model in one, two:
        model.compile(later, CROSS_ENTROPY)
    assert one.optimizer is not two.optimizer
    one.train_on_batch(X, LABELS)
    assert (one.optimizer.iterations, two.optimizer.iterations) == (1, 0)


def test_a_model_without_weights_is_evaluated_before_it_is_trained():
    model = without_weights("sequential")
    model.compile("kfac", CROSS_ENTROPY)
    assert np.isfinite(model.evaluate(X, LABELS, verbose=0))
    assert model.predict(X, verbose=0).shape == (ROWS, CLASSES)


def inverting() -> int:
    """How many threads compute inverses."""
    return sum(thread.name == "kfac-inverses" for thread in threading.enumerate())


def test_a_model_that_is_compiled_again_and_again_leaves_no_thread_behind():
    before, model = inverting(), classifier()
    for rate in 1.0, 0.5:
        model.compile(Kfac(learning_rate=rate), CROSS_ENTROPY)
        model.fit(X, LABELS, verbose=0)
        assert inverting() == before
        model.train_on_batch(X, LABELS)
        assert inverting() == before + 1
    model.compile("kfac", CROSS_ENTROPY)
    assert inverting() == before


@pytest.mark.parametrize("same", [True, False])
def test_a_model_that_is_compiled_again_is_trained_and_logged_by_the_new_loss(same):
    model = compiled(classifier(), "mse", metrics=["mse"])
    targets = np.eye(CLASSES)[LABELS]
    model.fit(X, targets, batch_size=ROWS, verbose=0)
    optimizer = model.optimizer if same else kfac(model)
    model.compile(optimizer, "categorical_crossentropy", metrics=["mae"])

    expected = model.evaluate(X, targets, verbose=0, return_dict=True)
    weights = [variable.numpy() for variable in model.trainable_variables]
    found = {name: values[0] for name, values in model.fit(X, targets, batch_size=ROWS, verbose=0).history.items()}
    assert found.keys() == expected.keys() == {"loss", "mae"}
    np.testing.assert_allclose([found[name] for name in expected], list(expected.values()), rtol=1e-5)
    assert any(np.any(v.numpy() != w) for v, w in zip(model.trainable_variables, weights, strict=True))


class TwiceInTraining(keras.layers.Layer):
    """Doubles its inputs in training."""

    def call(self, inputs, training=None):
        return 2 * inputs if training else inputs


class Silent(KfacModel):
    """A model whose `call` does not name `training`, so that Keras tells it to the layers within."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = TwiceInTraining(), keras.layers.Dense(1)

    def call(self, inputs):
        return self.out(self.first(inputs))


def test_a_call_that_does_not_name_training_is_measured_as_it_is_trained():
    """The loss is quadratic in the weights, so what is foretold comes true where both are those of training."""
    model = Silent()
    model(X)
    model.compile(Kfac(model, damping=1e-6, damping_interval=1, inverter="inline"), "mse")
    model.train_on_batch(X, X[:, :1] ** 2)
    np.testing.assert_allclose(model.optimizer.damping_ratio, 1, rtol=1e-3)


def test_losses_that_layers_add_are_part_of_the_loss_that_adapts_the_damping():
    inputs = keras.Input((5,))
    outputs = keras.layers.Dense(1, activity_regularizer="l2", kernel_regularizer="l1")(inputs)
    model = KfacModel(inputs, outputs)
    model.compile(Kfac(model, damping_interval=1, inverter="inline"), "mse")
    before = model.evaluate(X, X[:, :1], verbose=0)
    model.fit(X, X[:, :1], batch_size=ROWS, verbose=0)
    after = model.evaluate(X, X[:, :1], verbose=0)
    foretold = float(model.optimizer.last_step["model_decrease"])
    np.testing.assert_allclose(model.optimizer.damping_ratio, (before - after) / foretold, rtol=1e-3)


def test_mixed_precision_trains_with_factors_and_a_quadratic_model_of_the_weights_type():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(16, "tanh", dtype="mixed_bfloat16")(inputs)
    model = KfacModel(inputs, keras.layers.Dense(CLASSES, "softmax", dtype="mixed_bfloat16")(hidden))
    history = compiled(model).fit(X, LABELS, batch_size=ROWS, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert {variable.dtype.name for variable in model.optimizer.blocks[0].averages} == {"float32"}


STRATEGIES = """
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from baselines_acktr.kfac import InlineInverter, Kfac, KfacModel

rows = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")

def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    return KfacModel(inputs, keras.layers.Dense(3)(keras.layers.Dense(4, "tanh")(inputs)))

def fit(one):
    one.compile(Kfac(one, inverter=InlineInverter()), "mse")
    one.fit(rows, rows[:, :3], batch_size=4, verbose=0, shuffle=False)
    return np.concatenate([array.ravel() for array in one.get_weights()])

def said(call):
    try:
        call()
    except ValueError as error:
        print(error)

two, one = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.OneDeviceStrategy("CPU:0")
for mirrored in two, tf.distribute.MirroredStrategy(["CPU:0"]):
    with mirrored.scope():
        said(lambda: Kfac(model()))
with two.scope():
    said(lambda: model().compile("kfac", "mse"))
plain = model()
plain.compile(Kfac(plain), "mse")
with two.scope():
    said(lambda: plain.fit(rows, rows[:, :3], verbose=0))
with one.scope():
    found = fit(model())
print("distance", np.abs(found - fit(model())).max())
"""


def test_mirrored_strategies_are_refused_by_name_and_one_device_is_as_none():
    done = subprocess.run(
        [sys.executable, "-c", STRATEGIES], check=True, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    *refused, distance = done.stdout.splitlines()
    assert len(refused) == 4
    assert all(line.startswith("MirroredStrategy: K-FAC trains one copy of a model in a process") for line in refused)
    assert float(distance.removeprefix("distance ")) < 1e-5
