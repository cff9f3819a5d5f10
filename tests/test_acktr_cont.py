import gymnasium as gym
import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.acktr_cont import Model, learn
from baselines_acktr.agent import networks
from baselines_acktr.agent.heads import GaussianNetwork
from baselines_acktr.config import ACTIVATIONS, AcktrContConfig
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session.measurements import Measurements
from common.distributions import DiagonalGaussian
from common.errors import UserError
from common.vec_env import make_vec_env

pytestmark = pytest.mark.long
OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
PICTURES = gym.spaces.Box(0, 255, (16, 16, 6), np.uint8)
ACTIONS = gym.spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))


def make_model(observations=OBSERVATIONS, seed=0, **options) -> Model:
    options = {"inverses": "inline", "vf_iters": 3, "hidden_sizes": (16,)} | options
    return Model(observations, ACTIONS, Model.default_network(observations), AcktrContConfig(**options), seed)


def make_rollout(model: Model, steps=5, envs=8, seed=0) -> Rollout:
    rng = np.random.default_rng(seed)
    observations = model.observation_space
    shape = (steps, envs, *observations.shape)
    seen = rng.integers(0, 256, shape) if observations.dtype.kind in "iu" else rng.normal(1, 3, shape)
    seen = seen.astype(observations.dtype)
    rewards, values, next_values = rng.normal(size=(3, steps, envs)).astype(np.float32)
    actions = np.stack([model.sample(row)[0] for row in seen])
    return Rollout(seen, actions, rewards, rng.random((steps, envs)) < 0.1, values, next_values)


@pytest.mark.parametrize("critic", ["gauss-newton", "adaptive", "euclidean"])
@pytest.mark.parametrize("observations", [OBSERVATIONS, PICTURES], ids=["vectors", "pictures"])
def test_every_critic_and_kind_of_observation_acts_and_learns(observations, critic):
    model = make_model(observations, critic=critic, fisher_rows=8, hidden_sizes=(12,))
    rollout = make_rollout(model)
    before = model.state()
    metrics = model.update(rollout, 10**9)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    after = model.state()
    trained = [name for name in before if name.startswith(("policy/", "vf/parameters/"))]
    assert len(trained) >= 9
    assert [name for name in trained if np.array_equal(before[name], after[name])] == []
    actions, values, states, neglogps = model.step(rollout.observations[0])
    assert values.shape == neglogps.shape == (8,) and states is None
    assert all(ACTIONS.contains(action) for action in actions)


def test_actions_of_plus_minus_one_are_the_corners_of_the_box_and_others_are_clipped_to_it():
    model = make_model()
    actions = np.array([[-1, -1], [1, 1], [0, 0], [-9, 9]], np.float32)
    np.testing.assert_allclose(model.to_env(actions), [[-2, 0], [2, 1], [0, 0.5], [-2, 1]])


