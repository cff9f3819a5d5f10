import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.config import TrpoContConfig, TrpoDiscreteConfig
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session.measurements import Measurements
from baselines_acktr.trpo import ContinuousModel, DiscreteModel, learn
from common.errors import UserError
from common.packing import flatten
from common.vec_env import make_vec_env

pytestmark = pytest.mark.long
VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (16, 16, 6), np.uint8)
BOX = gym.spaces.Box(-2, 2, (2,), np.float32)
SMALL_CNN = {"conv_filters": (4,), "conv_kernels": (4,), "conv_strides": (2,), "hidden_sizes": (8,)}
SPACES = {
    "vector-discrete": (VECTOR, gym.spaces.Discrete(3), {}),
    "vector-multidiscrete": (VECTOR, gym.spaces.MultiDiscrete([3, 2]), {}),
    "image-discrete": (IMAGE, gym.spaces.Discrete(3), SMALL_CNN),
    "vector-continuous": (VECTOR, BOX, {}),
    "image-continuous": (IMAGE, BOX, {"hidden_sizes": (8,)}),
}


def make_model(kind="vector-continuous", seed=0, **options):
    observations, actions, sizes = SPACES[kind]
    model_class = ContinuousModel if isinstance(actions, gym.spaces.Box) else DiscreteModel
    config = model_class.config_class(**{"vf_iters": 2, "vf_rows": 0} | sizes | options)
    return model_class(observations, actions, model_class.default_network(observations), config, seed)


def make_rollout(model, steps=5, envs=8, seed=0) -> Rollout:
    rng = np.random.default_rng(seed)
    shape = (steps, envs, *model.observation_space.shape)
    image = model.observation_space.dtype == np.uint8
    observations = rng.integers(0, 256, shape) if image else rng.normal(1, 3, shape)
    observations = observations.astype(model.observation_space.dtype)
    actions = np.stack([model.sample(row)[0] for row in observations])
    rewards, values, next_values = rng.normal(size=(3, steps, envs)).astype(np.float32)
    return Rollout(observations, actions, rewards, rng.random((steps, envs)) < 0.1, values, next_values)


def policy_of(model) -> list[np.ndarray]:
    return [variable.numpy().copy() for variable in model.policy.network.trainable_variables]


def test_a_batch_without_advantages_leaves_the_policy_to_the_bit():
    model = make_model("vector-discrete")
    rollout, before = make_rollout(model), policy_of(model)
    flat = rollout._replace(rewards=0 * rollout.rewards, values=0 * rollout.values, next_values=0 * rollout.values)
    assert model.update(flat, 10**9)["step_fraction"] == 0
    assert all(np.array_equal(a, b) for a, b in zip(policy_of(model), before, strict=True))


def test_a_policy_that_is_nearly_deterministic_is_improved():
    model = make_model("vector-discrete")
    model.policy.network.head.bias.assign([11.0, 0.0, 0.0])
    rollout = make_rollout(model)
    measurements = Measurements(model, rollout)
    assert model.update(rollout, 10**9)["step_fraction"] > 0
    assert 0 < measurements.after_update()["kl"] <= model.config.max_kl


@pytest.mark.parametrize("kind", SPACES)
def test_every_kind_of_space_acts_and_learns(kind):
    model = make_model(kind)
    rollout = make_rollout(model)
    before = model.state()
    metrics = model.update(rollout, 10**9)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert metrics["step_fraction"] > 0 and metrics["surrogate_gain"] > 0
    trained = [name for name in before if name.startswith(("policy/", "vf/parameters/"))]
    assert [name for name in trained if np.array_equal(model.state()[name], before[name])] == []
    actions, values, states, neglogps = model.step(rollout.observations[0])
    assert all(model.action_space.contains(action) for action in actions)
    assert states is None and values.shape == neglogps.shape == (8,)


def test_discrete_actions_are_sampled_in_proportion_and_greedy_ones_are_the_most_likely():
    model = make_model("vector-discrete", max_kl=0.5)
    model.update(make_rollout(model), 10**9)
    observations = np.repeat(np.random.default_rng(1).normal(1, 3, (1, 3)), 20_000, axis=0).astype(np.float32)
    p = tf.nn.softmax(model.policy.network(model.policy.filtered(observations[:1])))[0].numpy()
    actions, neglogps, _ = model.policy.act(observations)
    assert p.max() - p.min() > 0.1
    np.testing.assert_allclose(np.bincount(actions, minlength=3) / 20_000, p, atol=0.02)
    np.testing.assert_allclose(neglogps, -np.log(p)[actions], rtol=1e-4)
    assert (model.step(observations, deterministic=True)[0] == p.argmax()).all()


