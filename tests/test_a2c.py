import contextlib

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr import load
from baselines_acktr.a2c import ContinuousModel, DiscreteModel, learn
from baselines_acktr.config import A2cContConfig, A2cDiscreteConfig
from baselines_acktr.learning.batches import make_batch
from baselines_acktr.learning.rollouts import Rollout
from common import array_file
from common.errors import UserError
from common.vec_env import make_vec_env

pytestmark = pytest.mark.long
VECTOR = gym.spaces.Box(-1, 1, (3,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (16, 16, 6), np.uint8)
BOX = gym.spaces.Box(-2, 2, (2,), np.float32)
SMALL_CNN = {"conv_filters": (4,), "conv_kernels": (4,), "conv_strides": (2,), "hidden_sizes": (8,)}
SPACES = {
    "vector-discrete": (VECTOR, gym.spaces.Discrete(3), {}),
    "vector-discrete-copy": (VECTOR, gym.spaces.Discrete(3), {"value_network": "copy"}),
    "image-multidiscrete": (IMAGE, gym.spaces.MultiDiscrete([3, 2]), SMALL_CNN),
    "vector-continuous": (VECTOR, BOX, {"vf_iters": 2}),
    "image-continuous": (IMAGE, BOX, {"vf_iters": 2, "hidden_sizes": (8,)}),
}


def make_model(kind="vector-discrete", seed=0, **options):
    observations, actions, sizes = SPACES[kind]
    model_class = ContinuousModel if isinstance(actions, gym.spaces.Box) else DiscreteModel
    config = model_class.config_class(**sizes | options)
    return model_class(observations, actions, model_class.default_network(observations), config, seed)


def make_rollout(model, steps=4, envs=6, seed=0) -> Rollout:
    rng = np.random.default_rng(seed)
    shape = (steps, envs)
    high = 255 if model.observation_space.dtype == np.uint8 else 1
    observations = rng.uniform(0, high, shape + model.observation_space.shape).astype(model.observation_space.dtype)
    actions = np.stack([model.sample(row)[0] for row in observations])
    rewards, values = rng.normal(size=(2, *shape)).astype(np.float32)  # every episode ends: rewards are the returns
    return Rollout(observations, actions, rewards, np.ones(shape, bool), values, np.zeros_like(values))


@pytest.mark.parametrize("kind", SPACES)
def test_every_kind_of_space_acts_and_learns(kind):
    model = make_model(kind)
    rollout = make_rollout(model)
    actions, values, states, neglogps = model.step(rollout.observations[0])
    assert all(model.action_space.contains(action) for action in actions)
    assert states is None and values.shape == neglogps.shape == (6,)
    before = model.state()
    metrics = model.update(rollout, 10**9)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    trained = [name for name in before if name.startswith(("parameters/", "policy/", "vf/parameters/"))]
    assert len(trained) >= 8
    assert [name for name in trained if np.array_equal(model.state()[name], before[name])] == []


def test_an_update_is_rmsprop_on_the_clipped_gradient_of_the_loss():
    model = make_model(lr=0.1, max_grad_norm=0.05)
    rollout = make_rollout(model)
    observations, actions, returns, advantages = make_batch(rollout, rollout.rewards, rollout.advantages(0.99, 1.0))
    variables = [variable.value for variable in model.network.trainable_variables]
    with tf.GradientTape() as tape:
        logits, values = model.network(observations)
        log_p = tf.nn.log_softmax(logits)
        policy_loss = -tf.reduce_mean(advantages * tf.gather(log_p, actions, batch_dims=1))
        entropy = -tf.reduce_mean(tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1))
        loss = policy_loss - 0.01 * entropy + 0.5 * tf.reduce_mean(0.5 * tf.square(returns - values))
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, variables)]
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients))
    assert norm > 0.05
    expected = []
    for variable, gradient in zip(variables, gradients, strict=True):
        clipped = 0.05 / norm * gradient
        expected.append(variable.numpy() - 0.1 * clipped / np.sqrt(0.99 + 0.01 * clipped**2 + 1e-5))
    metrics = model.update(rollout, 10**9)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    for variable, numbers in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, numbers, atol=1e-6)


def test_the_policy_takes_one_step_on_the_whole_batch():
    model = make_model("vector-continuous")
    seen = []
    minimize = model.optimizer.minimize
    model.optimizer.minimize = lambda *batch: seen.append([len(part) for part in batch]) or minimize(*batch)
    model.update(make_rollout(model), 10**9)
    assert seen == [[24, 24, 24]]
    assert int(model.optimizer.inner.iterations) == 1


@pytest.mark.parametrize("kind", ["vector-discrete", "vector-continuous"])
def test_the_rate_falls_to_zero_over_the_run(kind):
    model = make_model(kind)
    rates = []
    for model.timesteps in (0, 24, 72, 96):
        rates.append(model.update(make_rollout(model), 96)["lr"])
        np.testing.assert_allclose(float(model.optimizer.inner.learning_rate), rates[-1], rtol=1e-6)
    np.testing.assert_allclose(rates, model.config.lr * np.array([1, 0.75, 0.25, 0]))


