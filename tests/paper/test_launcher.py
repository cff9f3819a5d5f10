"""Tests of starting, recognising, continuing and stopping runs."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from repository import ROOT

from baselines_acktr.paper import job, launcher
from baselines_acktr.paper.__main__ import commands, main
from baselines_acktr.paper.display import Display, last_report
from baselines_acktr.paper.items import ITEMS
from baselines_acktr.paper.job import FINISHED, INTERRUPTED, MISSING, state_of
from baselines_acktr.paper.plan import Selection, command, plan
from common.errors import UserError

DONE, BROKEN, PATIENT, SHORT, DAMAGED = 0, 1, 2, 4, 5  # seeds, and what the run of each does

FAKE_RUN = f'''
"""Does what run.py leaves behind, at once: a run of the whole length, one that fails, one that waits for Ctrl-C."""
import signal, sys, time
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
from common import array_file
from baselines_acktr.session import run_info
from baselines_acktr.session import checkpoints
from baselines_acktr.session.learners import CONTINUOUS
from baselines_acktr.session.options import FLAGS
from baselines_acktr.session.settling import settle

flags = FLAGS.parse(sys.argv[1:])
folder, total = Path(flags["log_path"]), flags["num_timesteps"]
folder.mkdir(parents=True, exist_ok=True)
settings = settle({{name: value for name, value in flags.items() if name != "resume"}}).with_learner(CONTINUOUS, {{}})
run_info.write(folder, run_info.collect(sys.argv[1:], settings.values(), settings.origins, flags["seed"]))
(folder / "0.0.monitor.csv").write_text('# {{"t_start": 1.0}}\\nr,l,t\\n' + "1,5,1\\n" * 20)


def save(timesteps):
    for path in folder / checkpoints.FOLDER / "00000001.model", flags["save_path"]:
        array_file.save(path, {{}}, {{"counters": {{"timesteps": timesteps}}}})


if flags["seed"] == {BROKEN}:
    print("run.py: stopped: the reward is not finite\\n")
    sys.exit(1)
if flags["seed"] == {PATIENT} and "resume" not in flags:
    signal.signal(signal.SIGINT, lambda *_: (save(total // 2), sys.exit(130)))
    (folder / "ready").touch()
    time.sleep(60)
save(total // 2 if flags["seed"] == {SHORT} else total)
if flags["seed"] == {DAMAGED}:
    (folder / "run.json").write_text("")
'''


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Path:
    """The folder of the runs, which are those of the script above."""
    script = tmp_path / "fake_run.py"
    script.write_text(FAKE_RUN)
    monkeypatch.setattr(job, "_run_py", lambda: str(script))
    return tmp_path / "runs"


def runs_of(*seeds: int) -> list:
    return plan(ITEMS["fig3"], Selection(envs=("Hopper",), algs=("acktr",), seeds=seeds, num_timesteps=10_000))


def launch(runs, folder, jobs=2) -> list[str]:
    runner = launcher.Launcher(runs, folder, jobs, Display(len(runs)))
    runner.run()
    return runner.failures


def interrupt_when(path: Path) -> threading.Thread:
    def wait() -> None:
        while not path.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_finished_run_is_recognised_and_not_repeated(fake):
    (run,) = runs_of(DONE)
    assert state_of(run, fake / run.name) == MISSING
    assert launch([run], fake) == []
    assert state_of(run, fake / run.name) == FINISHED
    assert launcher.unfinished([run, run], fake) == []


def test_a_failed_run_is_one_line_and_the_others_go_on(fake, capsys):
    runs = runs_of(BROKEN, DONE, 3)
    failures = launch(runs, fake, jobs=1)
    assert failures == [f"failed    {runs[0].name}: run.py: stopped: the reward is not finite"]
    assert [state_of(run, fake / run.name) for run in runs] == [MISSING, FINISHED, FINISHED]
    assert capsys.readouterr().out.count("failed") == 1


def test_a_run_that_ends_well_but_too_early_has_failed(fake):
    (run,) = runs_of(SHORT)
    assert launch([run], fake) == [f"failed    {run.name}: ended before its last timestep"]


def test_a_run_that_leaves_a_damaged_folder_has_failed_and_the_others_go_on(fake):
    bad, good = runs_of(DAMAGED, DONE)
    (failure,) = launch([bad, good], fake, jobs=1)
    assert failure.startswith(f"failed    {bad.name}: ") and "run.json: damaged" in failure
    assert state_of(good, fake / good.name) == FINISHED


def test_the_run_py_beside_the_package_is_run_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "run.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert job._run_py() == ROOT / "run.py"


def test_an_attempt_without_a_checkpoint_starts_anew_with_its_games_removed(fake):
    (run,) = runs_of(BROKEN)
    for _ in range(2):
        launch([run], fake)
    assert (fake / run.name / "output.log").read_text().count("not finite") == 1


def test_ctrl_c_saves_the_runs_and_the_same_command_goes_on_with_them(fake):
    (run,) = runs_of(PATIENT)
    interrupter = interrupt_when(fake / run.name / "ready")
    with pytest.raises(KeyboardInterrupt):
        launch([run, *runs_of(DONE)], fake, jobs=1)
    interrupter.join()
    folder = fake / run.name
    assert state_of(run, folder) == INTERRUPTED
    assert commands("fig3", [run], fake.parent) == [command(run, folder, resume=True)]
    assert not (fake / runs_of(DONE)[0].name).exists()
    assert launch([run], fake) == []
    assert state_of(run, folder) == FINISHED


def test_ctrl_c_of_the_command_exits_with_130_and_leaves_no_process(fake, capsys):
    (run,) = runs_of(PATIENT)
    interrupter = interrupt_when(fake / run.name / "ready")
    argv = ["fig3", "--envs=Hopper", "--algs=acktr", f"--seeds={PATIENT}", "--num_timesteps=10000"]
    assert main([*argv, f"--out={fake.parent}"]) == 130
    interrupter.join()
    assert "interrupted; run the same command to continue" in capsys.readouterr().err
    with (fake / run.name / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_run_that_another_process_is_at_is_left_alone(fake):
    (run,) = runs_of(DONE)
    (fake / run.name).mkdir(parents=True)
    with (fake / run.name / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (failure,) = launch([run], fake)
    assert failure.endswith("another process is training this run")


def test_a_damaged_run_json_is_named(fake):
    (run,) = runs_of(DONE)
    launch([run], fake)
    (fake / run.name / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json: damaged: .*; move the folder away"):
        launcher.unfinished([run], fake)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    for words in (["fig3"], ["table3"], ["--report"]):
        assert main([*words, f"--out={tmp_path}/file/results"]) == 2
        assert capsys.readouterr().err == f"paper: --out={tmp_path}/file/results: cannot be written: Not a directory\n"


def test_a_seed_that_is_named_twice_is_one_run():
    assert runs_of(2, 2) == runs_of(2)


def test_a_run_with_other_settings_in_its_place_is_refused(fake):
    (run,) = runs_of(DONE)
    launch([run], fake)
    os.replace(fake / run.name, fake / runs_of(3)[0].name)
    with pytest.raises(UserError, match="was made with seed=0, now 3; move it away"):
        launcher.unfinished(runs_of(3), fake)


@pytest.mark.parametrize(("gamma", "message"), [(0.9, "was made with gamma=0.9, now 0.995"), (0.995, None)])
def test_a_run_made_with_another_default_in_its_place_is_refused(fake, gamma, message):
    (run,) = runs_of(DONE)
    assert launch([run], fake) == []
    path = fake / run.name / "run.json"
    info = json.loads(path.read_text())
    info["settings"]["gamma"]["value"] = gamma
    path.write_text(json.dumps(info))
    if message is None:
        assert job.state_of(run, fake / run.name) == job.FINISHED
    else:
        with pytest.raises(UserError, match=message):
            job.state_of(run, fake / run.name)


def test_a_run_made_before_a_hyperparameter_existed_is_refused(fake):
    (run,) = runs_of(DONE)
    launch([run], fake)
    path = fake / run.name / "run.json"
    info = json.loads(path.read_text())
    del info["settings"]["cg_blend"]
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"was made with cg_blend=nothing, now 0\.5; move it away"):
        job.state_of(run, fake / run.name)


def test_runs_with_another_default_are_not_tabulated_either(fake, capsys):
    """Not even by a command that only measures."""
    (run,) = runs_of(DONE)
    launch([run], fake)
    path = fake / run.name / "run.json"
    info = json.loads(path.read_text())
    info["settings"]["gamma"]["value"] = 0.9
    path.write_text(json.dumps(info))
    argv = ["fig3", "--envs=Hopper", "--algs=acktr", f"--seeds={DONE}", "--num_timesteps=10000"]
    assert main([*argv, f"--out={fake.parent}", "--jobs=0"]) == 2
    assert "was made with gamma=0.9, now 0.995" in capsys.readouterr().err
    assert not (fake.parent / "fig3").exists()


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5, 6})
    assert launcher.core_shares(1) == [[4, 5, 6]]
    assert launcher.core_shares(2) == [[4, 6], [5]]
    assert launcher.core_shares(4) == [[4], [5], [6], [4]]


def test_a_run_has_the_cores_of_its_share(tmp_path, monkeypatch):
    script = tmp_path / "cores.py"
    script.write_text("import os, time\ntime.sleep(0.5)\nprint(sorted(os.sched_getaffinity(0)))\nraise SystemExit(1)")
    monkeypatch.setattr(job, "_run_py", lambda: str(script))
    core = min(os.sched_getaffinity(0))
    started = job.Job(runs_of(DONE)[0], tmp_path / "run", [core])
    started.process.wait()
    assert started.close() == str([core])


def test_the_display_reads_the_last_report_of_a_run(tmp_path):
    assert last_report(tmp_path) == {}
    (tmp_path / "progress.csv").write_text("fps,total_timesteps\n10,640\n12,1280\n")
    assert last_report(tmp_path) == {"fps": "12", "total_timesteps": "1280"}
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("13,19")
    assert last_report(tmp_path) == {"fps": "12", "total_timesteps": "1280"}


def test_an_item_is_trained_measured_and_reported_by_the_command(tmp_path, capsys):
    argv = ["fig3", "--envs=InvertedPendulum", "--algs=a2c", "--seeds=0", "--num_timesteps=5000", f"--out={tmp_path}"]
    assert main([*argv, "--report"]) == 0
    assert "finished  a2c-InvertedPendulum-v4-5k-0" in capsys.readouterr().out
    run = tmp_path / "runs" / "a2c-InvertedPendulum-v4-5k-0"
    assert {"run.json", "progress.csv", "0.0.monitor.csv", "model", "command.txt"} <= set(os.listdir(run))
    assert "InvertedPendulum-v4 | a2c" in (tmp_path / "report.md").read_text()
    assert main(argv) == 0
    assert "started" not in capsys.readouterr().out


def test_a_failed_run_makes_the_exit_code_one_and_jobs_zero_starts_nothing(fake):
    argv = ["fig3", "--envs=Hopper", "--algs=acktr", f"--seeds={BROKEN}", "--num_timesteps=10000"]
    assert main([*argv, f"--out={fake.parent}", "--jobs=0"]) == 0
    assert not fake.exists()
    assert main([*argv, f"--out={fake.parent}"]) == 1
