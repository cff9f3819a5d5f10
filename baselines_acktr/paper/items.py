"""The tables and figures of the paper, as data: which runs each consists of, and what is measured in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from baselines_acktr.paper.published import atari_games

ATARI, MUJOCO, PIXELS = "atari", "mujoco", "pixels"
RUNS, KL, SPEED = "runs", "kl", "speed"
SIX_GAMES = tuple(
    f"{game}NoFrameskip-v4" for game in ("BeamRider", "Breakout", "Pong", "Qbert", "Seaquest", "SpaceInvaders")
)
EIGHT_TASKS = (
    *("InvertedPendulum", "InvertedDoublePendulum", "Reacher", "Hopper"),
    *("HalfCheetah", "Walker2d", "Swimmer", "Ant"),
)
THREE_TASKS = ("Reacher", "HalfCheetah", "Walker2d")
# The paper's trust region, of fixed size, with the largest of its step sizes; every update is reported.
FIXED_DELTA = {"delta": 0.001, "klschedule": "constant", "desired_kl": 0.0, "lr": 0.3, "log_interval": 1}


@dataclasses.dataclass(frozen=True)
class Line:
    """Runs that are one curve of a figure, or one column of a table.

    Attributes:
      alg: algorithm.
      variant: what its folder and its label are called beside the algorithm; "" for the learner's defaults.
      options: flags of `run.py` that make the variant.
      timesteps: length of its runs; 0: the group's.
    """

    alg: str
    variant: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timesteps: int = 0

    @property
    def label(self) -> str:
        return f"{self.alg} {self.variant}".strip()


@dataclasses.dataclass(frozen=True)
class Group:
    """Every line on every environment: a panel for each environment and axis.

    Attributes:
      suite: ATARI, MUJOCO or PIXELS.
      timesteps: length of the runs at scale 1.
      axes: horizontal axes of its panels: timesteps, episodes, seconds or updates.
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
      title: what it shows.
      section: where in the paper.
      groups: its runs.
      seeds: of each line on each environment.
      window: episodes that a score is the mean of.
      best: the score is that of the best `window` episodes, else of the last ones.
      threshold: column of the paper's table with the scores that are to be reached; None: not measured.
      kind: RUNS; KL, which looks into every update of its runs; SPEED, whose loops take turns in this process.
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
)  # whose timesteps are those of a round

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
