"""Claims about recurrent networks and the policies that act by them."""

from __future__ import annotations

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import factors_of, normal

import run
from baselines_acktr import a2c, acktr_discrete, load, trpo
from baselines_acktr.agent import schema
from baselines_acktr.agent.memories import LayerNormLstm, Lstm
from baselines_acktr.agent.recurrent import CELLS, RecurrentActorCritic, RecurrentGaussian
from baselines_acktr.config import RECURRENT, A2cDiscreteConfig, AcktrContConfig, AcktrDiscreteConfig
from baselines_acktr.kfac.taps import factorizations
from baselines_acktr.learning.sequences import Sequences
from common import array_file
from common.errors import UserError
from common.vec_env import make_vec_env

N, T, D, UNITS = 3, 4, 2, 5
VECTORS = gym.spaces.Box(-1, 1, (D,), np.float32)
ACTIONS = gym.spaces.Discrete(2)
STARTS = np.array([[True, False, False, True], [False, False, False, False], [False, True, True, False]])


def compute_in(floats: str) -> None:
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(floats)


@pytest.fixture
def float64():
    compute_in("float64")
    yield
    compute_in("float32")


def randomised(network: keras.Model) -> keras.Model:
    """The network with other weights than its first ones, of which some are zeros."""
    for i, variable in enumerate(network.trainable_variables):
        variable.assign(0.5 * normal(*variable.shape, seed=i))
    return network


def small(monkeypatch, name: str = "lstm", is_continuous: bool = False) -> RecurrentActorCritic | RecurrentGaussian:
    monkeypatch.setitem(CELLS, name, lambda: {"lstm": Lstm, "lnlstm": LayerNormLstm}[name](UNITS))
    space = gym.spaces.Box(-1, 1, (D,), np.float64)
    if is_continuous:
        return randomised(RecurrentGaussian(space, gym.spaces.Box(-1, 1, (2,)), name, AcktrContConfig()))
    return randomised(RecurrentActorCritic(space, ACTIONS, name, AcktrDiscreteConfig()))


def sequences(starts: np.ndarray = STARTS) -> Sequences:
    return Sequences(normal(N, T, D), starts, normal(N, 2 * UNITS, seed=2))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layer_norm(x: np.ndarray, layer: keras.layers.LayerNormalization) -> np.ndarray:
    """Of one row."""
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * layer.gamma.numpy() + layer.beta.numpy()


