"""Program that trains runs in one go, and their first halves in other folders: `resume_runs.py train FOLDER NAME...`.

It is a process of its own, so that TensorFlow computes as in the process that goes on with the halves:
`resume_runs.py resume FOLDER NAME...`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import run

KFAC = ["--inverses=inline", "--inverse_interval=3"]
CONTINUOUS = ["--hidden_sizes=8", "--vf_iters=3"]
# The flags of each run; every one of its 20 updates takes as many timesteps as its last number says.
RUNS = {
    "CartPole": (["--env=CartPole-v1", *KFAC, "--num_env=2", "--nsteps=10", "--hidden_sizes=8"], 20),
    "CartPole-subproc": (
        ["--env=CartPole-v1", *KFAC, "--num_env=2", "--nsteps=10", "--hidden_sizes=8", "--env_backend=subproc"],
        20,
    ),
    "CartPole-lstm": (
        ["--env=CartPole-v1", "--network=lstm", *KFAC, "--cg_iters=1", "--num_env=2", "--nsteps=10"],
        20,
    ),
    "Pendulum": (["--env=Pendulum-v1", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=50"], 50),
    "Pendulum-adaptive": (
        ["--env=Pendulum-v1", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=50", "--critic=adaptive"],
        50,
    ),
    "Pendulum-lstm": (
        [
            "--env=baselines_acktr.examples.memory:PositionsOfPendulum-v0",
            "--network=lstm",
            *KFAC,
            *CONTINUOUS,
            "--num_env=2",
            "--timesteps_per_batch=48",
            "--vf_rows=24",
        ],
        48,
    ),
    "a2c-Pendulum-lstm": (
        [
            "--alg=a2c",
            "--env=baselines_acktr.examples.memory:PositionsOfPendulum-v0",
            "--network=lstm",
            *CONTINUOUS,
            "--num_env=2",
            "--timesteps_per_batch=20",
            "--vf_rows=10",
        ],
        20,
    ),
    "parts": (
        [
            "--env=baselines_acktr.examples.parts:CameraAndOrder-v0",
            *KFAC,
            "--num_env=2",
            "--nsteps=10",
            "--conv_filters=4,4,4",
        ],
        20,
    ),
    "Breakout": (
        ["--env=BreakoutNoFrameskip-v4", *KFAC, "--num_env=4", "--nsteps=20", "--conv_filters=4,4,4"],
        80,
    ),
    "Hopper": (["--env=Hopper-v5", *KFAC, *CONTINUOUS, "--num_env=4", "--timesteps_per_batch=100"], 100),
    "HalfCheetah": (["--env=HalfCheetah-v4", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=150"], 150),
    "Reacher-pixels": (
        ["--env=Reacher-v4", "--pixels", *KFAC, *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=30"],
        30,
    ),
    "a2c-CartPole": (["--alg=a2c", "--env=CartPole-v1", "--num_env=2", "--nsteps=5", "--hidden_sizes=8"], 10),
    "a2c-Hopper": (
        ["--alg=a2c", "--env=Hopper-v4", *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=60"],
        60,
    ),
    "trpo-CartPole": (
        ["--alg=trpo", "--env=CartPole-v1", *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=40", "--vf_rows=10"],
        40,
    ),
    "trpo-Swimmer": (
        ["--alg=trpo", "--env=Swimmer-v5", *CONTINUOUS, "--num_env=2", "--timesteps_per_batch=120", "--vf_rows=20"],
        120,
    ),
}


def train(name: str, folder: Path) -> None:
    flags, batch = RUNS[name]
    common = ["--seed=3", "--log_interval=4", "--log_format=csv,json,log", "--save_interval=5"]
    assert run.main([*flags, *common, f"--num_timesteps={20 * batch}", f"--log_path={folder}"]) == 0


def train_half(name: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "after_update", lambda settings, interruption, rank: lambda model: model.updates == 10)
        train(name, folder)


def resume(folder: Path) -> None:
    assert run.main(["--resume", "--trust", f"--log_path={folder}"]) == 0


if __name__ == "__main__":
    way, folder, *names = sys.argv[1:]
    for name in names:
        straight, resumed = (Path(folder, f"{name}-{kind}") for kind in ("straight", "resumed"))
        if way == "train":
            train(name, straight)
            train_half(name, resumed)
        else:
            resume(resumed)
