import re

import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.acktr_discrete import Model, learn
from baselines_acktr.agent import networks
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.learning.rollouts import Rollout
from common.errors import UserError
from common.vec_env import make_vec_env

pytestmark = pytest.mark.long
VECTOR = gym.spaces.Box(-1, 1, (3,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (12, 12, 2), np.uint8)
SMALL_CNN = {"conv_filters": (4,), "conv_kernels": (4,), "conv_strides": (2,), "hidden_sizes": (8,)}
SMALL_MLP = {"hidden_sizes": (16,)}
SPACES = {
    "vector-discrete": (VECTOR, gym.spaces.Discrete(3), "mlp", SMALL_MLP),
    "vector-multidiscrete": (VECTOR, gym.spaces.MultiDiscrete([3, 2]), "mlp", SMALL_MLP),
    "image-discrete": (IMAGE, gym.spaces.Discrete(3), "cnn", SMALL_CNN),
    "image-multidiscrete": (IMAGE, gym.spaces.MultiDiscrete([3, 2]), "cnn", SMALL_CNN),
}


def make_model(kind="vector-discrete", seed=0, **options) -> Model:
    observations, actions, network, sizes = SPACES[kind]
    return Model(observations, actions, network, AcktrDiscreteConfig(inverses="inline", **sizes | options), seed)


def make_rollout(model: Model, steps=4, envs=6, seed=0) -> Rollout:
    rng = np.random.default_rng(seed)
    shape = (steps, envs)
    observations = rng.uniform(0, 1, shape + model.observation_space.shape)
    if model.observation_space.dtype == np.uint8:
        observations = observations * 255
    actions = rng.integers(0, 2, shape + model.action_space.shape)
    rewards, values = rng.normal(size=(2, *shape)).astype(
        keras.config.floatx()
    )  # every episode ends: rewards are the returns
    observations = observations.astype(model.observation_space.dtype)
    return Rollout(observations, actions, rewards, np.ones(shape, bool), values, np.zeros_like(values))


@pytest.mark.parametrize("kind", SPACES)
def test_every_kind_of_space_acts_and_learns(kind):
    model = make_model(kind, fisher_rows=8)
    rollout = make_rollout(model)
    actions, values, states, neglogps = model.step(rollout.observations[0])
    assert actions.shape == (6, *model.action_space.shape) and values.shape == neglogps.shape == (6,)
    assert states is None and all(model.action_space.contains(action) for action in actions)
    before = model.state()
    metrics = model.update(rollout, 10**9)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    changed = [n for n, a in model.state().items() if n.startswith("parameters/") and not np.array_equal(a, before[n])]
    assert len(changed) == sum(n.startswith("parameters/") for n in before)


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_images_of_any_type_are_seen(dtype):
    space = gym.spaces.Box(0, 1, (12, 12, 2), dtype)
    model = Model(space, gym.spaces.Discrete(3), "cnn", AcktrDiscreteConfig(inverses="inline", **SMALL_CNN))
    assert np.isfinite(model.update(make_rollout(model), 10**9)["loss"])


def test_updates_after_the_end_of_the_schedule_change_nothing():
    model = make_model(schedule_timesteps=100)
    model.update(make_rollout(model), 10**9)
    model.timesteps = 200
    before = model.network.get_weights()
    for _ in range(2):
        model.update(make_rollout(model), 10**9)
    for array, same in zip(model.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, same)


def test_continuous_actions_are_refused():
    with pytest.raises(UserError, match="must be Discrete or MultiDiscrete"):
        Model(VECTOR, gym.spaces.Box(-1, 1, (2,)), "mlp", AcktrDiscreteConfig())


def test_deterministic_actions_are_the_most_likely_ones():
    model = make_model()
    observations = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    logits = model.network(observations)[0].numpy()
    np.testing.assert_array_equal(model.step(observations, deterministic=True)[0], logits.argmax(axis=1))


def test_fisher_is_the_joint_one_of_independently_sampled_action_and_value():
    """Per row the head's factor S is, in expectation, diag(p) - p p^T for the policy and 1 / sigma^2 for the value."""
    model = make_model(fisher_rows=0, stats_decay=0.0, lr=1e-9)
    rollout = make_rollout(model, steps=100, envs=100)
    observations = rollout.observations.reshape(-1, 3)
    model.update(rollout, 10**9)
    factors = {factor.name: factor for factor in model.optimizer.curvature.snapshot(0).factors}
    p = tf.nn.softmax(model.network(observations)[0]).numpy()
    expected = np.diag(p.mean(axis=0)) - p.T @ p / len(p)
    np.testing.assert_allclose(factors["policy_head"].s, expected, atol=0.01)
    np.testing.assert_allclose(factors["value_head"].s * model.deviation.sigma**2, [[1.0]], atol=0.06)


def test_vf_fisher_coef_scales_the_critics_fisher():
    model = make_model(vf_fisher_coef=4.0, fisher_rows=0, stats_decay=0.0, lr=1e-9)
    model.update(make_rollout(model, steps=100, envs=100), 10**9)
    factors = {factor.name: factor for factor in model.optimizer.curvature.snapshot(0).factors}
    np.testing.assert_allclose(factors["value_head"].s * model.deviation.sigma**2, [[4.0]], atol=0.24)


def test_loss_does_not_depend_on_the_rows_that_the_fisher_takes():
    losses = [float(make_model(fisher_rows=rows).update(make_rollout(make_model()), 10**9)["loss"]) for rows in (0, 8)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_loss_by_hand():
    """One row: -A log p(a) / sigma, entropy and 0.5 (R - V)^2 / sigma^2 from the network's own outputs."""
    model = make_model()
    rollout = make_rollout(model, steps=1, envs=1)
    logits, value = (tensor.numpy()[0] for tensor in model.network(rollout.observations[0]))
    log_p = logits - np.log(np.exp(logits).sum())
    advantage = (rollout.rewards - rollout.values)[0, 0]
    entropy = -(np.exp(log_p) * log_p).sum()
    loss = model.update(rollout, 10**9)["loss"]
    sigma = model.deviation.sigma.numpy()
    expected = -advantage / sigma * log_p[rollout.actions[0, 0]] - model.config.ent_coef * entropy
    expected += model.config.vf_coef * 0.5 * ((rollout.rewards[0, 0] - value) / sigma) ** 2
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_the_critic_learns_returns_of_hundreds_too(scale):
    """Losses and Fisher are in units of its own error, where that is above 1."""
    model = make_model(fisher_rows=0, hidden_sizes=(64, 64))
    rollout = make_rollout(model)
    observations, returns = rollout.observations.reshape(-1, 3), scale * (5 + rollout.rewards)
    errors = []
    for _ in range(100):
        values = model.value(observations).reshape(4, 6)
        errors.append(np.mean(np.square(values - returns)) / scale**2)
        model.update(rollout._replace(rewards=returns, values=values), 10**9)
    assert errors[-1] < 0.1 * errors[0], errors


@pytest.mark.parametrize("name", ["rewards", "observations"])
def test_an_update_that_is_left_out_leaves_the_weights_alone(name):
    model = make_model()
    rollout = make_rollout(model)
    model.update(rollout, 10**9)
    before = model.state()
    getattr(rollout, name)[0, 0] = np.nan
    model.update(rollout, 10**9)
    assert model.status()["skipped_updates"] == 1
    for name in (name for name in before if name.startswith("parameters/")):
        np.testing.assert_array_equal(model.state()[name], before[name])


def test_every_row_is_as_likely_to_be_taken_for_the_fisher():
    model = make_model()
    rollout = make_rollout(model)
    returns = np.arange(24, dtype=np.float32).reshape(4, 6)
    taken = np.zeros(24)
    for model.updates in range(600):
        taken[model.make_batch(rollout, returns).returns[:6].astype(int)] += 1
    np.testing.assert_allclose(taken / 600, 6 / 24, atol=0.08)


def log_probabilities(model, observations) -> np.ndarray:
    logits = model.network(observations)[0].numpy().astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_the_quadratic_model_foretells_the_exact_kl_of_small_steps(float64):
    """On the rows that it is made of, here all of them."""
    model = make_model(fisher_rows=0, delta=1e-12)
    rollout = make_rollout(model)
    observations = rollout.observations.reshape(-1, 3)
    for _ in range(3):
        before = log_probabilities(model, observations)
        metrics = model.update(rollout, 10**9)
        after = log_probabilities(model, observations)
        kl = (np.exp(before) * (before - after)).sum(axis=1).mean()
        np.testing.assert_allclose(metrics["quadratic_kl"], kl, rtol=0.01)


def test_the_trust_region_measures_a_step_on_the_last_rows_and_counts_a_part_of_the_critics_kl(float64):
    model, twin = make_model(fisher_rows=8, delta=1e-12, vf_kl_coef=0.25), make_model()
    rollout = make_rollout(model)
    last = rollout.observations.reshape(-1, 3)[twin.row_order(24)[-16:]]
    before = [tensor.numpy() for tensor in model.network(last)]
    metrics = model.update(rollout, 10**9)
    logits, values = (tensor.numpy() for tensor in model.network(last))

    log_old, log_new = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (before[0], logits))
    policy = (np.exp(log_old) * (log_old - log_new)).sum(axis=1).mean()
    critic = 0.5 * np.mean((values - before[1]) ** 2) / float(model.deviation.sigma) ** 2
    np.testing.assert_allclose(metrics["quadratic_kl"], policy, rtol=0.01)
    np.testing.assert_allclose(policy + 0.25 * critic, 1e-12, rtol=0.01)


@pytest.mark.parametrize(("error", "sigma"), [(0.1, 1.0), (1.0, 1.0), (20.0, 20.0)])
def test_sigma_is_the_critics_error_but_at_least_one(error, sigma):
    model = make_model()
    rollout = make_rollout(model)
    rollout = rollout._replace(rewards=rollout.values + np.float32(error))
    for _ in range(2):
        model.update(rollout, 10**9)
    np.testing.assert_allclose(model.deviation.sigma, sigma, rtol=1e-5)
    other = make_model()
    other.set_state(model.state())
    np.testing.assert_allclose(other.deviation.sigma, sigma, rtol=1e-5)


@pytest.mark.parametrize("limits", [{"lr": 0.1, "delta": 1e6}, {"lr": 1e6, "delta": 1e-5}])
def test_a_step_is_as_long_as_the_largest_length_or_the_radius_allows(limits):
    """Half of the schedule later it is half as long, where the length limits it."""
    model = make_model(fisher_rows=0, **limits)
    rollout = make_rollout(model)
    metrics = model.update(rollout, 100)
    later = make_model(fisher_rows=0, **limits)
    later.timesteps = 50
    half = later.update(rollout, 100)

    if limits["lr"] < 1:
        assert float(metrics["step_length"]) == pytest.approx(0.1)
        assert float(half["step_length"]) == pytest.approx(0.05)
    else:
        assert float(metrics["model_kl"]) == float(half["model_kl"]) == pytest.approx(1e-5)


def test_learns_cartpole(tmp_path):
    """The reference's own smoke test asks for 100 in 30k steps."""
    with make_vec_env("CartPole-v1", 8, seed=0) as env:
        model = learn(env=env, total_timesteps=30_000, inverses="inline")
    scores = []
    with make_vec_env("CartPole-v1", 8, seed=100) as env:
        observations, _ = env.reset()
        while len(scores) < 16:
            observations, *_, infos = env.step(model.step(observations, deterministic=True)[0])
            if "episode" in infos:
                scores.extend(infos["episode"]["r"][infos["_episode"]])
    assert np.mean(scores) >= 100, scores


def train(env_id="CartPole-v1", updates=6, **options):
    with make_vec_env(env_id, 4, seed=3) as env:
        options = {"inverses": "inline", "fisher_rows": 16, "inverse_interval": 2, "hidden_sizes": (16,)} | options
        return learn(env=env, seed=3, total_timesteps=updates * 80, **options)


def test_checkpoint_brings_everything_back(tmp_path):
    model = train(save_path=str(tmp_path / "model"))
    other = make_model_for_cartpole(seed=9)
    other.load(str(tmp_path / "model"))
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, other.state()[name], err_msg=name)
    assert (other.timesteps, other.updates, other.seed) == (480, 6, 3)


