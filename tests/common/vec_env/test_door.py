"""Claims about what an environment may say and do, and what callers of a batch of them may."""

from __future__ import annotations

import re
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import WrapperSpec
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.wrappers import RecordEpisodeStatistics
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import RunFailedError, UserError
from common.vec_env import make_vec_env
from common.vec_env.door import CheckedEnv, action_check

BOX = gym.spaces.Box(0, 1, (3,), np.float32)
SEEN = np.zeros(3, np.float32)
BACKENDS = ["sync", "subproc"]
gym.register_envs(ale_py)


class Plain(gym.Env):
    """Does nothing wrong; episodes of 5 steps."""

    observation_space: Any = BOX
    action_space: Any = gym.spaces.Discrete(2)
    returned: Any = (SEEN, 1.0, False, False, {})
    first: Any = (SEEN, {})

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.first

    def step(self, action):
        self.steps += 1
        if isinstance(self.returned, tuple) and len(self.returned) == 5:
            *others, info = self.returned
            if self.steps == 5:
                others[2] = True
            return *others, dict(info) if isinstance(info, dict) else info
        return self.returned


class NoSeed(Plain):
    def reset(self):
        return SEEN, {}


class Falls(Plain):
    def step(self, action):
        if action == 1:
            raise ArithmeticError("the cart fell off")
        return super().step(action)


gym.register("Plain-v0", Plain)
gym.register("NoSeed-v0", NoSeed)
gym.register("Falls-v0", Falls)


def registered(**fields: Any) -> str:
    gym.registry.pop("Odd-v0", None)
    gym.register("Odd-v0", Plain, kwargs=fields)
    return "Odd-v0"


def step_of(*changes: tuple[int, Any]) -> tuple[Any, ...]:
    result = list(Plain.returned)
    for place, value in changes:
        result[place] = value
    return tuple(result)


def reset_and_step(fields: dict[str, Any], backend: str) -> None:
    with make_vec_env(registered(**fields), 2, 0, backend=backend) as env:
        env.reset()
        env.step(env.action_space.sample())


