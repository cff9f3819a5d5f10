"""Running averages of the weights: those of Keras' own optimizers, to the number."""

import keras
import numpy as np
import pytest
from kfac_helpers import flat, normal

from baselines_acktr.kfac import InlineInverter, Kfac, KfacModel

ROWS, BATCH, MOMENTUM = 24, 8, 0.7
X = normal(ROWS, 5).astype(np.float32)
Y = normal(ROWS, 2, seed=4).astype(np.float32)


def regressor(**options) -> KfacModel:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    model = KfacModel(inputs, keras.layers.Dense(2)(keras.layers.Dense(4, "tanh")(inputs)))
    settings = {"use_ema": True, "ema_momentum": MOMENTUM, "inverter": InlineInverter()}
    model.compile(Kfac(model, **settings | options), "mse")
    return model


def weights(model: keras.Model) -> np.ndarray:
    return flat(model.get_weights())


def fit(model: KfacModel, *used, epochs: int = 2, **options) -> dict[str, list[float]]:
    settings = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0, "callbacks": list(used)}
    return model.fit(X, Y, **settings | options).history


def recorder(seen: list[np.ndarray]) -> keras.callbacks.Callback:
    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(weights(self.model))

    return Recorder()


@pytest.fixture(scope="module")
def plain() -> list[np.ndarray]:
    """The weights after each of six updates of a model without averages."""
    seen: list[np.ndarray] = []
    fit(regressor(use_ema=False), recorder(seen))
    return seen


def averaged(seen: list[np.ndarray]) -> np.ndarray:
    """By the formula: the first average is the first weights."""
    average = seen[0]
    for one in seen[1:]:
        average = MOMENTUM * average + (1 - MOMENTUM) * one
    return average


def test_fit_ends_with_the_averages_in_the_model():
    seen: list[np.ndarray] = []
    model = regressor()
    fit(model, recorder(seen))
    assert len(seen) == 6
    np.testing.assert_allclose(weights(model), averaged(seen), rtol=1e-5, atol=1e-7)
    assert np.abs(weights(model) - seen[-1]).max() > 1e-3


def test_averages_do_not_change_the_updates(plain):
    seen: list[np.ndarray] = []
    fit(regressor(), recorder(seen))
    np.testing.assert_array_equal(seen, plain)


@pytest.mark.parametrize("kind", ["positional", "list", "CallbackList"])
def test_averages_are_there_before_callbacks_learn_that_training_is_over(kind):
    """As with Keras' optimizers, so that EarlyStopping has the last word on the weights."""
    seen: list[np.ndarray] = []
    model = regressor()
    look = keras.callbacks.LambdaCallback(on_train_end=lambda logs: seen.append(weights(model)))
    if kind == "positional":
        model.fit(X, Y, BATCH, 1, 0, [look])
    elif kind == "list":
        model.fit(X, Y, callbacks=[look], verbose=0)
    else:
        model.fit(X, Y, callbacks=keras.callbacks.CallbackList([look], add_history=True, model=model), verbose=0)
    np.testing.assert_array_equal(seen, [weights(model)])
    np.testing.assert_array_equal(
        seen[0], flat([v.numpy() for v in model.optimizer.inner_optimizer.state().values()][:-1])
    )


def test_weights_are_overwritten_every_so_many_updates(plain):
    seen: list[np.ndarray] = []
    model = regressor(ema_overwrite_frequency=3)
    fit(model, recorder(seen))
    np.testing.assert_array_equal(seen[:2], plain[:2])
    np.testing.assert_allclose(seen[2], averaged(plain[:3]), rtol=1e-5, atol=1e-7)


def test_swap_ema_weights_evaluates_the_averages_and_trains_the_weights(plain):
    seen: list[np.ndarray] = []
    model = regressor()
    evaluated: list[np.ndarray] = []

    class Looking(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            evaluated.append(weights(model))

    history = fit(model, recorder(seen), keras.callbacks.SwapEMAWeights(), Looking(), validation_data=(X, Y))
    np.testing.assert_allclose(evaluated[0], averaged(seen[:3]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen, plain, rtol=1e-4, atol=1e-6)
    loss = model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(loss, history["val_loss"][-1], rtol=1e-5)


def test_callbacks_with_averages_see_the_learning_rate_and_the_last_word_on_the_weights(tmp_path):
    model = regressor(learning_rate=0.5)
    seen: list[np.ndarray] = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(weights(model)))
    stop = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1, restore_best_weights=True)
    logs = keras.callbacks.TensorBoard(tmp_path)
    fit(model, look, stop, logs, epochs=3)
    np.testing.assert_array_equal(weights(model), seen[0])
    assert float(model.optimizer.inner_optimizer.learning_rate) == 0.5


def test_a_loaded_model_goes_on_with_its_averages_to_the_bit(tmp_path):
    straight = regressor()
    fit(straight, epochs=3)

    model = regressor()
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    fit(model, keep, epochs=2)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    fit(loaded, epochs=3, initial_epoch=2)
    np.testing.assert_array_equal(weights(loaded), weights(straight))
