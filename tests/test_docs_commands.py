"""Claims about the commands of README and docs: each is carried out here, or named below with the reason why not."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from collections.abc import Callable

import pytest
from documentation import PAGES, blocks, commands, without_comment

import run
from baselines_acktr.paper import __main__ as paper
from baselines_acktr.paper.items import ITEMS
from common import plots

pytestmark = pytest.mark.long
HOURS = "it trains for an hour or more"
MINUTES = "it measures for minutes; its parts have tests of their own"
INSTALLS = ".ci/run installs from a clean clone and builds the site"
SEVERAL = "it needs several processes; tests/test_mpi_run.py starts them"
TESTS = "it is the tests"
FOREIGN = "it is another program's"

NOT_RUN = {
    "python3.11 -m venv .venv && . .venv/bin/activate": INSTALLS,
    "pip install '.[classic-control]'": INSTALLS,
    "python3.11 -m venv .venv && . .venv/bin/activate && pip install '.[test]' && python -m pytest": INSTALLS,
    "pip install 'tensorflow[and-cuda]'": INSTALLS,
    "pip install '.[benchmark]'": INSTALLS,
    "pip install '.[box2d]'": INSTALLS,
    "pip install '.[test]'": INSTALLS,
    "pip install '.[docs]' && mkdocs serve": INSTALLS,
    "pip install '.[rivals]'": INSTALLS,
    "pip install '.[wandb]'": INSTALLS,
    "python -m pytest": TESTS,
    "python -m pytest -m slow": TESTS,
    "python -m pytest -m reliability": TESTS,
    "mpirun -n 4 python run.py --env=HalfCheetah-v4 --num_timesteps=4e6": SEVERAL,
    "mpirun -n 2 acktr --env=PongNoFrameskip-v4 --num_env=16 --num_timesteps=2e6 --log_path=logs/pong": SEVERAL,
    "mpirun --map-by slot:PE=2 acktr --env=PongNoFrameskip-v4 --num_env=4 --resume --log_path=$HOME/logs/pong "
    "&": SEVERAL,
    "mpirun -n 2 --bind-to core": SEVERAL,
    "mpirun -n 2 --bind-to core acktr --env=PongNoFrameskip-v4 --num_env=16 --num_timesteps=2e6 "
    "--schedule_timesteps=1e7": SEVERAL,
    "python -m baselines_acktr.benchmark.rivals --num_timesteps=100000 --out=docs/rivals.csv": HOURS,
    "python -m baselines_acktr.examples.compare": MINUTES,
    "python -m baselines_acktr.examples.compare --out=docs/compare.csv": MINUTES,
    "python -m baselines_acktr.examples.cost": MINUTES,
    "python -m baselines_acktr.examples.text --compare": MINUTES,
    "python -m baselines_acktr.benchmark --algs=acktr,a2c --batch=640 --rounds=3": MINUTES,
    "python -m baselines_acktr.benchmark --algs=acktr,a2c,trpo --batch=640 --rounds=3 --updates=10": MINUTES,
    "python -m baselines_acktr.benchmark --env=BreakoutNoFrameskip-v4 --algs=acktr,a2c --peers "
    "--json=speed.json": MINUTES,
    "python -m baselines_acktr.benchmark --env=Reacher-v4 --pixels": MINUTES,
    "python -m baselines_acktr.benchmark --env=Reacher-v4 --pixels --rounds=1 --updates=1": MINUTES,
    "python -m baselines_acktr.benchmark": MINUTES,
    "python -m common.vec_env.benchmark --env=BreakoutNoFrameskip-v4 --rounds=7 --steps=80": MINUTES,
    "python -m common.vec_env.benchmark_mujoco --env=HalfCheetah-v4": MINUTES,
    "python -m baselines_acktr.zoo add logs/cartpole": "tests/zoo/test_ready_made.py adds a run",
    "python -m baselines_acktr.zoo table": "tests/zoo/test_ready_made.py compares the table with the page",
    "curl --data '[[0.01, 0.2, -0.03, 0.1]]' http://127.0.0.1:8000": "tests/test_docs.py asks the server",
    "python -m baselines.run": FOREIGN,
    "python -m rl_zoo3.train --algo a2c --env CartPole-v1": FOREIGN,
    "python run.py": "without flags it prints its usage, which tests/test_run.py compares",
}
RUN = ("acktr ", "python run.py ")
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "python -m common.plots ": plots.main,
    "python -m baselines_acktr.paper ": paper.main,
    **dict.fromkeys(RUN, run.main),
}
COMMANDS = sorted({command for page in PAGES for command in commands(page)})
# How long a training is here. With 0 all is done but the training: environments, model, files.
LENGTHS = {"--resume": 5_000, "--eval_interval": 320}


def shortened(words: list[str]) -> list[str]:
    """The flags of a command, with a training that takes seconds where there is one."""
    given = {word.partition("=")[0] for word in words}
    if given & {"--play", "--export", "--help", "--load_path"}:
        return words
    length = next((length for flag, length in LENGTHS.items() if flag in given), 0)
    return [word for word in words if not word.startswith("--num_timesteps")] + [f"--num_timesteps={length}"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder with all that the commands take for granted: files of docs, models, and the logs of short runs."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "corridor.py").write_text(blocks("docs/environments.md")[0])
    (folder / "wide.py").write_text(blocks("docs/networks.md")[0])
    (folder / "cheetah.yaml").write_text(blocks("docs/settings.md", "yaml")[0])
    (folder / "docs").mkdir()

    cartpole, cheetah = folder / "logs" / "cartpole", folder / "logs" / "cheetah"
    words = [f"--log_path={cartpole}", f"--save_path={folder}/models/cartpole", "--seed=0"]
    evaluated = ["--eval_interval=1000", "--eval_episodes=2", "--keep=1"]
    assert run.main(["--env=CartPole-v1", "--num_timesteps=3200", *words, *evaluated]) == 0
    assert run.main(["--env=HalfCheetah-v4", "--num_timesteps=2500", f"--log_path={cheetah}", "--seed=0"]) == 0
    for name in ("seaquest", "pong-0", "HalfCheetah-v4-0", "evaluated"):  # that any games have ended in
        shutil.copytree(cartpole, folder / "logs" / name)
    shutil.copy(folder / "models" / "cartpole", folder / "models" / "pong")
    return folder


def words_of(command: str) -> tuple[str, ...]:
    """The program of a command, and the arguments that it is given here. The paper's items only show their runs."""
    program = next(program for program in PROGRAMS if command.startswith(program))
    words = shlex.split(command.removeprefix(program))
    if program in RUN:
        return (RUN[0], *shortened(words))
    if PROGRAMS[program] is paper.main and words[0] in ITEMS:
        words = [*dict.fromkeys([*words, "--dry_run"])]
    return (program, *words)