BYTES = gym.spaces.Box(0, 255, (3,), np.uint8)
DICT = gym.spaces.Dict(a=BOX, b=gym.spaces.Discrete(2))
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"first": SEEN}, r"reset: returned an array of shape \(3,\), float32; it must return \(observation, info\)"),
    ({"first": None}, "reset: returned None; it must"),
    ({"first": (SEEN,)}, "reset: returned 1 values"),
    ({"first": (SEEN, None)}, "reset: returned 2 values .*None"),
    ({"first": (SEEN, {}, 1)}, "reset: returned 3 values"),
    ({"first": (np.zeros(4, np.float32), {})}, r"reset: its observation has shape \(4,\); its space declares \(3,\)"),
    ({"first": (np.zeros((1, 3), np.float32), {})}, r"has shape \(1, 3\)"),
    ({"first": (None, {})}, "reset: its observation has shape"),
    ({"first": ("text", {})}, "reset: its observation has shape"),
    ({"first": (["a", "b", "c"], {})}, "reset: its observation has dtype <U1; its space declares float32"),
    ({"first": ([[1], [1, 2]], {})}, "reset: its observation has shape"),
    ({"observation_space": BYTES, "first": (np.full(3, 0.7), {})}, "dtype float64; its space declares uint8"),
    ({"observation_space": BYTES, "first": (np.full(3, 7), {})}, "dtype int64; its space declares uint8"),
    ({"returned": step_of((0, np.zeros(2, np.float32)))}, r"step: its observation has shape \(2,\)"),
    ({"returned": step_of((0, np.zeros(3, complex)))}, "step: its observation has dtype complex128"),
    (
        {"returned": (SEEN, 0.0, False, {})},
        "step: returned 4 values .* of the old Gym API; it must return .observation, re",
    ),
    ({"returned": None}, "step: returned None"),
    ({"returned": SEEN}, "step: returned an array"),
    ({"returned": step_of((4, []))}, "step: returned 5 values .*a list of 0"),
    ({"returned": step_of((1, None))}, "step: its reward is None; it must be a number"),
    ({"returned": step_of((1, "1"))}, "step: its reward is a str; it must be a number"),
    (
        {"returned": step_of((1, np.zeros(2)))},
        r"step: its reward is an array of shape \(2,\), float64; it must be a num",
    ),
    ({"returned": step_of((1, np.zeros(0)))}, "step: its reward is an array"),
    ({"returned": step_of((1, 1j))}, "step: its reward is a complex"),
    ({"returned": step_of((2, "no"))}, "step: its terminated is a str; it must be a boolean"),
    ({"returned": step_of((3, None))}, "step: its truncated is None; it must be a boolean"),
    ({"returned": step_of((3, np.zeros(2, bool)))}, "step: its truncated is an array"),
    ({"observation_space": None}, "observation_space: is None; it must be one of gymnasium.spaces"),
    ({"action_space": (2,)}, "action_space: is a tuple of 1; it must be one of gymnasium.spaces"),
    ({"observation_space": gym.spaces.Box(0, 1, (0,))}, r"observation_space: its shape is \(0,\)"),
    ({"observation_space": gym.spaces.Box(0, 1, (3, 0, 2))}, r"observation_space: its shape is \(3, 0, 2\)"),
    ({"action_space": gym.spaces.Box(-1, 1, ())}, r"action_space: its shape is \(\); a Box must have at least one"),
    ({"action_space": gym.spaces.Box(-1, 1, (0,))}, r"action_space: its shape is \(0,\)"),
    (
        {"observation_space": DICT, "first": ({"a": SEEN}, {})},
        r"its observation is \['a'\]; its space declares a dict of",
    ),
    ({"observation_space": DICT, "first": ({"a": SEEN[:2], "b": 1}, {})}, r"its observation\['a'\] has shape \(2,\)"),
    (
        {"observation_space": DICT, "first": ({"a": SEEN, "b": 7}, {})},
        r"its observation\['b'\] is an int, 7; its space",
    ),
    ({"observation_space": gym.spaces.Tuple([BOX, BOX]), "first": ((SEEN,), {})}, "its space declares a tuple of 2"),
    (
        {"observation_space": gym.spaces.Discrete(3), "first": (3, {})},
        r"is an int, 3; its space declares Discrete\(3\)",
    ),
]


@pytest.mark.parametrize(("fields", "message"), FAULTS)
def test_what_breaks_the_declared_is_one_line_with_environment_and_field(fields, message):
    with pytest.raises(UserError, match=rf"^--env=Odd-v0: environment 0: .*{message}") as caught:
        reset_and_step(fields, "sync")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("number", [5, 11, 15, 21])
def test_worker_processes_say_the_same(number):
    fields, message = FAULTS[number]
    with pytest.raises(UserError, match=rf"^--env=Odd-v0: environment 0: .*{message}"):
        reset_and_step(fields, "subproc")


def test_a_reset_without_seed_is_named():
    with (
        make_vec_env("NoSeed-v0", 2, 0) as env,
        pytest.raises(UserError, match=r"environment 0: reset: .*'seed'; it must"),
    ):
        env.reset()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rewards_and_ends_of_shape_1_are_numbers(backend):
    fields = {"returned": step_of((1, np.array([1.5])), (2, np.array([False])), (3, np.array([False])))}
    with make_vec_env(registered(**fields), 2, 0, backend=backend) as env:
        env.reset()
        steps = [env.step(np.array([0, 1])) for _ in range(5)]
    assert all(step[1].shape == (2,) and step[1].tolist() == [1.5, 1.5] for step in steps)
    assert [step[2].tolist() for step in steps] == [[False] * 2] * 4 + [[True] * 2]
    assert steps[-1][4]["episode"]["r"].tolist() == [7.5, 7.5]


@pytest.mark.parametrize("reward", [1, 1.5, True, np.float32(1.5), np.int64(1), np.array(1.5), np.array([2])])
def test_all_kinds_of_numbers_are_rewards(reward):
    with make_vec_env(registered(returned=step_of((1, reward))), 1, 0) as env:
        env.reset()
        assert [env.step(np.array([0]))[1].tolist() for _ in range(2)] == [[float(np.asarray(reward).item())]] * 2


