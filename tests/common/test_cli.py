"""Tests of the command line's parser."""

from __future__ import annotations

import dataclasses
import importlib
import string

import pytest
from hostile_files import small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import run
from baselines_acktr.session.learners import CONTINUOUS, DISCRETE, LEARNERS
from baselines_acktr.session.options import FLAGS, PATHS, RunOptions
from baselines_acktr.session.settling import settle
from common import array_file, cli
from common.errors import UserError


def error_of(*argv: str) -> str:
    """Returns the message that parsing and merging `argv` ends with."""
    with pytest.raises(UserError) as caught:
        settle(FLAGS.parse(argv))
    return str(caught.value)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--num_timesteps=1e6"], {"num_timesteps": 1_000_000}),
        (["--num_timesteps", "2_000_000"], {"num_timesteps": 2_000_000}),
        (["--num-timesteps=640"], {"num_timesteps": 640}),
        (["--conv-filters", "32,64,32"], {"conv_filters": (32, 64, 32)}),
        (["--hidden_sizes="], {"hidden_sizes": ()}),
        (["--hidden_sizes=64"], {"hidden_sizes": (64,)}),
        (["--hidden_sizes=[64, 32]"], {"hidden_sizes": (64, 32)}),
        (["--hidden_sizes=(64,32)"], {"hidden_sizes": (64, 32)}),
        (["--hidden_sizes=[]"], {"hidden_sizes": ()}),
        (["--log_format=csv, json"], {"log_format": ("csv", "json")}),
        (["--play", "--seed=3"], {"play": True, "seed": 3}),
        (["--play=false"], {"play": False}),
        (["--play", "no", "--lr", "1e-3"], {"play": False, "lr": 0.001}),
        (["--lr=0.1", "--lr=0.2"], {"lr": 0.2}),
        (["--env=module:Game-v0"], {"env": "module:Game-v0"}),
        (["--save_path=a=b"], {"save_path": "a=b"}),
        (["--seed", "-1"], {"seed": -1}),
        (["--fisher_rows=all", "--vf_rows", "ALL"], {"fisher_rows": 0, "vf_rows": 0}),
        (["--keep=off", "--save_video_interval=0"], {"keep": 0, "save_video_interval": 0}),
        (["--desired_kl=off", "--eigen_rank=all"], {"desired_kl": 0, "eigen_rank": 0}),
    ],
)
def test_values_are_read_by_the_type_of_their_field(argv, expected):
    assert FLAGS.parse(argv) == expected


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--ent_coeff=0.1", ("--ent_coeff: unknown flag.", "Did you mean --ent_coef?")),
        ("--evn=CartPole-v1", ("--evn: unknown flag. Did you mean --env?",)),
        ("--num_timestep=1", ("--num_timestep: unknown flag.", "--num_timesteps")),
        ("--qqqq", ("--qqqq: unknown flag.", "--help")),
        ("-lr=1", ("-lr: unknown flag.", "--lr")),
        ("lr=1", ("lr=1: not a flag", "--lr")),
        ("--", ("--: unknown flag.",)),
        ("--lr", ("--lr: its value is missing",)),
        ("--lr=", ("--lr: its value is missing",)),
        ("--env=", ("--env: its value is missing",)),
        ("--lr=nan", ("--lr=nan", "finite number")),
        ("--lr=inf", ("--lr=inf", "finite number")),
        ("--lr=-1", ("--lr=-1.0", "above 0")),
        ("--lr=0", ("--lr=0.0", "above 0")),
        ("--lr=__import__('os')", ("--lr=__import__('os')", "finite number")),
        ("--num_env=0", ("--num_env=0", "at least 1")),
        ("--num_env=all", ("--num_env=all", "whole number")),
        ("--keep=all", ("--keep=all", "whole number")),
        ("--num_env=1.5", ("--num_env=1.5", "whole number")),
        ("--num_timesteps=1e999999999", ("--num_timesteps=1e999999999", "whole number")),
        ("--num_timesteps=-1", ("--num_timesteps=-1", "at least 0")),
        ("--num_timesteps=nan", ("--num_timesteps=nan", "whole number")),
        ("--conv_filters=32,x", ("--conv_filters=32,x", "each of its parts", "whole number")),
        ("--conv_filters=32,,32", ("--conv_filters=32,,32", "each of its parts", "whole number")),
        ("--conv_kernels=8,4", ("of the same length", "3 of conv_filters, 2 of conv_kernels")),
        ("--play=maybe", ("--play=maybe", "true or false")),
        ("--lrschedule=cosine", ("--lrschedule=cosine", "linear", "constant")),
        ("--env_backend=gpu", ("--env_backend=gpu", "native")),
        ("--alg=ppo", ("--alg=ppo: must be one of acktr, a2c, trpo",)),
        ("--alg=A2C", ("--alg=A2C: must be one of acktr, a2c, trpo",)),
        ("--env=a\nb", ("--env=", "printable")),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(argument, words):
    message = error_of(argument)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_missing_environment_is_named():
    assert "--env" in error_of("--seed=1")


