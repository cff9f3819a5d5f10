"""Tests of run.py: what a user types, what comes out."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from repository import PYTHONPATH, ROOT

import run
from baselines_acktr import load
from baselines_acktr.session import checkpoints, environments, run_info
from baselines_acktr.session.learners import CONTINUOUS, DISCRETE
from baselines_acktr.session.settling import settle
from baselines_acktr.session.showing import after_update
from common import array_file
from common.measures import load_monitor
from common.process import Interruption, num_processes, quiet_tensorflow

pytestmark = pytest.mark.long
DOCUMENTED_KEYS = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "log.md").read_text()))
SMALL = ["--num_env=2", "--nsteps=5", "--hidden_sizes=8", "--inverses=inline", "--log_interval=1"]
# Where the learner does not matter: the one whose graphs are made in the shortest time.
A2C = ["--alg=a2c", "--num_env=2", "--nsteps=5", "--hidden_sizes=8", "--log_interval=1"]


class Lights(gym.Env):
    """Games of four steps in which every step scores 1; its frames are of one colour."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.time += 1
        return self.observation_space.sample(), 1.0, self.time == 4, False, {}

    def render(self):
        return np.full((20, 20, 3), 60 * self.time, np.uint8)


gym.register("Lights-v0", Lights)


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "OPENAI_LOGDIR", "OPENAI_LOG_FORMAT", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with the logs and the checkpoint of a short run."""
    folder = tmp_path_factory.mktemp("trained")
    argv = ["--env=Lights-v0", "--num_timesteps=30", "--seed=3", f"--log_path={folder}", f"--save_path={folder}/model"]
    assert run.main([*argv, *SMALL, "--log_format=csv,log", "--save_video_interval=10", "--save_video_length=3"]) == 0
    return folder


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)


def test_help_answers_in_under_a_second():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert "--num_timesteps" in python("run.py", "--help").stdout
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


def test_the_launched_script_imports_nothing_heavy():
    loaded = python("-c", "import run, sys; print(*sys.modules)").stdout.split()
    assert not {"tensorflow", "keras", "gymnasium", "numpy", "rich"} & set(loaded)


def test_without_arguments_the_usage_has_an_example(capsys):
    assert run.main([]) == 2
    assert "python run.py --env=CartPole-v1 --num_timesteps=1e5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--env=CartPol-v1"], "--env=CartPol-v1: no such environment is registered. Did you mean CartPole-v1?"),
        (["--env=Lights-v0", "--ent_coeff=1"], "--ent_coeff: unknown flag. Did you mean --ent_coef?"),
        (["--env=Lights-v0", "--network=cn"], "--network=cn: unknown network"),
        (["--env=Lights-v0", "--network=cnn"], "--network=cnn: observations must be images"),
        (
            ["--env=PongNoFrameskip-v4", "--conv_kernels=80,8,3"],
            "--network=cnn: convolution 2 of 8x8 sees 2x2 pixels; the images are too small for its sizes",
        ),
        (["--env=Lights-v0", "--alg=ppo2"], "--alg=ppo2: must be one of acktr, a2c, trpo"),
        (
            ["--env=Lights-v0", "--alg=a2c", "--timesteps_per_batch=5"],
            "--timesteps_per_batch: a2c with discrete actions does not have it",
        ),
        (["--env=Pendulum-v1", "--alg=trpo", "--lr=1"], "--lr: trpo does not have it"),
        (
            ["--env=Lights-v0", "--alg=trpo", "--num_timesteps=1023"],
            "--num_timesteps=1023: must be 0, or at least one batch of 1024",
        ),
        (["--env=Pendulum-v1", "--nsteps=5"], "--nsteps: acktr with continuous actions does not have it"),
        (["--env=Lights-v0", "--vf_iters=5"], "--vf_iters: acktr with discrete actions does not have it"),
        (["--env=Lights-v0", "--pixels"], "--pixels: needs one of Gymnasium's MuJoCo tasks"),
        (["--env=Lights-v0", "--log_path=file/logs"], "--log_path=file/logs: cannot be written: Not a directory"),
        (["--env=Lights-v0", "--save_path=file/model"], "--save_path=file/model: cannot be written: Not a directory"),
        (["--env=Lights-v0", "--save_path=/proc/nothing/model"], "--save_path=/proc/nothing/model: cannot be written"),
        (["--env=Lights-v0", f"--save_path={'x' * 300}"], "File name too long"),
        (["--env=Lights-v0", "--save_path=."], "--save_path=.: is a folder"),
        (["--env=Lights-v0", "--save_path=new/"], "--save_path=new/: is a folder"),
        (["--env=Lights-v0", "--save_path=/dev/null"], "--save_path=/dev/null: is not a regular file"),
        (["--resume"], "--resume: no checkpoint in"),
        (["--resume", "--load_path=file"], "--resume: finds its checkpoint in the log folder"),
        (["--env=Lights-v0", "--load_path=nothing"], "--load_path: checkpoint nothing: no such file"),
        (["--env=Lights-v0", "--load_path=file"], "--load_path: checkpoint file: not a checkpoint"),
        (["--env=Lights-v0", "--learning_rate=1"], "--learning_rate: unknown flag. Did you mean --lr?"),
        (["--env=Lights-v0", "--batch-size=1"], "Did you mean --nsteps, or --timesteps_per_batch with continuous"),
        (["--env=Lights-v0", "--qqqq=1"], "--qqqq: unknown flag. --help lists the flags."),
        (["--env=Pong"], "--env=Pong: no such environment is registered. Did you mean ALE/Pong-v5?"),
        (["--env=Lights-v0", "--greedy"], "--greedy: has no effect without --play or --save_video_interval"),
        (["--env=Lights-v0", "--play_episodes=3"], "--play_episodes: has no effect without --play"),
        (["--env=Lights-v0", "--env_backend=native"], "--env_backend=native: needs a preprocessed Atari game"),
        (["--env=Lights-v0", "--activation=sin"], "--activation=sin: must be one of relu, tanh, elu"),
        (["--env=Lights-v0", "--seed=2147483648"], "--seed=2147483648: must be at least 0 and at most 2147483647"),
        (["--env=Lights-v0", "--hidden_sizes=64,,64"], "--hidden_sizes=64,,64: each of its parts, between commas"),
        (["--env=Lights-v0", "--video=a.mp4"], "--video=a.mp4: shows the replay, so it needs --play"),
        (["--env=Lights-v0", "--export_sample"], "--export_sample: has no effect without --export"),
        (["--env=Lights-v0", "--export=a.pb"], "--export=a.pb: the ending .pb says no format; must be .tflite, .onnx"),
        (["--env=Lights-v0", "--export=a.onnx", "--export_format=tflite"], "--export=a.onnx: has the ending of onnx"),
        (["--env=Lights-v0", "--export=/proc/no/a.tflite"], "--export=/proc/no/a.tflite: cannot be written: "),
        (["--env=Lights-v0", "--play", "--video=a.avi"], "--video=a.avi: must end in .mp4 or .gif"),
        (
            ["--env=Lights-v0", "--log_format=cvs"],
            "--log_format=cvs: must be of stdout, log, csv, json, tensorboard, wandb. Did you mean csv?",
        ),
        (["--env=Lights-v0", "--num_timesteps=nan"], "--num_timesteps=nan: must be a whole number"),
        (["--env=Lights-v0", "--num_timesteps=159"], "--num_timesteps=159: must be 0, or at least one batch"),
        (["--env=Lights-v0", "--num_env=0"], "--num_env=0: must be at least 1"),
        (["--env=Lights-v0", "--gamma=1.5"], "--gamma=1.5: must be at least 0 and at most 1"),
    ],
)
def test_a_mistake_is_one_clear_line_with_exit_code_two_and_writes_nothing(tmp_path, capfd, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_LOGDIR", str(tmp_path / "logs"))
    (tmp_path / "file").touch()
    assert run.main(argv) == 2
    out, err = capfd.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1), err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OPENAI_LOGDIR", "/proc/nothing", "OPENAI_LOGDIR=/proc/nothing: cannot be written"),
        ("OPENAI_LOG_FORMAT", "cvs", "OPENAI_LOG_FORMAT=cvs: must be of stdout, log"),
    ],
)
def test_a_mistake_in_a_variable_is_named_by_it(monkeypatch, capfd, variable, value, message):
    monkeypatch.setenv(variable, value)
    assert run.main(["--env=Lights-v0"]) == 2
    out, err = capfd.readouterr()
    assert message in err and (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("size", ["1", "", "nonsense"])
def test_one_process_under_mpirun_is_fine(monkeypatch, size):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", size)
    assert num_processes() == 1


def test_a_run_leaves_checkpoint_logs_monitor_files_and_videos(trained):
    names = {path.name for path in trained.iterdir() if path.name != ".run.lock"}
    logs = {"0.0.monitor.csv", "0.1.monitor.csv", "log.txt", "progress.csv", "run.json"}
    assert names == logs | {"checkpoints", "model", "videos"}
    steps = [line.split(",") for line in (trained / "progress.csv").read_text().splitlines()]
    assert set(steps[0]) <= DOCUMENTED_KEYS
    column = steps[0].index("total_timesteps")
    assert [row[column] for row in steps[1:]] == ["10", "20", "30"]
    assert load_monitor(trained)["score"].eq(4).all()


def test_videos_of_the_training_are_named_by_timestep(trained):
    assert {p.name for p in (trained / "videos").iterdir()} == {f"step-{n:08d}.mp4" for n in (10, 20, 30)}


def test_a_new_run_moves_the_logs_of_an_earlier_one_out_of_its_way(trained, tmp_path):
    folder = tmp_path / "logs"
    shutil.copytree(trained, folder)
    (folder / "notes.txt").write_text("mine")
    argv = ["--env=Lights-v0", "--num_timesteps=10", f"--log_path={folder}", *A2C, "--log_format=csv"]
    assert run.main(argv) == 0
    (earlier,) = folder.glob("run-*")
    names = ("0.0.monitor.csv", "0.1.monitor.csv", "log.txt", "progress.csv", "run.json")
    assert {path.name for path in earlier.iterdir()} == set(names)
    for name in names:
        assert (earlier / name).read_bytes() == (trained / name).read_bytes()
    assert len((folder / "progress.csv").read_text().splitlines()) == 2
    assert (folder / "notes.txt").read_text() == "mine"
    assert run.main([*argv[2:], "--resume", "--num_timesteps=20"]) == 0
    assert len((folder / "progress.csv").read_text().splitlines()) == 3


def test_a_second_run_in_the_same_log_folder_is_refused(trained, tmp_path, capsys):
    folder = tmp_path / "logs"
    shutil.copytree(trained, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with run_info.lock(folder):
        for words in (["--env=Lights-v0", "--num_timesteps=10", *SMALL], ["--resume", "--num_timesteps=100"]):
            assert run.main([*words, f"--log_path={folder}"]) == 2
            assert f"--log_path={folder}: another run is going on there" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_where_earlier_logs_and_checkpoints_have_gone_is_said(trained, tmp_path, capsys):
    folder = tmp_path / "logs"
    shutil.copytree(trained, folder)
    assert run.main(["--env=Lights-v0", "--num_timesteps=10", f"--log_path={folder}", *A2C]) == 0
    err = capsys.readouterr().err
    (logs,), (checkpoints,) = folder.glob("run-*"), folder.glob("checkpoints-*")
    assert f"an earlier run's logs are now in {logs}\n" in err
    assert f"an earlier run's checkpoints are now in {checkpoints}\n" in err


@pytest.mark.parametrize("place", ["model", ".", "checkpoints", "checkpoints/00000003.model"])
def test_a_model_is_watched_without_further_training(trained, tmp_path, monkeypatch, capsys, place):
    monkeypatch.setenv("OPENAI_LOGDIR", str(tmp_path / "logs"))
    assert run.main([f"--load_path={trained / place}", "--play"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "episode 1: score 4, length 4\nmean of 1: score 4, length 4\n"
    assert "no display: scores only" in captured.err
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_half_of_a_checkpoint_is_named(trained, capsys):
    assert run.main([f"--load_path={trained}/checkpoints/00000003.run", "--play"]) == 2
    assert "the part of a checkpoint that --resume needs; the model ends in .model" in capsys.readouterr().err


def test_a_checkpoint_from_before_a_hyperparameter_existed_says_so(trained, tmp_path, capsys):
    arrays, meta = array_file.load(trained / "model")
    del meta["config"]["cg_blend"]
    array_file.save(tmp_path / "model", arrays, meta)
    said = "the checkpoint is older than --cg_blend: now as by default\n"
    load = f"--load_path={tmp_path}/model"
    assert run.main([load, "--num_timesteps=70", f"--log_path={tmp_path}/logs"]) == 0
    assert said in capsys.readouterr().err
    assert run.main([load, "--play"]) == 0  # where nothing is learned it does not matter
    assert said not in capsys.readouterr().err


def test_a_model_is_exported_without_training_and_does_the_same(trained, tmp_path, capsys):
    observations = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
    predicted = load(str(trained / "model")).predict(observations, deterministic=True)[0]
    assert run.main([f"--load_path={trained}/model", f"--export={tmp_path}/lights.tflite"]) == 0
    assert f"exported to {tmp_path}/lights.tflite\n" in capsys.readouterr().err
    runner = tf.lite.Interpreter(str(tmp_path / "lights.tflite")).get_signature_runner()
    np.testing.assert_array_equal(runner(observation=observations)["action"], predicted)
    assert os.listdir(tmp_path) == ["lights.tflite"]


def test_an_export_says_where_it_is_and_nothing_of_the_libraries_that_wrote_it(tmp_path):
    model = ROOT / "tests" / "data" / "cartpole.model"
    ended = subprocess.run(
        [sys.executable, "run.py", f"--load_path={model}", f"--export={tmp_path}/cartpole.onnx"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )
    lines = [line for line in ended.stderr.splitlines() if "the checkpoint is older" not in line]
    assert (ended.returncode, ended.stdout, lines) == (0, "", [f"exported to {tmp_path}/cartpole.onnx"])


def test_a_run_exports_what_it_has_learned_and_its_checkpoint_says_not_where_to(tmp_path, capsys):
    argv = ["--env=Lights-v0", "--num_timesteps=10", *A2C, f"--log_path={tmp_path}/logs", "--log_format=csv"]
    assert run.main([*argv, f"--export={tmp_path}/lights", "--export_sample"]) == 0
    (note,) = (tmp_path / "lights" / "assets.extra").iterdir()
    content = json.loads(note.read_text())
    assert content["timesteps"] == 10 and content["mode"] == "sampled"
    assert content["environment"]["env_id"] == "Lights-v0"

    shutil.rmtree(tmp_path / "lights")
    capsys.readouterr()
    assert run.main([f"--log_path={tmp_path}/logs", "--resume", "--num_timesteps=20", "--log_format=csv"]) == 0
    assert "--export was " in capsys.readouterr().err
    assert not (tmp_path / "lights").exists()

    repeated = settle({"config": f"{tmp_path}/logs/run.json"}).options
    assert repeated.export is None and not repeated.export_sample


def test_nothing_to_do_is_said(capsys):
    assert run.main(["--env=Lights-v0", "--num_timesteps=0"]) == 0
    assert "nothing to do: --num_timesteps=0 without --play, --save_path or --export" in capsys.readouterr().err


def test_a_display_that_does_not_answer_is_noticed_before_the_training(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.chdir(tmp_path)
    assert run.main(["--env=Hopper-v4", "--num_timesteps=1e5", "--play", "--log_path=logs"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert "--play: no window can be opened: the display :99 does not answer; give --video=FILE.mp4" in err
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_ends_the_replay(trained):
    command = f"{sys.executable} run.py --load_path={trained}/model --play --play_episodes=5000 | head -n 1"
    command = f"{command.replace('--load_path', '--env=tests.test_run:Lights-v0 --load_path')}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": PYTHONPATH}
    )
    assert (ended.stdout, ended.returncode) == ("episode 1: score 4, length 4\n", 128 + signal.SIGPIPE), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_checkpoint_brings_what_makes_its_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamps.py").write_text(
        "import gymnasium as gym\nfrom tests.test_run import Lights\ngym.register('Lamps-v0', Lights)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    argv = ["--env=lamps:Lamps-v0", "--num_timesteps=10", "--reward_scale=0.5", "--save_path=model", "--log_path=a"]
    assert run.main([*argv, *A2C]) == 0
    assert run.main(["--load_path=model", "--num_timesteps=20", "--log_path=b", "--num_env=2"]) == 0
    settings = json.loads((tmp_path / "b" / "run.json").read_text())["settings"]
    found = {name: settings[name] for name in ("env", "reward_scale", "frame_stack", "pixels")}
    expected = {"env": "lamps:Lamps-v0", "reward_scale": 0.5, "frame_stack": 4, "pixels": False}
    assert found == {name: {"value": value, "from": "checkpoint"} for name, value in expected.items()}


def test_run_json_repeats_the_run(trained):
    info = json.loads((trained / "run.json").read_text())
    assert info["command"][:2] == ["run.py", "--env=Lights-v0"]
    assert info["seed"] == 3
    assert info["settings"]["nsteps"] == {"value": 5, "from": "command line"}
    assert info["settings"]["gamma"] == {"value": 0.99, "from": "default"}
    assert info["settings"]["network"] == {"value": "mlp", "from": "environment preset"}
    assert info["packages"]["numpy"] == np.__version__
    assert info["python"].startswith("3.")


def test_the_checkpoint_plays_with_any_number_of_environments(trained, capsys):
    argv = [f"--load_path={trained}/model", "--num_timesteps=0", "--play"]
    before = sorted(trained.iterdir())
    assert run.main([*argv, "--num_env=3", "--greedy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"episode {i}: score 4, length 4" for i in (1, 2, 3)] + ["mean of 3: score 4, length 4"]
    assert run.main([*argv, f"--video={trained.parent}/replay.gif", "--play_episodes=2"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "mean of 2: score 4, length 4"
    assert f"the video is {trained.parent}/replay.gif\n" in shown.err
    assert (trained.parent / "replay.gif").read_bytes().startswith(b"GIF")
    assert sorted(trained.iterdir()) == before


def test_training_goes_on_from_a_checkpoint_with_its_settings_and_keeps_the_logs(trained, tmp_path):
    before = (trained / "progress.csv").read_text().splitlines()
    argv = [f"--load_path={trained}/model", f"--log_path={trained}", f"--save_path={tmp_path}/model", "--num_env=2"]
    assert run.main([*argv, "--num_timesteps=50", "--lr=0.1", "--log_interval=1", "--log_format=csv"]) == 0
    after = (trained / "progress.csv").read_text().splitlines()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
    settings = json.loads((trained / "run.json").read_text())["settings"]
    assert settings["nsteps"] == {"value": 5, "from": "checkpoint"}
    assert settings["env"] == {"value": "Lights-v0", "from": "checkpoint"}
    assert settings["lr"] == {"value": 0.1, "from": "command line"}
    assert array_file.load_meta(tmp_path / "model")["counters"]["timesteps"] == 50
    assert len(list(trained.glob("run*.json"))) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--env=CartPole-v1"], "trained with environment Lights-v0, asked for CartPole-v1"),
        (["--hidden_sizes=16"], "trained with hidden_sizes [8], asked for [16]"),
        (["--network=cnn"], "trained with network mlp, asked for cnn"),
        (["--num_timesteps=30"], "must be 0, or at least the checkpoint's 30 timesteps"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused(trained, capfd, argv, message):
    assert run.main([f"--load_path={trained}/model", *argv]) == 2
    out, err = capfd.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_damaged_checkpoint_is_refused(trained, tmp_path, capsys):
    (tmp_path / "model").write_bytes((trained / "model").read_bytes()[:-1000])
    assert run.main([f"--load_path={tmp_path}/model", "--play", "--num_timesteps=0"]) == 2
    problem = "damaged or incomplete (its checksum does not match)"
    assert capsys.readouterr().err == f"run.py: --load_path: checkpoint {tmp_path}/model: {problem}\n"


def test_a_play_can_follow_the_training_of_an_unsaved_model(tmp_path, capsys):
    assert run.main(["--env=Lights-v0", "--num_timesteps=0", "--play", "--play_episodes=2"]) == 0
    assert capsys.readouterr().out.endswith("mean of 2: score 4, length 4\n")


def interrupt_when(path: Path) -> threading.Thread:
    """Sends Ctrl-C to this process as soon as `path` exists."""

    def wait() -> None:
        while not path.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_saves_what_was_learned_and_exits_with_130(tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    interrupt_when(tmp_path / "progress.csv")
    argv = ["--env=Lights-v0", "--num_timesteps=1e9", f"--log_path={tmp_path}", f"--save_path={tmp_path}/model"]
    assert run.main([*argv, *A2C, "--log_format=csv"]) == 130
    timesteps = array_file.load_meta(tmp_path / "model")["counters"]["timesteps"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last == f"run.py: interrupted after {timesteps} timesteps, saved to {tmp_path}/checkpoints: go on with --resume"
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(monkeypatch, tmp_path, capsys):
    from baselines_acktr.session import loop

    def start(model, env, goal):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")

    monkeypatch.setattr(loop, "start", start)
    assert run.main(["--env=Lights-v0", f"--log_path={tmp_path}"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "run.py: interrupted"


def test_a_video_that_cannot_be_written_does_not_end_the_training(tmp_path, capsys):
    (tmp_path / "videos").touch()
    settings = settle({"env": "Lights-v0", "log_path": str(tmp_path), "save_video_interval": 1, "seed": 0})
    callback = after_update(settings, Interruption())

    class Model:
        timesteps = 10

    assert callback(Model()) is False
    assert "a video of the training is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("alg", "env_id", "kind", "expected"),
    [
        ("acktr", "PongNoFrameskip-v4", DISCRETE, 32),
        ("a2c", "PongNoFrameskip-v4", DISCRETE, 16),
        ("trpo", "PongNoFrameskip-v4", DISCRETE, 8),
        ("acktr", "CartPole-v1", DISCRETE, 8),
        ("a2c", "CartPole-v1", DISCRETE, 8),
        ("acktr", "Pendulum-v1", CONTINUOUS, 20),
        ("trpo", "Pendulum-v1", CONTINUOUS, 20),
    ],
)
def test_the_number_of_environments_suits_learner_and_environment(alg, env_id, kind, expected):
    assert environments.default_num_env(settle({"alg": alg, "env": env_id}).with_learner(kind, {})) == expected


CONTINUOUS_RUN = ["--env=Pendulum-v1", "--num_env=2", "--timesteps_per_batch=20", "--inverses=inline", "--vf_iters=2"]


def test_continuous_actions_are_trained_continued_and_played(tmp_path, capsys):
    path, logs = str(tmp_path / "model"), f"--log_path={tmp_path}"
    assert run.main([*CONTINUOUS_RUN, "--num_timesteps=60", "--seed=1", f"--save_path={path}", logs]) == 0
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["timesteps_per_batch"]["value"] == 20
    assert set(pd.read_csv(tmp_path / "progress.csv")) <= DOCUMENTED_KEYS
    more = [f"--load_path={path}", "--num_env=2", "--num_timesteps=100", f"--save_path={path}", logs, "--play"]
    assert run.main(more) == 0
    assert array_file.load_meta(path)["counters"]["timesteps"] == 100
    assert "score" in capsys.readouterr().out


COMPARED_RUNS = {
    ("a2c", "Lights-v0"): ["--nsteps=10", "--hidden_sizes=8"],
    ("a2c", "Pendulum-v1"): ["--timesteps_per_batch=20", "--vf_iters=2"],
    ("trpo", "Lights-v0"): ["--timesteps_per_batch=20", "--vf_iters=2"],
    ("trpo", "Pendulum-v1"): ["--timesteps_per_batch=20", "--vf_iters=2", "--max_kl=0.02"],
}


@pytest.mark.parametrize(("alg", "env_id"), COMPARED_RUNS)
def test_the_other_algorithms_are_trained_continued_and_played(tmp_path, capsys, alg, env_id):
    path, logs = str(tmp_path / "model"), f"--log_path={tmp_path}"
    argv = [f"--alg={alg}", f"--env={env_id}", "--num_env=2", *COMPARED_RUNS[alg, env_id]]
    assert run.main([*argv, "--num_timesteps=60", "--seed=1", f"--save_path={path}", logs]) == 0
    assert array_file.load_meta(path)["algorithm"] == alg
    assert set(pd.read_csv(tmp_path / "progress.csv")) <= DOCUMENTED_KEYS
    more = [f"--load_path={path}", "--num_env=2", "--num_timesteps=100", f"--save_path={path}", logs, "--play"]
    assert run.main(more) == 0  # the algorithm comes with the checkpoint
    assert array_file.load_meta(path)["counters"]["timesteps"] == 100
    assert "score" in capsys.readouterr().out
    other = "trpo" if alg == "a2c" else "a2c"
    assert run.main([f"--load_path={path}", f"--alg={other}", "--num_timesteps=0", "--play"]) == 2
    assert f"trained with algorithm {alg}, asked for {other}" in capsys.readouterr().err


class Broken(gym.Env):
    """Gives a bad number in one environment's 30th step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, observation: float = 0.0, reward: float = 0.0) -> None:
        self._bad, self._steps = (observation, reward), 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self._steps += 1
        observation, reward = self._bad if self._steps == 30 else (0.0, 0.0)
        return np.array([0, observation], np.float32), reward, False, False, {}


