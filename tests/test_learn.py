"""Claims about `learn` in Python: what an environment, a network and a callback may be, and how a model goes on."""

from __future__ import annotations

import gymnasium as gym
import keras
import numpy as np
import pytest

from baselines_acktr import a2c, evaluate, load
from baselines_acktr.callbacks import Callback, Callbacks, CheckpointCallback, EvalCallback, StopAtReward, Training
from common.errors import UserError
from common.logger import Logger
from common.vec_env import make_vec_env

SMALL = {"nsteps": 5, "hidden_sizes": (4,)}


class Line(gym.Env):
    """Walks along a line; its episodes end after `end` steps, and `reward` is that of each."""

    observation_space = gym.spaces.Box(-10, 10, (2,))
    action_space = gym.spaces.Discrete(2)
    state_attributes = ("at", "steps")
    closed = False

    def __init__(self, end: int = 4, reward: float = 1.0) -> None:
        self.end, self.reward = end, reward

    def observation(self) -> np.ndarray:
        return np.array([self.at, self.steps], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = int(self.np_random.integers(-2, 3)), 0
        return self.observation(), {}

    def step(self, action):
        self.at += 2 * int(action) - 1
        self.steps += 1
        return self.observation(), self.reward, self.steps >= self.end, False, {}

    def close(self) -> None:
        self.closed = True


gym.register("Line-v0", Line)


class Twice(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


class NoArguments(Callback):
    def after_update(self):
        pass


class Likeness:
    """Has a method of a callback."""

    def after_update(self, training):
        pass


@pytest.fixture(scope="module")
def trained() -> a2c.DiscreteModel:
    """A model for calls that are refused."""
    return a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, **SMALL)


def assert_same(model, other) -> None:
    expected, got = model.state(), other.state()
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_array_equal(expected[name], got[name], err_msg=name)


# -- environments -----------------------------------------------------------------------------------------------------


def test_an_id_a_function_a_class_and_a_vector_environment_train_the_same_model():
    def train(env, **options):
        return a2c.learn(env=env, seed=3, total_timesteps=40, **SMALL, **options)

    with make_vec_env("Line-v0", 2, seed=3) as env:
        expected = train(env)
    for given in ("Line-v0", Line, lambda: gym.make("Line-v0"), lambda: make_vec_env("Line-v0", 2, seed=3)):
        assert_same(train(given, num_env=2), expected)


def test_one_environment_is_trained_in_alone_and_stays_open():
    env = Line()
    model = a2c.learn(env=env, seed=3, total_timesteps=20, **SMALL)
    assert model.updates == 4
    assert not env.closed
    assert_same(model, a2c.learn(env="Line-v0", num_env=1, seed=3, total_timesteps=20, **SMALL))


def test_what_is_made_is_closed():
    made = []

    def make():
        made.append(Line())
        return made[-1]

    a2c.learn(env=make, num_env=2, total_timesteps=20, **SMALL)
    assert len(made) >= 2 and all(env.closed for env in made)


@pytest.mark.parametrize("env", ["Line-v0", Line], ids=["id", "class"])
def test_arguments_and_wrappers_reach_every_environment(env):
    scores = []
    a2c.learn(
        env=env,
        num_env=3,
        env_kwargs={"end": 2, "reward": 3.0},
        wrappers=Twice,
        total_timesteps=30,
        callback=Watch(scores),
        **SMALL,
    )
    assert len(scores) >= 9 and set(scores) == {2 * 2 * 3.0}


def test_wrappers_go_around_in_their_order():
    def plus_one(env):
        return gym.wrappers.TransformReward(env, lambda reward: reward + 1)

    with make_vec_env("Line-v0", 1, wrappers=[Twice, plus_one]) as env:
        env.reset(seed=0)
        assert env.step(np.array([1]))[1].tolist() == [2 * 1.0 + 1]
    with make_vec_env(Line, 1, wrappers=[plus_one, Twice]) as env:
        env.reset(seed=0)
        assert env.step(np.array([1]))[1].tolist() == [2 * (1.0 + 1)]


def test_the_registry_does_not_keep_arguments():
    with make_vec_env("Line-v0", 1, env_kwargs={"end": 9}) as env:
        assert env.arguments["env_kwargs"] == {"end": 9}
    with make_vec_env("Line-v0", 1, wrappers=Twice) as env:
        assert env.arguments == {}  # which would make another environment
    assert gym.registry["Line-v0"].kwargs == {}


def test_a_game_and_a_task_with_wrappers_are_not_run_by_the_native_backend_without_them():
    for env_id in ("PongNoFrameskip-v4", "Hopper-v5"):
        with make_vec_env(env_id, 1, wrappers=lambda env: gym.wrappers.TransformReward(env, lambda r: 7.0)) as env:
            env.reset(seed=0)
            assert env.step(np.zeros(env.action_space.shape, env.action_space.dtype))[1][0] in (1.0, 7.0)
        with pytest.raises(UserError, match="--env_backend=native: needs"):
            make_vec_env(env_id, 1, backend="native", wrappers=Twice)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": 3}, "env=3: must be the id of an environment, an environment, a vector environment, or a function"),
        ({"env": lambda: 3}, "env: the function returned 3; must be a gymnasium.Env"),
        ({"env": "Line-v0", "wrappers": lambda env: 3}, "wrappers: .* returned 3; must be a gymnasium.Env"),
        ({"env": "Line-v0", "env_kwargs": {"ends": 3}}, "--env_kwargs: Line-v0 has no argument ends. Did"),
        ({"env": Line(), "num_env": 2}, "num_env=2: env is one environment; give its id, or a function"),
        ({"env": Line(), "env_kwargs": {"end": 2}}, "env_kwargs: env is made already"),
        ({"env": "Line-v0", "num_env": 0}, "num_env=0: must be a whole number of at least 1"),
        ({"env": "Line-v0", "callback": 3}, "callback=3: must be a Callback, a function of the model, or a list"),
        ({"env": "Line-v0", "callback": [Callback]}, "callback=<class .*: must be a Callback, a function of the model"),
        ({"env": "Line-v0", "num_env": True}, "num_env=True: must be a whole number of at least 1"),
        ({"env": Line, "env_kwargs": {"ends": 3}}, "env_kwargs: Line: got an unexpected keyword argument 'ends'"),
        ({"env": Line, "env_kwargs": "end=3"}, "env_kwargs='end=3': must be a dict from names to values"),
        ({"env": "Line-v0", "env_kwargs": {3: 3}}, "env_kwargs={3: 3}: must be a dict from names to values"),
        ({"env": lambda seed: Line()}, r"env: <lambda>\(\): missing a required argument: 'seed'; what it needs is"),
        ({"env": "Line-v0", "wrappers": "Twice"}, "wrappers='Twice': must be one or several functions"),
        ({"env": Line, "wrappers": [3]}, r"wrappers=\[3\]: must be one or several functions"),
        ({"env": Line(), "wrappers": gym.wrappers.TimeLimit}, r"wrappers: TimeLimit\(env\): missing a required"),
        ({"env": "Line-v0", "logger": "logs"}, r'logger=logs: must be a Logger .* such as Logger\("logs"\)'),
        ({"env": "Line-v0", "logger": True}, "logger=True: must be a Logger of common.logger"),
        ({"env": "Line-v0", "log_interval": 0}, "log_interval=0: must be a whole number of at least 1"),
        ({"env": "Line-v0", "log_interval": "a"}, "log_interval='a': must be a whole number of at least 1"),
        ({"env": "Line-v0", "sync_check_interval": -1}, "sync_check_interval=-1: must be a whole number of at least 0"),
        ({"env": "Line-v0", "seed": True}, "seed=True: must be a whole number of at least 0 and at most 2147483647"),
        ({"env": "Line-v0", "resume": True}, "resume: has no effect without load_path="),
        ({"env": "Line-v0", "save_path": 3}, "save_path=3: must be a path"),
        ({"env": "Line-v0", "load_path": 3}, "load_path=3: must be a path"),
        ({"env": "Line-v0", "network": keras.Sequential()}, "network=<Sequential .*: is made already; give"),
        (
            {"env": "Line-v0", "callback": lambda local, globals: 0},
            r"callback: <lambda>\(model\): missing .* 'globals'",
        ),
        ({"env": "Line-v0", "callback": NoArguments()}, r"callback: NoArguments.after_update\(training\): too many"),
        ({"env": "Line-v0", "callback": Likeness()}, "callback=.*; its class must derive from"),
        ({"env": "Line-v0", "callback": EvalCallback("Nope-v1", 160)}, "EvalCallback's env=Nope-v1: no such env"),
        ({"env": "Line-v0", "callback": EvalCallback(None, 160)}, "EvalCallback's env=None: must be the id"),
        (
            {"env": "Line-v0", "callback": EvalCallback("CartPole-v1", 160)},
            "EvalCallback's env: its observation space",
        ),
    ],
)
def test_mistakes_are_one_line_before_anything_is_learned(options, message, monkeypatch):
    monkeypatch.setattr(a2c.DiscreteModel, "update", None)
    with pytest.raises(UserError, match=f"^{message}") as caught:
        a2c.learn(total_timesteps=1000, **SMALL, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -16, 0.5, "100", None, True, 10**400])
