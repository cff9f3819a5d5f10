"""The settings of a run: its flags, what a checkpoint brings, and the checks made before anything is built."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import tempfile
from collections.abc import Mapping
from typing import Any, TypeVar

from baselines_acktr.config import ARCHITECTURE, AcktrDiscreteConfig
from common import cli
from common.errors import UserError
from common.options import option, validate

ALGORITHMS = ("acktr",)
NOT_YET = ("a2c", "trpo")
PATHS = ("log_path", "save_path", "load_path", "video")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The flags that are not hyperparameters."""

    alg: str = option("acktr", "learning algorithm; by the action space, acktr is its discrete or continuous form")
    env: str | None = option(None, "id of the environment, or module:id; required unless --load_path names one")
    num_timesteps: int = option(1_000_000, "steps of all environments together; 0: no training", minimum=0)
    seed: int | None = option(
        None, "of every random draw; drawn and recorded if not given", minimum=0, maximum=2**31 - 1
    )
    network: str | None = option(None, "cnn, mlp, a registered name or module:function; by default cnn for images")
    num_env: int | None = option(None, "environments at once; by default 32 for Atari, 8 otherwise", minimum=1)
    env_backend: str = option("auto", "how they run", choices=("auto", "native", "subproc", "sync"))
    frame_stack: int = option(4, "frames in one observation of an Atari game", unit="frames", minimum=1)
    reward_scale: float = option(1.0, "factor of the rewards that are learned from", above=0)
    log_path: str | None = option(None, "log folder; by default OPENAI_LOGDIR or a new temporary one")
    log_format: tuple[str, ...] = option((), "stdout,log,csv,json,tensorboard; by default OPENAI_LOG_FORMAT")
    log_interval: int = option(100, "updates between two reports", unit="updates", minimum=1)
    save_path: str | None = option(None, "file to save the model to at the end, and every --save_interval")
    save_interval: int = option(0, "updates between two checkpoints; 0: only at the end", unit="updates", minimum=0)
    load_path: str | None = option(None, "checkpoint to go on from; environment, network and settings come with it")
    play: bool = option(False, "replay the model after training")
    play_episodes: int | None = option(None, "games to replay; by default one in each environment", minimum=1)
    greedy: bool = option(False, "replay the most likely actions instead of sampled ones")
    video: str | None = option(None, "replay into this .mp4 or .gif file instead of a window")
    save_video_interval: int = option(0, "timesteps between two videos of training; 0: none", minimum=0)
    save_video_length: int = option(200, "steps of such a video", minimum=1)
    kfac_clip: float | None = option(None, "of Baselines: another way to give --delta, which is half of it", above=0)

    def __post_init__(self) -> None:
        if self.alg not in ALGORITHMS:
            state = "not in this version" if self.alg in NOT_YET else "unknown"
            raise UserError(f"--alg={self.alg}: {state}; must be one of {', '.join(ALGORITHMS)}")
        validate(self)


