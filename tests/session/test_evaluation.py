"""Claims about evaluation: training does not notice it, and it keeps the best model."""

from __future__ import annotations

import csv
import functools
import json
import random
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from mpi_helpers import finish, start

import run
from baselines_acktr import a2c, acktr_cont, evaluate, load
from baselines_acktr.callbacks import BEST, EVALUATIONS, CheckpointCallback, EvalCallback
from baselines_acktr.evaluation import Evaluation
from baselines_acktr.session import checkpoints
from common import array_file
from common.errors import UserError
from common.random_state import rank_seed
from common.vec_env import make_vec_env

pytestmark = pytest.mark.long
FLAGS = ["--alg=a2c", "--env=CartPole-v1", "--num_env=2", "--nsteps=5", "--hidden_sizes=8", "--seed=3"]
FLAGS += ["--log_interval=7", "--log_format=csv,json,log", "--save_interval=5", "--lr=0.02", "--lrschedule=constant"]
BATCH = 10
EVALUATED = ["--eval_interval=40", "--eval_episodes=3"]
CASES = {
    "discrete": (a2c.learn, "CartPole-v1", {"nsteps": 5, "hidden_sizes": (8,)}, 10),
    "continuous": (a2c.learn, "Pendulum-v1", {"timesteps_per_batch": 20, "hidden_sizes": (8,)}, 20),
    "K-FAC": (
        acktr_cont.learn,
        "Pendulum-v1",
        {"timesteps_per_batch": 20, "hidden_sizes": (8,), "inverses": "inline", "vf_iters": 2},
        20,
    ),
}


def evaluations(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / EVALUATIONS) as file:
        return dict(file)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "progress.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "fps"} for row in csv.DictReader(file)]


# -- training does not notice it --------------------------------------------------------------------------------------


def train_and_draw(case: str, callback: EvalCallback | None) -> tuple[dict[str, np.ndarray], list[float]]:
    """The state after six updates, and what is drawn next, from the process and from the environments."""
    learn, env_id, hyperparameters, batch = CASES[case]
    random.seed(1)
    np.random.seed(1)
    with make_vec_env(env_id, 2, seed=5) as env:
        model = learn(env=env, seed=5, total_timesteps=6 * batch, callback=callback, **hyperparameters)
        drawn = [random.random(), float(np.random.rand()), *env.step(env.action_space.sample() * 0)[1].tolist()]
    return model.state(), drawn


@pytest.fixture(scope="module")
def without_evaluations():
    """What `train_and_draw` returns for a case without a callback, trained when it is first asked for."""
    return functools.cache(lambda case: train_and_draw(case, None))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
def test_a_training_with_evaluations_is_to_the_bit_the_one_without(without_evaluations, case, greedy):
    _, env_id, _, batch = CASES[case]
    evaluation = EvalCallback(lambda: make_vec_env(env_id, 2), 2 * batch, episodes=2, greedy=greedy)
    expected, drawn = without_evaluations(case)
    got, drawn_beside = train_and_draw(case, evaluation)
    assert evaluation.timesteps == [2 * batch, 4 * batch, 6 * batch]
    assert drawn == drawn_beside
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_array_equal(expected[name], got[name], err_msg=name)


