"""Claims about observations of several parts, images among them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import run
from baselines_acktr import a2c, acktr_cont, acktr_discrete, load, trpo
from baselines_acktr.agent import description, schema
from baselines_acktr.agent.filters import filtered_space, make_filter
from baselines_acktr.agent.networks import split
from baselines_acktr.config import RECURRENT, AcktrDiscreteConfig
from baselines_acktr.evaluation import evaluate
from baselines_acktr.examples.parts import CameraAndOrder
from baselines_acktr.kfac.taps import factorizations
from common.errors import UserError
from common.joined_space import JoinedBox, parts_of
from common.running_mean_std import ObservationFilter
from common.vec_env import make_vec_env

CAMERA = spaces.Box(0, 255, (36, 40, 3), np.uint8)
SPACE = spaces.Dict(
    {
        "camera": CAMERA,
        "depth": spaces.Box(0, 255, (36, 36), np.uint8),
        "arm": spaces.Dict(angles=spaces.Box(-3, 3, (2, 2), np.float64), grip=spaces.MultiBinary(2)),
        "goal": spaces.Tuple(
            [spaces.Discrete(3, start=1), spaces.MultiDiscrete([2, 3]), spaces.Box(0, 7, (2,), np.uint8)]
        ),
    }
)
JOINED = JoinedBox(list(parts_of(SPACE)))
ACTIONS = spaces.Discrete(2)
SMALL = {"conv_filters": (4,), "conv_kernels": (6,), "conv_strides": (6,), "hidden_sizes": (32,)}


def observations(count: int) -> list[dict[str, Any]]:
    SPACE.seed(1)
    return [SPACE.sample() for _ in range(count)]


def joined(given: list[dict[str, Any]]) -> np.ndarray:
    """By Gymnasium's own function, [N, D]."""
    return np.stack([spaces.flatten(SPACE, one) for one in given]).astype(np.float32)


def batched(given: list[Any]) -> Any:
    """Dicts and tuples of batches [N, ...] in place of a list of N observations."""
    if isinstance(given[0], dict):
        return {key: batched([one[key] for one in given]) for key in given[0]}
    if isinstance(given[0], tuple):
        return tuple(batched(list(parts)) for parts in zip(*given, strict=True))
    return np.stack(given)


def make(learner: Any, actions: gym.Space = ACTIONS, network: str = "cnn", space: gym.Space = JOINED):
    inline = {"inverses": "inline"} if "inverses" in learner.config_class.__dataclass_fields__ else {}
    return learner(space, actions, network, learner.config_class(**SMALL, **inline))


@pytest.fixture(scope="module")
def model():
    made = make(acktr_discrete.Model)
    for i, variable in enumerate(made.network.trainable_variables):
        variable.assign(np.random.default_rng(i).normal(0, 0.3, variable.shape))
    return made


def test_the_vector_is_gymnasiums_and_knows_its_parts():
    given = observations(5)
    vectors = joined(given)
    assert JOINED.shape == vectors.shape[1:] and all(JOINED.contains(vector) for vector in vectors)
    np.testing.assert_array_equal(JOINED.join(given[0])[0], vectors[:1])
    np.testing.assert_array_equal(JOINED.join(batched(given))[0], vectors)

    parts = split(keras.ops.convert_to_tensor(vectors), JOINED)
    assert list(parts) == ["arm.angles", "arm.grip", "camera", "depth", "goal.0", "goal.1", "goal.2"]
    np.testing.assert_allclose(parts["camera"], [one["camera"] / 255 for one in given], rtol=1e-6)
    np.testing.assert_allclose(parts["depth"][..., 0], [one["depth"] / 255 for one in given], rtol=1e-6)
    np.testing.assert_allclose(parts["arm.angles"], [one["arm"]["angles"].ravel() for one in given], rtol=1e-6)
    np.testing.assert_allclose(parts["goal.2"], [one["goal"][2] / 7 for one in given], rtol=1e-6)
    np.testing.assert_array_equal(np.argmax(parts["goal.0"], axis=1), [one["goal"][0] - 1 for one in given])


def test_a_filter_standardises_the_vectors_and_leaves_the_images_as_they_are():
    rows = joined(observations(50))
    found, alone = make_filter(JOINED), ObservationFilter((int(JOINED.is_vector.sum()),))
    vectors = rows[:, JOINED.is_vector]
    for _ in range(2):  # before it has seen anything, and afterwards
        seen = found(rows)
        np.testing.assert_array_equal(seen[:, ~JOINED.is_vector], rows[:, ~JOINED.is_vector])
        np.testing.assert_array_equal(seen[:, JOINED.is_vector], alone(vectors))
        found.update(rows)
        alone.update(vectors)

    space = filtered_space(JOINED)
    scaled = [part for part in space.parts if part.space.dtype == np.uint8]
    assert [part.name for part in scaled] == ["camera", "depth"]  # what is standardised is not scaled by its range


