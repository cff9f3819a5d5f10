"""Every callback of Keras with K-FAC: it works as the table in docs/kfac.md says, or is answered in one line."""

import contextlib
import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.callbacks.orbax_checkpoint import _get_state_tree
from kfac_helpers import normal
from repository import ROOT

from baselines_acktr.kfac import InlineInverter, Kfac, KfacModel, KfacMonitor

callbacks = keras.callbacks
ROWS, BATCH = 24, 8
X = normal(ROWS, 5).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, 3, ROWS)
WITHOUT_A_JOB = {"Callback", "CallbackList"}  # a base class and a container
UPDATES = 6  # of two epochs, where a quarter of the rows is held out
LOSSES = ["loss", "accuracy", "val_loss", "val_accuracy"]
TOLD = ["kfac_damping", "kfac_ratio", "kfac_step_length", "kfac_kl", "kfac_inverse_age"]


def classifier(**options) -> KfacModel:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    model = KfacModel(inputs, keras.layers.Dense(3, "softmax")(hidden))
    optimizer = Kfac(model, **{"learning_rate": 0.5, "inverter": InlineInverter()} | options)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model: KfacModel, *used, epochs: int = 2, **options) -> dict[str, list[float]]:
    settings = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0, "callbacks": list(used)}
    return model.fit(X, LABELS, **settings | options).history


def weights(model: keras.Model) -> np.ndarray:
    return np.concatenate([array.ravel() for array in model.get_weights()])


def test_the_table_in_the_docs_has_every_callback_of_keras():
    page = (ROOT / "docs" / "kfac.md").read_text()
    named = set(re.findall(r"`(\w+)`", page.split("| callback | |")[1].split("\n\n")[0]))
    every = {name for name in dir(callbacks) if isinstance(getattr(callbacks, name), type)}
    assert named >= every - WITHOUT_A_JOB


class Watched(NamedTuple):
    """What a `fit` of two epochs with all the callbacks that only look on has left behind."""

    model: KfacModel
    history: dict[str, list[float]]
    batches: list[dict[str, float]]
    sent: list[dict[str, float]]
    folder: Path
    printed: str


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Watched:
    folder, model = tmp_path_factory.mktemp("watched"), classifier()
    batches: list[dict[str, float]] = []
    sent: list[dict[str, float]] = []
    board = callbacks.TensorBoard(
        folder, histogram_freq=1, update_freq="batch", write_steps_per_second=True, profile_batch=0
    )
    used = [
        KfacMonitor(),
        callbacks.CSVLogger(folder / "log.csv"),
        board,
        callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(dict(logs))),
        callbacks.RemoteMonitor(send_as_json=True),
    ]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr("requests.post", lambda path, json, headers: sent.append(json))
        history = fit(model, *used, validation_split=0.25, verbose=2)
    return Watched(model, history, batches, sent, folder, printed.getvalue())


def test_csv_logger_and_history_agree_on_every_number(watched):
    with open(watched.folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", *watched.history} == {"epoch", *LOSSES, *TOLD}
    for name, values in watched.history.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], values)


def scalars(folder: Path) -> dict[str, list[float]]:
    """Every scalar in TensorBoard's files, by name."""
    found: dict[str, list[float]] = {}
    for file in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    return found


def test_tensorboard_has_losses_weights_speed_and_what_the_monitor_adds(watched):
    train, validation = scalars(watched.folder / "train"), scalars(watched.folder / "validation")
    np.testing.assert_allclose(train["epoch_loss"], watched.history["loss"], rtol=1e-6)
    np.testing.assert_allclose(validation["epoch_loss"], watched.history["val_loss"], rtol=1e-6)
    np.testing.assert_allclose(train["epoch_kfac_damping"], watched.history["kfac_damping"], rtol=1e-6)
    np.testing.assert_allclose(train["epoch_learning_rate"], [0.5, 0.5])
    assert len(train["batch_loss"]) == UPDATES and min(train["epoch_steps_per_second"]) > 0


def test_lambda_callback_sees_every_batch(watched):
    assert len(watched.batches) == UPDATES
    np.testing.assert_allclose(watched.batches[-1]["loss"], watched.history["loss"][-1], rtol=1e-6)


def test_progbar_logger_prints_the_losses_and_what_the_monitor_adds(watched):
    assert f"{UPDATES // 2}/{UPDATES // 2}" in watched.printed and "val_loss" in watched.printed
    assert all(name in watched.printed for name in TOLD)


def test_remote_monitor_sends_the_logs(watched):
    assert [set(message) for message in watched.sent] == [{"epoch", *LOSSES, *TOLD}] * 2