def test_timesteps_that_are_no_number_are_one_line(trained, wrong):
    with pytest.raises(UserError, match=r"^total_timesteps=.*: must be a whole number of at least 0$"):
        a2c.learn(env="Line-v0", total_timesteps=wrong, **SMALL)
    with pytest.raises(UserError, match=r"^timesteps=.*: must be a whole number of at least 0$"):
        trained.learn(wrong)


def test_timesteps_may_be_a_float_and_wrappers_none():
    model = a2c.learn(env="Line-v0", num_env=2, wrappers=None, total_timesteps=2e1, **SMALL)
    assert model.timesteps == 20


def test_several_wrappers_may_come_from_a_generator():
    scores = []
    wrappers = (one for one in [Twice, Twice])
    a2c.learn(env="Line-v0", num_env=2, wrappers=wrappers, total_timesteps=40, callback=Watch(scores), **SMALL)
    assert set(scores) == {16.0}


def test_a_vector_environment_is_taken_as_it_is():
    with make_vec_env("Line-v0", 2) as env:
        for options in ({"num_env": 3}, {"env_kwargs": {"end": 2}}, {"wrappers": Twice}):
            with pytest.raises(UserError, match="a vector environment is taken as it is"):
                a2c.learn(env=env, total_timesteps=20, **SMALL, **options)