def test_kfac_has_a_block_of_kronecker_factors_for_each_layer_of_each_part(model):
    found = {one.layer.name: type(one).__name__ for one in factorizations(model.network)}
    dense = ["vectors_dense1", "vectors_dense2", "dense1", "policy_head", "value_head"]
    assert found == {
        **dict.fromkeys(["image1_conv1", "image2_conv1"], "ConvolutionFactorization"),
        **dict.fromkeys(dense, "DenseFactorization"),
    }


def test_every_part_counts(model):
    vectors = joined(observations(1))
    before = model.value(vectors)
    for part, columns in zip(JOINED.parts, JOINED.columns, strict=True):
        changed = vectors.copy()
        changed[:, columns] = 1 - changed[:, columns]
        assert model.value(changed) != before, part.name


def test_predict_takes_what_the_environment_gives_and_batches_of_it(model):
    given = observations(6)
    expected, _ = model.predict(joined(given), deterministic=True)
    assert len(set(expected.tolist())) > 1
    np.testing.assert_array_equal(model.predict(batched(given), deterministic=True)[0], expected)
    for one, action in zip(given, expected, strict=True):
        alone, _ = model.predict(one, deterministic=True)
        assert np.shape(alone) == () and alone == action


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera": None}, r"^observation: has no part camera, got \["),
        ({"camera": np.zeros((3, 36, 40))}, r"^observation camera: must be numbers of shape \(36, 40, 3\)"),
        ({"depth": np.full((36, 36), "x")}, r"^observation depth: must be numbers of shape \(36, 36\)"),
        ({"depth": [[1], [1, 2]]}, "^observation depth: its rows are of several lengths"),
        ({"goal": (1,)}, r"^observation: has no part goal.1"),
        ({"arm": {"angles": np.full((2, 2), np.nan), "grip": np.zeros(2, int)}}, "^observation: must be finite"),
    ],
)
def test_a_wrong_part_is_named(model, change, message):
    wrong = observations(1)[0] | change
    with pytest.raises(UserError, match=message):
        model.predict({key: part for key, part in wrong.items() if part is not None})


def test_what_reset_returns_is_told_from_an_observation_that_is_a_tuple(model):
    with pytest.raises(UserError, match=r"^observation: is what reset returns"):
        model.predict((observations(1)[0], {}))

    space = spaces.Tuple([CAMERA, spaces.Dict(speed=spaces.Box(-1, 1, (2,), np.float32))])
    made = make(a2c.DiscreteModel, space=JoinedBox(list(parts_of(space))))
    assert made.predict(space.sample())[0] in (0, 1)


@pytest.mark.parametrize("learner", [acktr_discrete.Model, acktr_cont.Model, a2c.ContinuousModel, trpo.DiscreteModel])
def test_a_checkpoint_alone_makes_the_model_again(tmp_path, learner):
    actions = spaces.Box(-1, 1, (2,)) if learner in (acktr_cont.Model, a2c.ContinuousModel) else ACTIONS
    made = make(learner, actions)
    given = observations(4)
    made.policy.refresh(joined(given)[None])
    made.save(str(tmp_path / "model"))

    found = load(str(tmp_path / "model"))
    assert found.observation_space == JOINED
    assert found.observation_space != filtered_space(JOINED)
    np.testing.assert_array_equal(found.step(joined(given), True)[0], made.step(joined(given), True)[0])


@pytest.mark.parametrize("network", ["cnn", "pixels", "mlp", *RECURRENT])
def test_what_a_file_declares_of_several_parts_is_of_the_sizes_of_its_weights(network):
    made = make(a2c.DiscreteModel, network=network)
    described = description.describe_space(JOINED)
    declared = schema._weights(network, JOINED.shape, made.config, described["parts"])
    weights = [tuple(variable.shape) for variable in made.network.trainable_variables]
    assert sorted(declared) == sorted(weights[: len(declared)])
    encoders = [tuple(variable.shape) for variable in made.network.features.trainable_variables]
    assert Counter(encoders) <= Counter(declared)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": []}, "must be a list of 1 to 64"),
        ({"parts": [1]}, "part 0 must be an object"),
        ({"shape": [7]}, "its parts have .* numbers, not"),
        (lambda parts: parts[0].update(path=[]), "must be a list of keys"),
        (lambda parts: parts[0].update(path=parts[1]["path"]), "two of its parts have the same path"),
        (lambda parts: parts[0].update(type="JoinedBox", parts=parts[1:2]), "its space is a JoinedBox"),
        (lambda parts: parts[0].update(type="Text"), "its space is a Text"),
        (lambda parts: parts[4].update(n=-1), "must be a whole number"),
    ],
)
def test_parts_that_are_none_are_refused(change, message):
    space = description.describe_space(JOINED)
    if callable(change):
        change(space["parts"])
    else:
        space |= change
    with pytest.raises(ValueError, match=message):
        schema._check_space("observation_space", space, schema.MAX_OBSERVATION)