def test_a_checkpoint_with_the_other_form_of_inverses_is_refused(tmp_path):
    path = str(tmp_path / "model")
    make_model_for_cartpole(inverse_form="cholesky").save(path)
    with pytest.raises(UserError, match="trained with inverse_form cholesky, asked for eigen"):
        make_model_for_cartpole().load(path)


def make_model_for_cartpole(seed=0, **options):
    env = gym.make("CartPole-v1")
    sizes = {"hidden_sizes": (16,)}
    config = AcktrDiscreteConfig(inverses="inline", fisher_rows=16, inverse_interval=2, **sizes, **options)
    return Model(env.observation_space, env.action_space, "mlp", config, seed, "CartPole-v1")


def test_training_goes_on_from_a_checkpoint_with_its_counters_and_schedule(tmp_path):
    path = str(tmp_path / "model")
    train(updates=3, save_path=path)
    rates = []
    model = train(updates=6, load_path=path, callback=lambda m: rates.append(float(m.optimizer.learning_rate)))
    assert (model.timesteps, model.updates) == (480, 6)
    np.testing.assert_allclose(rates, [1.5 * (1 - k / 6) for k in (3, 4, 5)], rtol=1e-6)


def test_finished_checkpoint_is_not_trained_further(tmp_path):
    path = str(tmp_path / "model")
    model = train(updates=3, save_path=path)
    again = train(updates=3, load_path=path)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, again.state()[name], err_msg=name)