def test_evaluate_takes_an_id_too():
    model = a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, **SMALL)
    for env in ("Line-v0", Line, Line(), lambda: make_vec_env("Line-v0", 2)):
        assert evaluate(model, env, 3).scores.tolist() == [4.0] * 3


# -- networks ---------------------------------------------------------------------------------------------------------


def test_a_network_may_be_any_callable():
    class Builder:
        def __call__(self, observation_space, config):
            inputs = keras.Input(observation_space.shape)
            return keras.Model(inputs, keras.layers.Dense(3, name="mine")(inputs))

    for network in (Builder(), Builder().__call__):
        model = a2c.learn(network=network, env="Line-v0", num_env=2, total_timesteps=10, nsteps=5)
        assert any(layer.name == "mine" for layer in model.policy.network._flatten_layers())


# -- going on ---------------------------------------------------------------------------------------------------------


def test_two_trainings_in_a_row_are_to_the_bit_one_of_both():
    constant = SMALL | {"lrschedule": "constant"}
    whole = a2c.learn(env="Line-v0", num_env=2, seed=3, total_timesteps=80, **constant)
    parts = a2c.learn(env="Line-v0", num_env=2, seed=3, total_timesteps=30, **constant)
    assert parts.learn(30) is parts
    parts.learn(20)
    assert parts.timesteps == 80
    assert_same(parts, whole)

    with make_vec_env("Line-v0", 2, seed=3) as env:
        parts = a2c.learn(env=env, seed=3, total_timesteps=30, **constant)
        evaluate(parts, env, 5)  # in the environment of the training, which goes on from where it was
        parts.learn(50)
    assert_same(parts, whole)


def test_a_loaded_model_goes_on_where_it_was_trained_or_in_what_is_given(tmp_path):
    path = str(tmp_path / "model")
    a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, save_path=path, **SMALL)
    model = load(path)
    model.learn(a2c.DiscreteModel.config_class.num_env * 5)
    assert model.updates == 3
    seen = []
    model.learn(10, env=Line, num_env=2, env_kwargs={"reward": 5.0}, callback=Watch(seen))
    assert model.updates == 4 and set(seen) <= {20.0}

    a2c.learn(env=Line, num_env=2, total_timesteps=20, save_path=path, **SMALL)
    with pytest.raises(UserError, match=r"^env: missing; the model does not say what it was trained on"):
        load(path).learn(10)


def test_mistakes_of_going_on_are_named():
    model = a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, **SMALL)
    for arguments, message in (
        ((3,), "timesteps=3: must be 0, or at least one batch of 10"),
        ((10, "CartPole-v1"), "env: its observation space is .*; that of the model is "),
    ):
        with pytest.raises(UserError, match=message):
            model.learn(arguments[0], env=arguments[1] if arguments[1:] else None)
    for arguments, message in (
        ({"num_env": 3}, "num_env, env_kwargs, wrappers: have no effect without env="),
        ({"lr": 0.1}, "lr: a model keeps its hyperparameters; save it, and give load_path= and lr="),
        ({"logers": None}, "logers: unknown argument; must be one of env, .*, progress. Did you mean logger?"),
        ({"logger": "logs"}, "logger=logs: must be a Logger"),
    ):
        with pytest.raises(UserError, match=f"^{message}"):
            model.learn(10, **arguments)
    alone = a2c.DiscreteModel(Line.observation_space, Line.action_space, "mlp", model.config)
    with pytest.raises(UserError, match=r"^learn: only a model that"):
        alone.learn(10)