class Shows(gym.Env):
    """Observations of any space."""

    action_space = ACTIONS

    def __init__(self, space: gym.Space) -> None:
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


GRAPH = spaces.Graph(spaces.Discrete(3), None)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Dict(a=CAMERA, words=spaces.Text(5)), "observation words: no network can encode a Text"),
        (spaces.Dict(a=ACTIONS, b=spaces.Tuple([GRAPH])), r"observation b\.0: no network can encode a Graph"),
        (spaces.Dict(a=CAMERA, b=spaces.Sequence(ACTIONS)), "observation b: no network can encode a Sequence"),
        (GRAPH, "observation space: no network can encode a Graph"),
    ],
)
def test_a_part_that_nobody_can_encode_is_named_before_anything_is_made(space, message):
    with pytest.raises(UserError, match=f"^env: environment 0: {message}.*must be Box"):
        make_vec_env(lambda: Shows(space), 1, 0)


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        ((36, 36, 3), {}, "--network=cnn: convolution 3 of 3x3 sees 2x2 pixels"),
        ((3, 64, 64), SMALL, "--network=cnn: observations a of shape .* look like images with the channels first"),
    ],
)
def test_an_image_that_the_network_cannot_see_is_named(image, changes, message):
    space = JoinedBox(list(parts_of(spaces.Dict(a=spaces.Box(0, 255, image, np.uint8), b=ACTIONS))))
    changes = changes or {"conv_kernels": (8, 5, 3)}
    with pytest.raises(UserError, match=f"^{message}"):
        acktr_discrete.Model(space, ACTIONS, "cnn", AcktrDiscreteConfig(inverses="inline", **changes))


def test_the_example_keeps_to_gymnasiums_contract():
    check_env(CameraAndOrder(), skip_render_check=True)


@pytest.mark.parametrize("shown", [("camera",), ("order",)])
def test_an_agent_that_sees_one_part_of_the_example_can_only_guess(shown):
    env = CameraAndOrder(shown=shown)
    rewards: dict[bytes, list[float]] = {}  # of going right, by what is seen
    env.reset(seed=0)
    for _ in range(1000):
        seen = b"".join(part.tobytes() for part in env._observation().values())
        rewards.setdefault(seen, []).append(env.step(1)[1])
        env.reset()
    assert len(rewards) == 2
    assert all(abs(np.mean(some) - 0.5) < 0.1 for some in rewards.values())


LEARNING: dict[str, tuple[Any, bool, dict[str, Any]]] = {
    "acktr discrete": (acktr_discrete, False, {"inverses": "inline", "nsteps": 10}),
    "acktr continuous": (acktr_cont, True, {"inverses": "inline", "timesteps_per_batch": 160, "network": "cnn"}),
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_task_is_learned_that_needs_the_image_and_the_vector(name):
    learner, is_continuous, flags = LEARNING[name]
    source = {"env_kwargs": {"is_continuous": is_continuous}, "num_env": 16}
    trained = learner.learn(env=CameraAndOrder, total_timesteps=6400, seed=0, **source, **SMALL, **flags)
    with make_vec_env(CameraAndOrder, 16, 1, env_kwargs=source["env_kwargs"]) as env:
        scores, _ = evaluate(trained, env, 100, greedy=True)
    assert np.mean(scores) >= 0.95


def test_it_is_trained_played_and_exported_from_the_command_line(tmp_path, capsys):
    sizes = [f"--{name}={','.join(map(str, value))}" for name, value in SMALL.items()]
    flags = ["--env=baselines_acktr.examples.parts:CameraAndOrder-v0", f"--log_path={tmp_path / 'run'}", "--seed=0"]
    batch = ["--alg=a2c", "--num_env=2", "--nsteps=5"]
    assert run.main([*flags, *batch, *sizes, "--num_timesteps=30"]) == 0
    assert run.main([*flags[1:2], "--resume", "--num_timesteps=60"]) == 0
    saved = ["--num_timesteps=0", f"--load_path={tmp_path / 'run'}"]
    assert run.main([*saved, "--play", "--play_episodes=2"]) == 0
    assert run.main([*saved, f"--export={tmp_path / 'model.onnx'}"]) == 0
    assert (tmp_path / "model.onnx").exists()
