"""Claims about what users type out of habit, and about the folders that they type it in."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hostile_files import ACTIONS, OBSERVATIONS, small_model
from repository import ROOT

import run
from baselines_acktr.agent.description import check_compatible
from baselines_acktr.agent.network_names import BUILT_IN
from baselines_acktr.config import RECURRENT, SYNONYMS
from baselines_acktr.session.foreign_flags import FOREIGN_FLAGS
from baselines_acktr.session.learners import DISCRETE
from baselines_acktr.session.next_steps import next_steps
from baselines_acktr.session.options import FLAGS, RunOptions
from baselines_acktr.session.settings import Settings
from baselines_acktr.session.settling import settle
from common import array_file
from common.errors import UserError
from common.importing import import_named
from common.process import quiet_tensorflow
from common.vec_env import make_vec_env


@pytest.fixture(autouse=True)
def usual_variables(monkeypatch):
    for name in ("OPENAI_LOGDIR", "OPENAI_LOG_FORMAT", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


def line_of(capfd, *argv: str) -> str:
    """The one line that a command line is refused with."""
    assert run.main(argv) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    return err.rstrip()


def run_py(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "run.py"), *argv], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("flag", FOREIGN_FLAGS)
def test_a_flag_of_another_program_is_answered_with_what_to_do_here(capfd, flag):
    assert (
        line_of(capfd, "--env=CartPole-v1", f"--{flag}=1") == f"run.py: --{flag}: unknown flag. {FOREIGN_FLAGS[flag]}"
    )


@pytest.mark.parametrize("flag", FOREIGN_FLAGS)
def test_the_answer_names_no_flag_that_is_not_there(flag):
    words = FOREIGN_FLAGS[flag].replace("=", " ").split()
    named = [word.strip(".:;,") for word in words if word.startswith("--")]
    assert all(FLAGS._known(name) for name in named)


@pytest.mark.parametrize(("typed", "name"), [("/usr/bin/acktr", "acktr"), ("run.py", "run.py"), ("-c", "run.py")])
def test_a_message_begins_with_the_name_of_the_program_that_was_typed(capfd, monkeypatch, typed, name):
    monkeypatch.setattr(sys, "argv", [typed])
    assert line_of(capfd, "--evn=CartPole-v1").startswith(f"{name}: --evn: unknown flag.")


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--no-play", "Leave it out: --play is off unless it is given."),
        ("--no_deterministic", "Leave it out: --greedy is off unless it is given."),
        ("--no-anneal-lr", FOREIGN_FLAGS["anneal_lr"]),
        ("--no-idea", "--help lists the flags."),
    ],
)
def test_switching_off_what_other_programs_have_is_answered(capfd, flag, hint):
    assert line_of(capfd, "--env=CartPole-v1", flag) == f"run.py: {flag}: unknown flag. {hint}"


def test_what_people_are_used_to_type_is_answered():
    reported = "env_type extra_import gamestate nprocs is_async track wandb normalize device eval_freq"
    assert set(reported.split()) <= FOREIGN_FLAGS.keys()
    assert len(FOREIGN_FLAGS) + len(SYNONYMS) > 100
    assert not (FOREIGN_FLAGS.keys() | SYNONYMS.keys()) & FLAGS.parse([]).keys()


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        ("conv_only", "cnn is the nearest one"),
        ("impala_cnn", "a network of your own is module:function"),
        ("cnn_small", "--conv_filters=8,16 --conv_kernels=8,4 --conv_strides=4,2 --hidden_sizes=128"),
        ("MLP", "Did you mean mlp?"),
        ("x" * 300, "must be one of cnn, cnn_lnlstm, cnn_lstm, lnlstm, lstm, mlp, pixels or module:function"),
    ],
)
def test_a_network_of_another_program_is_answered_with_what_to_do_here(network, hint):
    with pytest.raises(UserError, match=f"^--network={network}: unknown network; must be one of") as caught:
        settle({"env": "CartPole-v1", "network": network})
    assert hint in str(caught.value)


@pytest.mark.parametrize("network", RECURRENT)
def test_a_recurrent_network_is_refused_for_an_algorithm_that_has_none(network):
    with pytest.raises(UserError, match=f"^--network={network}: trpo has no recurrent networks here; acktr and a2c"):
        settle({"alg": "trpo", "env": "CartPole-v1", "network": network})


def test_an_unknown_network_is_refused_before_tensorflow_and_gymnasium_are_imported():
    program = (
        "import sys, run\n"
        "assert run.main(['--env=CartPole-v1', '--network=impala_cnn']) == 2\n"
        "assert not {'tensorflow', 'keras', 'gymnasium'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr


@pytest.mark.parametrize("alg", ["ACKTR", "A2c", "acktrr"])
def test_an_algorithm_in_capitals_is_answered_with_the_right_spelling(capfd, alg):
    right = "a2c" if alg == "A2c" else "acktr"
    expected = f"run.py: --alg={alg}: must be one of acktr, a2c, trpo. Did you mean {right}?"
    assert line_of(capfd, "--env=CartPole-v1", f"--alg={alg}") == expected


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_an_old_mujoco_task_is_answered_with_the_one_of_today(capfd, version):
    assert line_of(capfd, f"--env=HalfCheetah-{version}").endswith("Did you mean HalfCheetah-v5?")


@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_a_reader_that_has_seen_enough_of_the_help_ends_it_quietly(reader):
    command = f"for i in 1 2 3; do {sys.executable} run.py --help=all | {reader}; done"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("alg", ["acktr", "a2c", "trpo"])
@pytest.mark.parametrize("columns", [80, 100, 120])
def test_help_is_a_screen_or_two_as_wide_as_the_terminal(capsys, monkeypatch, alg, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run.main([f"--alg={alg}", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 80
    assert max(map(len, lines)) <= columns

    text = "\n".join(lines)
    titles = {title for title in FLAGS.groups if f"\n{title}:" in text}
    assert titles == {"the run", f"{alg} with discrete actions", f"{alg} with continuous actions"}
    shown = {name for title, group in FLAGS.groups.items() if title in titles for name in fields_of(group)}
    assert all(f"--{name}" in text for name in shown | fields_of(RunOptions))


def fields_of(group: type) -> set[str]:
    return {field.name for field in dataclasses.fields(group)}


def test_help_for_all_flags_has_every_learner_with_sources_and_limits(capsys):
    assert run.main(["--help=all"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{title}:" in text for title in FLAGS.groups)
    assert text.count("--lr NUMBER") == 4 and "Wu et al. 2017" in text


def test_help_for_an_algorithm_that_is_not_there_is_one_line(capfd):
    assert line_of(capfd, "--alg=A2C", "--help").endswith("Did you mean a2c?")


def test_help_for_one_flag_is_that_flag_alone(capsys):
    assert run.main(["--help=network"]) == 0
    text = capsys.readouterr().out
    assert "--network TEXT" in text and "--env " not in text
    assert run.main(["--help=lr"]) == 0
    assert capsys.readouterr().out.count("--lr NUMBER") > 1  # of several learners
    assert run.main(["--help=netwrk"]) == 2
    assert capsys.readouterr().err == "run.py: --netwrk: unknown flag. Did you mean --network?\n"


def test_version_names_what_matters_to_a_report(capsys):
    assert run.main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["baselines_acktr", "Python", "tensorflow", "keras"]


@pytest.mark.parametrize("given", ["+tensorboard", "+tensorboard,json", "+csv"])
def test_a_plus_adds_to_the_usual_log_formats(monkeypatch, given):
    from common.logger import default_formats, whole_formats

    added = given.removeprefix("+").split(",")
    expected = tuple(dict.fromkeys(["stdout", "log", "csv", *added]))
    assert whole_formats(given.split(","), default_formats()) == expected
    monkeypatch.setenv("OPENAI_LOG_FORMAT", given)
    assert default_formats() == expected
    monkeypatch.setenv("OPENAI_LOG_FORMAT", "json")
    assert whole_formats(["+log"], default_formats()) == ("json", "log")


def test_an_unknown_format_behind_a_plus_is_named(capfd, tmp_path):
    line = line_of(capfd, "--env=CartPole-v1", "--log_format=+tensorbord", f"--log_path={tmp_path}")
    assert line.endswith("Did you mean tensorboard?")


@pytest.mark.parametrize("saved", [{}, {"hidden_sizes": [64, 64]}, {"activation": "tanh"}])
@pytest.mark.parametrize("typed", [{"hidden_sizes": (64, 64)}, {"activation": "tanh"}, {"hidden_sizes": ()}, {}])
def test_typing_what_a_checkpoint_has_by_default_is_no_contradiction(tmp_path, saved, typed):
    meta = small_model()[1]
    saved = {"hidden_sizes": [], "activation": ""} | saved
    sizes = [(4, 64), (64,), (64, 64), (64,), (64, 2), (2,), (64, 1), (1,)]
    arrays = {f"parameters/{i}": np.zeros(size, np.float32) for i, size in enumerate(sizes)}
    arrays["kfac/factors"] = np.zeros(30_000, np.float32)
    array_file.save(tmp_path / "model", arrays, meta | {"config": saved})
    settled = settle({"load_path": str(tmp_path / "model"), **typed}).with_learner(DISCRETE, {})
    check_compatible(
        meta | {"config": saved},
        network="mlp",
        observation_space=OBSERVATIONS,
        action_space=ACTIONS,
        config={name: getattr(settled.config, name) for name in ("hidden_sizes", "activation")},
    )
    with pytest.raises(UserError, match=r"trained with hidden_sizes \[64, 64\], asked for \[32\]"):
        settle({"load_path": str(tmp_path / "model"), "hidden_sizes": (32,)})
    with pytest.raises(UserError, match="trained with activation tanh, asked for relu"):
        settle({"load_path": str(tmp_path / "model"), "activation": "relu"})


MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
import {neighbour}

gym.register("{id}", CartPoleEnv, max_episode_steps=7)
"""


