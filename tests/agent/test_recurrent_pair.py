"""Claims about recurrent networks for continuous actions: a policy and a critic that remember apart."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import normal

from baselines_acktr import a2c, acktr_cont, load
from baselines_acktr.agent import schema
from baselines_acktr.agent.agent import Agent
from baselines_acktr.config import RECURRENT
from baselines_acktr.evaluation import evaluate
from baselines_acktr.examples import memory
from baselines_acktr.learning.batches import network_inputs
from baselines_acktr.learning.sequences import Sequences
from common import array_file
from common.errors import UserError
from common.vec_env import make_vec_env

N, T, D = 3, 4, 2
VECTORS = gym.spaces.Box(-1, 1, (D,), np.float32)
ACTIONS = gym.spaces.Box(-1, 1, (2,), np.float32)
STARTS = np.array([[True, False, False, True], [False, False, False, False], [False, True, True, False]])
LEARNERS = {"acktr": acktr_cont.Model, "a2c": a2c.ContinuousModel}
PENDULUM = f"{memory.__name__}:PositionsOfPendulum-v0"


def make(name: str, space: gym.Space = VECTORS, network: str = "lstm", **flags: Any) -> Agent:
    learner = LEARNERS[name]
    flags |= {"inverses": "inline"} if name == "acktr" else {}
    made = learner(space, ACTIONS, network, learner.config_class(**flags))
    variables = made.policy.network.trainable_variables + made.value_function.critic.trainable_variables
    for i, variable in enumerate(variables):
        variable.assign(variable + 0.1 * normal(*variable.shape, seed=i))
    observations = normal(50, 1, *space.shape).astype(np.float32)
    made.policy.refresh(observations)  # a filter that has seen some
    made.value_function.targets.follow(np.array([3.0, 5.0]), made.comm)  # and values that are not standardised
    return made


@pytest.fixture(scope="module")
def model():
    made = make("a2c")
    yield made
    made.close()


def test_steps_with_the_state_carried_are_the_sequences_of_both_networks(model):
    observations = normal(N, T, D).astype(np.float32)
    state = None
    values, means, neglogps = [], [], []
    for t in range(T):
        action, value, state, neglogp = model.step(observations[:, t], True, state, STARTS[:, t])
        values.append(value)
        means.append(action)
        neglogps.append(neglogp)

    first = model.remembering.first_state(N)
    seen = model.policy.filtered(Sequences(observations, STARTS, first))
    parameters, last = model.policy.network.unroll(seen)
    mean, log_std = tf.split(parameters, 2, axis=-1)
    expected = model.policy.to_env(mean.numpy())
    np.testing.assert_allclose(np.stack(means, axis=1).reshape(-1, 2), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.stack(values, axis=1).ravel(), model.value_function.predict(seen), rtol=1e-4)
    np.testing.assert_allclose(state[:, :256], last, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state[:, 256:], model.value_function.critic.unroll(seen)[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        neglogps, np.full((T, N), (log_std[0] + 0.5 * np.log(2 * np.pi)).numpy().sum()), rtol=1e-4
    )


def test_predict_takes_and_gives_the_state_and_forgets_at_a_start(model):
    observation = np.array([0.3, -0.2], np.float32)
    action, state = model.predict(observation, deterministic=True)
    assert np.shape(action) == (2,) and state.shape == (1, 512)
    other, further = model.predict(observation, state, deterministic=True)
    assert not np.allclose(further, state) and not np.allclose(other, action)
    again, anew = model.predict(observation, state, episode_start=True, deterministic=True)
    np.testing.assert_array_equal(anew, state)
    np.testing.assert_array_equal(again, action)
    with pytest.raises(UserError, match=r"^state: must be finite numbers of shape \(1, 512\)"):
        model.predict(observation, state[:, :256])


def test_without_a_state_nothing_is_remembered(model):
    observations = normal(N, D).astype(np.float32)
    values = model.step(observations)[1]
    np.testing.assert_allclose(model.value(observations), values, rtol=1e-5)
    assert model.sample(observations)[0].shape == (N, 2)
    alone = model.policy.act(observations, deterministic=True).actions
    np.testing.assert_allclose(model.policy.to_env(alone), model.step(observations, True)[0], rtol=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_sequences_of_a_long_rollout_start_from_the_states_that_it_came_through(name):
    with make_vec_env(PENDULUM, 2, 0) as env:
        learner = LEARNERS[name]
        config = learner.config_class(timesteps_per_batch=2 * 203, hidden_sizes=(8,))
        model = learner(env.single_observation_space, env.single_action_space, "lstm", config)
        runner = model.make_runner(env)
        first, second = runner.run(), runner.run()

        assert first.rewards.shape == (198, 2)  # 11 sequences of 18 steps, of which none has more than 20
        assert first.memory.states.shape == (11, 2, 512)
        assert not first.memory.states[0].any() and second.memory.states[0].any()
        assert second.ended.any()
        for rollout in (first, second):
            inputs = model.policy.filtered(network_inputs(rollout))
            values = model.value_function.predict(inputs).reshape(11, 2, 18)  # [K, N, T / K]
            np.testing.assert_allclose(values.swapaxes(1, 2).reshape(198, 2), rollout.values, rtol=1e-3, atol=1e-4)
        model.close()


@pytest.mark.parametrize("name", LEARNERS)
def test_an_update_moves_every_weight_of_both_networks(name):
    with make_vec_env(PENDULUM, 4, 0) as env:
        learner = LEARNERS[name]
        fast = {"inverses": "inline", "cg_iters": 1} if name == "acktr" else {}
        config = learner.config_class(timesteps_per_batch=40, vf_iters=2, vf_rows=20, **fast)
        model = learner(env.single_observation_space, env.single_action_space, "lstm", config)
        networks = (model.policy.network, model.value_function.critic)
        before = [variable.numpy() for network in networks for variable in network.trainable_variables]
        runner = model.make_runner(env)
        for _ in range(2):  # the first one follows from values and means of nearly 0
            metrics = model.update(runner.run(), 1000)
        model.close()
        after = [variable.numpy() for network in networks for variable in network.trainable_variables]
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert all((new != old).any() for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize("network", RECURRENT)
def test_what_a_file_declares_is_compared_with_the_first_weights_of_both_networks(network):
    space = gym.spaces.Box(0, 255, (44, 44, 1), np.uint8) if network.startswith("cnn") else VECTORS
    made = make("a2c", space, network, conv_filters=(2, 2, 2), hidden_sizes=(3,))
    declared = schema._weights(network, space.shape, made.config)
    for owner in (made.policy.network, made.value_function.critic):
        assert declared == [variable.shape for variable in owner.trainable_variables][: len(declared)]
        assert owner.cell.gates.kernel.shape in declared


def test_a_checkpoint_alone_makes_both_again(tmp_path, model):
    model.save(str(tmp_path / "model"))
    found = load(str(tmp_path / "model"))
    observations = normal(N, D).astype(np.float32)
    state = normal(N, 512).astype(np.float32)
    answers = [one.step(observations, True, state) for one in (model, found)]
    for expected, given in zip(*answers, strict=True):
        np.testing.assert_array_equal(given, expected)


class Recall(gym.Env):
    """The first observation is -1 or 1, all others are 0; the third action shall have its sign."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        self.sign = float(self.np_random.choice([-1, 1]))
        return np.array([self.sign], np.float32), {}

    def step(self, action):
        self.time += 1
        reward = float(action[0]) * self.sign if self.time == 3 else 0.0
        return np.zeros(1, np.float32), reward, self.time == 3, False, {}


