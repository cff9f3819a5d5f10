"""ACKTR with A2C and TRPO beside it, on TensorFlow 2."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baselines_acktr.agent.agent import Agent
    from baselines_acktr.evaluation import Evaluation
    from common.vec_env.given import GivenEnv

__all__ = ["evaluate", "load"]


def load(path: str, trust: bool = False, best: bool = False) -> Agent:
    """The model of a checkpoint, ready to act: `model.step(observations)`, `model.predict(observation)`.

    Args:
      path: what `save`, `--save_path` or a run has written, of a log folder the newest checkpoint; or `zoo:NAME` of a
        ready-made agent (docs/zoo.md), a policy alone, which is played, evaluated and exported but not trained further.
      trust: use the names of modules that the file has, which runs their code. Else a network `module:function` must
        have been used or registered in this process, and `env_arguments` keep the module of their id only where it is
        imported already.
      best: of a log folder take `best.model`: the best by evaluation, else by the last 100 training episodes.

    Returns:
      The `Model` of its algorithm. `env_id` and `env_arguments` say what it was trained on (see `make_vec_env`).

    Raises:
      UserError: there is none, it is damaged, or its network is not registered or not trusted. Where there is no such
        ready-made agent, it names those that there are.
    """
    from baselines_acktr.session.loading import load_model  # late: TensorFlow

    return load_model(path, trust, best)


def evaluate(
    model: Agent, env: GivenEnv, episodes: int = 10, greedy: bool = True, seed: int | None = None
) -> Evaluation:
    """Plays whole games without a word; see `baselines_acktr.evaluation.evaluate`.

    Returns:
      `scores` and `lengths` of the games, [episodes] each, in the order in which they ended.
    """
    from baselines_acktr.evaluation import evaluate as play_games  # late: Gymnasium

    return play_games(model, env, episodes, greedy, seed)


if not TYPE_CHECKING:  # a type checker would take every name for one of this package

    def __getattr__(name: str) -> Any:
        from baselines_acktr.foreign_names import NAMES
        from common.foreign_names import missing

        raise missing(__name__, name, NAMES)


def _require_own_common() -> None:
    """Raises `ImportError` where another package takes the name of this project's `common`."""
    spec = importlib.util.find_spec("common")
    places = (
        [Path(place).resolve() for place in (spec.submodule_search_locations or [spec.origin or ""])] if spec else []
    )
    own = Path(__file__).resolve().parents[1] / "common"
    if own in places:
        return

    problem = (
        f"baselines_acktr needs its own package common, of {own}, and Python finds {places[0] if places else 'none'}"
    )
    advice = "rename yours, or start Python in another folder"
    if sys.argv[:1] == ["-m"]:  # such as python -m baselines_acktr.paper: nothing is there yet that could print a line
        print(f"{problem}: {advice}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(f"{problem}: {advice}")


_require_own_common()

if not TYPE_CHECKING:  # here, where `common` is known to be this project's
    from baselines_acktr.foreign_names import OF_EVALUATE
    from common.foreign_names import answers

    evaluate = answers(OF_EVALUATE)(evaluate)
