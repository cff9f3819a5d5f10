"""Tests of learning curves and of the paper's episode counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from monitor_helpers import monitor
from repository import ROOT

from common import measures, plots


def run_of(folder: Path, scores: list[float]) -> Path:
    monitor(folder, 0, [(score, 10, float(i)) for i, score in enumerate(scores)])
    return folder


def test_seeds_of_one_experiment_are_grouped_by_name():
    names = ["logs/pong-1", "logs/pong-2", "logs/pong-seed3", "logs/breakout", "other/pong-1"]
    groups = plots.group_runs([Path(name) for name in names])
    assert {name: len(group) for name, group in groups.items()} == {"logs/pong": 3, "logs/breakout": 1, "other/pong": 1}


def test_the_curve_is_the_running_mean(tmp_path):
    games = measures.load_monitor(run_of(tmp_path, [0, 2, 4]))
    curve = plots.curve(games, "timesteps", window=2)
    assert curve.to_dict() == {10: 0, 20: 1, 30: 3}


def test_the_band_of_two_seeds_goes_from_one_to_the_other_where_both_have_data(tmp_path):
    low = plots.curve(measures.load_monitor(run_of(tmp_path / "a", [0, 0, 0, 0])), "episodes", 1)
    high = plots.curve(measures.load_monitor(run_of(tmp_path / "b", [2, 2, 2])), "episodes", 1)
    band = plots.band([low, high])
    assert (band.index[0], band.index[-1]) == (1, 3)
    assert (band["low"] == 0).all() and (band["high"] == 2).all() and (band["mean"] == 1).all()


def test_the_band_of_several_seeds_is_the_interval_of_their_mean_at_each_point():
    values = np.random.default_rng(1).normal(size=(5, 3)) * [1, 10, 0.1] + [0, 100, -7]
    low, high = measures.pointwise_interval(values)
    for point in range(3):
        expected = measures.interval([values[:, point]])
        spread = np.ptp(values[:, point])
        assert low[point] == pytest.approx(expected[0], abs=0.03 * spread)
        assert high[point] == pytest.approx(expected[1], abs=0.03 * spread)
        assert values[:, point].min() < low[point] < values[:, point].mean() < high[point] < values[:, point].max()


def test_a_figure_has_a_title_and_names_its_dashed_line(tmp_path, monkeypatch):
    import matplotlib.figure

    drawn = []
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *args, **options: drawn.append(
            (
                figure.get_suptitle(),
                [text.get_text() for text in figure.axes[0].get_legend().get_texts()],
                [line.get_linestyle() for line in figure.axes[0].lines],
            )
        ),
    )
    folder = str(run_of(tmp_path / "a-0", [1, 2, 3]))
    assert plots.main([folder, f"--out={tmp_path}/x.png", "--threshold=2.5"]) == 0
    assert plots.main([folder, f"--out={tmp_path}/x.png", "--title=Mine"]) == 0
    assert drawn == [("X", ["a", "threshold 2.5"], ["-", "--"]), ("Mine", ["a"], ["-"])]


def test_drawing_leaves_the_backend_of_a_notebook_alone(tmp_path):
    folder = run_of(tmp_path / "a-0", [1, 2, 3])
    program = (
        "import sys, matplotlib; matplotlib.use('svg')\n"
        "from common import plots\n"
        f"assert plots.main(['{folder}', '--out={tmp_path}/x.png']) == 0\n"
        "assert matplotlib.get_backend() == 'svg' and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("axis", plots.AXES)
def test_a_png_is_written_along_every_axis(tmp_path, axis):
    folders = [str(run_of(tmp_path / f"pong-{seed}", [0, seed, 2])) for seed in (1, 2)]
    assert (
        plots.main([*folders, f"--out={tmp_path}/new/curve.png", f"--xaxis={axis}", "--window=2", "--title=Pong"]) == 0
    )
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_gives_n_timesteps_then_and_the_final_mean(tmp_path, capsys):
    folder = str(run_of(tmp_path / "pong-1", [0, 0, 10, 10]))
    assert plots.main([folder, "--threshold=9.3", "--window", "2"]) == 0
    shown = capsys.readouterr()
    header, row = shown.out.splitlines()
    assert shown.err == "N: the first game whose next 2 have a mean score of at least 9.3\n"
    assert header.split() == ["run", "episodes", "timesteps", "mean", "of", "last", "2", "N", "timesteps", "at", "N"]
    assert row.split() == [folder, "4", "40", "10.0", "3", "30"]
    plots.main([folder, "--threshold=11", "--window=2"])
    assert capsys.readouterr().out.split()[-2:] == ["-", "-"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{}/nothing"], "nothing: no such folder"),
        (["{}"], "has no monitor files (*.monitor.csv); 3 folders in it have some, such as"),
        (["{}/bad"], "not a monitor file"),
        (["{}/empty"], "no game has ended yet"),
        (["{}/good", "--out={}/x.nonsense"], "--out="),
        (["{}/good", "--out={}/good"], "good: is a folder; must be a file"),
        (["{}/good", "--xaxis=time"], "--xaxis=time: must be one of timesteps"),
        (["{}/good", "--widnow=3"], "Did you mean --window?"),
        (["--window=3"], "LOGDIR: missing"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(tmp_path, capsys, argv, message):
    monitor(tmp_path / "empty", 0, [])
    run_of(tmp_path / "good", [1, 2])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.0.monitor.csv").write_text("hello\n")
    assert plots.main([word.format(tmp_path) for word in argv]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_every_experiment_has_a_panel_of_its_own(tmp_path, monkeypatch):
    import matplotlib.figure

    drawn = []
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *args, **options: drawn.append([axes.get_legend_handles_labels()[1] for axes in figure.axes]),
    )
    for name in ("a-0", "a-1", "b-0"):
        run_of(tmp_path / name, [1, 2, 3])
    folders = [str(tmp_path / name) for name in ("a-0", "a-1", "b-0")]
    assert plots.main([*folders, f"--out={tmp_path}/x.png", "--panels"]) == 0
    assert drawn == [[["a (2 seeds, 95 %)"], ["b"]]]


def test_experiments_of_the_same_name_are_told_apart_and_a_folder_counts_once(tmp_path, monkeypatch, capsys):
    drawn = []
    draw = plots.draw_curves
    monkeypatch.setattr(
        plots, "draw_curves", lambda axes, *line: drawn.append((line[0], len(line[1]))) or draw(axes, *line)
    )
    folders = [str(run_of(tmp_path / name, [1, 2, 3])) for name in ("x/a-0", "y/a-0", "b-0")]
    assert plots.main([*folders, folders[2] + "/", f"--out={tmp_path}/x.png"]) == 0
    assert drawn == [(f"{tmp_path}/x/a", 1), (f"{tmp_path}/y/a", 1), ("b", 1)]
    assert len(capsys.readouterr().out.splitlines()) == 4