def test_an_action_space_without_ends_is_used_as_it_is_and_one_with_one_end_beside_that():
    most = np.finfo(np.float32).max
    low = np.array([-np.inf, 0, 5, -np.inf, -most, 5, -most], np.float32)
    high = np.array([np.inf, 4, np.inf, 5, most, most, np.inf], np.float32)
    model = Model(OBSERVATIONS, gym.spaces.Box(low, high), "mlp", AcktrContConfig(inverses="inline"))
    np.testing.assert_allclose(model.to_env(np.full((1, 7), 7, np.float32)), [[7, 4, 13, 5, 7, 13, 7]])
    np.testing.assert_allclose(model.to_env(np.full((1, 7), -1, np.float32)), [[-1, 0, 5, 3, -1, 5, -1]])
    assert model.action_space.contains(model.to_env(np.full((1, 7), -7, np.float32))[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_acting_in_numpy_equals_the_network(activation):
    model = make_model(activation=activation)
    model.update(make_rollout(model), 10**9)
    observations = make_rollout(model, seed=1).observations[0]
    filtered = model.policy.filtered(observations)
    mean = DiagonalGaussian(model.policy.network(filtered)).mode().numpy()
    np.testing.assert_allclose(model.policy.act(observations, deterministic=True).actions, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        model.step(observations, deterministic=True)[0], model.to_env(mean), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((), np.float32),
        ((1, 3), np.float32),
        ((3,), np.uint8),
        ((3,), np.int32),
        ((4, 3), np.int32),
        ((4, 3), np.float64),
    ],
)
def test_observations_of_any_shape_and_type_are_acted_on(shape, dtype):
    low, high = (-np.inf, np.inf) if np.issubdtype(dtype, np.floating) else (0, 255)
    model = make_model(gym.spaces.Box(low, high, shape, dtype))
    model.update(make_rollout(model), 10**9)
    observations = make_rollout(model, seed=1).observations[0]
    mean = DiagonalGaussian(model.policy.network(model.policy.filtered(observations))).mode().numpy()
    assert mean.shape == (len(observations), 2) and np.ptp(mean, axis=0).all()
    np.testing.assert_allclose(model.policy.act(observations, deterministic=True).actions, mean, rtol=1e-5, atol=1e-6)


def test_pictures_may_be_seen_by_the_cnn_of_the_atari_games():
    sizes = {"conv_filters": (4,), "conv_kernels": (4,), "conv_strides": (2,), "hidden_sizes": (8,)}
    model = Model(PICTURES, ACTIONS, "cnn", AcktrContConfig(inverses="inline", vf_iters=2, **sizes))
    assert np.isfinite(model.update(make_rollout(model), 10**9)["quadratic_kl"])


def test_discrete_actions_are_refused():
    with pytest.raises(UserError, match="must be a Box; acktr_discrete has the others"):
        Model(OBSERVATIONS, gym.spaces.Discrete(3), "mlp", AcktrContConfig())


def test_actions_of_whole_numbers_are_refused():
    with pytest.raises(UserError, match="must be of floating-point numbers"):
        Model(OBSERVATIONS, gym.spaces.Box(0, 3, (1,), np.int64), "mlp", AcktrContConfig())


def test_neglogps_are_those_of_the_unclipped_actions():
    model = make_model()
    observations = make_rollout(model).observations[0]
    actions, neglogps, _ = model.policy.act(observations)
    pi = DiagonalGaussian(model.policy.network(model.policy.filtered(observations)))
    np.testing.assert_allclose(neglogps, -pi.log_prob(actions).numpy(), rtol=1e-4)


def test_a_desired_kl_adapts_the_step_size_by_the_exact_kl_of_the_update():
    """A KL far below the desired one makes the next step longer."""
    model = make_model(lr=0.03, desired_kl=10.0, hidden_sizes=(4,))
    rollout = make_rollout(model)
    measurements = Measurements(model, rollout)
    kl = model.update(rollout, 10**9)["kl"]
    np.testing.assert_allclose(kl, measurements.after_update()["kl"], rtol=1e-3)
    assert model.rate.value == pytest.approx(0.045)


def test_without_a_desired_kl_the_step_size_stays_and_no_kl_is_measured():
    model = make_model(lr=0.03, desired_kl=0.0, hidden_sizes=(4,))
    assert "kl" not in model.update(make_rollout(model), 10**9)
    assert model.rate.value == pytest.approx(0.03)


@pytest.mark.parametrize("trust_region", ["exact", "kfac"])
def test_the_quadratic_kl_is_that_of_the_step_size_taken_not_of_the_adapted_one(trust_region):
    options = {"lr": 0.03, "hidden_sizes": (4,), "trust_region": trust_region}
    fixed, adapted = make_model(**options), make_model(desired_kl=10.0, **options)
    expected = fixed.update(make_rollout(fixed), 10**9)["quadratic_kl"]
    metrics = adapted.update(make_rollout(adapted), 10**9)
    assert adapted.optimizer.learning_rate.numpy() == pytest.approx(1.5 * metrics["lr"])
    assert float(expected) > 0
    np.testing.assert_allclose(float(metrics["quadratic_kl"]), float(expected), rtol=1e-5)


def test_trust_region_and_desired_kl_fall_over_the_run(monkeypatch):
    model = make_model(desired_kl=0.02, delta=0.04)
    desired = []
    monkeypatch.setattr(model.rate, "adapt", lambda kl, desired_kl: desired.append(desired_kl))
    rollout = make_rollout(model)
    model.timesteps = 750
    model.update(rollout, 1000)
    np.testing.assert_allclose(float(model.optimizer.delta), 0.01)
    np.testing.assert_allclose(desired, [0.005])


@pytest.mark.parametrize("observations", [OBSERVATIONS, PICTURES], ids=["vectors", "pictures"])
def test_the_exact_trust_region_makes_steps_whose_kl_is_delta(observations):
    options = {"delta": 2e-5, "desired_kl": 0.0, "klschedule": "constant", "lr": 10.0, "momentum": 0.0}
    model = make_model(observations, trust_region="exact", hidden_sizes=(12,), **options)
    for seed in range(3):
        rollout = make_rollout(model, seed=seed)
        measurements = Measurements(model, rollout)
        model.update(rollout, 10**9)
        kl = measurements.after_update()["kl"]
        assert kl == pytest.approx(2e-5, rel=0.15)


def test_the_fisher_takes_rows_at_random():
    """With 4 of 40 rows, whose order in the rollout is that of time, those seen over many updates come from all."""
    model = make_model(fisher_rows=4)
    seen = []
    model.improve = lambda batch, desired_kl: seen.append(batch.actions[:4, 0]) or {}
    rollout = make_rollout(model)
    rollout = rollout._replace(actions=np.arange(80, dtype=np.float32).reshape(5, 8, 2))
    for model.updates in range(60):
        model.update(rollout, 10**9)
    assert len(np.unique(np.concatenate(seen))) > 36


def test_advantages_are_standardised():
    losses = []
    for scale, shift in ((1, 0), (50, 3)):
        model = make_model(lr=0.01)
        batch = model.make_batch(make_rollout(model))
        batch = batch._replace(advantages=scale * batch.returns + shift)
        losses.append(float(model.improve(batch, desired_kl=0.0)["policy_loss"]))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_log_std_has_the_exact_fisher_of_a_gaussian():
    """d log pi / d log_std = z^2 - 1, so its Fisher is 2 on the diagonal, 0 elsewhere, and A is [[1]]."""
    model = make_model(stats_decay=0.0, lr=1e-8, log_std_init=0.0)
    model.update(make_rollout(model, steps=200, envs=100), 10**9)
    factors = {factor.name: factor for factor in model.optimizer.curvature.snapshot(0).factors}
    np.testing.assert_allclose(factors["log_std"].a, [[1.0]])
    np.testing.assert_allclose(factors["log_std"].s, 2 * np.eye(2), atol=0.12)
    np.testing.assert_allclose(factors["mean"].s, np.eye(2), atol=0.04)  # 1 / std^2


def train(env_id="Pendulum-v1", updates=4, num_env=4, **options):
    with make_vec_env(env_id, num_env, seed=3) as env:
        options = {"inverses": "inline", "timesteps_per_batch": 40, "vf_iters": 2, "hidden_sizes": (16,)} | options
        return learn(env=env, seed=3, total_timesteps=updates * 40, **options)


def test_checkpoint_brings_everything_back(tmp_path):
    path = str(tmp_path / "model")
    model = train(save_path=path)
    env = gym.make("Pendulum-v1")
    config = AcktrContConfig(inverses="inline", timesteps_per_batch=40, vf_iters=2, hidden_sizes=(16,))
    other = Model(env.observation_space, env.action_space, "mlp", config, 9, "Pendulum-v1")
    other.load(path)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, other.state()[name], err_msg=name)
    assert (other.timesteps, other.updates, other.seed) == (160, 4, 3)
    observations = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    for mine, theirs in zip(model.step(observations)[:2], other.step(observations)[:2], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_an_adapted_rate_goes_on_from_the_checkpoint(tmp_path):
    path = str(tmp_path / "model")
    model = train(save_path=path, desired_kl=10.0, lr=0.03)
    adapted = float(model.optimizer.learning_rate)
    assert adapted > 0.03
    other = Model(model.observation_space, model.action_space, "mlp", model.config)
    other.load(path)
    assert float(other.optimizer.learning_rate) == adapted


@pytest.mark.parametrize(
    "option", [{"vf_activation": "tanh"}, {"critic": "euclidean"}, {"hidden_sizes": (8,)}], ids=str
)
def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, option):
    path = str(tmp_path / "model")
    train(updates=1, save_path=path)
    with pytest.raises(UserError, match=f"trained with {next(iter(option))}"):
        train(updates=2, load_path=path, **option)


