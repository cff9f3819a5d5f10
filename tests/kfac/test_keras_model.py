import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import normal
from repository import ROOT

from baselines_acktr.kfac import (
    Divergence,
    EigenForm,
    InlineInverter,
    Kfac,
    KfacModel,
    Objective,
)
from baselines_acktr.kfac.keras_model import likelihood_of
from baselines_acktr.kfac.likelihoods import categorical

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("float64")]
ROWS, CLASSES = 24, 3
X = normal(ROWS, 5)
LABELS = np.random.default_rng(2).integers(0, CLASSES, ROWS)


def classifier(activation: str | None = None, **dense) -> KfacModel:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(4, "tanh", **dense)(inputs)
    return KfacModel(inputs, keras.layers.Dense(CLASSES, activation)(hidden))


def kfac(model: keras.Model, **options) -> Kfac:
    return Kfac(model, **{"learning_rate": 0.3, "inverter": InlineInverter()} | options)


def compiled(model: KfacModel, loss="sparse_categorical_crossentropy", **options) -> KfacModel:
    model.compile(kfac(model), loss, **options)
    return model


def weights(model: keras.Model) -> np.ndarray:
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.parametrize("sample_weight", [None, np.linspace(0, 2, ROWS)])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_fit_takes_the_steps_of_minimize(activation, sample_weight):
    model, other = classifier(activation), classifier()
    from_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled(model, "sparse_categorical_crossentropy" if activation else from_logits)
    model.fit(X, LABELS, batch_size=8, epochs=2, shuffle=False, sample_weight=sample_weight, verbose=0)

    optimizer, likelihood = kfac(other), categorical(tf.identity)

    def loss(x, labels, row_weights):
        return tf.reduce_mean(row_weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, other(x)))

    def objective(x, labels, row_weights):
        drawn = likelihood.draw(other(x), optimizer.generator)
        row_log_likelihoods = tf.sqrt(row_weights) * drawn
        weights = None if sample_weight is None else row_weights
        return Objective(loss(x, labels, row_weights), tf.reduce_sum(row_log_likelihoods), row_weights=weights)

    def mean_kl(old, new):
        return tf.reduce_mean(old["row_weights"] * likelihood.kl(old["logits"], new["logits"]))

    divergence = Divergence(lambda x, labels, row_weights: {"logits": other(x), "row_weights": row_weights}, mean_kl)
    row_weights = np.ones(ROWS) if sample_weight is None else sample_weight
    for start in [0, 8, 16] * 2:
        rows = slice(start, start + 8)
        optimizer.minimize(objective, X[rows], LABELS[rows], row_weights[rows], divergence=divergence, loss=loss)
    np.testing.assert_allclose(weights(model), weights(other), rtol=1e-6)
    assert np.abs(weights(model) - weights(classifier())).max() > 0.01


def test_names_functions_and_objects_of_a_loss_have_the_same_likelihood():
    losses = "mse", "mean_squared_error", keras.losses.mean_squared_error, keras.losses.MeanSquaredError()
    generators = [tf.random.Generator.from_seed(0) for _ in losses]
    values = [
        float(likelihood_of(loss).log_likelihood(tf.constant(X), generator))
        for loss, generator in zip(losses, generators, strict=True)
    ]
    assert values == [values[0]] * 4


def test_loss_metrics_and_penalties_are_those_of_keras():
    model = compiled(classifier("softmax", kernel_regularizer="l2"), metrics=["accuracy"])
    expected = model.test_on_batch(X, LABELS, return_dict=True)
    model.reset_metrics()
    got = model.train_on_batch(X, LABELS, return_dict=True)
    assert set(got) == {"loss", "accuracy"}
    np.testing.assert_allclose([got[name] for name in expected], list(expected.values()), rtol=1e-6)
    assert got["loss"] > -np.mean(np.log(classifier("softmax").predict(X, verbose=0)[np.arange(ROWS), LABELS]))