@pytest.mark.parametrize("path", ["folder", "folder/", "file/model", "x" * 300])
def test_a_path_that_no_model_can_be_saved_to_is_refused_before_anything_is_learned(trained, path, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = f"{tmp_path}/{path}"
    message = rf"^save_path={tmp_path}/.*: (is a folder|cannot be written)"
    learned = []
    with pytest.raises(UserError, match=message):
        a2c.learn(env="Line-v0", total_timesteps=1000, save_path=path, callback=learned.append, **SMALL)
    with pytest.raises(UserError, match=message):
        trained.learn(10, save_path=path, callback=learned.append)
    assert learned == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"env": "CartPole-v1"},
        {"env": lambda: 1 / 0},
        {"env": "Nope-v1"},
        {"env": Line, "num_env": 300},
        {"env": Line, "num_env": 1, "callback": EvalCallback("CartPole-v1", 10)},
    ],
    ids=["other spaces", "fails", "unknown", "larger batch", "refused by a callback"],
)
def test_a_refused_call_leaves_the_model_as_it_was(arguments):
    model, other = (a2c.learn(env="Line-v0", num_env=2, seed=3, total_timesteps=30, **SMALL) for _ in range(2))
    with pytest.raises((UserError, ZeroDivisionError)):
        model.learn(10, **arguments)
    assert model.env_arguments == other.env_arguments
    assert_same(model.learn(20), other.learn(20))


def test_large_spaces_are_named_in_one_line(trained):
    class Large(Line):
        observation_space = gym.spaces.Box(-np.arange(1, 51, dtype=np.float32), np.arange(50, dtype=np.float32))

    with pytest.raises(UserError, match=r"^env: its observation space is Box.*; that of the model is Box") as caught:
        trained.learn(10, env=Large)
    assert "\n" not in str(caught.value)


def test_a_training_that_has_failed_goes_on_where_it_has_learned():
    class Fails(Callback):
        def after_update(self, training):
            raise RuntimeError

    scores = []
    model = a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, **SMALL)
    with pytest.raises(RuntimeError):
        model.learn(20, env=Line, num_env=2, env_kwargs={"reward": 5.0}, callback=Fails())
    model.learn(20, callback=Watch(scores))
    assert set(scores) == {20.0}


# -- callbacks --------------------------------------------------------------------------------------------------------


class Watch(Callback):
    """Notes the scores of all episodes of a training."""

    def __init__(self, scores: list) -> None:
        self._scores = scores

    def on_end(self, training: Training) -> None:
        self._scores += training.episode_rewards


class Steps(Callback):
    """Notes what is called, and ends the training after some updates."""

    def __init__(self, stop: int = 10**6) -> None:
        self.calls, self._stop = [], stop

    def on_start(self, training):
        assert training.rollout is None and training.batch == 10 and training.total_timesteps == 60
        self.calls.append("start")

    def after_rollout(self, training):
        assert training.rollout.rewards.shape == (5, 2)
        self.calls.append(f"rollout {training.model.updates}")

    def after_update(self, training):
        assert training.metrics["policy_entropy"] > 0
        self.calls.append(f"update {training.model.updates}")
        return training.model.updates == self._stop

    def on_end(self, training):
        self.calls.append("end")


def test_callbacks_are_called_in_order_and_any_of_them_ends_the_training():
    first, second, counted = Steps(stop=2), Steps(), []
    model = a2c.learn(
        env="Line-v0", num_env=2, total_timesteps=60, callback=[first, second, lambda m: counted.append(m)], **SMALL
    )
    assert model.updates == 2
    assert first.calls == ["start", "rollout 0", "update 1", "rollout 1", "update 2", "end"]
    assert second.calls == first.calls
    assert counted == [model] * 2


def test_training_stops_at_a_reward():
    model = a2c.learn(env="Line-v0", num_env=2, total_timesteps=2000, callback=StopAtReward(4.0), **SMALL)
    assert model.timesteps == 400  # 100 episodes of four steps
    model = a2c.learn(env="Line-v0", num_env=2, total_timesteps=500, callback=StopAtReward(4.1), **SMALL)
    assert model.timesteps == 500


