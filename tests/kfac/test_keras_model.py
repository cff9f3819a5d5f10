import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import normal, output_curvature

from baselines_acktr.kfac import (
    Divergence,
    InlineInverter,
    Kfac,
    KfacModel,
    Objective,
    categorical_kl,
    categorical_log_likelihood,
)
from baselines_acktr.kfac.keras_model import likelihood_of

ROWS, CLASSES = 24, 3
X = normal(ROWS, 5)
LABELS = np.random.default_rng(2).integers(0, CLASSES, ROWS)


@pytest.fixture(autouse=True)
def float64():
    floats, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(policy)


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

    optimizer = kfac(other)

    def loss(x, labels, row_weights):
        return tf.reduce_mean(row_weights * tf.nn.sparse_softmax_cross_entropy_with_logits(labels, other(x)))

    def objective(x, labels, row_weights):
        log_likelihood = categorical_log_likelihood(other(x), optimizer.generator)
        return Objective(loss(x, labels, row_weights), log_likelihood)

    divergence = Divergence(lambda x, labels, row_weights: other(x), categorical_kl)
    row_weights = np.ones(ROWS) if sample_weight is None else sample_weight
    for start in [0, 8, 16] * 2:
        rows = slice(start, start + 8)
        optimizer.minimize(objective, X[rows], LABELS[rows], row_weights[rows], divergence=divergence, loss=loss)
    np.testing.assert_allclose(weights(model), weights(other), rtol=1e-6)
    assert np.abs(weights(model) - weights(classifier())).max() > 0.01


def hessian(loss, activation, targets: np.ndarray, pre_activations: np.ndarray) -> np.ndarray:
    """Second derivatives of one row's loss by its pre-activations."""
    z = tf.constant(pre_activations[None])
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            value = keras.losses.get(loss)(targets[None], activation(z))
        gradient = inner.gradient(value, z)
    size = pre_activations.size
    return outer.jacobian(tf.convert_to_tensor(gradient), z, experimental_use_pfor=False).numpy().reshape(size, size)


ONE_HOT = np.array([0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("loss", "activation", "targets"),
    [
        (keras.losses.CategoricalCrossentropy(from_logits=True), tf.identity, ONE_HOT),
        (keras.losses.CategoricalCrossentropy(), tf.nn.softmax, ONE_HOT),
        (keras.losses.CategoricalCrossentropy(from_logits=True), tf.identity, np.stack([ONE_HOT, ONE_HOT])),
        (keras.losses.BinaryCrossentropy(from_logits=True), tf.identity, ONE_HOT),
        (keras.losses.BinaryCrossentropy(), tf.sigmoid, ONE_HOT),
        (keras.losses.MeanSquaredError(), tf.identity, ONE_HOT),
        (keras.losses.MeanSquaredError(), tf.identity, np.stack([ONE_HOT, ONE_HOT])),
    ],
)
def test_fisher_of_the_likelihood_is_the_gauss_newton_matrix_of_the_loss(loss, activation, targets):
    pre_activations, draws = normal(*targets.shape), 200_000
    z = tf.constant(np.repeat(pre_activations[None], draws, axis=0))
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = likelihood_of(loss).log_likelihood(activation(z), tf.random.Generator.from_seed(0))
    gradients = tape.gradient(value, z).numpy().reshape(draws, -1)
    expected = hessian(loss, activation, targets, pre_activations)
    np.testing.assert_allclose(gradients.T @ gradients / draws, expected, atol=0.02 * np.abs(expected).max())

    point = tf.constant(pre_activations[None])
    kl = output_curvature(lambda old, new: likelihood_of(loss).mean_kl(activation(old), activation(new)), point)
    np.testing.assert_allclose(kl, expected, rtol=1e-5, atol=1e-6)


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
    np.testing.assert_allclose(best.evaluate(X[18:], LABELS[18:], verbose=0), min(history["val_loss"]))


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


def test_several_outputs_need_a_likelihood_of_their_own():
    one = classifier()
    both = [one.outputs[0], keras.layers.Dense(2)(one.layers[-2].output)]
    model = KfacModel(one.inputs[0], both)
    targets = [np.eye(CLASSES)[LABELS], normal(ROWS, 2)]
    losses = [keras.losses.CategoricalCrossentropy(from_logits=True), "mse"]
    for loss in losses[1], losses:
        with pytest.raises(ValueError, match="has 2 outputs; must have one, or come with log_likelihood"):
            compiled(model, loss)
    likelihoods = [likelihood_of(loss) for loss in losses]

    def log_likelihood(outputs, generator):
        return tf.add_n(
            [one.log_likelihood(output, generator) for one, output in zip(likelihoods, outputs, strict=True)]
        )

    history = compiled(model, losses, log_likelihood=log_likelihood).fit(X, targets, epochs=10, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize(
    ("error", "optimizer", "loss", "message"),
    [
        (TypeError, lambda model: "adam", "mse", "optimizer='adam': must be a Kfac of this model"),
        (ValueError, lambda model: kfac(classifier()), "mse", "optimizer: trains other layers than"),
        (ValueError, kfac, "hinge", "loss='hinge': has no likelihood here; must be"),
        (ValueError, kfac, keras.losses.MeanSquaredError(reduction="sum"), "its reduction is 'sum'; must be"),
        (ValueError, kfac, keras.losses.CategoricalCrossentropy(axis=1), "its classes are on axis 1; must be on the"),
        (ValueError, kfac, keras.losses.SparseCategoricalCrossentropy(axis=0), "its classes are on axis 0; must be"),
    ],
)
def test_what_cannot_be_compiled_is_named(error, optimizer, loss, message):
    model = classifier()
    with pytest.raises(error, match=message.replace("(", r"\(")):
        model.compile(optimizer(model), loss)