FLAGS = cli.Flags({"the run": RunOptions, "hyperparameters of acktr": AcktrDiscreteConfig})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run does.

    Its properties are the options that are None until they are settled, without the None; before, they raise
    RuntimeError.

    Attributes:
      options: the run's flags, as typed or from the checkpoint.
      config: the learner's hyperparameters.
      origins: {name of a flag: "default", "checkpoint", "environment preset", "drawn" or "command line"}.
      trained: timesteps that the checkpoint has behind it.
    """

    options: RunOptions
    config: AcktrDiscreteConfig
    origins: Mapping[str, str]
    trained: int = 0

    @property
    def env(self) -> str:
        return _settled(self.options.env)

    @property
    def seed(self) -> int:
        return _settled(self.options.seed)

    @property
    def num_env(self) -> int:
        return _settled(self.options.num_env)

    @property
    def log_path(self) -> str:
        return _settled(self.options.log_path)

    @property
    def network(self) -> str:
        return _settled(self.options.network)

    def values(self) -> dict[str, Any]:
        """Returns {name of a flag: its value}."""
        return dataclasses.asdict(self.options) | dataclasses.asdict(self.config)

    def preset(self, **values: Any) -> Settings:
        """Returns the settings with options that follow from the environment, unless they were given."""
        free = {name: value for name, value in values.items() if getattr(self.options, name) is None}
        options = dataclasses.replace(self.options, **free)
        return dataclasses.replace(
            self, options=options, origins={**self.origins, **dict.fromkeys(free, "environment preset")}
        )


def settle(typed: Mapping[str, Any]) -> Settings:
    """Merges defaults, the checkpoint of --load_path and the flags that were typed, which win.

    Raises:
      UserError: a value outside its limits, a checkpoint that cannot be read, or a flag that contradicts it.
    """
    typed = _without_alias({n: os.path.expanduser(v) if n in PATHS else v for n, v in typed.items()})
    path = typed.get("load_path")
    meta = _read_checkpoint(path, typed) if path else {}
    defaults = dataclasses.asdict(RunOptions()) | dataclasses.asdict(AcktrDiscreteConfig())
    drawn = {"seed": secrets.randbelow(2**31)}
    layers = ("default", defaults), ("drawn", drawn), ("checkpoint", _settings_of(meta)), ("command line", typed)
    values, origins = cli.resolve(*layers)
    options, config = _build(values)
    if options.env is None:
        raise UserError("--env: missing; for example --env=SeaquestNoFrameskip-v4")
    return Settings(options, config, origins, meta.get("counters", {}).get("timesteps", 0))


def check_files(options: RunOptions) -> None:
    """Raises `UserError` if a file or folder of the run cannot be written; creates nothing."""
    if options.video is not None and not options.play:
        raise UserError(f"--video={options.video}: shows the replay, so it needs --play")
    if options.video is not None:
        from baselines_acktr.play import check_video_name  # late: Gymnasium

        check_video_name(options.video)
    if options.save_interval and options.save_path is None:
        raise UserError(f"--save_interval={options.save_interval}: needs --save_path=FILE")
    for name in ("save_path", "video"):
        path = getattr(options, name)
        if path is not None:
            _check_file(name, path)
    from common.logger import check_formats, default_formats  # late: rich and tqdm

    check_formats(options.log_format or default_formats())
    if options.log_path is not None:
        _check_folder("log_path", options.log_path, options.log_path)


def _settled(value: T | None) -> T:
    if value is None:
        raise RuntimeError("this setting has no value yet")
    return value


def _build(values: Mapping[str, Any]) -> tuple[RunOptions, AcktrDiscreteConfig]:
    return RunOptions(**cli.only(RunOptions, values)), AcktrDiscreteConfig(**cli.only(AcktrDiscreteConfig, values))


def _without_alias(typed: dict[str, Any]) -> dict[str, Any]:
    """Returns the typed flags with --kfac_clip turned into --delta."""
    if "kfac_clip" not in typed:
        return typed
    if "delta" in typed:
        raise UserError("--kfac_clip: is 2 delta, so it cannot be given together with --delta")
    return {**typed, "delta": typed["kfac_clip"] / 2}


def _read_checkpoint(path: str, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the meta of a checkpoint that the typed flags do not contradict."""
    from baselines_acktr import checkpoint  # late: NumPy

    meta = checkpoint.load(path)[1]  # the whole file, so that damage is found before anything is built
    shape = {name: value for name, value in typed.items() if name in ARCHITECTURE}
    env_id = typed["env"].rpartition(":")[2] if "env" in typed else None
    checkpoint.check_compatible(meta, path, env_id=env_id, network=typed.get("network"), config=shape)
    return meta


def _settings_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that a checkpoint brings: environment, network, hyperparameters."""
    config = cli.only(AcktrDiscreteConfig, meta.get("config", {}))
    result = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    names = {"env": meta.get("env_id"), "network": meta.get("network")}
    image = meta.get("observation_space", {}).get("shape", [])
    if len(image) == 3:
        names["frame_stack"] = image[-1]
    return result | {name: value for name, value in names.items() if value is not None}


def _check_file(name: str, path: str) -> None:
    if os.path.isdir(path) or path.endswith(os.sep):
        raise UserError(f"--{name}={path}: is a folder; must be a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"--{name}={path}: is not a regular file")
    _check_folder(name, path, os.path.dirname(path))


def _check_folder(name: str, path: str, folder: str) -> None:
    """Raises unless files can be made in `folder`, or in the nearest folder above it that exists."""
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # raises where a name is too long
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--{name}={path}: cannot be written: {error.strerror}") from error
