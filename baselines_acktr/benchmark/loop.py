"""The training loops that are compared, and how they take turns."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import pandas as pd
import tensorflow as tf

from baselines_acktr.agent.agent import Agent
from baselines_acktr.agent.critics import ValueFunction
from baselines_acktr.benchmark.probe import spaces_of
from baselines_acktr.benchmark.stopwatch import Stopwatch
from baselines_acktr.kfac import Kfac
from baselines_acktr.kfac.curvature import EARLY
from baselines_acktr.session.learners import DISCRETE, LEARNERS, kind_of
from baselines_acktr.session.settings import settle_config
from common.errors import UserError
from common.vec_env import make_vec_env
from common.vec_env.ids import find_spec, is_atari

tf.get_logger().setLevel("ERROR")  # hides the warning that each model traces the functions of its class again
PLAIN = "sgd"  # ACKTR with plain gradient descent instead of K-FAC
TRACED = 2  # updates after which a loop without K-FAC is compiled


class Loop:
    """The training loop of one algorithm, with its own environments.

    Attributes:
      env: the vector environment.
      model: the learner.
      runner: collects rollouts.
      batch: timesteps per batch.
      warm_up: number of updates before the measurement; they compile the loop.

    Args:
      alg: an algorithm of `run.py`, or PLAIN.
      env_id: id of the environments.
      num_env: number of environments; None for the learner's default.
      batch: timesteps per batch; None for the learner's default.
      pixels: whether to observe a MuJoCo task through rendered frames.

    Raises:
      UserError: the algorithm does not fit the actions, or the batch is not a multiple of the number of environments.
    """

    def __init__(
        self,
        alg: str,
        env_id: str,
        num_env: int | None = None,
        batch: int | None = None,
        pixels: bool = False,
    ) -> None:
        observations, actions = spaces_of(env_id, pixels)
        model_class = _model_class(alg, actions)

        config_class: Any = model_class.config_class
        num_env = num_env or config_class.default_num_env(is_atari(find_spec(env_id)))
        size = _batch_of(config_class, batch, num_env)
        config, _ = settle_config(
            config_class, ("environment preset", model_class.preset(observations)), ("command line", size)
        )
        self.model = model_class(observations, actions, model_class.default_network(observations), config)

        self.env = make_vec_env(env_id, num_env, seed=0, pixels=pixels)
        self.runner = self.model.make_runner(self.env)
        self.batch = config.batch_size(num_env)
        optimizer = getattr(self.model, "optimizer", None)
        self.warm_up = skip_the_early_updates(optimizer) if isinstance(optimizer, Kfac) else TRACED

    def run(self, updates: int) -> float:
        """Runs `updates` updates and returns the timesteps per second.

        The time includes waiting for the background thread at the end.
        """
        start = time.perf_counter()
        timesteps = 0
        for _ in range(updates):
            rollout = self.runner.run()
            self.model.update(rollout, 10**9)
            timesteps += rollout.rewards.size
            self.model.updates += 1

        self.model.timesteps += timesteps
        self.model.close()  # waits for the background thread, which starts again with the next snapshot

        return timesteps / (time.perf_counter() - start)

    def parts(self, updates: int) -> pd.DataFrame:
        """Measures how the time of an update is divided among its parts. The loop cannot be used afterwards.

        Returns:
          Columns `part`, `ms` (per update) and `share`.
        """
        watch = Stopwatch()
        watch.wrap(self.env, "step", "stepping")
        watch.wrap(self.model, "sample", "acting")
        watch.wrap(self.model, "to_env", "acting")
        watch.wrap(self.model, "value", "predicting values")

        if isinstance(self.model.value_function, ValueFunction):
            watch.wrap(self.model.value_function, "wait", "waiting for the critic")
            policy = "policy"
        else:
            policy = "policy and critic"
        watch.wrap(*_improver(self.model), policy)

        watch.wrap(self.runner, "run", "rest of the rollout")
        watch.wrap(self.model, "update", "rest of the update")
        self.run(updates)

        return table_of({part: seconds / updates for part, seconds in watch.seconds.items()})

    def close(self) -> None:
        """Ends the model's threads and the environments."""
        self.model.close()
        self.env.close()


def skip_the_early_updates(optimizer: Kfac) -> int:
    """Has K-FAC begin where its intervals are those of most of a run.

    During the first updates it estimates and inverts the factors more often.

    Returns:
      The number of updates after which both kinds of update, with an estimate and without, are compiled.
    """
    settings = optimizer.curvature.settings
    arrays = optimizer.state()
    arrays["counters"][0] = EARLY * settings.inverse_interval * settings.factor_interval
    optimizer.set_state(arrays)
    return max(TRACED, settings.factor_interval + 1)