class Careless(gym.Env):
    """Draws from the generators of the process, as environments should not, and asks for its reset to do so too."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.left = 1 + random.randrange(3)
        return np.random.uniform(-1, 1, 1).astype(np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.random.uniform(-1, 1, 1).astype(np.float32), np.random.rand(), self.left == 0, False, {}


gym.register("Careless-v0", Careless)


def test_environments_that_draw_from_the_process_play_the_same_games_and_leave_it_as_it_was():
    with make_vec_env("CartPole-v1", 2) as env:
        model = a2c.learn(env=env, seed=1, total_timesteps=10, nsteps=5, hidden_sizes=(4,))
    with make_vec_env("Careless-v0", 2) as env:
        careless = a2c.learn(env=env, seed=1, total_timesteps=10, nsteps=5, hidden_sizes=(4,))
        random.seed(2)
        np.random.seed(2)
        expected = random.getstate(), np.random.get_state()[1].tolist()
        first, second = (evaluate(careless, env, 4, greedy=False, seed=7) for _ in range(2))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == expected
    np.testing.assert_array_equal(first, second)
    assert model.timesteps == 10


# -- evaluate ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> a2c.DiscreteModel:
    with make_vec_env("CartPole-v1", 2, 0) as env:
        return a2c.learn(env=env, seed=0, total_timesteps=20, nsteps=5, hidden_sizes=(4,))


def test_evaluate_says_nothing_and_returns_scores_and_lengths(model, capfd):
    with make_vec_env("CartPole-v1", 3) as env:
        scores, lengths = evaluate(model, env, episodes=7, seed=1)
    assert capfd.readouterr() == ("", "")
    assert scores.shape == lengths.shape == (7,)
    assert scores.dtype == np.float64 and lengths.dtype == np.int64
    np.testing.assert_array_equal(scores, lengths)  # CartPole's reward is 1 for each step
    assert scores.min() >= 8


def test_sampled_games_follow_from_the_seed_and_differ_from_greedy_ones(model):
    def play(**options) -> Evaluation:
        with make_vec_env("CartPole-v1", 2) as env:
            return evaluate(model, env, 6, **options)

    np.testing.assert_array_equal(play(greedy=False, seed=1), play(greedy=False, seed=1))
    assert not np.array_equal(play(greedy=False, seed=1), play(greedy=False, seed=2))
    assert not np.array_equal(play(greedy=False, seed=1), play(seed=1))
    before = {name: array.copy() for name, array in model.state().items()}
    assert not np.array_equal(play(greedy=False), play(greedy=False))
    for name, array in model.state().items():
        np.testing.assert_array_equal(before[name], array)


@pytest.mark.parametrize("episodes", [0, -1, 2.5, "3", True])
def test_a_number_of_episodes_that_is_none_is_named(model, episodes):
    with make_vec_env("CartPole-v1", 1) as env, pytest.raises(UserError, match=r"^episodes=.*: must be a whole number"):
        evaluate(model, env, episodes)


@pytest.mark.parametrize("seed", ["3", 1.5, -1, True])
def test_a_seed_that_is_none_is_named_and_the_model_draws_on_as_before(model, seed):
    before = model.policy.sampler.state()[""]
    with pytest.raises(UserError, match=r"^seed=.*: must be a whole number of at least 0$"):
        evaluate(model, "CartPole-v1", 1, seed=seed)
    np.testing.assert_array_equal(model.policy.sampler.state()[""], before)


@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_whole_numbers_of_numpy_are_taken(model, kind, tmp_path):
    expected = evaluate(model, "CartPole-v1", 2, seed=3)
    np.testing.assert_array_equal(evaluate(model, "CartPole-v1", kind(2), seed=kind(3)), expected)
    EvalCallback("CartPole-v1", kind(40), episodes=kind(2))
    CheckpointCallback(tmp_path, kind(40))


@pytest.mark.parametrize("interval", [0, 2.5, True, "40"])
def test_an_interval_that_is_none_is_named(interval, tmp_path):
    for make in (lambda: EvalCallback("CartPole-v1", interval), lambda: CheckpointCallback(tmp_path, interval)):
        with pytest.raises(UserError, match=r"^interval=.*: must be a whole number of at least 1$"):
            make()


def test_what_is_no_model_is_named(model):
    for wrong, env in (("zoo:CartPole-v1", "CartPole-v1"), ("CartPole-v1", model)):
        with pytest.raises(UserError, match=rf"^model={wrong}: must be a model, such as baselines_acktr.load gives"):
            evaluate(wrong, env)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCar-v0", "Acrobot-v1"])
def test_an_environment_of_other_spaces_is_named(model, env_id):
    with pytest.raises(UserError, match=r"^env: its observation space is Box\(.*; that of the model is Box\("):
        evaluate(model, env_id)


def test_an_environment_of_other_actions_is_named(model):
    def more_actions() -> gym.Env:
        env = gym.make("CartPole-v1")
        env.action_space = gym.spaces.Discrete(3)
        return env

    with pytest.raises(UserError, match=r"^env: its action space is Discrete\(3\); that of the model is Discrete\(2\)"):
        evaluate(model, more_actions)


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    assert run.main([*FLAGS, *EVALUATED, f"--num_timesteps={20 * BATCH}", f"--log_path={folder}"]) == 0
    return folder


def test_evaluations_have_the_fields_of_stable_baselines3(straight):
    found = evaluations(straight)
    assert found.keys() == {"timesteps", "results", "ep_lengths"}
    assert found["timesteps"].tolist() == [40, 80, 120, 160, 200]
    assert found["results"].shape == found["ep_lengths"].shape == (5, 3)
    np.testing.assert_array_equal(found["results"], found["ep_lengths"])


def test_every_log_has_mean_deviation_and_number_of_games(straight):
    found = evaluations(straight)["results"]
    expected = {"eval/mean": found.mean(axis=1), "eval/std": found.std(axis=1), "eval/episodes": [3] * 5}
    lines = [json.loads(line) for line in (straight / "progress.json").read_text().splitlines()]
    for name, values in expected.items():
        in_csv = [float(row[name]) for row in rows(straight) if row[name]]
        np.testing.assert_array_equal(in_csv, values)
        np.testing.assert_array_equal([line[name] for line in lines if name in line], values)
        assert (straight / "log.txt").read_text().count(f"| {name} ") == 5
    assert [row["nupdates"] for row in rows(straight)] == ["1", "4", "7", "8", "12", "14", "16", "20"]


def test_the_best_model_is_the_best_of_the_evaluations_and_plays_the_same_games_again(straight):
    found = evaluations(straight)
    k = int(found["results"].mean(axis=1).argmax())
    best, newest = load(str(straight), best=True), load(str(straight))
    assert best.timesteps == found["timesteps"][k]
    assert newest.timesteps == 20 * BATCH
    with make_vec_env("CartPole-v1", 2) as env:
        again = evaluate(best, env, 3, seed=rank_seed(best.seed, -1))
    np.testing.assert_array_equal(again.scores, found["results"][k])


def test_evaluations_of_an_interrupted_run_go_on_where_they_were(straight, tmp_path, monkeypatch):
    argv = [*FLAGS, *EVALUATED, f"--num_timesteps={20 * BATCH}", f"--log_path={tmp_path}"]
    with monkeypatch.context() as patch:  # after an evaluation that no regular report comes with
        patch.setattr(run, "after_update", lambda *arguments: lambda model: model.updates == 12)
        assert run.main(argv) == 0
    assert evaluations(tmp_path)["timesteps"].tolist() == [40, 80, 120]
    np.savez(tmp_path / EVALUATIONS, timesteps=[1], results=[[1]], ep_lengths=[[1]])  # as a killed run may leave it
    assert run.main(["--resume", f"--log_path={tmp_path}"]) == 0

    expected, got = evaluations(straight), evaluations(tmp_path)
    for name in expected:
        np.testing.assert_array_equal(expected[name], got[name])
    assert rows(tmp_path) == rows(straight)
    np.testing.assert_equal(*(array_file.load(folder / BEST)[0] for folder in (straight, tmp_path)))


def test_a_longer_run_has_the_rows_of_one_that_was_as_long_from_the_start(straight, tmp_path):
    argv = [*FLAGS, *EVALUATED, f"--log_path={tmp_path}"]
    assert run.main([*argv, f"--num_timesteps={16 * BATCH}"]) == 0
    assert run.main(["--resume", f"--log_path={tmp_path}", f"--num_timesteps={20 * BATCH}"]) == 0
    assert rows(tmp_path) == rows(straight)


def test_a_run_that_goes_on_from_a_model_in_the_same_folder_adds_to_its_evaluations(tmp_path, capsys):
    argv = [*FLAGS, *EVALUATED, f"--log_path={tmp_path}"]
    assert run.main([*argv, "--num_timesteps=80"]) == 0
    before = evaluations(tmp_path)
    more = [*argv, "--num_timesteps=160", f"--load_path={tmp_path}"]
    assert run.main(more) == 0
    after = evaluations(tmp_path)
    assert after["timesteps"].tolist() == [40, 80, 120, 160]
    for name in before:
        np.testing.assert_array_equal(after[name][:2], before[name])
    assert load(str(tmp_path), best=True).timesteps == after["timesteps"][after["results"].mean(axis=1).argmax()]


@pytest.mark.parametrize("damage", [lambda data: b"no such file", lambda data: data[:-30], lambda data: b""])
def test_evaluations_that_cannot_be_gone_on_with_are_moved_aside(model, tmp_path, capsys, damage):
    with make_vec_env("CartPole-v1", 1) as env:
        timesteps = model.timesteps
        model.learn(5, env=env, callback=EvalCallback("CartPole-v1", 5, 2, folder=tmp_path))
        path = tmp_path / EVALUATIONS
        damaged = damage(path.read_bytes())
        path.write_bytes(damaged)
        model.learn(5, env=env, callback=EvalCallback("CartPole-v1", 5, 2, folder=tmp_path))
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{path}: cannot be gone on with: ")
        assert (tmp_path / f"{EVALUATIONS}.earlier").read_bytes() == damaged

        model.learn(5, env=env, callback=EvalCallback("CartPole-v1", 5, 3, folder=tmp_path))
        assert "its evaluations have 2 games, not 3; it is now" in capsys.readouterr().err
    assert evaluations(tmp_path)["results"].shape == (1, 3)
    assert model.timesteps == timesteps + 15


def test_a_resumed_run_cannot_play_another_number_of_games(straight, capsys):
    argv = ["--resume", f"--log_path={straight}", "--num_timesteps=400", "--eval_episodes=4"]
    assert run.main(argv) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "run.py: --eval_episodes=4: the run to be resumed has 3"


def test_a_new_run_moves_the_evaluations_of_an_earlier_one_away(tmp_path):
    argv = [*FLAGS, "--num_timesteps=40", f"--log_path={tmp_path}"]
    assert run.main([*argv, *EVALUATED]) == 0
    assert run.main(argv) == 0
    assert not (tmp_path / EVALUATIONS).exists() and not (tmp_path / BEST).exists()
    (moved,) = tmp_path.glob("run-*")
    assert (moved / EVALUATIONS).exists() and (moved / BEST).exists()


def test_an_interval_that_no_batch_ends_at_has_its_last_evaluation_at_the_end(tmp_path):
    argv = [*FLAGS, "--num_timesteps=64", f"--log_path={tmp_path}", "--eval_interval=32", "--eval_episodes=1"]
    assert run.main(argv) == 0
    assert evaluations(tmp_path)["timesteps"].tolist() == [30, 60]


def test_evaluations_on_a_disk_that_takes_none_are_said_and_the_run_goes_on(tmp_path, capsys):
    (tmp_path / EVALUATIONS).mkdir()
    (tmp_path / EVALUATIONS / "file").touch()
    folder = EvalCallback(lambda: make_vec_env("CartPole-v1", 1), 10, 1, folder=tmp_path)
    with make_vec_env("CartPole-v1", 2, 0) as env:
        model = a2c.learn(env=env, total_timesteps=20, nsteps=5, hidden_sizes=(4,), callback=folder)
    assert model.updates == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.endswith("the run goes on") for line in lines)


def test_two_ranks_share_the_games(tmp_path):
    argv = [*FLAGS, f"--num_timesteps={8 * BATCH}", f"--log_path={tmp_path}", "--eval_interval=40", "--eval_episodes=3"]
    code, _, errors = finish(start(2, "run.py", *argv))
    assert code == 0, errors
    found = evaluations(tmp_path)
    assert found["timesteps"].tolist() == [40, 80]
    best = load(str(tmp_path), best=True)
    k = int(found["results"].mean(axis=1).argmax())
    assert best.timesteps == found["timesteps"][k]
    with make_vec_env("CartPole-v1", 2) as env:
        parts = [evaluate(best, env, 2 - rank, seed=rank_seed(best.seed, -1 - rank)).scores for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), found["results"][k])


# -- without evaluations, and mistakes --------------------------------------------------------------------------------


def test_without_evaluations_the_best_is_that_of_the_training_episodes(tmp_path):
    folder = tmp_path / checkpoints.FOLDER

    def state(updates: int, score: float) -> checkpoints.RunState:
        model = ({"x": np.array([updates], np.float32)}, {})
        return checkpoints.RunState(updates, 10 * updates, score, model, ({}, {}))

    def best() -> int:
        return int(array_file.load(tmp_path / BEST)[0]["x"][0])

    with checkpoints.CheckpointManager(folder, keep=1, best=tmp_path / BEST) as keeper:
        keeper.save(state(1, float("nan")), wait=True)
        assert not (tmp_path / BEST).exists()
        for updates, score, expected in ((2, 5.0, 2), (3, 4.0, 2), (4, 6.0, 4), (5, 6.0, 4)):
            keeper.save(state(updates, score), wait=True)
            assert best() == expected
    with checkpoints.CheckpointManager(folder, keep=1, best=tmp_path / BEST, start=5) as keeper:
        for updates, score, expected in ((6, 5.9, 4), (7, 6.1, 7)):
            keeper.save(state(updates, score), wait=True)
            assert best() == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--eval_interval=-1"], "--eval_interval=-1: must be at least 0"),
        (["--eval_interval=10", "--eval_episodes=0"], "--eval_episodes=0: must be at least 1"),
        (["--eval_episodes=3"], "--eval_episodes: has no effect without --eval_interval"),
        (["--eval_sampled"], "--eval_sampled: has no effect without --eval_interval"),
        (["--eval_interval=10", "--num_timesteps=0"], "--eval_interval: has no effect without training"),
        (["--best"], "--best: takes the best model of a log folder, so it needs --load_path=FOLDER"),
        (["--best", "--resume"], "--best: takes the best model of a log folder, so it needs --load_path=FOLDER"),
        (["--best", "--load_path={empty}"], "--load_path={empty}: has no best.model yet; a run writes it"),
        (["--best", "--load_path={empty}/no"], "--load_path={empty}/no: must be the log folder of a run"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(flags, message, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    argv = [*FLAGS, f"--log_path={tmp_path}/logs", *flags]
    assert run.main([word.format(empty=empty) for word in argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"run.py: {message.format(empty=empty)}")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_run_plays_the_best_model_of_a_folder(straight, capsys):
    assert run.main([f"--load_path={straight}", "--best", "--play", "--play_episodes=1"]) == 0
    assert f"loading {straight}/{BEST}" in capsys.readouterr().err