def test_defaults_for_images_are_the_papers_and_those_for_vectors_their_own():
    images = A2cDiscreteConfig(**DiscreteModel.preset(IMAGE))
    assert images.batch_size(images.num_env_atari) == 80
    assert (images.conv_filters, images.hidden_sizes) == ((32, 64, 64), ())
    assert (images.value_network, images.lr, images.lrschedule, images.first_rate) == ("shared", 7e-4, "linear", 0)
    vectors = A2cDiscreteConfig(**DiscreteModel.preset(VECTOR))
    assert vectors.batch_size(vectors.num_env) == 128
    assert vectors.value_network == "copy"
    continuous = A2cContConfig(**ContinuousModel.preset(VECTOR))
    assert continuous.batch_size(continuous.num_env) == 160


def test_with_a_network_of_its_own_the_critic_moves_nothing_of_the_policy():
    model = make_model("vector-discrete-copy", ent_coef=0.0)
    rollout = make_rollout(model)
    surprising = rollout._replace(values=rollout.rewards)  # no advantages, but V is wrong
    policy, critic = (
        [weight.numpy() for weight in part.trainable_variables] for part in (model.network.policy, model.network.critic)
    )
    model.update(surprising, 10**9)
    for weight, before in zip(model.network.policy.trainable_variables, policy, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert not any(
        np.array_equal(weight, before)
        for weight, before in zip(model.network.critic.trainable_variables, critic, strict=True)
    )


def test_a_checkpoint_of_before_there_was_a_choice_loads_with_the_shared_network(tmp_path):
    path, again = str(tmp_path / "model"), str(tmp_path / "again")
    train("CartPole-v1", save_path=path, value_network="shared")
    arrays, meta = array_file.load(path)
    del meta["config"]["value_network"]
    array_file.save(path, arrays, meta)
    model = train("CartPole-v1", updates=6, load_path=path, save_path=again)
    assert (model.config.value_network, model.timesteps) == ("shared", 240)
    observations = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(load(again).value(observations), model.value(observations))
    assert load(path).config.value_network == "shared"
    with pytest.raises(UserError, match="trained with value_network shared, asked for copy"):
        train("CartPole-v1", load_path=path, value_network="copy")


def scores(model, env_id: str) -> list[float]:
    found: list[float] = []
    with make_vec_env(env_id, 8, seed=100) as env:
        observations, _ = env.reset()
        while len(found) < 8:
            observations, *_, infos = env.step(model.step(observations, deterministic=True)[0])
            if "episode" in infos:
                found.extend(infos["episode"]["r"][infos["_episode"]])
    return found


def test_learns_cartpole_with_its_defaults():
    """A random policy scores 22; with a shared network whose averages start at 1 the training came to 37 by then."""
    with make_vec_env("CartPole-v1", 8, seed=0) as env:
        model = learn(env=env, total_timesteps=40_000)
    assert np.mean(scores(model, "CartPole-v1")) >= 150


class BoxIdentity(gym.Env):
    """Reward -|a - o|^2 / 2 for the observation o, drawn anew at each step (OpenAI Baselines' BoxIdentityEnv)."""

    observation_space = action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._next(), {}

    def step(self, action):
        reward = -0.5 * float(np.square(action - self.target).sum())
        self.steps += 1
        return self._next(), reward, False, self.steps == 100, {}

    def _next(self) -> np.ndarray:
        self.target = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.target


def test_learns_to_copy_its_observation_in_30k_timesteps():
    """Baselines asks for -0.1 of drawn actions; the first policy has -0.29."""
    same_step = gym.vector.AutoresetMode.SAME_STEP
    with contextlib.closing(gym.vector.SyncVectorEnv([BoxIdentity] * 4, autoreset_mode=same_step)) as env:
        model = learn(env=env, total_timesteps=30_000, gamma=0.9)
    observations = np.random.default_rng(0).uniform(-1, 1, (2000, 1)).astype(np.float32)
    assert -0.5 * np.square(model.step(observations)[0] - observations).mean() >= -0.1


def test_learns_to_balance_an_inverted_pendulum():
    """A random policy scores 5."""
    with make_vec_env("InvertedPendulum-v5", 20, seed=0) as env:
        model = learn(env=env, total_timesteps=60_000, lr=0.005)
    assert np.mean(scores(model, "InvertedPendulum-v5")) >= 150


def train(env_id, updates=4, seed=3, **options):
    continuous = env_id == "Pendulum-v1"
    options = ({"timesteps_per_batch": 40, "vf_iters": 2} if continuous else {"nsteps": 10}) | options
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
    assert train(env_id, updates=6, load_path=path).timesteps == 240


def test_a_checkpoint_of_the_other_network_is_refused(tmp_path):
    path = str(tmp_path / "model")
    train("CartPole-v1", updates=1, save_path=path)
    with pytest.raises(UserError, match="trained with hidden_sizes"):
        train("CartPole-v1", updates=2, load_path=path, hidden_sizes=(8,))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_same_seed_gives_bit_identical_states_and_another_does_not(env_id):
    first, second, other = (train(env_id, updates=10, seed=seed).state() for seed in (3, 3, 4))
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []
    weights = "parameters/0" if env_id == "CartPole-v1" else "policy/0"
    assert not np.array_equal(first[weights], other[weights])