def test_abbreviations_are_not_accepted():
    assert "unknown flag" in error_of("--num_time=10")


def test_kfac_clip_of_baselines_is_twice_delta():
    settings_ = settle(FLAGS.parse(["--env=X-v0", "--kfac_clip=0.004"])).with_learner(DISCRETE, {})
    assert settings_.config.delta == 0.002
    assert settings_.origins["delta"] == "command line"
    assert "--kfac_clip" in error_of("--env=X-v0", "--kfac_clip=1", "--delta=1")


def test_every_value_knows_where_it_came_from():
    settings_ = settle(FLAGS.parse(["--env=X-v0", "--lr=0.1"])).preset(num_env=32).with_learner(DISCRETE, {"nsteps": 7})
    origins = settings_.origins
    assert (origins["lr"], origins["gamma"], origins["nsteps"]) == ("command line", "default", "environment preset")
    assert (origins["num_env"], origins["seed"]) == ("environment preset", "drawn")
    groups = RunOptions, LEARNERS["acktr", DISCRETE].config_class
    assert set(origins) == {field.name for group in groups for field in dataclasses.fields(group)}
    assert set(settings_.values()) == set(origins)


@pytest.mark.parametrize(("flag", "value"), [("nsteps", 5), ("lrschedule", "constant"), ("vf_fisher_coef", 2.0)])
def test_a_flag_of_the_other_learner_is_refused(flag, value):
    settings_ = settle(FLAGS.parse(["--env=X-v0", f"--{flag}={value}"]))
    assert getattr(settings_.with_learner(DISCRETE, {}).config, flag) == value
    with pytest.raises(UserError, match=f"--{flag}: acktr with continuous actions does not have it"):
        settings_.with_learner(CONTINUOUS, {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--alg=a2c", "--delta=0.1"], "--delta: a2c does not have it"),
        (["--alg=a2c", "--lr=0.1", "--inverses=inline"], "--inverses: a2c does not have it"),
        (["--alg=trpo", "--lr=0.1", "--max_kl=0.1", "--nsteps=5"], "--lr, --nsteps: trpo does not have them together"),
        (["--alg=acktr", "--fisher_fraction=0.5"], "--fisher_fraction: acktr does not have it"),
        (["--alg=acktr", "--nsteps=5", "--vf_iters=9"], "--nsteps, --vf_iters: acktr does not have them together"),
        (
            ["--alg=trpo", "--conv_filters=8,16,32"],
            "must be of the same length, not 3 of conv_filters, 2 of conv_kernels",
        ),
        (["--alg=trpo", "--fisher_fraction=0"], "--fisher_fraction=0.0: must be above 0 and at most 1"),
    ],
)
def test_a_flag_of_another_algorithm_is_refused(argv, message):
    assert message in error_of("--env=X-v0", *argv)