def test_history_validation_and_callbacks_work(tmp_path):
    model = compiled(classifier("softmax"), metrics=["accuracy"])
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (1 + epoch))
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    history = model.fit(
        X, LABELS, batch_size=7, epochs=4, validation_split=0.25, callbacks=[schedule, checkpoint, backup], verbose=0
    ).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert history["loss"][-1] < history["loss"][0]
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.125)
    best = keras.saving.load_model(tmp_path / "best.keras")
    best.compile(kfac(best), "sparse_categorical_crossentropy")
    found = best.evaluate(X[18:], LABELS[18:], verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], min(history["val_loss"]))


def test_an_interrupted_fit_goes_on(tmp_path):
    model = compiled(classifier("softmax"))

    def fail(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    interrupt = keras.callbacks.LambdaCallback(on_epoch_begin=fail)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), interrupt], verbose=0)
    saved, again = weights(model), compiled(classifier("softmax"))
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append((epoch, weights(again))))
    again.fit(X, LABELS, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), look], verbose=0)
    assert [epoch for epoch, _ in seen] == [1, 2]
    np.testing.assert_array_equal(seen[0][1], saved)


def test_a_saved_model_is_loaded_with_its_weights_and_trained_on(tmp_path):
    model = compiled(classifier("softmax"))
    model.fit(X, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, KfacModel)
    np.testing.assert_array_equal(weights(loaded), weights(model))
    compiled(loaded).fit(X, LABELS, verbose=0)
    assert np.any(weights(loaded) != weights(model))