@pytest.mark.parametrize("option", [{"hidden_sizes": (8,)}, {"env_id": "Acrobot-v1"}], ids=str)
def test_checkpoint_of_another_model_is_refused(tmp_path, option):
    path = str(tmp_path / "model")
    train(updates=1, save_path=path)
    with pytest.raises(UserError, match="checkpoint"):
        train(updates=2, load_path=path, **option)


def test_second_learn_in_the_same_process_works():
    for _ in range(2):
        assert train(updates=2, inverses="background").updates == 2


def test_unknown_hyperparameter_gets_the_closest_one():
    with pytest.raises(UserError, match=r"ent_coeff.*ent_coef"):
        train(ent_coeff=0.1)


def test_the_name_that_other_libraries_have_for_a_hyperparameter_is_known():
    with pytest.raises(UserError, match=r"learning_rate: unknown hyperparameter\. Did you mean lr\?"):
        train(learning_rate=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": "0.1"}, "--lr='0.1': must be a number"),
        ({"nsteps": 2.5}, "--nsteps=2.5: must be a whole number"),
        ({"nsteps": True}, "--nsteps=True: must be a whole number"),
        ({"hidden_sizes": 32}, "--hidden_sizes=32: must be a sequence, each of it a whole number"),
        ({"hidden_sizes": [-1]}, "--hidden_sizes=-1: must be at least 1"),
        ({"total_timesteps": 10}, "total_timesteps=10: must be 0, or at least one batch of 60"),
    ],
)
def test_a_mistake_in_an_argument_is_named(options, message):
    arguments = {"total_timesteps": 120, "nsteps": 20} | options
    with make_vec_env("CartPole-v1", 3, 0) as env, pytest.raises(UserError, match=f"^{re.escape(message)}"):
        learn(env=env, **arguments)