def steps_by_hand(network: RecurrentActorCritic, given: Sequences) -> dict[tuple[int, int], tuple]:
    """{(environment, step): inputs of the gates [x, h], and the state after it}, one number after the other."""
    cell, found = network.cell, {}
    for n in range(N):
        c, h = np.split(given.state[n], 2)
        for t in range(T):
            if given.starts[n, t]:
                c, h = np.zeros(UNITS), np.zeros(UNITS)
            x = given.observations[n, t]
            seen = np.concatenate([x, h])
            if isinstance(cell, LayerNormLstm):
                z = layer_norm(x @ cell.gates.kernel.numpy(), cell.of_inputs)
                z = z + layer_norm(h @ cell.recurrent.kernel.numpy(), cell.of_hidden)
            else:
                z = seen @ cell.gates.kernel.numpy() + cell.gates.bias.numpy()
            i, f, o, u = np.split(z, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(u)
            h = sigmoid(o) * np.tanh(layer_norm(c, cell.of_cell) if isinstance(cell, LayerNormLstm) else c)
            found[n, t] = seen, np.concatenate([c, h])
    return found


@pytest.mark.parametrize("name", ["lstm", "lnlstm"])
def test_what_is_unrolled_is_the_cells_equations_from_zeros_at_each_start(monkeypatch, float64, name):
    network, given = small(monkeypatch, name), sequences()
    by_hand = steps_by_hand(network, given)
    parameters, values, state = network.unroll(given)

    hidden = np.stack([by_hand[n, t][1][UNITS:] for n in range(N) for t in range(T)])  # [N T, U]
    head = network.value_head
    np.testing.assert_allclose(values, (hidden @ head.kernel.numpy() + head.bias.numpy())[:, 0], rtol=1e-10)
    head = network.policy_head
    np.testing.assert_allclose(parameters, hidden @ head.kernel.numpy() + head.bias.numpy(), rtol=1e-10)
    np.testing.assert_allclose(state, [by_hand[n, T - 1][1] for n in range(N)], rtol=1e-10)


@pytest.mark.parametrize("is_continuous", [False, True])
def test_the_factors_of_the_gates_are_means_and_sums_over_every_step_of_every_environment(
    monkeypatch, float64, is_continuous
):
    network, given = small(monkeypatch, is_continuous=is_continuous), sequences()
    weights = normal(N * T, seed=3)

    def log_likelihood(outputs):
        if is_continuous:
            return tf.reduce_sum(tf.tanh(outputs) * weights[:, None])
        return tf.reduce_sum(tf.tanh(outputs[0]) * weights[:, None]) + tf.reduce_sum(weights * tf.square(outputs[1]))

    rows = tf.constant(N * T)
    index = [one.layer for one in factorizations(network)].index(network.cell.gates)
    a, s = factors_of(network, log_likelihood, given, rows=rows)[index]

    by_hand = steps_by_hand(network, given)
    inputs = [np.append(seen, 1) for seen, _ in by_hand.values()]
    np.testing.assert_allclose(a, np.mean([np.outer(x, x) for x in inputs], axis=0), rtol=1e-10, atol=1e-14)

    gradients = [_slope(network, given, log_likelihood, n, t) for n in range(N) for t in range(T)]
    expected = sum(np.outer(g, g) for g in gradients) / (N * T)
    np.testing.assert_allclose(s, expected, rtol=1e-8, atol=1e-12)


def _slope(network, given: Sequences, log_likelihood, n: int, t: int) -> np.ndarray:
    """The derivative of the log-likelihood by the gates' pre-activations of one step, [4 U], through all later ones."""
    probe = tf.zeros(4 * UNITS, tf.float64)
    original = network.cell.pre_activations
    calls = iter(range(T))

    def probed(inputs, hidden):
        added = tf.one_hot(n, N, dtype=tf.float64)[:, None] * probe
        return original(inputs, hidden) + (added if next(calls) == t else 0)

    network.cell.pre_activations = probed
    try:
        with tf.GradientTape() as tape:
            tape.watch(probe)
            value = log_likelihood(network(given))
    finally:
        network.cell.pre_activations = original
    return tape.gradient(value, probe).numpy()


@pytest.fixture(scope="module")
def model():
    config = AcktrDiscreteConfig(inverses="inline", nsteps=T)
    with_weights = acktr_discrete.Model(VECTORS, ACTIONS, "lstm", config)
    randomised(with_weights.network)
    return with_weights


def test_steps_with_the_state_carried_are_the_sequence(model):
    observations = normal(N, T, D).astype(np.float32)
    first = model.policy.first_state(N)
    _, expected, last = model.network.unroll(Sequences(observations, STARTS, first))

    state, values = None, []
    for t in range(T):
        _, value, state, _ = model.step(observations[:, t], state=state, episode_start=STARTS[:, t])
        values.append(value)
    np.testing.assert_allclose(np.stack(values, axis=1).ravel(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state, last, rtol=1e-4, atol=1e-5)


def test_predict_takes_and_gives_the_state_and_forgets_at_a_start(model):
    observation = np.array([0.3, -0.2], np.float32)
    action, state = model.predict(observation, deterministic=True)
    assert np.shape(action) == () and state.shape == (1, 256)
    _, further = model.predict(observation, state, deterministic=True)
    assert not np.allclose(further, state)
    _, anew = model.predict(observation, state, episode_start=True, deterministic=True)
    np.testing.assert_array_equal(anew, state)


def test_without_a_state_nothing_is_remembered(model):
    observations = normal(N, D).astype(np.float32)
    nothing = {"state": np.zeros((N, 256), np.float32), "episode_start": np.ones(N, bool)}
    values = model.step(observations, **nothing)[1]
    np.testing.assert_array_equal(model.step(observations)[1], values)
    np.testing.assert_array_equal(model.value(observations), values)
    assert model.sample(observations)[0].shape == (N,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": np.zeros((2, 256))}, r"^state: must be finite numbers of shape \(1, 256\)"),
        ({"state": np.full((1, 256), np.nan)}, r"^state: must be finite numbers of shape \(1, 256\)"),
        ({"episode_start": [[True], [True, False]]}, r"^episode_start: must be finite numbers of shape \(1,\)"),
        ({"episode_start": [True, False]}, r"^episode_start: must be finite numbers of shape \(1,\)"),
    ],
)
def test_a_wrong_state_is_refused_by_name(model, arguments, message):
    with pytest.raises(UserError, match=message):
        model.predict(np.zeros(2, np.float32), **arguments)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize(
    ("make", "actions"),
    [(trpo.ContinuousModel, gym.spaces.Box(-1, 1, (1,))), (trpo.DiscreteModel, ACTIONS)],
)
def test_a_learner_without_a_memory_refuses_a_recurrent_network(make, actions, name):
    with pytest.raises(UserError, match=f"^--network={name}: .* has no recurrent networks here"):
        make(VECTORS, actions, name, make.config_class())


@pytest.mark.parametrize("name", RECURRENT)
def test_what_a_file_declares_is_compared_with_the_first_weights_up_to_the_gates(name):
    shape = (44, 44, 1) if name.startswith("cnn") else (D,)
    config = AcktrDiscreteConfig(conv_filters=(2, 2, 2), hidden_sizes=(3,))
    network = RecurrentActorCritic(gym.spaces.Box(0, 255, shape, np.uint8), ACTIONS, name, config)

    declared = schema._weights(name, shape, config)
    assert declared == [variable.shape for variable in network.trainable_variables][: len(declared)]
    assert network.cell.gates.kernel.shape in declared


def test_a_rollout_holds_where_episodes_start_and_the_state_that_it_began_with():
    env = make_vec_env("CartPole-v1", 2)
    model = a2c.DiscreteModel(env.single_observation_space, ACTIONS, "lstm", A2cDiscreteConfig(nsteps=30))
    runner = model.make_runner(env)
    first, second = runner.run(), runner.run()

    assert first.memory.starts[0].all() and not first.memory.states.any()
    np.testing.assert_array_equal(first.memory.starts[1:], first.ended[:-1])
    np.testing.assert_array_equal(second.memory.starts[0], first.ended[-1])
    assert first.ended.any() and second.memory.states.any()

    for rollout in (first, second):
        sequences = Sequences(
            np.swapaxes(rollout.observations, 0, 1), np.swapaxes(rollout.memory.starts, 0, 1), rollout.memory.states[0]
        )
        values = model.network(sequences)[1].numpy().reshape(2, 30)
        np.testing.assert_allclose(values.T, rollout.values, rtol=1e-4, atol=1e-6)
    env.close()


gym.register("ShortCartPole-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=4)


def test_a_truncated_episode_is_worth_what_its_final_observation_is_to_the_state_behind_it(monkeypatch):
    with make_vec_env("ShortCartPole-v0", 2, seed=0) as env:
        finals, original = [], env.step

        def step(actions):
            result = original(actions)
            finals.append(result[-1].get("final_obs"))
            return result

        monkeypatch.setattr(env, "step", step)
        model = a2c.DiscreteModel(env.single_observation_space, ACTIONS, "lstm", A2cDiscreteConfig(nsteps=6))
        randomised(model.network)
        rollout = model.make_runner(env).run()

    assert rollout.ended[3].all() and not rollout.ended[:3].any()
    observations = np.swapaxes(rollout.observations[:4], 0, 1)  # [N, T, 4]
    starts = np.zeros((2, 4), bool)
    *_, state = model.network.unroll(Sequences(observations, starts, model.policy.first_state(2)))
    expected = model.policy.value_from(state.numpy(), np.zeros(2, bool), np.stack(list(finals[3])))
    np.testing.assert_allclose(rollout.next_values[3], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(expected, model.value(np.stack(list(finals[3]))), rtol=1e-2)


def test_a_checkpoint_of_a2c_says_that_the_critic_shares_the_memory(tmp_path):
    with make_vec_env("CartPole-v1", 2, 0) as env:
        model = a2c.learn("lstm", env=env, total_timesteps=20, nsteps=10)
    path = str(tmp_path / "model")
    model.save(path)
    arrays, meta = array_file.load(path)
    assert meta["config"]["value_network"] == "shared"

    array_file.save(path, arrays, meta | {"config": meta["config"] | {"value_network": "copy"}})  # as older ones say
    assert load(path).config.value_network == "shared"
    model.load(path)


def test_a_copy_of_a_memory_for_the_critic_is_refused():
    with pytest.raises(UserError, match=r"^--value_network=copy: with --network=lstm policy and critic share"):
        a2c.DiscreteModel(VECTORS, ACTIONS, "lstm", A2cDiscreteConfig(value_network="copy"))


@pytest.mark.parametrize("alg", ["acktr", "a2c"])
def test_a_game_without_stacked_frames_is_trained_resumed_and_played(tmp_path, capsys, alg):
    flags = [f"--alg={alg}", "--env=PongNoFrameskip-v4", "--network=cnn_lstm", "--frame_stack=1", "--num_env=2"]
    small = ["--nsteps=4", "--conv_filters=2,2,2", "--hidden_sizes=8", "--seed=0", f"--log_path={tmp_path}"]
    assert run.main([*flags, *small, "--num_timesteps=16"]) == 0
    assert run.main(["--resume", f"--log_path={tmp_path}", "--num_timesteps=24"]) == 0
    assert (tmp_path / "checkpoints" / "00000003.model").exists()

    model = load(str(tmp_path))
    assert model.observation_space.shape == (84, 84, 1) and model.timesteps == 24
    with make_vec_env("PongNoFrameskip-v4", 1, 0, frame_stack=1) as env:
        observations, _ = env.reset()
        _, state = model.predict(observations, deterministic=True)
        assert model.predict(observations, state, deterministic=True)[1].shape == (1, 256)
