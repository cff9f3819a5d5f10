"""Claims about exported models: they do what `predict` does, in the runtime of each format, and are written whole."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from baselines_acktr import a2c, acktr_cont, acktr_discrete, trpo
from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.export_formats import find_format
from common.errors import UserError
from common.joined_space import JoinedBox, Part

Box = gym.spaces.Box
STATE = Box(-np.inf, np.inf, (5,), np.float32)
WIDE_STATE = Box(-np.inf, np.inf, (5,), np.float64)
PIXELS = Box(0, 255, (20, 20, 4), np.uint8)
PARTS = JoinedBox(
    [
        Part(("camera",), Box(0, 255, (40, 40, 2), np.uint8)),
        Part(("state",), STATE),
        Part(("gray",), Box(0, 255, (40, 40), np.uint8)),
    ]
)
ONE_OF_FOUR = gym.spaces.Discrete(4, start=-1)
TWO_CHOICES = gym.spaces.MultiDiscrete([3, 2], start=[1, 0], dtype=np.int32)
TORQUES = Box(np.array([-2, -0.1, 0], np.float32), np.array([2, 0.3, np.inf], np.float32))
WIDE_TORQUES = Box(np.array([-2, -0.1]), np.array([2, 0.3]), dtype=np.float64)
SMALL_CNN = {"conv_filters": (4,), "conv_kernels": (5,), "conv_strides": (3,)}

MODELS: dict[str, tuple[type[Agent], gym.Space, gym.Space]] = {
    "acktr discrete": (acktr_discrete.Model, STATE, ONE_OF_FOUR),
    "acktr discrete pixels": (acktr_discrete.Model, PIXELS, ONE_OF_FOUR),
    "acktr multi-discrete": (acktr_discrete.Model, WIDE_STATE, TWO_CHOICES),
    "acktr continuous": (acktr_cont.Model, WIDE_STATE, TORQUES),
    "acktr continuous pixels": (acktr_cont.Model, PIXELS, WIDE_TORQUES),
    "a2c discrete": (a2c.DiscreteModel, STATE, ONE_OF_FOUR),
    "a2c discrete pixels": (a2c.DiscreteModel, PIXELS, TWO_CHOICES),
    "a2c continuous": (a2c.ContinuousModel, STATE, WIDE_TORQUES),
    "a2c continuous pixels": (a2c.ContinuousModel, PIXELS, TORQUES),
    "acktr discrete parts": (acktr_discrete.Model, PARTS, ONE_OF_FOUR),
    "a2c continuous parts": (a2c.ContinuousModel, PARTS, TORQUES),
    "trpo discrete": (trpo.DiscreteModel, WIDE_STATE, ONE_OF_FOUR),
    "trpo discrete pixels": (trpo.DiscreteModel, PIXELS, ONE_OF_FOUR),
    "trpo continuous": (trpo.ContinuousModel, STATE, TORQUES),
    "trpo continuous pixels": (trpo.ContinuousModel, PIXELS, TORQUES),
}
RECURRENT: dict[str, tuple[str, type[Agent], gym.Space, gym.Space]] = {
    "acktr discrete": ("lstm", acktr_discrete.Model, STATE, TWO_CHOICES),
    "acktr continuous": ("lnlstm", acktr_cont.Model, WIDE_STATE, TORQUES),
    "a2c discrete pixels": ("cnn_lstm", a2c.DiscreteModel, PIXELS, ONE_OF_FOUR),
    "a2c continuous pixels": ("cnn_lnlstm", a2c.ContinuousModel, PIXELS, TORQUES),
}
ROWS = 1000
FORMATS = {"saved_model": "model", "tflite": "model.tflite", "onnx": "model.onnx"}
TOLERANCE = {"saved_model": 2e-6, "tflite": 1e-5, "onnx": 1e-5}  # of continuous actions, whose ranges are about 1
# What a program without this package does with SavedModels: it reads them and says what they answer.
READER = """
import sys
sys.modules["baselines_acktr"] = sys.modules["common"] = None  # importing them raises ImportError
import numpy as np
import tensorflow as tf
for folder in sys.argv[1:]:
    model = tf.saved_model.load(f"{folder}/model")
    answer = model.signatures["serving_default"](observation=tf.constant(np.load(f"{folder}/observations.npy")))
    np.save(f"{folder}/answer.npy", answer["action"].numpy())
