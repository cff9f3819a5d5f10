"""The tables and figures of the paper as data: which runs they consist of, and what is measured in these."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from baselines_acktr.paper.published import atari_games

ATARI = "atari"
MUJOCO = "mujoco"
PIXELS = "pixels"
RUNS = "runs"
KL = "kl"
SPEED = "speed"
SIX_GAMES = tuple(
    f"{game}NoFrameskip-v4" for game in ("BeamRider", "Breakout", "Pong", "Qbert", "Seaquest", "SpaceInvaders")
)
EIGHT_TASKS = (
    *("InvertedPendulum", "InvertedDoublePendulum", "Reacher", "Hopper"),
    *("HalfCheetah", "Walker2d", "Swimmer", "Ant"),
)
THREE_TASKS = ("Reacher", "HalfCheetah", "Walker2d")
# The paper's trust region with a fixed radius and the largest of its step sizes. Every update is logged.
FIXED_DELTA = {"delta": 0.001, "klschedule": "constant", "desired_kl": 0.0, "lr": 0.3, "log_interval": 1}


@dataclasses.dataclass(frozen=True)
class Line:
    """The runs that form one curve of a figure, or one column of a table.

    Attributes:
      alg: name of the algorithm.
      variant: name of the variant, which becomes part of folder names and labels; "" for the algorithm's defaults.
      options: flags of `run.py` that define the variant.
      timesteps: length of the runs; 0 for that of the group.
    """

    alg: str
    variant: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timesteps: int = 0

    @property
    def label(self) -> str:
        """Name of the line in tables and figures: the algorithm and, if there is one, its variant."""
        return f"{self.alg} {self.variant}".strip()


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of every line on every environment. A figure has a panel for each environment and axis.

    Attributes:
      suite: ATARI, MUJOCO or PIXELS.
      lines: algorithms and variants.
      envs: names of the environments.
      timesteps: length of the runs at scale 1.
      axes: horizontal axes to draw: timesteps, episodes, seconds or updates.
    """

    suite: str
    lines: tuple[Line, ...]
    envs: tuple[str, ...]
    timesteps: int
    axes: tuple[str, ...] = ("timesteps",)