def test_playing_does_not_change_the_filter():
    model = train(updates=1)
    before = model.state()
    model.step(np.full((4, 3), 50, np.float32))
    for name, array in model.state().items():
        assert name == "actor/rng" or np.array_equal(array, before[name]), name


def test_batches_of_a_single_environment_hold_whole_episodes():
    """Pendulum's episodes are 200 steps long."""
    with make_vec_env("Pendulum-v1", 1, seed=3) as env:
        model = Model(
            env.single_observation_space, env.single_action_space, "mlp", AcktrContConfig(timesteps_per_batch=250)
        )
        rollout = model.make_runner(env).run()
        model.close()
    assert rollout.rewards.shape == (400, 1)
    assert np.flatnonzero(rollout.ended).tolist() == [199, 399]


def test_batches_of_a_single_environment_that_never_ends_are_of_twice_the_length(monkeypatch):
    with make_vec_env("Pendulum-v1", 1, seed=3) as env:
        config = AcktrContConfig(timesteps_per_batch=30)
        model = Model(env.single_observation_space, env.single_action_space, "mlp", config)
        rollout = model.make_runner(env).run()
        model.close()
    assert rollout.rewards.shape == (60, 1)
    assert not rollout.ended.any()


@networks.register("residual")
def residual(observation_space, config):
    inputs = keras.Input(observation_space.shape)
    hidden = keras.layers.Dense(8, "tanh")(inputs)
    return keras.Model(inputs, hidden + keras.layers.Dense(8)(hidden))


