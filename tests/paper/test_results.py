"""Tests of what is measured in the runs of an item, and of the report."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from monitor_helpers import monitor

from baselines_acktr.paper import kl, outcome, published, report, results, speed
from baselines_acktr.paper.__main__ import main
from baselines_acktr.paper.items import ITEMS, MUJOCO
from baselines_acktr.paper.plan import Selection, plan

TASKS = {"envs": ("Hopper", "Ant"), "algs": ("acktr", "a2c"), "num_timesteps": 5000}


def make_runs(out, item: str, scores, **selection) -> list:
    """Writes the games of the runs: `scores` maps task, algorithm and seed to the score of all games but the first 10.

    The first 10 games score 0; every game lasts 10 steps and a second.
    """
    runs = plan(ITEMS[item], Selection(**selection))
    for run in runs:
        score = scores.get((run.task, run.line.label, run.seed))
        if score is not None:
            games = [(0.0 if i < 10 else score, 10, float(i)) for i in range(130)]
            monitor(out / "runs" / run.name, 0, games)
    return runs


def test_scores_are_means_of_the_last_hundred_beside_the_papers(tmp_path):
    scores = {("Hopper", "acktr", 0): 1000.0, ("Hopper", "acktr", 1): 2500.0, ("Hopper", "a2c", 0): 600.0}
    runs = make_runs(tmp_path, "fig3", scores, **TASKS)
    table, summary = outcome.write(ITEMS["fig3"], "fig3", runs, tmp_path)
    acktr, a2c = table.iloc[0], table.iloc[1]
    assert (acktr["env"], acktr["line"], acktr["seeds"], acktr["timesteps"]) == ("Hopper-v4", "acktr", 2, 1300)
    assert (acktr["score"], acktr["lowest seed"], acktr["highest seed"], acktr["paper"]) == (1750, 1000, 2500, 3500)
    assert acktr["ratio"] == 0.5 and a2c["ratio"] == 0.25
    assert acktr["95% low"] == 1000 and acktr["95% high"] == 2500 and math.isnan(a2c["95% low"])
    assert summary.set_index("line").loc["a2c", "acktr ahead"] == "1 of 1"
    assert (tmp_path / "fig3" / "fig3.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "fig3" / "commands.txt").read_text().splitlines()) == len(runs)
    assert len(pd.read_csv(tmp_path / "fig3" / "runs.csv")) == 3


def test_the_first_episode_of_table_two_is_the_one_whose_next_ten_reach_the_threshold(tmp_path):
    runs = make_runs(tmp_path, "table2", {("Hopper", "acktr", 0): 2000.0, ("Hopper", "acktr", 1): 1999.0}, **TASKS)
    row = outcome.write(ITEMS["table2"], "table2", runs, tmp_path)[0].iloc[0]
    assert (row["threshold"], row["reached"], row["N"], row["N paper"]) == (2000, "1 of 2", 11, 17033)
    assert row["timesteps at N"] == 110
    assert (row["score"], row["paper"]) == (1999.5, 3915.9)


def test_a_variant_is_not_compared_with_the_papers_numbers(tmp_path):
    scores = {("HalfCheetah", "acktr", 0): 1200.0, ("HalfCheetah", "acktr euclidean", 0): 1200.0}
    runs = make_runs(tmp_path, "fig5", scores, envs=("HalfCheetah",), num_timesteps=5000)
    table = outcome.write(ITEMS["fig5"], "fig5", runs, tmp_path)[0].set_index("line")
    assert table.loc["acktr", "ratio"] == 0.5
    assert math.isnan(table.loc["acktr euclidean", "paper"])


def test_the_summary_is_an_interquartile_mean_over_tasks_and_counts_who_is_ahead(tmp_path):
    scores = {("Hopper", "acktr", 0): 3500.0, ("Hopper", "acktr", 1): 1750.0}
    scores |= {("Ant", "acktr", 0): 1350.0, ("Ant", "acktr", 1): 675.0}
    scores |= {("Hopper", "a2c", seed): 1800.0 for seed in (0, 1)} | {("Ant", "a2c", seed): 700.0 for seed in (0, 1)}
    runs = make_runs(tmp_path, "fig3", scores, **TASKS)
    measured = results.measure(ITEMS["fig3"], runs, results.load_games(runs, tmp_path / "runs"))
    summary = results.summarise("fig3", measured).set_index("line")
    assert summary.loc["acktr", "interquartile mean"] == pytest.approx(0.75)  # of 0.5, 0.5, 1 and 1
    assert summary.loc["acktr", "tasks"] == 2
    assert 0.5 <= summary.loc["acktr", "95% low"] < 0.75 < summary.loc["acktr", "95% high"] <= 1
    assert summary.loc["a2c", ["acktr ahead", "clearly"]].tolist() == ["2 of 2", "0 of 2"]


def test_who_is_ahead_is_counted_over_the_tasks_that_both_have_whatever_a_third_lacks(tmp_path):
    scores = {(task, line, 0): score for task in ("Hopper", "Ant") for line, score in (("acktr", 2.0), ("a2c", 1.0))}
    scores[("Ant", "trpo", 0)] = 3.0
    runs = make_runs(tmp_path, "fig3", scores, envs=("Hopper", "Ant"), num_timesteps=5000)
    measured = results.measure(ITEMS["fig3"], runs, results.load_games(runs, tmp_path / "runs"))
    ahead = results.summarise("fig3", measured).set_index("line")["acktr ahead"]
    assert (ahead["a2c"], ahead["trpo"]) == ("2 of 2", "0 of 1")


@pytest.mark.parametrize("item", ["fig2", "fig5", "table1"])
def test_every_panel_of_an_item_is_drawn(tmp_path, item, monkeypatch):
    import matplotlib.figure

    drawn = []
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *args, **options: drawn.append([axes.get_xlabel() for axes in figure.axes]),
    )
    runs = plan(ITEMS[item], Selection(num_timesteps=50_000, seeds=(0,)))
    make_runs(tmp_path, item, {(run.task, run.line.label, 0): 1.0 for run in runs}, num_timesteps=50_000, seeds=(0,))
    outcome.write(ITEMS[item], item, runs, tmp_path)
    axes = {"fig2": ["seconds", "episodes", "timesteps"], "fig5": ["timesteps", "timesteps", "updates"]}
    assert drawn == [axes.get(item, ["timesteps"] * 6)]


def test_an_update_is_a_batch_of_timesteps(tmp_path):
    from baselines_acktr.paper.figures import along

    (run,) = make_runs(
        tmp_path,
        "fig5",
        {("BreakoutNoFrameskip-v4", "acktr batch160", 0): 1.0},
        **{"envs": ("breakout",), "algs": ("acktr",), "seeds": (0,), "num_timesteps": 50_000},
    )[:1]
    games = results.load_games([run], tmp_path / "runs")[run.name]
    assert along("updates", run, games, 100).index[-1] == 1300 / 160


def test_nothing_is_written_without_runs(tmp_path):
    for name, item in ITEMS.items():
        assert outcome.write(item, name, plan(item, Selection()), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def updates_of(folder, kls, quadratic) -> None:
    folder.mkdir(parents=True)
    table = pd.DataFrame({"total_timesteps": range(len(kls)), "kl": kls, "quadratic_kl": quadratic})
    table.to_csv(folder / "progress.csv", index=False)


def test_the_share_within_a_factor_of_two_counts_both_sides():
    assert kl.share_within([0.4, 0.5, 1, 2, 2.1], 1.0) == 0.6
    assert kl.share_within([1, 4], [2, 1]) == 0.5


def test_figure_nine_compares_every_update_with_delta_and_the_model(tmp_path):
    runs = plan(ITEMS["fig9"], Selection(envs=("Reacher",)))
    updates_of(tmp_path / "runs" / runs[0].name, [0.001, 0.0021, 0.0005, 0.003], [0.001, 0.001, 0.0011, 0.0016])
    (table,) = outcome.write(ITEMS["fig9"], "fig9", runs, tmp_path)
    row = table.iloc[0]
    assert (row["line"], row["updates"], row["delta"]) == ("acktr no-momentum", 4, 0.001)
    assert row["exact within factor 2 of delta"] == 0.5
    assert row["quadratic within factor 2 of delta"] == 1
    assert row["exact within factor 2 of quadratic"] == 0.5
    assert (tmp_path / "fig9" / "fig9.png").exists()


def test_table_three_takes_turns_and_gives_speeds_ratios_and_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "BATCHES", {MUJOCO: {40: 4}})
    monkeypatch.setattr(speed, "ROUNDS", 2)
    runs = plan(ITEMS["table3"], Selection(envs=("HalfCheetah",), algs=("acktr", "a2c"), num_timesteps=80))
    speed.measure(runs, tmp_path / "table3")
    (table,) = outcome.write(ITEMS["table3"], "table3", runs, tmp_path)
    parts = pd.read_csv(tmp_path / "table3" / "parts.csv")
    assert table[["env", "batch", "environments", "steps", "alg"]].values.tolist() == [
        ["HalfCheetah-v4", 40, 4, 10, "acktr"],
        ["HalfCheetah-v4", 40, 4, 10, "a2c"],
    ]
    assert table["to a2c"].tolist()[1] == 1 and (table["timesteps/s"] > 0).all()
    assert (table["lowest"] <= table["timesteps/s"]).all() and (table["timesteps/s"] <= table["highest"]).all()
    assert {"stepping", "acting", "waiting for the critic", "policy"} <= set(parts["part"])
    assert (parts[["acktr ms", "a2c ms"]] >= 0).all(axis=None) and (parts["batch"] == 40).all()
    assert (tmp_path / "table3" / "table3.png").exists()


def test_measuring_one_size_again_leaves_the_others(tmp_path):
    path = tmp_path / "results.csv"
    for env, batch, rate in (("Hopper-v4", 80, 1.0), ("Ant-v4", 80, 2.0), ("Hopper-v4", 640, 3.0), ("Ant-v4", 80, 4.0)):
        speed._replace(path, pd.DataFrame({"env": [env] * 2, "batch": [batch] * 2, "rate": [rate, rate + 0.5]}), "%.6g")
    table = pd.read_csv(path)
    rows = [["Ant-v4", 80, 4], ["Ant-v4", 80, 4.5], ["Hopper-v4", 80, 1], ["Hopper-v4", 80, 1.5]]
    assert table.values.tolist() == [*rows, ["Hopper-v4", 640, 3], ["Hopper-v4", 640, 3.5]]


def test_the_length_of_the_shortest_run_stands_beside_the_papers(tmp_path):
    scores = {("Hopper", "acktr", seed): 1000.0 for seed in (0, 1)}
    runs = make_runs(tmp_path, "fig3", scores, **TASKS)
    monitor(tmp_path / "runs" / runs[0].name, 0, [(0.0, 10, float(i)) for i in range(30)])
    row = outcome.write(ITEMS["fig3"], "fig3", runs, tmp_path)[0].iloc[0]
    assert (row["timesteps"], row["paper timesteps"]) == (300, 1_000_000)
    assert published.timesteps("table1", "PongNoFrameskip-v4", "acktr") == 5e7
    assert published.timesteps("table1", "PongNoFrameskip-v4", "trpo") == 1e7


def test_the_report_has_what_there_is_with_figures_by_relative_path(tmp_path):
    runs = make_runs(tmp_path, "fig3", {("Hopper", "acktr", 0): 1750.0}, **TASKS)
    outcome.write(ITEMS["fig3"], "fig3", runs, tmp_path)
    assert main(["--report", f"--out={tmp_path}"]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "## fig3" in text and "## fig1" not in text
    assert "![fig3](fig3/fig3.png)" in text and (tmp_path / "fig3" / "fig3.png").exists()
    (row,) = [line for line in text.splitlines() if line.startswith("| Hopper-v4")]
    assert row == "| Hopper-v4 | acktr | 1 | 1300 | 1000000 | 1750 | - | - | 1750 | 1750 | 3500 | 0.5 |"


def test_a_report_of_nothing_says_so(tmp_path):
    assert "Nothing has been measured yet." in report.write(tmp_path).read_text()
