"""Making a ready-made agent of a run: its policy alone, measured by whole games."""

from __future__ import annotations

import dataclasses
import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

from baselines_acktr import evaluate, load
from baselines_acktr.agent.agent import Agent
from baselines_acktr.session import ready_made
from baselines_acktr.session.options import RunOptions
from baselines_acktr.session.ready_made import Record
from baselines_acktr.session.schema import settings_in_run_json
from common import array_file
from common.errors import UserError
from common.vec_env import make_vec_env

SEED = 10_000  # of the games; no training begins with it
# Flags of the run, beside the hyperparameters, that say what is learned and which of the models is the best.
TOLD: tuple[str, ...] = ("alg", "env", "num_timesteps", "seed", "network", "num_env", "pixels", "frame_stack")
TOLD += ("env_kwargs", "reward_scale", "eval_interval", "eval_episodes", "eval_sampled")
TYPED = ("command line", "config file", "drawn")  # where the values came from that are no defaults


def add(folder: str, best: bool = False, games: int = 100, num_env: int = 10) -> Path:
    """Writes the policy of a run to the ready-made agents, in place of an earlier one for its environment.

    The games are played by the policy as it is read back from its file.

    Args:
      folder: log folder of the run.
      best: take its best model; else its newest checkpoint.
      games: how many games are played with sampled actions, and how many with the most likely ones.
      num_env: environments that they are played in.

    Returns:
      The file.

    Raises:
      UserError: there is no run or no model in the folder, or the file cannot be written.
    """
    if not Path(folder).is_dir():
        raise UserError(f"RUN_FOLDER={folder}: must be the log folder of a run")
    command = command_of(Path(folder))
    model = load(folder, best=best)
    arrays, meta = model.content(policy_only=True)
    if meta["env_id"] is None:
        raise UserError(f"RUN_FOLDER={folder}: its model was trained on an environment without an id")

    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "policy"
        array_file.save(path, arrays, meta)
        policy = load(str(path))
    record = Record(
        command,
        "best" if best else "last",
        SEED,
        _scores(policy, False, games, num_env),
        _scores(policy, True, games, num_env),
    )

    target = ready_made.path_of(meta["env_id"].rpartition("/")[2])
    array_file.save(target, arrays, meta | {"zoo": record._asdict()})
    return target


def command_of(folder: Path) -> str:
    """Returns the command that trains such a model as a run has left: the flags that matter to what is learned.

    Raises:
      UserError: there is no run in the folder.
    """
    files = [*sorted(folder.glob("run-*.json")), folder / "run.json"]  # the first ones are of a run that was resumed
    typed: dict[str, Any] = {}
    for file in files:
        settings = settings_in_run_json(file)
        typed |= {name: setting["value"] for name, setting in settings.items() if setting["from"] in TYPED}

    silent = {field.name for field in dataclasses.fields(RunOptions)} - set(TOLD)
    order = {name: place for place, name in enumerate(TOLD)}
    names = sorted(sorted(typed.keys() - silent), key=lambda name: order.get(name, len(order)))
    ranks = json.loads(files[-1].read_text()).get("ranks", 1)
    launcher = ["mpirun", "-n", str(ranks)] if ranks != 1 else []
    return shlex.join([*launcher, "python", "run.py", *(f"--{name}={_text(typed[name])}" for name in names)])


def _text(value: Any) -> str:
    """Returns a value of a run.json as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return f"{value:_}" if isinstance(value, int) else str(value)


def _scores(policy: Agent, greedy: bool, games: int, num_env: int) -> list[float]:
    """Returns the scores of games [G] of a policy in new environments."""
    with make_vec_env(**policy.env_arguments, num_env=num_env, seed=SEED) as env:
        return evaluate(policy, env, games, greedy, SEED).scores.tolist()