def test_the_layers_of_a_sequential_model_learn():
    convolution = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]
    head = [keras.layers.Flatten(), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
    sequential = keras.Sequential([keras.Input((6, 6, 1)), *convolution, *head])
    model = compiled(KfacModel(sequential.inputs[0], sequential.outputs[0]), "mse")
    images = normal(256, 6, 6, 1)
    batches = tf.data.Dataset.from_tensor_slices((images, images.mean(axis=(1, 2)))).batch(48)
    history = model.fit(batches, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert model.evaluate(batches, verbose=0) < 0.2 * history["loss"][0]  # with the averages of the normalization
    np.testing.assert_array_equal(sequential.get_weights()[0], model.get_weights()[0])


def test_a_step_moves_the_averages_of_a_batch_normalization_once():
    normalization = keras.layers.BatchNormalization()
    inputs = keras.Input((5,))
    model = compiled(KfacModel(inputs, keras.layers.Dense(CLASSES, "softmax")(normalization(inputs))))
    model.train_on_batch(X, LABELS)
    np.testing.assert_allclose(normalization.moving_mean, 0.01 * X.mean(axis=0))
    np.testing.assert_allclose(normalization.moving_variance, 0.99 + 0.01 * X.var(axis=0))


@pytest.mark.parametrize("exact", [False, True])
def test_any_loss_can_come_with_its_likelihood(exact):
    model = classifier()
    likelihood = likelihood_of(keras.losses.CategoricalCrossentropy(from_logits=True))
    compiled(model, "categorical_hinge", **likelihood._asdict() if exact else {"log_likelihood": likelihood[0]})
    targets = np.eye(CLASSES)[LABELS]
    history = model.fit(X, targets, epochs=10, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_several_outputs_are_trained_together():
    one = classifier("softmax")
    both = [one.outputs[0], keras.layers.Dense(2, name="numbers")(one.layers[-2].output)]
    model = KfacModel(one.inputs[0], both)
    targets = [LABELS, normal(ROWS, 2)]
    compiled(model, ["sparse_categorical_crossentropy", "mse"], loss_weights=[1.0, 0.5], metrics=[["accuracy"], []])
    history = model.fit(X, targets, epochs=10, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    parts = [history[f"{name}_loss"][-1] for name in model.output_names]
    np.testing.assert_allclose(parts[0] + 0.5 * parts[1], history["loss"][-1], rtol=1e-6)


class Network(KfacModel):
    """A model with a `call` of its own."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(4, "tanh"), keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        return self.out(self.hidden(inputs))


class Plain(keras.Model):
    """A model of Keras' own kind."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(4, "tanh"), keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        return self.out(self.hidden(inputs))


@pytest.mark.parametrize("kind", [Network, Plain, "sequential"])
def test_models_of_all_kinds_take_the_same_steps(kind):
    expected = classifier()
    if kind == "sequential":
        inner = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(CLASSES)])
    else:
        inner = kind()
        inner(X)
    inner.set_weights(expected.get_weights())
    model = inner if kind is Network else KfacModel(inner)
    from_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for one in model, expected:
        compiled(one, from_logits).fit(X, LABELS, batch_size=8, epochs=1, shuffle=False, verbose=0)
    np.testing.assert_allclose(weights(inner), weights(expected), rtol=1e-9)


def test_keyword_arguments_of_compile_are_honoured():
    plain, eager = classifier("softmax"), classifier("softmax")
    seen = []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    compiled(plain, steps_per_execution=2).fit(X, LABELS, batch_size=8, shuffle=False, verbose=0, callbacks=[look])
    compiled(eager, run_eagerly=True).fit(X, LABELS, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(weights(plain), weights(eager), rtol=1e-9)
    assert len(seen) == 2
    assert not tf.config.functions_run_eagerly()


def test_a_schedule_of_keras_is_followed():
    model = classifier("softmax")
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.25, 0.0])
    model.compile(kfac(model, learning_rate=schedule), "sparse_categorical_crossentropy")
    rates = []
    for _ in range(3):
        model.train_on_batch(X, LABELS)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == [0.5, 0.25, 0.0]
    assert model.optimizer.iterations == 3


def test_a_summary_counts_the_optimizer():
    model = compiled(classifier("softmax"))
    lines = []
    model.summary(print_fn=lambda line, **options: lines.append(line))
    count = sum(variable.shape.num_elements() for variable in model.optimizer.variables)
    assert f"Optimizer params: {count:,}" in "\n".join(lines)


def test_an_optimizer_is_made_anew_from_its_configuration():
    model = classifier("softmax")
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    options = {"form": EigenForm(7), "inverter": "inline", "iterations": 3, "seed": 5, "learning_rate": schedule}
    config = Kfac(model, **options).get_config()
    again = Kfac.from_config(json.loads(json.dumps(config)), model).get_config()
    assert again == config
    assert config["form"] == {"rank": 7} and config["iterations"] == 3 and config["seed"] == 5


def train(model: KfacModel, epochs: int) -> KfacModel:
    model.fit(X, LABELS, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


CONTINUE = """
import sys, keras, numpy as np
keras.config.set_floatx("float64"); keras.config.set_dtype_policy("float64")
from baselines_acktr.kfac import KfacModel
path, data, result = sys.argv[1:]
model, arrays = keras.saving.load_model(path), np.load(data)
model.fit(arrays["x"], arrays["y"], batch_size=8, epochs=3, shuffle=False, verbose=0)
np.savez(result, *model.get_weights(), damping=float(model.optimizer.damping))
"""


def test_a_saved_model_trains_on_in_another_process_to_the_bit(tmp_path):
    straight = train(compiled(classifier("softmax"), metrics=["accuracy"]), epochs=6)
    train(compiled(classifier("softmax"), metrics=["accuracy"]), epochs=3).save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=X, y=LABELS)
    files = [str(tmp_path / name) for name in ("model.keras", "data.npz", "result.npz")]
    subprocess.run([sys.executable, "-c", CONTINUE, *files], check=True, cwd=ROOT)
    found = np.load(tmp_path / "result.npz")
    for i, array in enumerate(straight.get_weights()):
        np.testing.assert_array_equal(found[f"arr_{i}"], array)
    assert float(found["damping"]) == float(straight.optimizer.damping)


def test_weights_files_keep_the_optimizer_and_plain_models_read_them(tmp_path):
    model = train(compiled(classifier("softmax")), epochs=1)
    model.save_weights(tmp_path / "model.weights.h5")
    other = compiled(classifier("softmax"))
    other.load_weights(tmp_path / "model.weights.h5")
    for name, array in model.optimizer.state().items():
        np.testing.assert_array_equal(other.optimizer.state()[name], array)
    hidden = keras.layers.Dense(4, "tanh")(inputs := keras.Input((5,)))
    plain = keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax")(hidden))
    plain.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(weights(plain), weights(model))


def test_a_legacy_file_keeps_the_weights(tmp_path):
    model = train(compiled(classifier("softmax")), epochs=1)
    model.save(tmp_path / "model.h5")
    np.testing.assert_array_equal(weights(keras.saving.load_model(tmp_path / "model.h5")), weights(model))