@pytest.mark.parametrize(("alg", "kind"), LEARNERS)
def test_every_learner_has_its_module_class_and_defaults(alg, kind):
    learner = LEARNERS[alg, kind]
    module = importlib.import_module(learner.module)
    model_class = getattr(module, learner.name)
    assert (model_class.algorithm, model_class.config_class) == (alg, learner.config_class)
    assert callable(module.learn)
    settings_ = settle({"env": "X-v0", "alg": alg}).with_learner(kind, {})
    assert settings_.config == learner.config_class()


def test_typed_convolutions_are_compared_with_those_of_the_checkpoint(tmp_path):
    path = str(tmp_path / "model")
    config = {"conv_filters": (8,), "conv_kernels": (3,), "conv_strides": (1,)}
    arrays, meta = small_model()
    array_file.save(path, arrays, meta | {"config": meta["config"] | config})
    assert settle({"load_path": path, "conv_filters": (8,)}).with_learner(DISCRETE, {}).config.conv_kernels == (3,)


def test_a_drawn_seed_differs_between_runs_and_a_typed_one_stays():
    assert len({settle({"env": "X-v0"}).options.seed for _ in range(5)}) > 1
    assert settle({"env": "X-v0", "seed": 7}).options.seed == 7


def test_home_is_expanded_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    options = settle({"env": "X-v0", "save_path": "~/model", "log_path": "~/logs"}).options
    assert (options.save_path, options.log_path) == ("/home/someone/model", "/home/someone/logs")


def test_help_names_every_flag_with_default_limits_unit_and_source():
    text = " ".join(FLAGS.help("run.py", "", "").split())
    for group in FLAGS.groups.values():
        for field in dataclasses.fields(group):
            assert f"--{field.name} " in text
    assert "--nsteps INTEGER steps of every environment in a batch [unit: timesteps; default 20; at least 1;" in text
    assert "Wu et al. 2017" in text


def test_later_layers_win_and_name_themselves():
    values, origins = cli.resolve(("default", {"a": 1, "b": 2}), ("command line", {"b": 3}))
    assert values == {"a": 1, "b": 3}
    assert origins == {"a": "default", "b": "command line"}


def test_run_flags_and_hyperparameters_have_no_name_in_common():
    options = {field.name for field in dataclasses.fields(RunOptions)}
    for learner in LEARNERS.values():
        assert not options & {field.name for field in dataclasses.fields(learner.config_class)}


def test_a_flag_that_learners_share_has_one_type():
    kinds: dict[str, str] = {}
    for learner in LEARNERS.values():
        for field in dataclasses.fields(learner.config_class):
            assert kinds.setdefault(field.name, field.type) == field.type, field.name


def flag_names() -> list[str]:
    """Returns the names of all flags but the ones that read files."""
    names = sorted({field.name for group in FLAGS.groups.values() for field in dataclasses.fields(group)})
    return [name for name in names if name not in PATHS]


VALUES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "1e6", "1e-400", "1e400", "-0", "0x10", "32,64", ",", "true", "None", "1/0", "acktr", "--lr"]),
)
NAMES = st.one_of(st.sampled_from(flag_names()), st.text(string.ascii_lowercase + "_-=", max_size=12))
TOKENS = st.one_of(
    st.tuples(NAMES, VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}"), NAMES.map(lambda n: f"--{n}"), VALUES
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argv=st.lists(TOKENS, max_size=6))
def test_no_command_line_gives_a_traceback(argv, monkeypatch, capsys):
    monkeypatch.setattr(run, "run", lambda argv, interruption, comm: 0 * len(settle(FLAGS.parse(argv)).origins))
    code = run.main(argv)
    err = capsys.readouterr().err
    assert code in (0, 2)
    assert code == 0 or not argv or err.count("\n") == 1