class TrainingLoop(Protocol):
    """What takes turns with others; attributes as for `Loop`."""

    batch: int
    warm_up: int

    def run(self, updates: int) -> float:
        """Runs `updates` updates and returns the timesteps per second."""
        ...


def silent(line: str) -> None:
    """Says nothing."""


def warm_up(loops: Mapping[str, TrainingLoop], say: Callable[[str], object] = silent) -> dict[str, float]:
    """Compiles the loops, and returns the seconds that an update of each takes then.

    Args:
      loops: {name: loop}.
      say: is given a line for each loop.
    """
    seconds = {}
    for name, loop in loops.items():
        start = time.perf_counter()
        loop.run(loop.warm_up)
        seconds[name] = loop.batch / loop.run(1)
        say(f"{name}: warmed up in {time.perf_counter() - start:.0f} s")
    return seconds


def take_turns(
    loops: Mapping[str, TrainingLoop],
    rounds: int,
    updates: Mapping[str, int],
    say: Callable[[str], object] = silent,
) -> pd.DataFrame:
    """Measures the loops in turn, so that a change in the load of the machine affects all of them.

    Args:
      loops: {name: loop}, warmed up.
      rounds: number of rounds.
      updates: {name: updates per round}.
      say: is given a line for each round.

    Returns:
      Timesteps per second [rounds, loops], with one column per loop.
    """
    rows = []
    for number in range(1, rounds + 1):
        row = {name: loop.run(updates[name]) for name, loop in loops.items()}
        say(
            f"round {number} of {rounds}, timesteps/s: " + ", ".join(f"{name} {rate:.0f}" for name, rate in row.items())
        )
        rows.append(row)
    return pd.DataFrame(rows)


def table_of(seconds: Mapping[str, float]) -> pd.DataFrame:
    """Returns the columns `part`, `ms` and `share` of {part: seconds}, longest part first."""
    total = sum(seconds.values())
    rows = [{"part": part, "ms": 1e3 * s, "share": s / total} for part, s in seconds.items()]
    return pd.DataFrame(rows).sort_values("ms", ascending=False, ignore_index=True)


def speeds(rates: pd.DataFrame, base: str) -> pd.DataFrame:
    """Returns a table with one row per loop: median, lowest and highest round, and its ratio to the loop `base`.

    The ratio is the median over rounds of the ratio within the same round.
    """
    ratios = rates.div(rates[base], axis=0) if base in rates else rates * np.nan
    return pd.DataFrame(
        {
            "alg": rates.columns,
            "timesteps/s": rates.median().to_numpy(),
            "lowest": rates.min().to_numpy(),
            "highest": rates.max().to_numpy(),
            f"to {base}": ratios.median().to_numpy(),
        }
    )


def ratios_of(rates: pd.DataFrame) -> pd.DataFrame:
    """Returns how many times as fast the first loop is as each of the others, with one row per other loop.

    `ratio`, `lowest` and `highest` are the median and the limits of the ratios within the same round.
    """
    ratios = rates.drop(columns=rates.columns[0]).rdiv(rates.iloc[:, 0], axis=0)
    return pd.DataFrame(
        {
            f"{rates.columns[0]} to": ratios.columns,
            "ratio": ratios.median().to_numpy(),
            "lowest": ratios.min().to_numpy(),
            "highest": ratios.max().to_numpy(),
        }
    )


def _improver(model: Any) -> tuple[Any, str]:
    """What improves the policy of a model: an object and the name of its method."""
    return (model.optimizer, "minimize") if hasattr(model, "optimizer") else (model, "improve")


def _model_class(alg: str, actions: gym.Space) -> type[Agent]:
    kind = kind_of(actions, "--env")
    if alg == PLAIN and kind == DISCRETE:
        from baselines_acktr.benchmark.kfac_parts import PlainModel

        return PlainModel

    if (alg, kind) not in LEARNERS:
        raise UserError(f"--algs={alg}: no such algorithm exists for {kind} actions")
    return LEARNERS[alg, kind].import_class()


def _batch_of(config_class: type, batch: int | None, num_env: int) -> dict[str, Any]:
    """Returns the hyperparameter that sets the batch size to `batch` timesteps."""
    if batch is None:
        return {}
    if batch % num_env:
        raise UserError(f"--batch={batch}: must be a multiple of the {num_env} environments")
    if "nsteps" in {field.name for field in dataclasses.fields(config_class)}:
        return {"nsteps": batch // num_env}
    return {"timesteps_per_batch": batch}
