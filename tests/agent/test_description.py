"""Claims about what a checkpoint says of a model."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

from baselines_acktr.agent import description
from baselines_acktr.config import AcktrDiscreteConfig
from common import array_file
from common.errors import UserError

IMAGES = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)


def described(**changes) -> dict:
    facts = {
        "env_id": "PongNoFrameskip-v4",
        "observation_space": IMAGES,
        "action_space": gym.spaces.Discrete(6),
        "network": "cnn",
        "algorithm": "acktr",
        "config": AcktrDiscreteConfig(),
    }
    return description.describe(**(facts | changes))


def test_descriptions_survive_the_file(tmp_path):
    array_file.save(tmp_path / "m", {}, described(counters={"timesteps": 640}))
    meta = array_file.load_meta(tmp_path / "m")
    assert meta["counters"] == {"timesteps": 640}
    assert meta["versions"]["numpy"] == np.__version__
    description.check_compatible(
        meta,
        env_id="PongNoFrameskip-v4",
        observation_space=IMAGES,
        action_space=gym.spaces.Discrete(6),
        network="cnn",
        config={"conv_filters": (32, 64, 32), "hidden_sizes": ()},
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"env_id": "BreakoutNoFrameskip-v4"}, "environment PongNoFrameskip-v4, asked for BreakoutNoFrameskip-v4"),
        (
            {"action_space": gym.spaces.Discrete(4)},
            r"action space Discrete\(6, int64\), asked for Discrete\(4, int64\)",
        ),
        (
            {"observation_space": gym.spaces.Box(-1, 1, (3,))},
            r"observation space Box\(\[84, 84, 4\], uint8\), asked for",
        ),
        ({"network": "mlp"}, "network cnn, asked for mlp"),
        ({"config": {"hidden_sizes": (64,)}}, r"hidden_sizes \[512\], asked for \[64\]"),
    ],
)
def test_what_differs_from_the_training_is_named(asked, message):
    with pytest.raises(UserError, match=message):
        description.check_compatible(json.loads(json.dumps(described())), "model", **asked)


@pytest.mark.parametrize(
    "spaces",
    [
        (gym.spaces.MultiDiscrete([3, 3]), gym.spaces.MultiDiscrete([3, 4])),
        (gym.spaces.Discrete(3), gym.spaces.Discrete(3, start=1)),
        (gym.spaces.Box(-np.inf, np.inf, (2,)), gym.spaces.Box(-1, np.inf, (2,))),
        (gym.spaces.Box(0, 1, (2,), np.float32), gym.spaces.Box(0, 1, (2,), np.float64)),
    ],
)
def test_spaces_that_differ_have_different_descriptions_in_strict_json(spaces):
    first, second = (json.dumps(description.describe_space(space), allow_nan=False) for space in spaces)
    assert first != second