def test_what_has_been_seen_three_steps_ago_is_acted_upon():
    flags = {"timesteps_per_batch": 96, "vf_iters": 2, "inverses": "inline", "cg_iters": 1}
    trained = acktr_cont.learn("lstm", env=Recall, num_env=16, total_timesteps=4800, seed=0, **flags)
    scores, _ = evaluate(trained, Recall, 50)
    assert np.mean(scores) >= 0.9  # without a memory it is 0


def test_a_policy_alone_acts_as_it_did_and_has_no_values(tmp_path, model):
    arrays, meta = model.content(policy_only=True)
    array_file.save(str(tmp_path / "policy"), arrays, meta)
    found = load(str(tmp_path / "policy"))
    observations = normal(N, D).astype(np.float32)
    actions, values, *_ = found.step(observations, True)
    np.testing.assert_array_equal(actions, model.step(observations, True)[0])
    assert np.isnan(values).all() and np.isnan(found.value(observations)).all()


def test_going_on_with_sequences_of_another_length_is_refused(model):
    with make_vec_env(PENDULUM, 8, 0) as eight, make_vec_env(PENDULUM, 16, 0) as sixteen:
        for env in (eight, eight):
            assert model.make_runner(env).sequence_length == 20
        with pytest.raises(UserError, match=r"^num_env: gives sequences of 10 steps, and the lstm has learned from"):
            model.make_runner(sixteen)
