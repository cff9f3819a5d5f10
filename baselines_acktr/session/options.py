"""The flags of a run: its own, and those of every learner."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from baselines_acktr.agent.export_formats import FORMATS
from baselines_acktr.config import SYNONYMS
from baselines_acktr.session.foreign_flags import FOREIGN_FLAGS
from baselines_acktr.session.learners import ALGORITHMS, LEARNERS, describe_num_env
from common import assignments, cli
from common.options import option, validate

PATHS = ("config", "log_path", "save_path", "load_path", "video", "export")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The flags that are not hyperparameters."""

    alg: str = option(
        "acktr", "learning algorithm; the actions choose its form for discrete or continuous ones", choices=ALGORITHMS
    )
    env: str | None = option(None, "id of the environment, or module:id; required unless --load_path names one")
    config: str | None = option(
        None, "file of flags; YAML, or the run.json of another run, and what is typed beside it wins"
    )
    num_timesteps: int = option(
        1_000_000,
        "steps of training, of all environments; of all MPI ranks together; 0, and --load_path with --play or "
        "--export: no training",
        minimum=0,
    )
    seed: int | None = option(
        None,
        "number that all random draws follow from; drawn and recorded if not given",
        minimum=0,
        maximum=2**31 - 1,
        hint="leave it out, and one is drawn",
    )
    network: str | None = option(
        None, "cnn, mlp, lstm, another name or module:function; by default cnn or pixels for images, else mlp"
    )
    num_env: int | None = option(
        None,
        f"environments played at once, in each MPI rank; by default {describe_num_env()}",
        minimum=1,
    )
    env_backend: str = option(
        "auto", "how they run", choices=("auto", "native", "subproc", "sync"), topic="environments"
    )
    pixels: bool = option(False, "a MuJoCo task seen in pictures; of 42x42, instead of from its state")
    frame_stack: int = option(4, "frames in one observation of an Atari game", unit="frames", minimum=1)
    env_kwargs: str = option("", "arguments of the environment; name=value,name=value or a JSON object")
    reward_scale: float = option(1.0, "factor of the rewards that are learned from", above=0)
    log_path: str | None = option(
        None, "log folder; by default OPENAI_LOGDIR or a new temporary one", topic="log and checkpoints"
    )
    log_format: tuple[str, ...] = option(
        (),
        "outputs: stdout,log,csv,json,tensorboard,wandb; by default OPENAI_LOG_FORMAT, to which +tensorboard adds one",
    )
    log_interval: int = option(100, "updates between two reports", unit="updates", minimum=1)
    save_path: str | None = option(None, "file to save the model to at the end")
    save_interval: int = option(
        0, "updates between two checkpoints; in the log folder", unit="updates", minimum=0, zero="5 minutes"
    )
    sync_check_interval: int = option(
        100, "updates between two checks of MPI ranks; that all have the same model", minimum=0, zero="off"
    )
    keep: int = option(
        3, "last checkpoints to keep in the log folder; the best one is kept, too", minimum=0, zero="off"
    )
    keep_every: int = option(0, "timesteps between checkpoints kept for ever", minimum=0, zero="off")
    eval_interval: int = option(
        0, "timesteps between two evaluations; in environments of their own", unit="timesteps", minimum=0, zero="off"
    )
    eval_episodes: int = option(10, "whole games in an evaluation", minimum=1)
    eval_sampled: bool = option(False, "evaluate sampled actions; instead of the most likely ones")
    load_path: str | None = option(
        None,
        "checkpoint to go on from, a log folder: its newest, or zoo:NAME of a ready-made agent (zoo: lists them); it "
        "brings alg, env, frame_stack, reward_scale, pixels, network and hyperparameters",
        topic="an earlier model or run",
    )
    best: bool = option(
        False, "load best.model of the log folder; the best by evaluation, else by the last 100 training games"
    )
    resume: bool = option(
        False,
        "go on with the run in the log folder; exactly as if it had not been interrupted",
        hint="the folder of the run is --log_path=FOLDER",
    )
    trust: bool = option(
        False, "import modules that a file names; those of its environment and network, which runs their code"
    )
    play: bool = option(
        False,
        "replay the model after training",
        topic="replay, videos, export",
        hint="it shows a window, or with --video=FILE.mp4 writes a file",
    )
    play_episodes: int | None = option(None, "games to replay; by default one in each environment", minimum=1)
    greedy: bool = option(False, "replay the most likely actions; instead of sampled ones")
    video: str | None = option(None, "replay into this .mp4 or .gif file; instead of a window")
    save_video_interval: int = option(0, "timesteps between two videos of training", minimum=0, zero="off")
    save_video_length: int = option(200, "steps of such a video", minimum=1)
    export: str | None = option(
        None,
        "write what acts for programs without this package; a folder (SavedModel), FILE.tflite or FILE.onnx, and with "
        "--load_path no training",
    )
    export_format: str = option("", "format of --export; by default as its name ends", choices=("", *FORMATS))
    export_sample: bool = option(False, "export sampled actions; instead of the most likely ones")
    kfac_clip: float | None = option(None, "twice --delta; another way to give it", above=0, topic="names of Baselines")

    def __post_init__(self) -> None:
        validate(self)


def group_title(alg: str, kind: str) -> str:
    """Returns the title of the group of flags that the algorithm's learner for `kind` of actions has."""
    return f"{alg} with {kind} actions"


def _hint_for_word(word: str) -> str:
    """Returns a hint for a word that is the id of an environment, as in `acktr CartPole-v1`; "" for any other."""
    return f"Did you mean --env={word}?" if re.fullmatch(r"[\w/:.]+-v\d+", word) else ""


FLAGS = cli.Flags(
    {"the run": RunOptions} | {group_title(*key): learner.config_class for key, learner in LEARNERS.items()},
    SYNONYMS,
    FOREIGN_FLAGS,
    _hint_for_word,
)


def parse_env_kwargs(text: str) -> dict[str, Any]:
    """Returns the arguments of the environment that `--env_kwargs` says, {} for none.

    Raises:
      UserError: the text is neither name=value,name=value nor a JSON object.
    """
    return assignments.parse(text, "--env_kwargs") if text else {}
