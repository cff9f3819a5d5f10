"""Tests of the items of the paper and of the runs they consist of."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from repository import ROOT

from baselines_acktr.paper import published
from baselines_acktr.paper.__main__ import main
from baselines_acktr.paper.items import ATARI, EIGHT_TASKS, ITEMS, PIXELS, SIX_GAMES, SPEED
from baselines_acktr.paper.plan import Selection, brief, command, plan
from baselines_acktr.session.learners import CONTINUOUS, DISCRETE, LEARNERS
from baselines_acktr.session.options import FLAGS
from baselines_acktr.session.settling import settle
from common.errors import UserError

VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,))
IMAGES = {
    suite: gym.spaces.Box(0, 255, shape, np.uint8) for suite, shape in ((ATARI, (84, 84, 4)), (PIXELS, (42, 42, 6)))
}
WITH_RUNS = [name for name, item in ITEMS.items() if item.kind != SPEED]


def names(item: str, **selection) -> list[str]:
    return [run.name for run in plan(ITEMS[item], Selection(**selection))]


def test_every_table_and_figure_is_an_item():
    assert list(ITEMS) == [*(f"table{i}" for i in range(1, 5)), *(f"fig{i}" for i in range(1, 10))]


@pytest.mark.parametrize(
    ("item", "runs"),
    [
        *[("table1", 6 * 3 * 2), ("table2", 8 * 3 * 3), ("table4", 44), ("fig1", 6 * 3 * 2), ("fig2", 2)],
        *[("fig3", 8 * 3 * 3), ("fig4", 3 * 2 * 3), ("fig5", (3 + 4) * 3), ("fig6", 6 * 3 * 2), ("fig7", 8 * 3 * 3)],
        *[("fig8", 3 * 3 * 3), ("fig9", 6)],
    ],
)
def test_an_item_has_every_line_on_every_environment_with_every_seed(item, runs):
    assert len(set(names(item))) == len(names(item)) == runs


@pytest.mark.parametrize("item", WITH_RUNS)
def test_run_py_takes_every_command_and_makes_the_planned_batches(item):
    for run in plan(ITEMS[item], Selection()):
        words = command(run, Path("x")).split()
        assert words[:2] == ["python", "run.py"]
        kind = DISCRETE if run.suite == ATARI else CONTINUOUS
        learner = LEARNERS[run.line.alg, kind]
        model_class = getattr(importlib.import_module(learner.module), learner.name)
        observations = IMAGES.get(run.suite, VECTOR)
        settings = settle(FLAGS.parse(words[2:])).with_learner(kind, model_class.preset(observations))
        default = settings.config.num_env_atari if run.suite == ATARI else settings.config.num_env
        assert settings.config.batch_size(settings.options.num_env or default) == run.batch
        values = settings.values()
        assert {name: values[name] for name in run.settings} == run.settings


def test_items_share_the_runs_that_agree():
    assert names("fig3", algs=("acktr",)) == names("table2", algs=("acktr",), num_timesteps=1_000_000)
    assert set(names("fig3", envs=("HalfCheetah",), algs=("a2c",))) < set(names("fig5"))
    assert names("table1", algs=("a2c",), scale=0.04) == names("fig1", algs=("a2c",), scale=0.2)


def test_a_selection_takes_short_names_and_seeds():
    assert names("fig1", envs=("pong",), algs=("acktr",), seeds=(7,)) == ["acktr-PongNoFrameskip-v4-10M-7"]
    assert names("fig3", envs=("Hopper",), algs=("trpo",), seeds=(0,), mujoco_version="v5") == ["trpo-Hopper-v5-1M-0"]
    assert names("fig5", envs=("halfcheetah-v4",), algs=("acktr",), seeds=(1,)) == [
        "acktr-HalfCheetah-v4-1M-1",
        "acktr-HalfCheetah-v4-euclidean-1M-1",
    ]


def test_the_scale_shortens_runs_but_not_the_schedule_of_atari():
    (run,) = plan(ITEMS["fig1"], Selection(scale=0.2, envs=("pong",), algs=("acktr",), seeds=(0,)))
    assert (run.timesteps, run.settings["schedule_timesteps"]) == (2_000_000, 10_000_000)
    (run,) = plan(ITEMS["table1"], Selection(envs=("pong",), algs=("acktr",), seeds=(0,)))
    assert (run.timesteps, run.settings["schedule_timesteps"]) == (50_000_000, 50_000_000)
    (run,) = plan(ITEMS["table1"], Selection(envs=("pong",), algs=("trpo",), seeds=(0,)))
    assert run.timesteps == 10_000_000 and "schedule_timesteps" not in run.settings


def test_reports_follow_the_size_of_the_batch():
    (run,) = plan(ITEMS["fig3"], Selection(envs=("hopper",), algs=("acktr",), seeds=(0,)))
    assert "--log_interval=2 " in command(run, Path("x"))
    (run,) = plan(ITEMS["fig9"], Selection(envs=("reacher",), num_timesteps=10_000))[:1]
    assert command(run, Path("x")).count("--log_interval=") == 1 and run.settings["log_interval"] == 1


def test_figure_nine_keeps_delta_fixed():
    options = {run.line.variant: run.line.options for run in plan(ITEMS["fig9"], Selection())}
    assert options["no-momentum"]["momentum"] == 0
    for line in options.values():
        assert (line["desired_kl"], line["klschedule"], line["delta"]) == (0, "constant", 0.001)


def test_timesteps_are_brief():
    assert [brief(n) for n in (50_000_000, 150_000, 2_500, 999)] == ["50M", "150k", "2500", "999"]


@pytest.mark.parametrize(
    ("item", "selection", "message"),
    [
        ("fig1", {"envs": ("pnog",)}, "--envs=pnog: this item has beamrider, breakout.* Did you mean pong?"),
        ("table4", {"algs": ("a2c",)}, "--algs=a2c: this item has acktr"),
        ("fig3", {"scale": 1e-4}, "would have less than one batch of 2500"),
        ("table3", {"seeds": (1,)}, "--seeds: measurements of speed have no seeds"),
    ],
)
def test_what_an_item_does_not_have_is_refused(item, selection, message):
    with pytest.raises(UserError, match=message):
        plan(ITEMS[item], Selection(**selection))


def test_the_papers_numbers_are_those_of_its_tables():
    assert published.reward("table1", "PongNoFrameskip-v4", "acktr") == 20.9
    assert published.reward("table1", "PongNoFrameskip-v4", "trpo") == -1.2
    assert published.episode("human", "PongNoFrameskip-v4", "acktr") == 904
    assert math.isnan(published.episode("human", "SeaquestNoFrameskip-v4", "acktr"))
    assert published.threshold("threshold", "Hopper") == 2000
    assert published.reward("table2", "Hopper", "trpo") == 3755
    assert published.reward("table4", "PongNoFrameskip-v4", "acktr") == 20.9
    assert published.reward("fig3", "Ant", "a2c") == published.reward("fig7", "Ant", "a2c") == -1200
    assert math.isnan(published.reward("fig4", "Reacher", "acktr"))
    assert published.speed("Atari", 640, "acktr") == 852


def test_every_task_has_its_numbers():
    for name, alg in (("table1", "a2c"), ("fig1", "a2c")):
        assert not any(math.isnan(published.reward(name, game, alg)) for game in SIX_GAMES)
    for name in ("table2", "fig3"):
        assert not any(math.isnan(published.reward(name, task, "trpo")) for task in EIGHT_TASKS)


def test_list_prints_a_line_for_each_item(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ITEMS)


def test_what_reads_the_output_may_end_early():
    command = [sys.executable, "-m", "baselines_acktr.paper", "fig3", "--dry_run"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(), errors) == (141, "")


def test_dry_run_prints_commands_and_makes_nothing(tmp_path, capsys):
    out = tmp_path / "results"
    assert main(["fig3", "--envs=Ant", "--algs=trpo", "--seeds=0", "--dry_run", f"--out={out}"]) == 0
    assert capsys.readouterr().out.startswith("python run.py --alg=trpo --env=Ant-v4 --num_timesteps=1000000 --seed=0")
    assert main(["table3", "--envs=HalfCheetah", "--algs=acktr,a2c", "--dry_run", f"--out={out}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("--algs=acktr,a2c --num_env=20 --batch=2500 --rounds=5 --updates=10")
    assert not out.exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fig10"], "fig10: unknown item; allowed: list, table1"),
        (["tabel1"], "Did you mean table1?"),
        ([], "usage"),
        (["--dry_run"], "ITEM: missing"),
        (["fig3", "--scale=0"], "--scale=0.0: must be above 0"),
        (["fig3", "--job=2"], "Did you mean --jobs?"),
        (["fig3", "--mujoco_version=v3"], "must be one of v4, v5"),
        (["fig3", "--seeds=-1", "--dry_run"], "--seeds=-1: must be at least 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(capsys, argv, message):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert message in (captured.err or captured.out)
    assert captured.err.count("\n") == (1 if argv else 0)


def test_lines_are_told_apart_by_their_labels():
    for name in WITH_RUNS:
        for group in ITEMS[name].groups:
            labels = [line.label for line in group.lines]
            assert len(set(labels)) == len(labels)


def test_every_game_of_table_4_is_registered():
    import ale_py
    import gymnasium as gym

    from baselines_acktr.paper.published import atari_games

    gym.register_envs(ale_py)
    assert len(atari_games()) == 44
    assert [name for name in atari_games() if name not in gym.registry] == []