def test_the_monitor_tells_what_the_optimizer_did(watched):
    found = {name: np.array([logs[name] for logs in watched.batches]) for name in TOLD}  # [updates] each
    optimizer = watched.model.optimizer
    np.testing.assert_allclose(found["kfac_damping"][:4], 3e-3)
    assert np.isnan(found["kfac_ratio"][:4]).all() and np.isfinite(found["kfac_ratio"][4:]).all()  # the 5th adapts it
    assert (found["kfac_step_length"] > 0).all() and (found["kfac_step_length"] <= 0.5).all()
    assert (found["kfac_kl"] > 0).all()
    assert (found["kfac_inverse_age"] == 0).all()

    last = {name: values[-1] for name, values in watched.history.items()}
    assert last["kfac_damping"] == float(optimizer.damping)
    assert last["kfac_ratio"] == optimizer.damping_ratio
    assert last["kfac_kl"] == float(optimizer.last_step["model_kl"]) == found["kfac_kl"][-1]


def test_reduce_lr_on_plateau_sets_the_learning_rate():
    model = classifier()
    reduce = callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=100)
    history = fit(model, reduce, epochs=3)
    assert history["learning_rate"] == [0.5, 0.5, 0.25]
    assert float(model.optimizer.learning_rate) == 0.125


def test_learning_rate_scheduler_sets_the_learning_rate_and_a_rate_of_0_stands_still():
    model = classifier()
    before = weights(model)
    history = fit(model, callbacks.LearningRateScheduler(lambda epoch, rate: 0.0))
    assert history["learning_rate"] == [0, 0]
    np.testing.assert_array_equal(weights(model), before)


def test_model_checkpoint_keeps_the_best_weights_and_every_second_batch(tmp_path):
    model, other = classifier(), classifier()
    seen = []
    look = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((logs["val_loss"], weights(model))))
    best = callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", save_best_only=True, save_weights_only=True)
    often = callbacks.ModelCheckpoint(tmp_path / "{epoch}-{batch}.keras", save_freq=2)
    fit(model, best, often, look, epochs=4, validation_split=0.25)
    other.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_array_equal(weights(other), min(seen, key=lambda pair: pair[0])[1])
    assert len(list(tmp_path.glob("*.keras"))) == 6


def stop_in(epoch: int) -> callbacks.Callback:
    def fail(now, logs):
        if now == epoch:
            raise KeyboardInterrupt

    return callbacks.LambdaCallback(on_epoch_begin=fail)


def test_backup_and_restore_ends_in_the_weights_of_a_run_without_a_stop(tmp_path):
    straight, stopped, again = classifier(), classifier(), classifier()
    fit(straight, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, callbacks.BackupAndRestore(tmp_path), stop_in(2), epochs=4)
    fit(again, callbacks.BackupAndRestore(tmp_path), epochs=4)
    np.testing.assert_array_equal(weights(again), weights(straight))
    assert float(again.optimizer.damping) == float(straight.optimizer.damping)


def test_early_stopping_stops_and_restores_the_best_weights():
    model = classifier()
    seen = []
    look = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(weights(model)))
    stop = callbacks.EarlyStopping("loss", min_delta=100, patience=2, restore_best_weights=True)
    history = fit(model, look, stop, epochs=9)
    assert len(history["loss"]) == 3
    np.testing.assert_array_equal(weights(model), seen[0])


def test_terminate_on_nan_stops_and_the_weights_are_still_numbers():
    model = classifier()
    bad = X.copy()
    bad[BATCH:] = np.nan
    history = model.fit(
        bad, LABELS, batch_size=BATCH, epochs=3, shuffle=False, verbose=0, callbacks=[callbacks.TerminateOnNaN()]
    ).history
    assert len(history["loss"]) == 1
    assert model.optimizer.iterations == 2
    assert np.isfinite(weights(model)).all()


def test_swap_ema_weights_without_averages_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"SwapEMAWeights must be used when `use_ema=True` is set") as caught:
        fit(classifier(), callbacks.SwapEMAWeights(swap_on_epoch=True))
    assert "\n" not in str(caught.value)


def test_orbax_checkpoint_is_refused_in_one_line():
    """What the callback calls, as its own package need not be installed."""
    with pytest.raises(ValueError, match=r"OrbaxCheckpoint: K-FAC's state .*; must be ModelCheckpoint") as caught:
        _get_state_tree(classifier())
    assert "\n" not in str(caught.value)


def test_the_ratio_is_what_the_loss_fell_by_what_the_model_foretold():
    model = classifier(damping_interval=1)
    seen = []
    look = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs))
    before = model.evaluate(X, LABELS, verbose=0)[0]
    fit(model, KfacMonitor(), look, epochs=1, batch_size=ROWS)
    after = model.evaluate(X, LABELS, verbose=0)[0]
    foretold = float(model.optimizer.last_step["model_decrease"])
    np.testing.assert_allclose(seen[0]["kfac_ratio"], (before - after) / foretold, rtol=1e-4)


def test_the_monitor_of_another_optimizer_says_so():
    plain = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "softmax")])
    plain.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(TypeError, match=r"KfacMonitor: the model's optimizer is .*; must be a Kfac"):
        plain.fit(X, LABELS, verbose=0, callbacks=[KfacMonitor()])