@pytest.mark.parametrize("kind", ["vector-discrete", "vector-continuous"])
def test_the_step_is_the_damped_natural_gradient_of_the_length_that_the_limit_allows(kind):
    """s = (F + damping I)^-1 g; 0.5 s^T (F + damping I) s = max_kl times the square of the part that was taken."""
    model = make_model(kind, hidden_sizes=(4,), damping=0.2, cg_iters=40, fisher_fraction=1.0, max_kl=1e-4)
    rollout = make_rollout(model)
    observations = tf.constant(model.policy.filtered(rollout.observations.reshape(40, 3)))
    actions, advantages = rollout.actions.reshape(40, *rollout.actions.shape[2:]), rollout.rewards.ravel()
    variables = [variable.value for variable in model.policy.network.trainable_variables]
    with tf.GradientTape() as tape:
        surrogate = tf.reduce_mean(
            model.policy.distribution(model.policy.network(observations)).log_prob(actions) * advantages
        )
    gradient = flatten(tape.gradient(surrogate, variables)).numpy()
    units = np.eye(len(gradient), dtype=np.float32)
    fisher = np.stack([model.damped_fisher(observations, tf.constant(unit)) for unit in units])
    before = flatten(policy_of(model)).numpy()
    fraction = float(model.improve(observations, actions, advantages, observations)["step_fraction"])
    step = flatten(policy_of(model)).numpy() - before
    natural = np.linalg.solve(fisher, gradient)
    assert fraction == 1
    np.testing.assert_allclose(step / np.linalg.norm(step), natural / np.linalg.norm(natural), atol=2e-3)
    np.testing.assert_allclose(0.5 * step @ fisher @ step, 1e-4, rtol=1e-2)


def exact_kl(kind: str, old: np.ndarray, new: np.ndarray) -> float:
    """Mean KL(old || new) of distribution parameters [B, P], in float64."""
    old, new = old.astype(np.float64), new.astype(np.float64)
    if kind == "vector-discrete":
        old, new = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (old, new))
        return (np.exp(old) * (old - new)).sum(axis=1).mean()
    (mean, log_std), (new_mean, new_log_std) = (np.split(x, 2, axis=1) for x in (old, new))
    squares = np.exp(2 * log_std) + np.square(mean - new_mean)
    return (new_log_std - log_std + squares / (2 * np.exp(2 * new_log_std)) - 0.5).sum(axis=1).mean()


@pytest.mark.parametrize("max_kl", [0.001, 0.3])
@pytest.mark.parametrize("kind", ["vector-discrete", "vector-continuous"])
def test_the_kl_of_a_step_is_never_above_the_limit(kind, max_kl):
    model = make_model(kind, max_kl=max_kl, damping=1e-3, gamma=0.99)
    fractions, kls = [], []
    for seed in range(15):
        rollout = make_rollout(model, seed=seed)
        seen = model.policy.filtered(rollout.observations.reshape(40, 3))
        old = model.policy.network(seen).numpy()
        measurements = Measurements(model, rollout)
        metrics = model.update(rollout, 10**9)
        kls.append(exact_kl(kind, old, model.policy.network(seen).numpy()))
        np.testing.assert_allclose(measurements.after_update()["kl"], kls[-1], rtol=1e-2, atol=1e-6)
        fractions.append(float(metrics["step_fraction"]))
    assert max(kls) <= max_kl * (1 + 1e-4)
    assert max(kls) > max_kl / 2 and min(fractions) < 1  # the limit was reached, and full steps went beyond it