gym.register("BrokenObservation-v0", Broken, kwargs={"observation": np.nan})
gym.register("BrokenReward-v0", Broken, kwargs={"reward": np.inf})


def test_first_factors_without_an_inverse_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("baselines_acktr.kfac.forms.spd_inverse", lambda matrix: np.full_like(matrix, np.nan))
    argv = ["--env=Lights-v0", *SMALL, "--inverse_form=cholesky", "--num_timesteps=20", f"--log_path={tmp_path}"]
    assert run.main(argv) == 1
    last = capsys.readouterr().err.strip().split("\n")[-1]
    assert last.startswith("run.py: stopped: K-FAC cannot start: no inverse of the first factors of layer 'dense")


def test_the_last_update_is_reported_where_batches_are_longer_than_asked(tmp_path):
    """Pendulum's episodes are 200 steps long: batches of 250 from a single environment are of 400."""
    argv = ["--alg=a2c", "--env=Pendulum-v1", "--num_env=1", "--timesteps_per_batch=250", "--num_timesteps=1000"]
    assert run.main([*argv, "--vf_iters=2", "--log_format=csv", f"--log_path={tmp_path}"]) == 0
    assert pd.read_csv(tmp_path / "progress.csv")["total_timesteps"].tolist() == [400, 800]


@pytest.mark.parametrize("what", ["Observation", "Reward"])
def test_a_bad_number_stops_the_run_and_leaves_the_last_good_checkpoint(tmp_path, capsys, what):
    argv = ["--alg=a2c", f"--env=Broken{what}-v0", "--num_env=2", "--timesteps_per_batch=20", "--vf_iters=2"]
    argv += ["--num_timesteps=1000", "--save_interval=1", f"--save_path={tmp_path}/model", f"--log_path={tmp_path}"]
    assert run.main(argv) == 1
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith(f"environment 0: its {what.lower()} is not finite in step 29 of this run")
    )
    found = checkpoints.newest(tmp_path / checkpoints.FOLDER)
    assert found.meta["counters"]["timesteps"] == 40
    assert all(np.isfinite(array).all() for array in array_file.load(found.model)[0].values())
    assert not (tmp_path / "model").exists()