# Commands that differ in their length alone, or in the name of the same program, are carried out once.
CARRIED_OUT = {words_of(command): command for command in COMMANDS if command not in NOT_RUN}


@pytest.mark.parametrize(("words", "command"), CARRIED_OUT.items(), ids=CARRIED_OUT.values())
def test_a_command_is_carried_out(house, tmp_path, monkeypatch, capfd, words, command):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "OPENAI_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_LOGDIR", str(tmp_path / "unnamed"))
    folder = shutil.copytree(house, tmp_path / "house")
    monkeypatch.chdir(folder)

    program, *given = words
    arguments = given if program in RUN else [path for word in given for path in glob.glob(word) or [word]]
    assert PROGRAMS[program](arguments) == 0
    assert "Traceback" not in capfd.readouterr().err
    for written in re.findall(r"--(?:save_path|video|export|out)=(\S+)", command):
        assert (folder / written).exists()


def test_a_command_that_is_not_run_is_still_on_a_page():
    assert [command for command in NOT_RUN if command not in COMMANDS] == []


def test_a_page_names_the_language_of_code_that_is_no_command():
    """Blocks without a language are commands, one a line, but for these."""
    others = ("@inproceedings", "#!/bin/bash")
    for page in PAGES:
        for block in blocks(page, ""):
            known = set(commands(page))
            lines = [without_comment(line) for line in block.splitlines()]
            assert block.startswith(others) or set(filter(None, lines)) <= known, f"{page.name}: {block}"