@pytest.mark.parametrize("backend", ["sync", "subproc"])
def test_a_module_in_the_current_folder_is_found_by_the_run_and_its_workers(tmp_path, monkeypatch, backend):
    (tmp_path / f"neighbour_{backend}.py").touch()
    text = MODULE.format(neighbour=f"neighbour_{backend}", id=f"Here{backend}-v0")
    (tmp_path / f"here_{backend}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with make_vec_env(f"here_{backend}:Here{backend}-v0", 2, 0, backend=backend) as env:
        assert env.reset()[0].shape == (2, 4)


def test_the_current_folder_takes_the_place_of_no_installed_module(tmp_path, monkeypatch):
    (tmp_path / "colorsys.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert import_named("colorsys", "--env=x").__file__ != str(tmp_path / "colorsys.py")
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nx = 1 +\n", ".py, line 2"),
        ("import sys; sys.exit(0)\n", "SystemExit: 0; "),
        ("import argparse; argparse.ArgumentParser().parse_args(['x'])\n", "SystemExit: 2; "),
        ("\nnothing\n", "NameError: name 'nothing' is not defined; "),
        ("import absent_module\n", "No module named 'absent_module'"),
        ("raise OSError(5, 'broken')\n", "OSError: [Errno 5] broken"),
    ],
)
@pytest.mark.parametrize("flag", ["env", "network"])
def test_a_module_that_cannot_be_imported_is_one_line_with_its_reason(tmp_path, monkeypatch, text, words, flag):
    name = f"broken_{abs(hash((text, flag)))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        import_named(name, f"--{flag}={name}:y")
    assert str(caught.value).startswith(f"--{flag}={name}:y: cannot import module {name} (")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", [".x:y", ":y", "..:y", ".:y"])