@pytest.mark.parametrize("first", [np.zeros(3), [0, 0, 0], np.zeros(3, np.float16), np.zeros(3, int), (0.0, 0.0, 0.0)])
def test_other_numbers_in_a_box_of_floats_are_taken(first):
    with make_vec_env(registered(first=(first, {})), 1, 0) as env:
        assert env.reset()[0].dtype == np.float32


def test_after_the_first_step_the_check_is_out_of_the_way():
    env = CheckedEnv(Plain(), "x")
    env.reset()
    env.step(0)
    assert (env.reset, env.step) == (env.env.reset, env.env.step)


class WithStatistics(RecordEpisodeStatistics):
    pass


def wrapped_in_statistics(**kwargs: Any) -> gym.Env:
    return RecordEpisodeStatistics(WithStatistics(gym.make("Plain-v0"), stats_key="other"))


@pytest.mark.parametrize(
    "entry",
    [
        wrapped_in_statistics,
        lambda: Plain(returned=step_of((4, {"episode": 5}))),
        lambda: Plain(first=(SEEN, {"episode": "x"})),
    ],
)
def test_statistics_of_the_environments_own_are_replaced(entry):
    gym.registry.pop("Statistics-v0", None)
    gym.register("Statistics-v0", entry)
    with make_vec_env("Statistics-v0", 2, 0) as env:
        _, infos = env.reset()
        steps = [env.step(np.array([0, 0])) for _ in range(10)]
    assert "episode" not in infos
    assert ["episode" in step[4] for step in steps] == [False, False, False, False, True] * 2
    assert steps[-1][4]["episode"]["l"].tolist() == [5, 5]


def test_an_exception_in_this_process_names_the_environment_and_closes_all():
    with make_vec_env("Falls-v0", 3, 7) as env:
        env.reset()
        with pytest.raises(RunFailedError, match=r"(?s)^environment 1 \(seed 8\) raised an exception:.*the cart fell"):
            env.step(np.array([0, 1, 0]))
        with pytest.raises(ClosedEnvironmentError):
            env.step(np.array([0, 0, 0]))


def test_an_environment_that_cannot_be_made_is_named():
    gym.registry.pop("Odd-v0", None)
    gym.register("Odd-v0", lambda: 1 / 0)
    with pytest.raises(RunFailedError, match=r"(?s)^--env=Odd-v0: cannot be made:.*ZeroDivisionError"):
        make_vec_env("Odd-v0", 1, 0, backend="sync")


ACTIONS = [
    (gym.spaces.Discrete(3), [0, 3], "environment 1 got 3, allowed are 0 to 2"),
    (gym.spaces.Discrete(3), [-1, 0], "environment 0 got -1, allowed are 0 to 2"),
    (gym.spaces.Discrete(3, start=5), [5, 4], "environment 1 got 4, allowed are 5 to 7"),
    (gym.spaces.Discrete(3), [0.0, 1.0], r"expected integers of shape \(2,\), got float64"),
    (gym.spaces.Discrete(3), [0], r"expected integers of shape \(2,\), got int64 \(1,\)"),
    (
        gym.spaces.MultiDiscrete([2, 3]),
        [[0, 0], [1, 3]],
        r"environment 1 got \[1, 3\], allowed are \[0, 0\] to \[1, 2\]",
    ),
    (gym.spaces.Box(-1, 1, (2,)), [[0, 0], [np.nan, 0]], r"environment 1 got \[nan, 0.0\], allowed are finite numbers"),
    (gym.spaces.Box(-1, 1, (2,)), [0.0, 0.0], r"expected numbers of shape \(2, 2\), got float64 \(2,\)"),
]