"""


def observations_of(space: gym.spaces.Box, rows: int = ROWS) -> np.ndarray:
    """Random ones [rows, ...]; of vectors, a part never varies, and some parts are far outside what is usual."""
    rng = np.random.default_rng(7)
    if isinstance(space, JoinedBox):
        parts = [observations_of(part.space, rows).reshape(rows, -1) for part in space.parts]
        return np.concatenate(parts, axis=1).astype(np.float32)
    if space.dtype == np.uint8:
        quarters = rng.integers(0, 256, (rows, 2, 2, *space.shape[2:]), np.uint8)
        return quarters.repeat(space.shape[0] // 2, axis=1).repeat(space.shape[1] // 2, axis=2)
    vectors = rng.normal([3, -2, 0, 100, 0.1], [2, 0.5, 30, 7, 0], (rows, *space.shape))
    vectors[::50] *= [20, 20, 20, 20, 1]
    return vectors.astype(space.dtype)


def make(name: str) -> Agent:
    """One of `MODELS`."""
    model_class, observations, _ = MODELS[name]
    return make_with(model_class.default_network(observations), *MODELS[name])


def make_with(network: str, model_class: type[Agent], observations: gym.Space, actions: gym.Space) -> Agent:
    """A model as after some training: weights that matter, and a filter that has seen observations."""
    small: dict[str, Any] = {"hidden_sizes": (16,)}
    if network.startswith("cnn"):
        small |= SMALL_CNN
    model = model_class(observations, actions, network, model_class.config_class(**small))

    rng = np.random.default_rng(3)
    for variable in model.policy.network.trainable_variables:
        is_kernel = len(variable.shape) > 1
        deviation = np.sqrt(2 / np.prod(variable.shape[:-1])) if is_kernel else 0.1
        variable.assign(rng.normal(0, deviation, variable.shape))
    model.policy.refresh(observations_of(observations, 200)[None])
    return model


def runtime(path: Path, format: str) -> Callable[..., dict[str, np.ndarray]]:
    """What calls a file's graph: all that it takes by name, all that it gives by name."""
    if format == "saved_model":
        model = tf.saved_model.load(str(path))

        def call(**given: np.ndarray) -> dict[str, np.ndarray]:
            tensors = {name: tf.constant(array) for name, array in given.items()}
            return {name: tensor.numpy() for name, tensor in model.signatures["serving_default"](**tensors).items()}

        return call
    if format == "tflite":
        return tf.lite.Interpreter(str(path)).get_signature_runner()
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return lambda **given: dict(zip(names, session.run(names, given), strict=True))


def answers_of(path: Path, format: str, observations: np.ndarray) -> np.ndarray:
    """Actions [N, ...] by the runtime of a format; observations as its files take them."""
    if format == "tflite" and observations.dtype == np.float64:
        observations = observations.astype(np.float32)
    return runtime(path, format)(observation=observations)["action"]


