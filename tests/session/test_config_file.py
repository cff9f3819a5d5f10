"""Claims about settings that come from a file, about those that suit an environment, and about its arguments."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hostile_files import small_model

import run
from baselines_acktr.agent.schema import check_description
from baselines_acktr.session.learners import DISCRETE
from baselines_acktr.session.provenance import from_config_file
from baselines_acktr.session.settling import settle
from common import assignments
from common.errors import UserError
from common.vec_env import make_vec_env

SMALL = ["--alg=a2c", "--num_env=2", "--nsteps=5", "--hidden_sizes=8", "--num_timesteps=20"]


def write(folder, text, name="settings.yaml"):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_wins_over_the_defaults_and_what_is_typed_over_the_file(tmp_path):
    path = write(tmp_path, "env: CartPole-v1\nnum-env: 4\nlr: 1e-1\nhidden_sizes: [32, 16]\nplay: no\nseed: null\n")
    settings = settle({"config": path, "nsteps": 7}).with_learner(DISCRETE, {})
    values = settings.values()
    assert (values["num_env"], values["lr"], values["hidden_sizes"], values["nsteps"]) == (4, 0.1, (32, 16), 7)

    origins = settings.origins
    assert {origins[name] for name in ("env", "num_env", "lr", "hidden_sizes")} == {"config file"}
    assert (origins["nsteps"], origins["damping"], origins["seed"]) == ("command line", "default", "drawn")
    assert settle({"config": path, "lr": 0.3}).with_learner(DISCRETE, {}).config.lr == 0.3


def test_all_in_a_file_is_none_in_the_config_and_zero_in_run_json(tmp_path):
    path = write(tmp_path, "env: Acrobot-v1\nfisher_rows: all\n")
    settings = settle({"config": path}).with_learner(DISCRETE, {})
    assert settings.config.fisher_rows is None
    assert settings.values()["fisher_rows"] == 0


def test_where_values_came_from_is_said(tmp_path):
    path = write(tmp_path, "env: CartPole-v1\nhidden_sizes: [32, 16]\n")
    settings = settle({"config": path, "lr": 0.3}).with_learner(DISCRETE, {})
    assert from_config_file(settings) == f"from {path}: --env=CartPole-v1 --hidden_sizes=32,16"
    assert from_config_file(settle({"env": "Acrobot-v1"}).with_learner(DISCRETE, {})) is None


def test_a_run_is_repeated_from_its_run_json(tmp_path, capfd):
    first, second = tmp_path / "first", tmp_path / "second"
    argv = ["--env=CartPole-v1", "--seed=3", "--log_format=csv", "--log_interval=1", *SMALL]
    assert run.main([*argv, "--lr=0.3", f"--log_path={first}", f"--save_path={first}/model"]) == 0
    assert run.main([f"--config={first}/run.json", f"--log_path={second}"]) == 0
    assert f"from {first}/run.json: " in capfd.readouterr().err

    texts = [(folder / "progress.csv").read_text().splitlines() for folder in (first, second)]
    columns = texts[0][0].split(",")
    kept = [i for i, column in enumerate(columns) if column != "fps"]
    rows = [[[line.split(",")[i] for i in kept] for line in text] for text in texts]
    assert len(rows[0]) == 3 and rows[0] == rows[1]
    assert not (second / "model").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: fast\n", "--lr=fast: must be a finite number"),
        ("lr: -1\n", "--lr=-1.0: must be above 0"),
        ("learning_rate: 1\n", "--learning_rate: unknown flag. Did you mean --lr?"),
        ("n_epochs: 4\n", "--n_epochs: unknown flag. It belongs to PPO"),
        ("hidden_sizes: [a]\n", "--hidden_sizes=a: each of its parts"),
        ("lr: {a: 1}\n", "lr: {'a': 1}: must be a number, text"),
        ("hidden_sizes: [[1]]\n", "hidden_sizes: [[1]]: must be a number, text"),
        ("lr: [1\n", "is no YAML"),
        ("!!python/object/apply:os.system [true]\n", "is no YAML"),
        ("- lr\n", "must be flags with their values, one a line, such as lr: 0.5"),
        ("", "must be flags with their values"),
        ("[" * 5000, "is no YAML"),
        ("a: " + "x" * 2**20, "is too large"),
        ("save_path: x\n", "save_path: where files are"),
        ("trust: true\n", "trust: where files are"),
        ("config: x\n", "config: where files are"),
        ("env: mine:Game-v0\n", "its env is mine:Game-v0, which would run code of that module"),
        ("network: mine:build\n", "its network is mine:build, which would run code of that module"),
        ("vf_iters: 5\n", "--vf_iters: acktr with discrete actions does not have it"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_the_file(tmp_path, capfd, text, message):
    path = write(tmp_path, text)
    assert run.main([f"--config={path}", "--env=CartPole-v1" if "env:" not in text else "--seed=1"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and message in err
    assert f"--config={path}: " in err or "--lr=-1.0" in err, err
    assert len(err) < 1000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", "damaged"),
        ("run.json", "{}", "settings: missing"),
        ("run.json", json.dumps({"settings": {"lr": 1}}), "must be an object"),
        ("run.json", json.dumps({"settings": {"env": {"value": "x:Y", "from": "default"}}}), "would run code"),
    ],
)
def test_a_run_json_of_a_stranger_is_looked_at_first(tmp_path, capfd, name, content, message):
    path = write(tmp_path, content, name)
    assert run.main([f"--config={path}"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and message in err and str(path) in err


@pytest.mark.parametrize("name", ["nothing.yaml", "."])
def test_a_file_that_is_not_there_is_one_line(tmp_path, capfd, name):
    assert run.main([f"--config={tmp_path / name}", "--env=CartPole-v1"]) == 2
    assert "cannot be read: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("gravity=-5,continuous=true", {"gravity": -5, "continuous": True}),
        ("a=1.5, b=text, c=null, d=True", {"a": 1.5, "b": "text", "c": None, "d": True}),
        ('{"goal": [1, 2], "name": "a,b"}', {"goal": [1, 2], "name": "a,b"}),
        ("a=NaN", {"a": "NaN"}),
        ("a=x=y", {"a": "x=y"}),
    ],
)
def test_arguments_are_read_and_written(text, values):
    assert assignments.parse(text, "--env_kwargs") == values
    assert assignments.parse(assignments.unparse(values), "--env_kwargs") == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gravity", "must be name=value"),
        ("a=1,,", "must be name=value"),
        ("{", "is no JSON object"),
        ('{"a": NaN}', "is no JSON object"),
        ('{"a b": 1}', "a b: must be the name of an argument"),
        ("1a=1", "1a: must be the name of an argument"),
    ],
)
def test_arguments_that_cannot_be_read_are_one_line(text, message):
    with pytest.raises(UserError, match=message):
        assignments.parse(text, "--env_kwargs")


@pytest.mark.parametrize("backend", ["sync", "subproc"])
def test_an_environment_is_made_with_its_arguments(backend):
    with make_vec_env("FrozenLake-v1", 1, 0, backend=backend, env_kwargs={"map_name": "8x8"}) as env:
        assert env.single_observation_space.shape == (64,)
        assert env.arguments["env_kwargs"] == {"map_name": "8x8"}


def test_a_native_task_takes_arguments_or_runs_elsewhere():
    with make_vec_env("HalfCheetah-v5", 1, 0, env_kwargs={"exclude_current_positions_from_observation": False}) as env:
        assert env.single_observation_space.shape == (18,)
    with make_vec_env("PongNoFrameskip-v4", 1, 0, env_kwargs={"full_action_space": True}) as env:
        assert env.single_action_space.n == 18


@pytest.mark.parametrize(
    ("env", "kwargs", "message"),
    [
        ("CartPole-v1", "gravty=1", "--env_kwargs: CartPole-v1 has no argument gravty."),
        ("FrozenLake-v1", "mapname=4x4", "no argument mapname. Did you mean map_name?"),
        ("FrozenLake-v1", "map=4x4", "--env_kwargs: FrozenLake-v1 has no argument map."),
        ("HalfCheetah-v5", "gravity=1", "unexpected keyword argument 'gravity'"),
        ("CartPole-v1", "x", "--env_kwargs=x: must be name=value"),
        ("CartPole-v1", "render_mode=human", "--env_kwargs: CartPole-v1 has no argument render_mode"),
    ],
)
def test_an_argument_that_an_environment_does_not_have_is_one_line(capfd, env, kwargs, message):
    assert run.main([f"--env={env}", f"--env_kwargs={kwargs}"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and message in err, err


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, np.zeros(2)])
def test_a_value_that_no_checkpoint_can_hold_is_refused_before_the_training(value):
    with pytest.raises(UserError, match=r"env_kwargs: map_name is .*; must be what JSON has"):
        make_vec_env("FrozenLake-v1", 1, env_kwargs={"map_name": value})


def test_a_model_remembers_the_arguments_of_its_environment(tmp_path, capsys):
    model, logs = tmp_path / "model", tmp_path / "logs"
    argv = ["--env=FrozenLake-v1", "--env_kwargs=map_name=8x8,is_slippery=false", *SMALL, f"--log_path={logs}"]
    assert run.main([*argv, f"--save_path={model}", "--log_format=csv"]) == 0
    kwargs = '{"is_slippery": false, "map_name": "8x8"}'
    assert f"'--env_kwargs={kwargs}' --play" in capsys.readouterr().err

    # The text in it comes from a file, so it is used where the user gives or allows it.
    assert run.main([f"--load_path={model}", "--play"]) == 2
    assert f"give --env_kwargs={kwargs}, or --trust" in capsys.readouterr().err
    for allowed in ("--trust", f"--env_kwargs={kwargs}"):
        assert run.main([f"--load_path={model}", "--play", allowed]) == 0

    resume = [f"--log_path={logs}", "--resume", "--num_timesteps=40"]
    assert run.main([*resume, "--env_kwargs=map_name=4x4"]) == 2
    assert "the run to be resumed has" in capsys.readouterr().err
    assert run.main([*resume, "--trust"]) == 0


@pytest.mark.parametrize("kwargs", [1, [], {"a b": 1}, {"x": "y" * 10**6}, {f"a{i}": 0 for i in range(51)}])
def test_arguments_in_the_file_of_a_stranger_have_limits(kwargs):
    meta = small_model()[1]
    with pytest.raises(UserError, match="env_kwargs"):
        check_description("model", meta | {"env_arguments": {"env_kwargs": kwargs}})