@dataclasses.dataclass(frozen=True)
class Item:
    """A table or figure.

    Attributes:
      title: what the item shows.
      section: section of the paper.
      groups: runs of the item.
      seeds: seeds with which every line is trained on every environment.
      window: number of episodes that a score is averaged over.
      best: whether the score is taken from the best `window` successive episodes instead of the last ones.
      threshold: column of the paper's table that holds the score to reach; None if this is not measured.
      kind: RUNS trains and compares scores. KL also examines every update. SPEED measures the loops in turn.
    """

    title: str
    section: str
    groups: tuple[Group, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    window: int = 100
    best: bool = False
    threshold: str | None = None
    kind: str = RUNS


THREE = Line("acktr"), Line("a2c"), Line("trpo")
TWO = THREE[:2]
CRITICS = (Line("acktr"), Line("acktr", "adaptive", {"critic": "adaptive"}), Line("a2c"))
SIGMAS = (Line("acktr"), Line("acktr", "half-sigma", {"vf_fisher_coef": 4.0}), Line("a2c"))
BATCHES = (
    Line("acktr", "batch160", {"nsteps": 5}),
    Line("acktr"),
    Line("a2c", "batch160", {"num_env": 32}),
    Line("a2c", "batch640", {"num_env": 32, "nsteps": 20}),
)

SPEEDS = (
    Group(ATARI, THREE, ("BreakoutNoFrameskip-v4",), 6_400),
    Group(MUJOCO, THREE, ("HalfCheetah",), 25_000),
)  # here `timesteps` is the length of a round

ITEMS = {
    "table1": Item(
        "six Atari games, 50M timesteps: mean of the last 100 episodes, first episode N whose next 100 reach a human's",
        "section 5.1, table 1",
        (Group(ATARI, (*TWO, Line("trpo", timesteps=10_000_000)), SIX_GAMES, 50_000_000),),
        seeds=(0, 1),
        threshold="human",
    ),
    "table2": Item(
        "eight MuJoCo tasks, 30M timesteps: best 10 successive episodes, first N whose next 10 reach the threshold",
        "section 5.2, table 2",
        (Group(MUJOCO, THREE, EIGHT_TASKS, 30_000_000),),
        window=10,
        best=True,
        threshold="threshold",
    ),
    "table3": Item(
        "timesteps per second against the size of the batch, rounds of the algorithms in turns",
        "section 5.4, table 3",
        SPEEDS,
        seeds=(0,),
        kind=SPEED,
    ),
    "table4": Item(
        "44 Atari games, 50M timesteps, 30 no-op starts: mean of the last 100 episodes",
        "appendix B, table 4",
        (Group(ATARI, THREE[:1], atari_games(), 50_000_000),),
        seeds=(0,),
    ),
    "fig1": Item(
        "six Atari games, 10M timesteps: learning curves",
        "section 5.1, figure 1",
        (Group(ATARI, THREE, SIX_GAMES, 10_000_000),),
        seeds=(0, 1),
        threshold="human",
    ),
    "fig2": Item(
        "Atlantis, 25M timesteps: score against seconds, episodes and timesteps",
        "section 5.1, figure 2",
        (Group(ATARI, TWO, ("AtlantisNoFrameskip-v4",), 25_000_000, ("seconds", "episodes", "timesteps")),),
        seeds=(0,),
    ),
    "fig3": Item(
        "eight MuJoCo tasks, 1M timesteps: learning curves",
        "section 5.2, figure 3",
        (Group(MUJOCO, THREE, EIGHT_TASKS, 1_000_000),),
    ),
    "fig4": Item(
        "three MuJoCo tasks from pixels, 40M timesteps: learning curves",
        "section 5.2, figure 4",
        (Group(PIXELS, TWO, THREE_TASKS, 40_000_000),),
    ),
    "fig5": Item(
        "norm of the critic on HalfCheetah, 1M timesteps; size of the batch on Breakout, 10M, by timesteps and updates",
        "sections 5.3 and 5.5, figure 5",
        (
            Group(
                MUJOCO,
                (Line("acktr"), Line("acktr", "euclidean", {"critic": "euclidean"}), Line("a2c")),
                ("HalfCheetah",),
                1_000_000,
            ),
            Group(ATARI, BATCHES, ("BreakoutNoFrameskip-v4",), 10_000_000, ("timesteps", "updates")),
        ),
    ),
    "fig6": Item(
        "sigma of the critic on six Atari games, 10M timesteps: 1 against 1/2, fixed in a shared network",
        "appendix D, figure 6",
        (Group(ATARI, SIGMAS, SIX_GAMES, 10_000_000),),
        seeds=(0, 1),
    ),
    "fig7": Item(
        "adaptive Gauss-Newton on eight MuJoCo tasks, 1M timesteps",
        "appendix D, figure 7",
        (Group(MUJOCO, CRITICS, EIGHT_TASKS, 1_000_000),),
    ),
    "fig8": Item(
        "adaptive Gauss-Newton on three MuJoCo tasks from pixels, 40M timesteps",
        "appendix D, figure 8",
        (Group(PIXELS, CRITICS, THREE_TASKS, 40_000_000),),
    ),
    "fig9": Item(
        "exact KL of every update against the quadratic model and delta, without momentum (the paper's) and with it",
        "appendix E, figure 9",
        (
            Group(
                MUJOCO,
                (
                    Line("acktr", "no-momentum", FIXED_DELTA | {"momentum": 0.0, "trust_region": "kfac"}),
                    Line("acktr", "momentum", FIXED_DELTA | {"momentum": 0.9, "trust_region": "kfac"}),
                    Line("acktr", "exact", FIXED_DELTA | {"momentum": 0.0, "trust_region": "exact", "lr": 1.0}),
                ),
                ("HalfCheetah", "Reacher"),
                1_000_000,
            ),
        ),
        seeds=(0,),
        kind=KL,
    ),
}