def test_tensorflow_is_silenced_unless_the_user_wants_to_hear_it(monkeypatch, capfd):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with quiet_tensorflow():
        os.write(2, b"noise")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet_tensorflow():
        os.write(2, b"noise")
    assert capfd.readouterr().err == "noise"


def test_the_commit_of_a_clone_is_recorded_and_none_elsewhere(tmp_path):
    assert run_info.git_state(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    state = run_info.git_state(tmp_path)
    assert len(state["commit"]) == 40
    assert state["changed"] is False
    (tmp_path / "file").write_text("2")
    assert run_info.git_state(tmp_path)["changed"] is True


SUITED = """
import contextlib, os, sys
from baselines_acktr.session import setup

class AtTensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            names = ("TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH")
            print([os.environ.get(name) for name in names])
            sys.exit()

sys.meta_path.insert(0, AtTensorFlow())
with contextlib.ExitStack() as stack:
    setup.probe(setup.prepare(sys.argv[1:], stack)[0])
"""


@pytest.mark.parametrize(
    ("env", "asked", "expected"),
    [
        ("PongNoFrameskip-v4", {}, ["1", None, "true"]),
        ("CartPole-v1", {}, [None, "1", "true"]),
        ("PongNoFrameskip-v4", {"TF_ENABLE_ONEDNN_OPTS": "0"}, ["0", None, "true"]),
        ("CartPole-v1", {"TF_NUM_INTRAOP_THREADS": "2"}, [None, "2", "true"]),
        ("CartPole-v1", {"TF_FORCE_GPU_ALLOW_GROWTH": "false"}, [None, "1", "false"]),
    ],
)
def test_tensorflow_computes_as_suits_the_observations_unless_the_user_asks_for_else(env, asked, expected):
    """It is settled when TensorFlow is imported, which ends the process here: afterwards nothing would be."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TF_")} | asked
    command = [sys.executable, "-c", SUITED, f"--env={env}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout
    assert output.split("\n")[-2] == str(expected)