@pytest.mark.parametrize("flag", ["env", "network"])
def test_a_relative_module_is_one_line(name, flag):
    with pytest.raises(UserError, match="must be the whole name, such as package"):
        import_named(name.partition(":")[0], f"--{flag}={name}")


def test_a_folder_that_has_been_deleted_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && exec {sys.executable} {ROOT}/run.py --env=CartPole-v1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "run.py: the current folder has been deleted; change to one that exists\n"


@pytest.mark.parametrize("place", ["common/__init__.py", "common.py"])
def test_a_package_of_ones_own_with_the_name_of_ours_is_said_in_one_line(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.touch()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = f"baselines_acktr needs its own package common, of {ROOT}/common, and Python finds {tmp_path}/common"

    command = [sys.executable, "-m", "baselines_acktr.paper", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(line)

    command = [sys.executable, "-c", "import baselines_acktr"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {line}")


def test_an_environment_in_a_package_with_the_name_of_ours_is_said_in_one_line(tmp_path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "games.py").touch()
    done = run_py("--env=common.games:Mine-v0", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("run.py: --env=common.games:Mine-v0: cannot import module common.games")
    assert f"Python takes common from {ROOT}/common, so the one in this folder needs another name" in done.stderr


def test_the_installed_command_is_run_py(monkeypatch, capsys):
    lines = (ROOT / "setup.cfg").read_text().splitlines()
    assert "    acktr = run:command" in lines
    monkeypatch.setattr(sys, "argv", ["/usr/bin/acktr", "--help=env"])
    monkeypatch.setattr(run, "end_at_signals", lambda: None)
    assert run.command() == 0
    assert "--env TEXT" in capsys.readouterr().out
    assert any("acktr --load_path=a --play" in line for line in next_steps(settled(save_path="a")))


LONG = "x" * 300


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([f"--log_path={LONG}"], f"--log_path={LONG}: cannot be written: File name too long"),
        ([f"--log_path={LONG}", "--resume"], f"--log_path={LONG}: cannot be written: File name too long"),
        ([f"--log_path={'/'.join(['x' * 200] * 30)}"], "cannot be written: File name too long"),
        ([f"--save_path={LONG}"], f"--save_path={LONG}: cannot be written: File name too long"),
        ([f"--save_path={'x' * 256}"], "cannot be written: File name too long"),
        ([f"--load_path={LONG}"], f"--load_path: checkpoint {LONG}: cannot be read: File name too long"),
        ([f"--load_path=/{LONG}/model"], "cannot be read: File name too long"),
        ([f"--env={LONG}"], f"--env={LONG}: no such environment is registered."),
        ([f"--env={LONG}:y"], f"--env={LONG}:y: cannot import module {LONG}"),
        (["--play", f"--video={LONG}.mp4"], "cannot be written: File name too long"),
    ],
)
def test_names_that_are_too_long_are_refused_before_the_training(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert run.main(["--env=CartPole-v1", *argv]) == 2
    err = capsys.readouterr().err
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err and list(tmp_path.iterdir()) == []


def settled(**typed) -> Settings:
    typed = {"env": "CartPole-v1", "log_path": "my logs", "num_timesteps": 100, **typed}
    return settle(typed).with_learner(DISCRETE, {}).preset(network="mlp", num_env=2)


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        (
            {"save_path": "models/a"},
            [
                "the model is in models/a",
                "watch it:     python run.py --load_path=models/a --play",
                "train longer: python run.py '--log_path=my logs' --resume --num_timesteps=200",
                "plot scores:  python -m common.plots 'my logs' '--out=my logs/scores.png'",
            ],
        ),
        (
            {"env": "mine:Game-v0"},
            [
                "the model is in my logs/checkpoints",
                "watch it:     python run.py '--load_path=my logs' --env=mine:Game-v0 --play",
                "train longer: python run.py '--log_path=my logs' --env=mine:Game-v0 --resume --num_timesteps=200",
                "plot scores:  python -m common.plots 'my logs' '--out=my logs/scores.png'",
            ],
        ),
        (
            {"keep": 0},
            [
                "the model was not kept; --save_path=FILE keeps it",
                "plot scores:  python -m common.plots 'my logs' '--out=my logs/scores.png'",
            ],
        ),
    ],
)
def test_a_finished_run_says_how_to_go_on(typed, lines):
    assert next_steps(settled(**typed)) == lines


def test_tensorflow_is_as_quiet_at_the_level_that_asks_for_it(monkeypatch, capfd):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_tensorflow():
        os.write(2, b"noise")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_the_networks_that_are_known_beforehand_are_those_that_are_registered():
    from baselines_acktr.agent import networks

    assert {name for name in networks._BUILDERS if ":" not in name} >= set(BUILT_IN)
    assert gym.spaces.Box(0, 1, (2,)) and all(networks.is_registered(name) for name in BUILT_IN)


def test_a_video_without_a_display_is_drawn_without_a_complaint(monkeypatch, capfd):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    with make_vec_env("CartPole-v1", 1, 0, render_mode="rgb_array") as env:
        env.reset()
        assert env.render()[0].shape == (400, 600, 3)
    assert capfd.readouterr().err == ""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_hears_the_folder_first_and_then_what_is_waited_for(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    small = ["--alg=a2c", "--num_env=2", "--num_timesteps=20", "--nsteps=5", "--hidden_sizes=8", "--log_format=csv"]
    assert run.main(["--env=CartPole-v1", f"--log_path={tmp_path}", *small]) == 0

    text = terminal.getvalue()
    expected = [
        f"log folder: {tmp_path}\n",
        "starting 2 environments ...\n",
        "\nthe first update compiles, which may take a minute ...\n",
        "20/20",
        f"the model is in {tmp_path}/checkpoints\n",
    ]
    places = [text.find(line) for line in expected]
    assert text.startswith(expected[0]) and -1 not in places and places == sorted(places), text
    assert "logging to" not in text  # the folder is named once


def test_a_mistake_comes_before_anything_else_is_said(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run.main(["--env=CartPole-v1", "--lr=-1", f"--log_path={tmp_path}"]) == 2
    assert terminal.getvalue() == "run.py: --lr=-1.0: must be above 0\n"
