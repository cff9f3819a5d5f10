"""Tests of the log files."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import wandb

from common import logger as logging
from common.errors import UserError
from common.logger import Logger


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(folder: Path, formats: str, *reports: dict, rank: int = 0) -> None:
    with Logger(folder, formats.split(","), rank) as log:
        for step, report in enumerate(reports):
            log.log(report)
            log.dump(step)


def test_each_format_has_the_file_name_of_baselines(tmp_path):
    write(tmp_path, "log,csv,json,tensorboard", {"a": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.txt", "progress.csv", "progress.json", "tb"]


def test_ranks_above_zero_have_their_own_files(tmp_path):
    write(tmp_path, "log,csv,json", {"a": 1}, rank=1)
    names = ["log-rank001.txt", "progress-rank001.csv", "progress-rank001.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_values_are_collected_until_the_dump_and_then_forgotten(tmp_path):
    with Logger(tmp_path, ["json"]) as log:
        log.log({"a": 1, "b": 1})
        log.log({"b": 2})
        log.dump(0)
        log.log({"c": 3})
        log.dump(1)
    lines = (tmp_path / "progress.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1, "b": 2}, {"c": 3}]


def test_csv_gets_a_column_for_a_new_key_and_earlier_rows_are_padded(tmp_path):
    write(tmp_path, "csv", {"b": 1, "a": 2}, {"b": 3, "a": 4, "c": 5}, {"a": 6})
    assert (tmp_path / "progress.csv").read_text().splitlines() == ["a,b,c", "2,1,", "4,3,5", "6,,"]
    assert [p.name for p in tmp_path.iterdir()] == ["progress.csv"]


def test_csv_keeps_full_precision_and_quotes_text(tmp_path):
    write(tmp_path, "csv", {"x": 0.1 + 0.2, "y": np.float32(0.1), "z": 'a,"b"'})
    (row,) = rows(tmp_path / "progress.csv")
    assert float(row["x"]) == 0.1 + 0.2
    assert np.float32(row["y"]) == np.float32(0.1)
    assert row["z"] == 'a,"b"'


def test_a_second_run_in_the_folder_appends(tmp_path):
    write(tmp_path, "csv,json,log", {"a": 1}, {"a": 2})
    write(tmp_path, "csv,json,log", {"a": 3, "b": 4})
    assert rows(tmp_path / "progress.csv") == [{"a": "1", "b": ""}, {"a": "2", "b": ""}, {"a": "3", "b": "4"}]
    assert len((tmp_path / "progress.json").read_text().splitlines()) == 3
    assert (tmp_path / "log.txt").read_text().count("| a |") == 3


def test_a_line_cut_by_a_kill_is_dropped_when_a_run_goes_on(tmp_path):
    (tmp_path / "progress.csv").write_text("a,b\n1,2\n3")
    (tmp_path / "progress.json").write_text('{"a": 1}\n{"a"')
    write(tmp_path, "csv,json", {"a": 5, "b": 6})
    assert (tmp_path / "progress.csv").read_text().split() == ["a,b", "1,2", "5,6"]
    assert (tmp_path / "progress.json").read_text() == '{"a": 1}\n{"a": 5, "b": 6}\n'


def test_numbers_that_are_not_finite_are_nan_in_csv_and_null_in_json(tmp_path):
    write(tmp_path, "csv,json", {"a": float("nan"), "b": np.float32("inf")})
    assert rows(tmp_path / "progress.csv") == [{"a": "nan", "b": "inf"}]
    assert json.loads((tmp_path / "progress.json").read_text(), parse_constant=pytest.fail) == {"a": None, "b": None}


def test_the_table_has_sorted_keys_and_readable_numbers(tmp_path, capsys):
    write(tmp_path, "stdout,log", {"total_timesteps": 1234567, "fps": 1400, "kl": 0.00012346, "note": "[b]text[/b]"})
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "log.txt").read_text()
    cells = re.findall(r"\| (\S+) +\| +(\S+) \|", printed)
    assert cells == [("fps", "1,400"), ("kl", "0.0001235"), ("note", "[b]text[/b]"), ("total_timesteps", "1,234,567")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-20.75, "-20.75"), (1e-9, "1e-09"), (123456.7, "123,457"), (float("nan"), "nan"), (1e20, "1e+20")],
)
def test_readable_numbers(value, text):
    assert logging.readable(value) == text


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: step and value of each event} as TensorBoard's own reader finds them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_finds_scalars_in_groups_at_their_steps(tmp_path):
    keys = ("eprewmean", "fps", "policy_loss", "evaluation_score", "eval/mean")
    with Logger(tmp_path, ["tensorboard"]) as log:
        for step in (640, 1280):
            log.log({key: step / 2 for key in keys} | {"note": "text"})
            log.dump(step)
    tags = ("rollout/eprewmean", "time/fps", "train/policy_loss", "eval/evaluation_score", "eval/mean")
    assert scalars(tmp_path / "tb") == {tag: [(640, 320), (1280, 640)] for tag in tags}


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path):
    with Logger(tmp_path, ["tensorboard"]) as log:
        for step in (1, 2, 3):
            log.log({"loss": step})
            log.dump(step)
            if step == 2:
                positions = log.positions()
    time.sleep(1.1)  # readers take the files in the order of the seconds in their names
    with Logger(tmp_path, ["tensorboard"]) as log:
        log.cut(positions)
        log.log({"loss": 30})
        log.dump(3)
    assert scalars(tmp_path / "tb") == {"train/loss": [(1, 1), (2, 2), (3, 30)]}


def test_weights_and_biases_gets_numbers_and_settings_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"lr": {"value": 0.5, "from": "default"}}}))
    ids = []
    for step in (640, 1280):
        with Logger(tmp_path, ["wandb"]) as log:
            log.log({"eprewmean": 1.5, "loss": step, "note": "text"})
            log.dump(step)
            run = wandb.run
            ids.append(run.id)
            assert (run.summary["rollout/eprewmean"], run.summary["train/loss"]) == (1.5, step)
            assert run.config["lr"] == 0.5 and "train/note" not in dict(run.summary)
    assert ids[0] == ids[1]
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


def test_weights_and_biases_that_is_not_installed_is_one_line_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^formats=wandb: .* is not installed; .*pip install '\.\[wandb\]'$"):
        Logger(tmp_path / "new", ["wandb"])
    assert not (tmp_path / "new").exists()


def test_counts_of_what_was_skipped_are_shown_once_something_was(tmp_path, capsys):
    write(tmp_path, "stdout,csv", {"skipped_updates": 0, "vf_skipped_updates": 0, "loss": 0, "episodes": 0})
    shown = capsys.readouterr().out
    assert "skipped" not in shown and "loss" in shown and "episodes" in shown
    assert rows(tmp_path / "progress.csv")[0]["skipped_updates"] == "0"
    write(tmp_path, "stdout", {"skipped_updates": 1})
    assert "skipped_updates" in capsys.readouterr().out


def test_an_unknown_format_is_named_with_the_closest(tmp_path):
    with pytest.raises(UserError, match=r"formats=cvs: must be of stdout.*Did you mean csv\?"):
        Logger(tmp_path / "new", ["cvs"])
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/logs: cannot be written"):
        Logger(tmp_path / "file" / "logs", ["csv"])


def test_environment_variables_choose_folder_and_formats(monkeypatch):
    for name in ("OPENAI_LOGDIR", "OPENAI_LOG_FORMAT", "OPENAI_LOG_FORMAT_MPI"):
        monkeypatch.delenv(name, raising=False)
    assert re.fullmatch(r"openai-[\d-]+", logging.default_folder().name)
    assert logging.default_formats() == ("stdout", "log", "csv")
    assert logging.default_formats(rank=1) == ()
    monkeypatch.setenv("OPENAI_LOGDIR", "/somewhere")
    monkeypatch.setenv("OPENAI_LOG_FORMAT", "json, csv")
    assert logging.default_folder() == Path("/somewhere")
    assert logging.default_formats() == ("json", "csv")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "rank", "shown"), [(Terminal, 0, True), (Terminal, 1, False), (io.StringIO, 0, False)]
)
def test_the_progress_bar_shows_on_a_terminal_of_rank_zero_alone(tmp_path, monkeypatch, stream, rank, shown):
    stderr = stream()
    monkeypatch.setattr("sys.stderr", stderr)
    with Logger(tmp_path, [], rank) as log:
        log.progress(100, 1000, fps=1400.0)
        log.progress(500, 1000, fps=1500.0)
    assert ("500/1000" in stderr.getvalue() and "fps=1500" in stderr.getvalue()) is shown
    assert bool(stderr.getvalue()) is shown
    assert "it/s" not in stderr.getvalue()  # there is one speed: that of the table


def test_closing_twice_is_harmless(tmp_path):
    log = Logger(tmp_path, ["log", "csv", "json"])
    log.progress(1, 2)
    log.close()
    log.close()
