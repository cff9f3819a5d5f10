"""Claims about actions that consist of several choices."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from common.errors import UserError
from common.vec_env import make_vec_env
from common.vec_env.actions import Choices

SPACES = [
    (spaces.MultiBinary(3), [2, 2, 2]),
    (spaces.MultiBinary((2, 2)), [2, 2, 2, 2]),
    (spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiBinary(2)]), [3, 2, 2]),
    (spaces.Tuple([spaces.MultiDiscrete([[2, 3], [4, 5]]), spaces.Discrete(2)]), [2, 3, 4, 5, 2]),
]


class Takes(gym.Env):
    """Ends at once; its reward is 1 for an action of its space that is in its target."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)

    def __init__(self, space: spaces.Space) -> None:
        self.action_space = space
        self.taken: list = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.taken.append(action)
        return np.zeros(1, np.float32), float(self.action_space.contains(action)), True, False, {}


gym.register("Takes-v0", lambda: Takes(SPACES[2][0]))


@pytest.mark.parametrize(("space", "sizes"), SPACES)
def test_every_action_of_the_choices_is_one_of_the_space(space, sizes):
    env = Choices(Takes(space))
    assert env.action_space.nvec.tolist() == sizes
    env.action_space.seed(0)
    for _ in range(50):
        env.reset()
        assert env.step(env.action_space.sample())[1] == 1


def test_each_choice_goes_to_its_own_part():
    env = Choices(Takes(spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiBinary((2, 1)), spaces.Discrete(4)])))
    env.step(np.array([1, 0, 1, 3]))
    number, bits, last = env.unwrapped.taken[0]
    assert (number, bits.tolist(), bits.dtype, last) == (1, [[0], [1]], np.int8, 3)
    assert env.action_space.start.tolist() == [-1, 0, 0, 0]


def test_a_tuple_with_a_part_that_is_not_discrete_is_refused_by_name():
    with pytest.raises(UserError, match=r"^--env: a part of its actions is a Box.*; must be Discrete, MultiDiscrete"):
        Choices(Takes(spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (1,))])))


@pytest.mark.parametrize("backend", ["sync", "subproc"])
def test_a_vector_environment_takes_the_choices(backend):
    with make_vec_env("Takes-v0", 2, backend=backend) as env:
        env.reset()
        assert env.single_action_space == spaces.MultiDiscrete([3, 2, 2], start=[-1, 0, 0])
        assert env.step(np.array([[-1, 0, 1], [1, 1, 1]]))[1].tolist() == [1, 1]