@pytest.mark.parametrize(("space", "actions", "message"), ACTIONS)
def test_a_wrong_action_is_named_before_anything_is_stepped(space, actions, message):
    with make_vec_env(registered(action_space=space), 2, 0, backend="sync") as env:
        env.reset()
        with pytest.raises(ValueError, match=message):
            env.step(np.array(actions))
        assert [inner.unwrapped.steps for inner in env.unwrapped.envs] == [0, 0]
        env.step(env.action_space.sample())
        assert action_check(space, 2)(env.action_space.sample()).shape == env.action_space.shape


@pytest.mark.parametrize("env_id", ["PongNoFrameskip-v4", "Hopper-v5"])
def test_all_backends_refuse_the_same_actions(env_id):
    wrong = [np.full((2, 3), np.nan), np.zeros((1, 3))] if env_id == "Hopper-v5" else [[-1, 0], [0, 6], [0], [0.5, 0.5]]
    refused = []
    for backend in ("native", "sync", "subproc"):
        with make_vec_env(env_id, 2, 0, backend=backend) as env:
            env.reset()
            for actions in wrong:
                with pytest.raises(ValueError, match=r"^actions: ") as caught:
                    env.step(np.array(actions))
                refused.append(
                    str(caught.value).replace("expected shape", "expected numbers of shape").split(", got")[0]
                )
            before = env.step(env.action_space.sample())[0]
            assert before.shape == env.observation_space.shape  # in step: nothing was half done
    third = len(refused) // 3
    assert refused[:third] == refused[third : 2 * third] == refused[2 * third :]


def test_too_few_actions_do_not_put_workers_out_of_step():
    with make_vec_env("vec_env_helpers:Counter-v0", 2, 0, backend="subproc") as env:
        env.reset()
        env.step(np.array([0, 0]))
        with pytest.raises(ValueError, match="expected integers of shape"):
            env.step(np.array([0]))
        assert env.step(np.array([0, 0]))[0][:, 1].tolist() == [2, 2]
        assert env.step(np.array([0, 0]))[2].tolist() == [True, True]


MAKERS = [
    ("PongNoFrameskip-v4", "native"),
    ("Hopper-v5", "native"),
    ("CartPole-v1", "sync"),
    ("CartPole-v1", "subproc"),
]


@pytest.mark.parametrize(("env_id", "backend"), MAKERS)
def test_what_clients_of_gymnasium_expect_holds_on_every_backend(env_id, backend):
    with make_vec_env(env_id, 3, 0, backend=backend) as env:
        actions = env.action_space.sample()
        with pytest.raises(ResetNeeded):
            env.step(actions)
        mask = np.array([False, True, False])
        with pytest.raises(ResetNeeded, match="reset_mask"):
            env.reset(options={"reset_mask": mask})
        both = [env.reset(seed=seed)[0] for seed in ([5, 6, 7], 5, np.int64(5), (5, 6, 7))]
        assert all((both[0] == other).all() for other in both[1:])
        for _ in range(12):
            observations = env.step(actions)[0]
        options = {"reset_mask": mask}
        masked, _ = env.reset(seed=[None, 6, None], options=options)
        np.testing.assert_array_equal(masked[[0, 2]], observations[[0, 2]])
        np.testing.assert_array_equal(masked[1], both[0][1])
        assert options == {"reset_mask": mask}
        for seed in (-1, [1, 2], [1, 2, -3], 1.5, "1", True):
            with pytest.raises(UserError, match=r"^seed=.*must be a whole number of at least 0"):
                env.reset(seed=seed)
        for wrong in (np.zeros(3, bool), np.ones(2, bool), [True] * 3, np.ones(3)):
            with pytest.raises(UserError, match=r"^reset_mask=.*must be a boolean array"):
                env.reset(options={"reset_mask": wrong})
        env.step(actions)
    for late in (lambda: env.step(actions), env.reset, lambda: env.set_state({})):
        with pytest.raises(ClosedEnvironmentError):
            late()
    env.close()


