"""Claims about anything that can be typed, and about any space: an answer or one clear line, never a traceback."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run
from baselines_acktr import a2c, acktr_cont, acktr_discrete, trpo
from baselines_acktr.session.options import FLAGS
from common.errors import UserError

NAMES = sorted({field.name for group in FLAGS.groups.values() for field in dataclasses.fields(group)} - {"play"})
NUMBERS = ["0", "1", "-1", "2", "3.5", "1e2", "1e400", "9" * 30, "nan", "inf", "1_000", "0x10", "1,2", "8,8,8"]
WORDS = ["", "true", "false", "cnn", "mlp", "pixels", "linear", "inline", "eigen", "acktr", "a2c", "trpo", "csv", "~"]
WORDS += ["CartPole-v1", "Pendulum-v1", "CartPole-v0", "nothing:X-v0", "file", "new/file", "\0", "ü", "native", "sync"]
VALUES = st.sampled_from(NUMBERS + WORDS) | st.text(max_size=5)
TYPED = st.tuples(st.sampled_from(NAMES), VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}")
ARGV = st.lists(TYPED | st.sampled_from(["-x", "--", "word", "--env", "--lr"]), max_size=3)
ENVS = st.sampled_from(["--env=CartPole-v1", "--env=Pendulum-v1"])


def many(count: int):
    """A short search in every test run, one of `count` examples in those for reliability."""
    return pytest.mark.parametrize("count", [30, pytest.param(count, marks=pytest.mark.reliability)])


@many(300)
def test_any_command_line_is_done_or_refused_in_one_line(count, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_LOGDIR", str(tmp_path / "logs"))
    (tmp_path / "file").touch()

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(env=ENVS, argv=ARGV)
    def holds(env, argv):
        capsys.readouterr()
        code = run.main([env, *argv, "--num_timesteps=0"])
        err = capsys.readouterr().err
        assert code in (0, 2), argv
        assert (code == 2) == err.startswith("run.py: "), (argv, err)
        assert code == 0 or err.count("\n") == 1, (argv, err)

    holds()


BOXES = st.tuples(st.integers(1, 4), st.sampled_from([np.float32, np.float64]), st.sampled_from([1.0, 3.5, np.inf]))
CONTINUOUS = BOXES.map(lambda box: gym.spaces.Box(-box[2], box[2], (box[0],), box[1]))
DISCRETE = st.builds(lambda n, start: gym.spaces.Discrete(n, start=start), st.integers(2, 5), st.integers(-2, 2))
MULTI = st.lists(st.integers(2, 4), min_size=1, max_size=3).map(gym.spaces.MultiDiscrete)
REFUSED = st.sampled_from(
    [gym.spaces.MultiBinary(3), gym.spaces.Dict(a=gym.spaces.Discrete(2)), gym.spaces.Tuple([gym.spaces.Discrete(2)])]
)
LEARNERS = {
    "discrete": [acktr_discrete.Model, a2c.DiscreteModel, trpo.DiscreteModel],
    "continuous": [acktr_cont.Model, a2c.ContinuousModel, trpo.ContinuousModel],
}


@many(200)
def test_actions_of_any_space_are_in_it_and_other_spaces_are_refused(count):
    tf.config.run_functions_eagerly(True)

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(
        observation_space=CONTINUOUS | DISCRETE | REFUSED,
        action_space=DISCRETE | MULTI | CONTINUOUS | REFUSED,
        learner=st.integers(0, 2),
    )
    def holds(observation_space, action_space, learner):
        kind = "continuous" if isinstance(action_space, gym.spaces.Box) else "discrete"
        model_class = LEARNERS[kind][learner]
        supported = isinstance(observation_space, gym.spaces.Box) and isinstance(
            action_space, gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete
        )
        config = model_class.config_class(hidden_sizes=(4,))
        try:
            model = model_class(observation_space, action_space, "mlp", config)
        except UserError as error:
            assert not supported, error
            return
        assert supported
        observations = np.stack([observation_space.sample() for _ in range(3)]).astype(np.float32)
        actions, _ = model.sample(observations)
        assert all(action_space.contains(action) for action in np.asarray(model.to_env(actions)))
        model.close()

    try:
        holds()
    finally:
        tf.config.run_functions_eagerly(False)