def loaded_anew(path: Path, format: str, observations: np.ndarray) -> np.ndarray:
    """As `answers_of`; ONNX Runtime in a process of its own, as it chooses its seed once in a process."""
    if format != "onnx":
        return answers_of(path, format, observations)
    np.save(path.with_name("observations.npy"), observations)
    program = (
        "import numpy, onnxruntime; session = onnxruntime.InferenceSession('model.onnx'); "
        "actions, = session.run(['action'], {'observation': numpy.load('observations.npy')}); "
        "numpy.save('answer.npy', actions)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=path.parent)
    return np.load(path.with_name("answer.npy"))


@pytest.fixture(scope="module")
def saved_answers(tmp_path_factory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{model: what `predict` says, what its SavedModel says in a process that has no such package}."""
    folder = tmp_path_factory.mktemp("saved")
    predicted = {}
    for name, (_, space, _) in MODELS.items():
        place = folder / name
        model = make(name)
        model.export(str(place / "model"))
        observations = observations_of(space)
        np.save(place / "observations.npy", observations)
        predicted[name] = model.predict(observations, deterministic=True)[0]
        model.close()
    places = [str(folder / name) for name in MODELS]
    subprocess.run([sys.executable, "-c", READER, *places], check=True, cwd=folder, env=os.environ | {"PYTHONPATH": ""})
    return {name: (predicted[name], np.load(folder / name / "answer.npy")) for name in MODELS}


def require_same(predicted: np.ndarray, answered: np.ndarray, tolerance: float) -> None:
    assert answered.shape == predicted.shape
    assert len(np.unique(predicted, axis=0)) > 1  # an agent that always does the same would show nothing
    if predicted.dtype.kind == "i":
        np.testing.assert_array_equal(answered, predicted)
    else:
        np.testing.assert_allclose(answered, predicted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_predicts_the_same_without_this_package(saved_answers, name):
    predicted, answered = saved_answers[name]
    require_same(predicted, answered, TOLERANCE["saved_model"])
    assert answered.dtype == predicted.dtype


@pytest.mark.parametrize("format", ["tflite", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_a_file_predicts_the_same_in_its_runtime(tmp_path, name, format):
    model = make(name)
    path = tmp_path / FORMATS[format]
    model.export(str(path))
    observations = observations_of(model.observation_space)
    answered = answers_of(path, format, observations)
    require_same(model.predict(observations, deterministic=True)[0], answered, TOLERANCE[format])
    np.testing.assert_array_equal(answers_of(path, format, observations[:1]), answered[:1])
    if isinstance(model.action_space, Box):
        assert all(model.action_space.contains(action.astype(model.action_space.dtype)) for action in answered)
    assert os.listdir(tmp_path) == [path.name]
    model.close()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_model_goes_on_from_the_state_that_its_graph_returned(tmp_path, name, format):
    model = make_with(*RECURRENT[name])
    model.export(str(tmp_path / FORMATS[format]))
    call = runtime(tmp_path / FORMATS[format], format)
    taken = np.float32 if format == "tflite" and RECURRENT[name][2] is WIDE_STATE else model.observation_space.dtype
    size = model.policy.network.state_size
    steps = observations_of(model.observation_space).reshape(10, 100, *model.observation_space.shape)
    starts = np.random.default_rng(2).random((10, 100)) < 0.2

    predicted, answered = [], []
    remembered, state = None, np.zeros((100, size), np.float32)
    for observations, start in zip(steps, starts, strict=True):
        actions, remembered = model.predict(observations, remembered, start, deterministic=True)
        answer = call(observation=observations.astype(taken), state=state, episode_start=start)
        state = answer["next_state"]
        np.testing.assert_allclose(state, remembered[:, :size], rtol=0, atol=1e-5)
        predicted.append(actions)
        answered.append(answer["action"])
    require_same(np.concatenate(predicted), np.concatenate(answered), TOLERANCE[format])
    forgetful = call(observation=observations.astype(taken), state=0 * state, episode_start=start)
    assert not np.array_equal(forgetful["next_state"], state)


@pytest.mark.parametrize("format", ["saved_model", "onnx"])
def test_observations_far_from_zero_keep_their_double_precision(tmp_path, format):
    model = make("acktr continuous")
    observations = observations_of(WIDE_STATE) + 1e8
    model.policy.filter.mean += 1e8
    model.export(str(tmp_path / FORMATS[format]))
    answered = answers_of(tmp_path / FORMATS[format], format, observations)
    require_same(model.predict(observations, deterministic=True)[0], answered, TOLERANCE[format])


@pytest.mark.parametrize("format", FORMATS)
def test_sampled_actions_have_the_policys_probabilities_and_are_others_each_time_it_is_loaded(tmp_path, format):
    model = make("acktr discrete")
    observations = np.repeat(observations_of(STATE, 1), 20000, axis=0)
    parameters = model.policy.parameters(model.policy.filtered(observations[:1]))
    expected = tf.nn.softmax(parameters)[0].numpy()

    model.export(str(tmp_path / FORMATS[format]), deterministic=False)
    first, second = (loaded_anew(tmp_path / FORMATS[format], format, observations) for _ in range(2))
    assert not np.array_equal(first, second)
    for actions in (first, second):
        counts = np.bincount(actions - ONE_OF_FOUR.start, minlength=4)
        deviations = np.sqrt(expected * (1 - expected) / len(actions))
        assert (np.abs(counts / len(actions) - expected) < 5 * deviations).all()


@pytest.mark.parametrize("format", FORMATS)
def test_sampled_torques_have_the_policys_mean_and_deviation(tmp_path, format):
    model = make("a2c continuous")
    network = model.policy.network
    network.log_std.vector.assign([-2.0, -1.5])  # so small that little is clipped
    network.mean.kernel.assign(0.1 * network.mean.kernel)
    model.policy.refresh(observations_of(STATE, 200)[None])
    observations = np.repeat(observations_of(STATE, 2)[1:], 20000, axis=0)
    mean = model.predict(observations[0], deterministic=True)[0]
    deviation = np.exp([-2.0, -1.5]) * (WIDE_TORQUES.high - WIDE_TORQUES.low) / 2

    model.export(str(tmp_path / FORMATS[format]), deterministic=False)
    actions = answers_of(tmp_path / FORMATS[format], format, observations)
    assert (np.abs(actions.mean(axis=0) - mean) < 5 * deviation / np.sqrt(len(actions))).all()
    np.testing.assert_allclose(actions.std(axis=0), deviation, rtol=0.04)


def test_the_ending_says_the_format_and_may_not_contradict_it(tmp_path):
    assert [find_format(path, None).name for path in ("a", "a.tflite", "b/A.ONNX")] == ["saved_model", "tflite", "onnx"]
    assert find_format("cartpole.v1", "saved_model").name == "saved_model"
    for path, name, message in [
        ("a.pb", None, r"^path=a.pb: the ending .pb says no format; must be .tflite, .onnx, or none"),
        ("a.onnx", "tflite", r"^path=a.onnx: has the ending of onnx, but the format is tflite$"),
        ("a", "tflight", r"^format=tflight: must be one of saved_model, tflite, onnx. Did you mean tflite\?$"),
    ]:
        with pytest.raises(UserError, match=message):
            find_format(path, name)


@pytest.mark.parametrize("missing", [["tf2onnx"], ["onnx", "tf2onnx"]])
def test_a_format_that_is_not_installed_is_named_before_anything_is_written(tmp_path, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(UserError, match=f": onnx needs {' and '.join(missing)}; pip install {' '.join(missing)}, or"):
        make("a2c discrete").export(str(tmp_path / "new" / "a.onnx"))
    assert os.listdir(tmp_path) == []


def test_folders_that_are_no_saved_models_and_what_is_no_file_are_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    (tmp_path / "model").write_text("a checkpoint")
    model = make("a2c discrete")
    for name, format, message in [
        ("photos", None, "is there and holds more than a SavedModel, so it stays; name another folder"),
        ("model", None, "is there and holds more than a SavedModel"),
        ("photos", "tflite", "is not a regular file; tflite is a file"),
    ]:
        with pytest.raises(UserError, match=message):
            model.export(str(tmp_path / name), format)
    assert (tmp_path / "photos" / "cat.png").read_text() == "cat"
    assert (tmp_path / "model").read_text() == "a checkpoint"


@pytest.mark.parametrize("where", ["", ".", "..", "../..", "empty/..", None, 3, b"x", "a\0b"])
def test_the_folder_one_works_in_is_never_replaced(tmp_path, monkeypatch, where):
    (tmp_path / "thesis" / "empty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "thesis")
    model = make("a2c discrete")
    for files in ([], ["saved_model.pb"], ["saved_model.pb", "thesis.txt"]):
        for name in files:
            (tmp_path / "thesis" / name).write_text("x")
        with pytest.raises(UserError, match=r"^path="):
            model.export(where, "saved_model")
        assert sorted(os.listdir()) == sorted(["empty", *files])


def test_a_folder_with_a_saved_model_and_something_else_is_not_replaced(tmp_path):
    model = make("a2c discrete")
    model.export(str(tmp_path / "model"))
    (tmp_path / "model" / "notes.txt").write_text("do not lose me")
    with pytest.raises(UserError, match="holds more than a SavedModel"):
        model.export(str(tmp_path / "model"))
    assert (tmp_path / "model" / "notes.txt").read_text() == "do not lose me"


def test_an_export_replaces_the_one_before_whole(tmp_path):
    model = make("a2c continuous")
    observations = observations_of(STATE, 20)
    path = tmp_path / "model"
    model.export(str(path))
    before = model.predict(observations, deterministic=True)[0]
    model.policy.network.mean.bias.assign_add([0.1, 0.1])
    model.policy.refresh(observations[None])
    model.export(str(path))
    answered = answers_of(path, "saved_model", observations)
    np.testing.assert_allclose(answered, model.predict(observations, deterministic=True)[0], rtol=0, atol=2e-6)
    assert np.abs(answered - before).max() > 0.01
    assert os.listdir(tmp_path) == ["model"]


class Unusual(keras.layers.Layer):
    """What TFLite has no operation for."""

    def call(self, x):
        return tf.math.igamma(tf.abs(x) + 1, tf.abs(x))


def unusual(observation_space, config):
    inputs = keras.Input(observation_space.shape)
    return keras.Model(inputs, Unusual()(inputs))


def test_a_network_that_a_format_cannot_express_is_named_and_the_old_file_stays(tmp_path):
    config = a2c.DiscreteModel.config_class()
    model = a2c.DiscreteModel(STATE, ONE_OF_FOUR, unusual, config)
    (tmp_path / "model.tflite").write_text("old")
    with pytest.raises(UserError, match=r"^format=tflite: this network cannot be written in it: .*Igamma"):
        model.export(str(tmp_path / "model.tflite"))
    assert (tmp_path / "model.tflite").read_text() == "old"
    assert os.listdir(tmp_path) == ["model.tflite"]