@pytest.mark.parametrize(
    ("env_id", "backend"), [("BreakoutNoFrameskip-v4", "native"), ("BreakoutNoFrameskip-v4", "sync")]
)
def test_infos_of_games_are_gymnasiums(env_id, backend):
    with make_vec_env(env_id, 2, 0, backend=backend) as env:
        _, infos = env.reset()
        assert infos["_lives"].tolist() == [True, True] and infos["lives"].tolist() == [5, 5]
        for _ in range(300):
            *_, infos = env.step(np.array([0, 0]))
            if "final_info" in infos:
                break
    final, where = infos["final_info"], infos["_final_info"]
    np.testing.assert_array_equal(where, infos["_final_obs"])
    np.testing.assert_array_equal(final["_lives"], where)
    assert final["lives"][where].tolist() == [4] * int(where.sum())


def test_infos_of_tasks_are_gymnasiums():
    with make_vec_env("Hopper-v5", 2, 0) as env:
        env.reset()
        env.action_space.seed(0)
        while "final_info" not in (infos := env.step(env.action_space.sample())[4]):
            pass
    np.testing.assert_array_equal(infos["_final_info"], infos["_final_obs"])
    np.testing.assert_array_equal(infos["final_info"]["episode"]["l"], infos["episode"]["l"])


GAMES: list[str] = []  # what a test has registered


@pytest.fixture(autouse=True)
def forget_games():
    """Other tests find the registry as it was: it is where a wrong id is looked up for the one that was meant."""
    yield
    while GAMES:
        gym.registry.pop(GAMES.pop(), None)


def game(name: str, **fields: Any) -> str:
    gym.registry.pop(name, None)
    GAMES.append(name)
    details = {"game": "pong", "frameskip": 1, "repeat_action_probability": 0.0} | fields.pop("kwargs", {})
    gym.register(name, entry_point="ale_py.env:AtariEnv", kwargs=details, **fields)
    return name


def negated(reward: float) -> float:
    return -reward


def test_wrappers_that_a_game_is_registered_with_are_there():
    wrapper = WrapperSpec("TransformReward", "gymnasium.wrappers:TransformReward", {"func": negated})
    with make_vec_env(game("NegatedPong-v0", additional_wrappers=(wrapper,)), 1, 0) as env:
        env.reset()
        assert sum(float(env.step(np.array([0]))[1][0]) for _ in range(150)) > 0


def test_a_time_limit_that_a_game_is_registered_with_counts_the_agents_steps():
    with make_vec_env(game("LimitedPong-v0", max_episode_steps=50), 1, 0) as env:
        env.reset()
        ends = [i for i in range(110) if env.step(np.array([0]))[3].any()]
    assert ends == [47, 95]  # two of the 50 start the game


@pytest.mark.parametrize(("skip", "frames"), [(1, 4), (4, 4), (2, 2), (8, 8)])
def test_a_frame_skip_that_a_game_is_registered_with_is_kept(skip, frames):
    with make_vec_env(game("SkippingPong-v0", kwargs={"frameskip": skip}), 1, 0, backend="sync") as env:
        env.reset()
        before = env.unwrapped.envs[0].unwrapped.ale.getFrameNumber()
        env.step(np.array([0]))
        assert env.unwrapped.envs[0].unwrapped.ale.getFrameNumber() - before == frames
    if frames != 4:
        with pytest.raises(UserError, match="backend=native"):
            make_vec_env("SkippingPong-v0", 1, 0, backend="native")


def test_ram_is_a_vector_and_continuous_actions_are_refused():
    with make_vec_env(game("RamPong-v0", kwargs={"obs_type": "ram"}), 2, 0) as env:
        assert env.reset()[0].shape == (2, 128)
        assert env.step(np.array([0, 1]))[0].dtype == np.uint8
    with pytest.raises(
        UserError, match=r"^--env=ContinuousPong-v0: continuous=True: a game's actions must be discrete"
    ):
        make_vec_env(game("ContinuousPong-v0", kwargs={"continuous": True}), 1, 0)


@pytest.mark.parametrize(("shape", "seen"), [((84, 84), (84, 84, 1)), ((36, 40), (36, 40, 1)), ((10, 10), (10, 10))])
def test_gray_pictures_get_a_channel_axis(shape, seen):
    space = gym.spaces.Box(0, 255, shape, np.uint8)
    with make_vec_env(registered(observation_space=space, first=(np.ones(shape, np.uint8), {})), 1, 0) as env:
        assert env.single_observation_space.shape == seen
        assert env.reset()[0].shape == (1, *seen)