@pytest.mark.parametrize("advantage", [0.0, np.nan])
def test_without_a_good_step_the_policy_stays_to_the_bit(advantage):
    model = make_model()
    rollout = make_rollout(model)
    observations = tf.constant(model.policy.filtered(rollout.observations.reshape(40, 3)))
    before = policy_of(model)
    advantages = np.full(40, advantage, np.float32)
    metrics = model.improve(observations, rollout.actions.reshape(40, 2), advantages, observations[:8])
    assert float(metrics["step_fraction"]) == 0
    for old, new in zip(before, policy_of(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_fisher_is_taken_from_its_part_of_the_rows_drawn_anew():
    model = make_model(fisher_fraction=0.2)
    rollout = make_rollout(model)
    rollout = rollout._replace(actions=np.arange(80, dtype=np.float32).reshape(5, 8, 2))
    taken = []

    def step(observations, actions, advantages, fisher_observations):
        np.testing.assert_array_equal(fisher_observations, observations[:8])
        taken.append(actions[:8, 0])
        return {}

    model.improve = step
    for model.updates in range(40):
        model.update(rollout, 10**9)
    assert all(len(set(rows)) == 8 for rows in taken)
    assert len(set(np.concatenate(taken))) == 40


def test_one_trace_for_the_whole_run():
    model = train("Pendulum-v1", updates=5)
    assert model.improve.experimental_get_tracing_count() == 1


def test_defaults_are_those_of_atari_and_mujoco_and_for_discrete_vectors_like_mujocos():
    atari = TrpoDiscreteConfig(**DiscreteModel.preset(IMAGE))
    assert (atari.batch_size(atari.num_env_atari), atari.max_kl, atari.damping, atari.lam) == (512, 0.001, 0.001, 1)
    assert (atari.conv_filters, atari.hidden_sizes, atari.gamma) == ((8, 16), (128,), 0.98)
    assert (DiscreteModel.default_network(IMAGE), ContinuousModel.default_network(IMAGE)) == ("cnn", "pixels")
    vectors = TrpoDiscreteConfig(**DiscreteModel.preset(VECTOR))
    assert (vectors.batch_size(vectors.num_env), vectors.max_kl, vectors.damping, vectors.lam) == (
        1024,
        0.01,
        0.1,
        0.97,
    )
    mujoco = TrpoContConfig(**ContinuousModel.preset(VECTOR))
    assert (mujoco.batch_size(mujoco.num_env), mujoco.max_kl, mujoco.damping, mujoco.lam) == (2500, 0.01, 0.1, 0.98)


def score_of_training(env_id: str, num_env: int, **options) -> float:
    """Mean score of the last games of a training run."""

    class Logger:
        def progress(self, *numbers, eprewmean, fps):
            self.score = eprewmean

        def log(self, numbers):
            pass

        def dump(self, timesteps):
            pass

    logger = Logger()
    with make_vec_env(env_id, num_env, seed=0) as env:
        learn(env=env, logger=logger, **options)
    return logger.score


def test_learns_cartpole_with_its_defaults():
    """A random policy scores 22."""
    assert score_of_training("CartPole-v1", 8, total_timesteps=20_000) >= 100


def test_learns_pendulum():
    """A random policy scores -1200."""
    options = {"timesteps_per_batch": 1600, "gamma": 0.95, "vf_iters": 20}
    assert score_of_training("Pendulum-v1", 8, total_timesteps=40_000, **options) >= -900


def train(env_id, updates=4, seed=3, **options):
    options = {"timesteps_per_batch": 40, "vf_iters": 2, "vf_rows": 20} | options
    with make_vec_env(env_id, 4, seed=seed) as env:
        return learn(env=env, seed=seed, total_timesteps=updates * 40, **options)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_checkpoint_brings_everything_back_and_training_goes_on(tmp_path, env_id):
    path = str(tmp_path / "model")
    model = train(env_id, save_path=path)
    again = train(env_id, seed=9, load_path=path)  # nothing left to do
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, again.state()[name], err_msg=name)
    assert (again.timesteps, again.updates, again.seed) == (160, 4, 3)
    observations = np.random.default_rng(0).normal(size=(6, *model.observation_space.shape)).astype(np.float32)
    for mine, theirs in zip(model.step(observations)[:2], again.step(observations)[:2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert train(env_id, updates=6, load_path=path).timesteps == 240


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = str(tmp_path / "model")
    train("Pendulum-v1", updates=1, save_path=path)
    with pytest.raises(UserError, match="trained with vf_activation elu, asked for tanh"):
        train("Pendulum-v1", updates=2, load_path=path, vf_activation="tanh")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_same_seed_gives_bit_identical_states_and_another_does_not(env_id):
    first, second, other = (train(env_id, updates=8, seed=seed).state() for seed in (3, 3, 4))
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []
    assert not np.array_equal(first["policy/0"], other["policy/0"])