def test_environment_with_another_autoreset_mode_is_refused():
    env = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")])
    with pytest.raises(UserError, match="SAME_STEP"):
        learn(env=env, total_timesteps=100)


def test_custom_network_is_used_by_its_name():
    @networks.register("narrow")
    def narrow(observation_space, config):
        return networks.mlp(observation_space, AcktrDiscreteConfig(hidden_sizes=(5,)))

    assert train(updates=1, network="narrow").network.features.output_shape == (None, 5)


def test_unknown_network_gets_the_closest_one():
    with pytest.raises(UserError, match=r"cn: unknown network.*cnn"):
        train(network="cn")


def test_network_with_a_layer_that_kfac_cannot_handle_is_refused_in_one_line():
    class Scaled(keras.layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    @networks.register("scaled")
    def scaled(observation_space, config):
        inputs = keras.Input(observation_space.shape)
        return keras.Model(inputs, Scaled(4, name="product")(inputs))

    with pytest.raises(UserError, match="'product' of type Scaled"):
        train(network="scaled")


def test_network_with_a_normalization_learns_its_scale_and_shift():
    @networks.register("normalised")
    def normalised(observation_space, config):
        inputs = keras.Input(observation_space.shape)
        return keras.Model(inputs, keras.layers.LayerNormalization(name="norm")(keras.layers.Dense(8)(inputs)))

    layer = train(network="normalised").network.features.get_layer("norm")
    assert np.all(layer.gamma != 1) and np.all(layer.beta != 0)


def test_a_checkpoint_has_the_weights_that_are_frozen(tmp_path):
    @networks.register("half_frozen")
    def half_frozen(observation_space, config):
        inputs = keras.Input(observation_space.shape)
        return keras.Model(inputs, keras.layers.Dense(8)(keras.layers.Dense(8, trainable=False)(inputs)))

    def model_of(seed):
        config = AcktrDiscreteConfig(inverses="inline")
        return Model(VECTOR, gym.spaces.Discrete(3), "half_frozen", config, seed)

    observations = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    saved, loaded = model_of(0), model_of(1)
    saved.save(str(tmp_path / "model"))
    assert not np.allclose(loaded.value(observations), saved.value(observations))
    loaded.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.value(observations), saved.value(observations))


def test_batches_may_differ_in_their_numbers_of_rows():
    model = make_model(fisher_rows=8)
    for steps in (4, 1, 5):
        assert np.isfinite(model.update(make_rollout(model, steps=steps), 10**9)["loss"])


def test_small_batches_of_images_measure_a_step_on_rows_that_it_was_not_fitted_to(monkeypatch):
    model = make_model("image-discrete", fisher_rows=8, **Model.preset(IMAGE))
    for rows, fitted in ((40, 8), (24, 7)):
        observations = np.zeros((rows, *IMAGE.shape), np.uint8)
        observations[:, 0, 0, 0] = np.arange(rows)
        monkeypatch.setattr(model, "network", lambda seen: seen[:, 0, 0, 0])
        assert model.fisher_outputs(observations).tolist() == list(range(fitted))
        assert model.held_out_outputs(observations).tolist() == list(range(rows - 2 * fitted, rows))


def test_small_batches_of_images_may_differ_in_their_numbers_of_rows():
    model = make_model("image-discrete", fisher_rows=8, **Model.preset(IMAGE))
    for steps in (4, 1, 5):
        assert np.isfinite(model.update(make_rollout(model, steps=steps), 10**9)["loss"])