def test_a_picture_in_a_dict_is_said_to_be_learned_as_a_vector(capsys):
    space = gym.spaces.Dict(camera=gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), speed=BOX)
    first = ({"camera": np.zeros((8, 8, 3), np.uint8), "speed": SEEN}, {})
    for _ in range(2):
        with make_vec_env(registered(observation_space=space, first=first), 2, 0) as env:
            assert env.reset()[0].shape == (2, 8 * 8 * 3 + 3)
    assert capsys.readouterr().err.count("--env=Odd-v0: its observations contain an image") == 1


@pytest.mark.parametrize("name", [".x:Y-v0", "..:Y-v0"])
def test_relative_modules_are_one_line(name):
    with pytest.raises(UserError, match=r"module .*: must be the whole name, such as package.module"):
        make_vec_env(name, 1, 0)


DTYPES = [np.float32, np.float64, np.float16, np.uint8, np.int8, np.int32, np.int64, np.uint32, np.bool_, np.complex64]
BOXES = st.builds(
    lambda shape, dtype: gym.spaces.Box(0, 1, tuple(shape), dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([dtype for dtype in DTYPES if dtype not in (np.bool_, np.complex64)]),
)
SPACES = st.recursive(
    BOXES
    | st.builds(gym.spaces.Discrete, st.integers(1, 4))
    | st.builds(gym.spaces.MultiBinary, st.integers(1, 4))
    | st.builds(gym.spaces.MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    lambda parts: (
        st.builds(lambda some: gym.spaces.Tuple(some), st.lists(parts, min_size=1, max_size=2))
        | st.builds(lambda some: gym.spaces.Dict(some), st.dictionaries(st.sampled_from("ab"), parts, min_size=1))
    ),
    max_leaves=3,
)
ARRAYS = st.builds(
    lambda shape, dtype: np.ones(tuple(shape), dtype), st.lists(st.integers(0, 3), max_size=3), st.sampled_from(DTYPES)
)
ANYTHING = ARRAYS | st.none() | st.text(max_size=3) | st.integers(-5, 5) | st.floats(width=32)
ANYTHING |= st.just({}) | st.just([]) | st.just(())
FIELDS = ["reward", "terminated", "truncated", "info"]
PLACES = ["observation of reset", "observation of step", *FIELDS, "step", "reset", "none"]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(space=SPACES, place=st.sampled_from(PLACES), odd=ANYTHING, seed=st.integers(0, 9))
def test_random_environments_keep_the_contract_or_are_named(space, place, odd, seed):
    space.seed(seed)
    right = space.sample()
    first: Any = (odd if place == "observation of reset" else right, {})
    returned: list[Any] = [odd if place == "observation of step" else right, 1.0, False, False, {}]
    if place in FIELDS:
        returned[1 + FIELDS.index(place)] = odd
    fields = {"observation_space": space, "first": odd if place == "reset" else first}
    fields["returned"] = odd if place == "step" else tuple(returned)
    try:
        with make_vec_env(registered(**fields), 2, 0, backend="sync") as env:
            batch = env.observation_space
            assert batch.shape == env.reset()[0].shape
            for _ in range(3):
                observations, rewards, terminated, truncated, _ = env.step(np.array([0, 1]))
                assert (observations.shape, observations.dtype) == (
                    env.observation_space.shape,
                    env.observation_space.dtype,
                )
                assert (rewards.shape, rewards.dtype) == ((2,), np.float32)
                assert (terminated.shape, terminated.dtype) == (truncated.shape, truncated.dtype) == ((2,), bool)
    except UserError as error:
        assert re.match(r"--env=Odd-v0: environment 0: (reset|step|observation_space): ", str(error))
        assert str(error).isprintable()
        assert place != "none" or 0 in (space.shape or ()) or not isinstance(space, gym.spaces.Box)