@networks.register("leaky")
def leaky(observation_space, config):
    activation = keras.layers.LeakyReLU(0.5)
    return keras.Sequential([keras.Input(observation_space.shape), keras.layers.Dense(8, activation)])


@pytest.mark.parametrize("network", ["residual", "leaky"])
def test_a_custom_network_acts_as_it_is_trained(network):
    model = train(updates=2, network=network)
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    mean = DiagonalGaussian(model.policy.network(model.policy.filtered(observations))).mode().numpy()
    np.testing.assert_allclose(model.policy.act(observations, deterministic=True).actions, mean, rtol=1e-5, atol=1e-6)


def test_batch_is_rounded_up_to_whole_steps():
    assert AcktrContConfig(timesteps_per_batch=100).batch_size(32) == 128


def test_one_trace_for_the_whole_run():
    model = train(updates=5)
    for optimizer in (model.optimizer, model.value_function.optimizer):
        for function in optimizer._graphs.functions:
            assert function.experimental_get_tracing_count() == 1


def test_batches_of_many_lengths_are_traced_twice_only():
    """A single environment's batches end with an episode, so that each has a length of its own."""
    model = make_model()
    for steps in (5, 6, 4, 5, 9, 7):
        model.update(make_rollout(model, steps), 10**9)
    for optimizer in (model.optimizer, model.value_function.optimizer):
        for function in optimizer._graphs.functions:
            assert function.experimental_get_tracing_count() == 2


def test_sampled_actions_have_the_policys_moments():
    model = make_model(lr=0.5)
    model.update(make_rollout(model), 10**9)
    observation = np.ones((20_000, 3), np.float32)
    actions = model.sample(observation)[0]
    pi = DiagonalGaussian(model.policy.network(model.policy.filtered(observation[:1])))
    np.testing.assert_allclose(actions.mean(axis=0), pi.mean.numpy()[0], atol=0.04)
    np.testing.assert_allclose(actions.std(axis=0), np.exp(pi.log_std.numpy()[0]), rtol=0.03)
    assert isinstance(model.policy.network(observation[:1]), tf.Tensor)


@pytest.mark.parametrize(("options", "size", "std"), [({}, 4, 0.5), ({}, 16, 0.25), ({"log_std_init": 0.0}, 16, 1.0)])
def test_first_actions_are_no_wider_than_their_number_allows(options, size, std):
    actions = gym.spaces.Box(-1, 1, (size,), np.float32)
    policy = GaussianNetwork(gym.spaces.Box(-1, 1, (3,), np.float32), actions, "mlp", AcktrContConfig(**options))
    np.testing.assert_allclose(np.exp(policy.log_std.trainable_variables[0].numpy()), np.full(size, std), rtol=1e-6)