def test_checkpoints_are_written_every_so_many_timesteps(tmp_path):
    callback = CheckpointCallback(tmp_path / "saved", interval=25)
    a2c.learn(env="Line-v0", num_env=2, total_timesteps=60, callback=callback, **SMALL)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "model-000000030.model",
        "model-000000050.model",
    ]
    assert load(str(tmp_path / "saved" / "model-000000030.model")).timesteps == 30


def test_what_a_callback_logs_is_a_row_with_the_numbers_of_its_update(tmp_path):
    class Note(Callback):
        def after_update(self, training):
            if training.model.updates == 3:
                training.logger.log({"mine": 7})

    with Logger(tmp_path, ["json"]) as logger:
        a2c.learn(env="Line-v0", num_env=2, total_timesteps=60, callback=Note(), logger=logger, **SMALL)
    rows = [line for line in (tmp_path / "progress.json").read_text().splitlines() if '"mine"' in line]
    assert len(rows) == 1 and '"nupdates": 3' in rows[0] and '"mine": 7' in rows[0]


def test_learning_is_quiet_unless_a_progress_bar_is_asked_for(capfd):
    a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, **SMALL)
    assert capfd.readouterr() == ("", "")
    a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, progress=True, **SMALL)
    out, err = capfd.readouterr()
    assert out == "" and "20/20" in err and "eprewmean=4" in err


def test_the_state_of_callbacks_is_kept_by_their_class_and_number():
    class Kept(Callback):
        def __init__(self, number: int) -> None:
            self.number = number

        def state(self):
            return {"number": np.array(self.number)}

        def set_state(self, arrays):
            self.number = int(arrays["number"])

    saved = Callbacks([Kept(1), Callback(), Callbacks([Kept(2)])]).state()
    assert sorted(saved) == ["Kept-0/number", "Kept-1/number"]
    first, second, third = Kept(0), Kept(0), Kept(0)
    Callbacks([first, second, third]).set_state(saved)
    assert (first.number, second.number, third.number) == (1, 2, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvalCallback("Line-v0", 0), "interval=0: must be a whole number of at least 1"),
        (lambda: EvalCallback("Line-v0", 10, episodes=0), "episodes=0: must be a whole number of at least 1"),
        (lambda: EvalCallback("Line-v0", True), "interval=True: must be a whole number of at least 1"),
        (lambda: EvalCallback("Line-v0", 10, folder=3), "folder=3: must be a path"),
        (lambda: CheckpointCallback("saved", 0.5), "interval=0.5: must be a whole number of at least 1"),
        (lambda: CheckpointCallback(None, 10), "folder=None: must be a path"),
        (lambda: StopAtReward("195"), "reward='195': must be a finite number"),
        (lambda: StopAtReward(None), "reward=None: must be a finite number"),
        (lambda: StopAtReward(float("nan")), "reward=nan: must be a finite number"),
    ],
)
def test_mistakes_of_callbacks_are_named(make, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make()


def test_a_callback_that_returns_an_array_is_named():
    def scores(model):
        return np.zeros(3)

    with pytest.raises(UserError, match=r"^callback scores: returned \[0. 0. 0.\]; must be True, which ends"):
        a2c.learn(env="Line-v0", num_env=2, total_timesteps=20, callback=scores, **SMALL)


def test_evaluation_in_the_environment_of_the_training_is_refused():
    message = "^EvalCallback's env: is that of the training"
    with make_vec_env("Line-v0", 2) as env, pytest.raises(UserError, match=message):
        a2c.learn(env=env, total_timesteps=20, callback=EvalCallback(env, 10), **SMALL)
    alone = Line()
    with pytest.raises(UserError, match=message):
        a2c.learn(env=alone, total_timesteps=20, callback=EvalCallback(alone, 10), **SMALL)


class Strict(gym.Env):
    """Takes actions of its space alone, types included."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, action_space: gym.Space) -> None:
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.zeros(2, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3, dtype=np.uint8),
        gym.spaces.Discrete(3, start=2, dtype=np.int8),
        gym.spaces.Discrete(3, start=-2),
        gym.spaces.MultiDiscrete([3, 2], dtype=np.uint8),
        gym.spaces.MultiDiscrete([3, 2], start=[1, 0], dtype=np.int32),
    ],
)
def test_actions_have_the_type_of_their_space(space):
    model = a2c.learn(env=lambda: Strict(space), num_env=2, nsteps=4, total_timesteps=8)
    action, _ = model.predict(np.zeros(2, np.float32))
    assert space.contains(action)
