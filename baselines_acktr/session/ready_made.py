"""Ready-made agents: policies that come with this package, and are loaded as `zoo:NAME`.

Each is a file of the policy alone, in the format of checkpoints. Its meta has the games that it was measured by, too.
`baselines_acktr.zoo` writes them.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError, brief, closest

PREFIX = "zoo:"
FOLDER = Path(__file__).resolve().parents[1] / "zoo" / "agents"
SUFFIX = ".model"
POLICY_ONLY = "a policy alone can be played, evaluated and exported, but not trained further"


class Record(NamedTuple):
    """Where a ready-made agent comes from, and the games that it was measured by: `zoo` in its meta.

    Attributes:
      command: what trains it.
      chosen: which of the run's models it is, in words.
      seed: of the games.
      sampled, greedy: scores of games with sampled actions and with the most likely ones, [G] each.
    """

    command: str
    chosen: str
    seed: int
    sampled: list[float]
    greedy: list[float]

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Record:
        """Returns that of a ready-made agent's meta."""
        return cls(**meta["zoo"])


def names() -> list[str]:
    """Returns the names of the ready-made agents, which are the ids of their environments without a namespace."""
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def path_of(name: str) -> Path:
    """Returns the file of a ready-made agent, which need not be there yet."""
    return FOLDER / f"{name}{SUFFIX}"


def metas() -> dict[str, dict[str, Any]]:
    """Returns {name: meta} of all ready-made agents."""
    from common import array_file  # late: NumPy

    return {name: array_file.load_meta(path_of(name)) for name in names()}


def resolve(path: str, argument: str) -> str:
    """Returns the file of a ready-made agent where `path` is `zoo:NAME`, and any other path as it is.

    Args:
      path: of a file or folder, or `zoo:NAME`.
      argument: what it was given by, for the message.

    Raises:
      UserError: there is no agent of that name.
    """
    if not path.startswith(PREFIX):
        return path
    name, known = path.removeprefix(PREFIX), names()
    if name not in known:
        raise UserError(
            f"{argument}={brief(path)}: no such ready-made agent; must be {PREFIX} with one of {', '.join(known)}."
            f"{closest(name, known)}"
        )
    return str(path_of(name))


def wants_listing(argv: Sequence[str]) -> bool:
    """Whether a command line asks, by `--load_path=zoo:` without a name, which ready-made agents there are."""
    return bool(re.search(r"--load[_-]path[=\0]zoo:(\0|$)", "\0".join(argv)))


def listing(program: str) -> str:
    """Returns a text with a line for each ready-made agent.

    Args:
      program: what the user calls `run.py` by.
    """
    found = metas()
    width = max(map(len, found), default=0)
    lines = [
        f"  {PREFIX}{name:{width}}  {meta['algorithm']}, score {mean_and_deviation(Record.of(meta).sampled)}"
        for name, meta in found.items()
    ]
    first = next(iter(found), "NAME")
    lines.append(f"watch one: {program} --load_path={PREFIX}{first} --play")
    return "\n".join(["ready-made agents:", *lines])


def mean_and_deviation(scores: Sequence[float]) -> str:
    """Returns mean and standard deviation of scores [G] as text, such as "493.1 ± 12.4"."""
    return f"{statistics.mean(scores):.1f} ± {statistics.stdev(scores):.1f}"
