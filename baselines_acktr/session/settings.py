"""The settings of a run: its flags, what a checkpoint brings, and the checks made before anything is built."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from baselines_acktr.agent.export_formats import FORMATS, check_export, find_format
from baselines_acktr.agent.network_names import BUILT_IN, require_memory, unknown_network
from baselines_acktr.config import ARCHITECTURE, RECURRENT, SYNONYMS
from baselines_acktr.session import config_file
from baselines_acktr.session.foreign_flags import FOREIGN_FLAGS
from baselines_acktr.session.learners import ALGORITHMS, LEARNERS, describe_num_env
from baselines_acktr.session.ready_made import POLICY_ONLY
from common import assignments, cli
from common.errors import UserError, brief
from common.options import option, validate, values_in_files

if TYPE_CHECKING:
    from baselines_acktr.session.checkpoints import SavedModel

PATHS = ("config", "log_path", "save_path", "load_path", "video", "export")
# What a checkpoint has no say in: it may come from anybody.
NOT_RESUMED = (*PATHS, "export_format", "export_sample", "best", "resume", "trust")
# What a run that is resumed has in common with the one that was interrupted: else its environments could not go on.
FIXED = ("alg", "env", "network", "num_env", "env_backend", "pixels", "frame_stack", "env_kwargs", "seed")
ENVIRONMENT = {"frame_stack": int, "reward_scale": int | float, "pixels": bool}  # options: what is learned
# Hyperparameters of learners for one kind of actions -> what those for the other kind have in their place.
_OTHER_FORM = {"nsteps": "timesteps_per_batch", "timesteps_per_batch": "nsteps"}
_LONGEST_LOG = f"checkpoints/{'0' * 50}"  # file in a log folder
T = TypeVar("T")


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


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run does.

    Its properties are the options that are None until they are settled, without the None; before, they raise
    RuntimeError.

    Attributes:
      options: the run's flags, as typed or from the checkpoint.
      origins: {name of a flag: "default", "replay", "checkpoint", "environment preset", "drawn", "config file" or
        "command line"}.
      trained: timesteps that the checkpoint has behind it.
      layers: (origin, hyperparameters): those of the checkpoint, of --config, typed ones.
      saved: the checkpoint's model, until it is restored.
      config: the learner's hyperparameters, once `with_learner` has settled them.
    """

    options: RunOptions
    origins: Mapping[str, str]
    trained: int
    layers: tuple[tuple[str, Mapping[str, Any]], ...]
    saved: SavedModel | None = None
    config: Any = None

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
    def load_path(self) -> str:
        return _settled(self.options.load_path)

    @property
    def network(self) -> str:
        return _settled(self.options.network)

    @property
    def env_kwargs(self) -> dict[str, Any]:
        return _env_kwargs({"env_kwargs": self.options.env_kwargs})

    def values(self) -> dict[str, Any]:
        """Returns {name of a flag: its value}."""
        return values_in_files(self.options) | values_in_files(self.config)

    def with_learner(self, kind: str, preset: Mapping[str, Any]) -> Settings:
        """Returns the settings with the hyperparameters of the algorithm's learner for `kind` of actions.

        Args:
          kind: `learners.DISCRETE` or `learners.CONTINUOUS`.
          preset: hyperparameters that follow from the environment.

        Raises:
          UserError: a flag that this learner does not have, or a value outside its limits.
        """
        config_class = LEARNERS[self.options.alg, kind].config_class
        names = {field.name for field in dataclasses.fields(config_class)}
        layers = dict(self.layers)
        for name in (*layers["command line"], *layers["config file"]):
            if name not in names:
                where = "" if name in layers["command line"] else f"--config={self.options.config}: "
                other = _OTHER_FORM.get(name)
                hint = f". Did you mean --{other}?" if other in names else ""
                raise UserError(f"{where}--{name}: {self.options.alg} with {kind} actions does not have it{hint}")
        config, origins = settle_config(config_class, ("environment preset", preset), *self.layers)
        return dataclasses.replace(self, config=config, origins={**self.origins, **origins})

    def unknown_to_checkpoint(self) -> list[str]:
        """Returns the hyperparameters that the checkpoint, where there is one, is too old to have."""
        loaded = dict(self.layers)["checkpoint"]
        names = [field.name for field in dataclasses.fields(self.config)]
        given = ("command line", "config file")
        return [n for n in names if n not in loaded and self.origins[n] not in given] if loaded else []

    def with_log_path(self, path: str) -> Settings:
        """Returns the settings with the same log folder, named otherwise."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, log_path=path))

    def preset(self, **values: Any) -> Settings:
        """Returns the settings with options that follow from the environment, unless they were given."""
        free = {name: value for name, value in values.items() if getattr(self.options, name) is None}
        options = dataclasses.replace(self.options, **free)
        return dataclasses.replace(
            self, options=options, origins={**self.origins, **dict.fromkeys(free, "environment preset")}
        )


def settle_config(config_class: type, *layers: tuple[str, Mapping[str, Any]]) -> tuple[Any, dict[str, str]]:
    """Merges what is known of a learner's hyperparameters, for run.py and Python alike.

    Args:
      config_class: dataclass of the hyperparameters.
      *layers: (origin, {name: value}), of which later ones win: what follows from the environment, the checkpoint's,
        those that the user gave. Names that the learner does not have are left out.

    Returns:
      The config, and {name: origin of its value}, which is "default" where no layer has it.

    Raises:
      UserError: a value outside its limits.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    values, origins = cli.resolve(("default", defaults), *layers)
    return config_class(**cli.tuples(cli.only(config_class, values))), cli.only(config_class, origins)


def settle(typed: Mapping[str, Any]) -> Settings:
    """Merges defaults, the checkpoint of --load_path or --resume and the flags that were typed, which win.

    Raises:
      UserError: a value outside its limits, a checkpoint that cannot be read, or a flag that contradicts it.
    """
    typed = {n: os.path.expanduser(v) if n in PATHS else v for n, v in typed.items()}
    filed = _of_config_file(typed)
    typed = _with_one_form(filed | typed)
    if typed.get("best") and ("load_path" not in typed or typed.get("resume")):
        raise UserError("--best: takes the best model of a log folder, so it needs --load_path=FOLDER")
    typed, resumed, saved = _resumed(typed)
    if "load_path" in typed and saved is None:
        from baselines_acktr.session import checkpoints  # late: NumPy

        saved = checkpoints.read_model(typed["load_path"], "--load_path", typed.get("best", False))
        typed["load_path"] = saved.path
    meta = _checked_meta(saved, typed) if saved else {}
    brought = (_options_of(meta) if saved else {}) | resumed
    if saved:
        _require_trust(saved.path, brought, typed)
    drawn = {"seed": secrets.randbelow(2**31)}
    layers = (
        ("default", dataclasses.asdict(RunOptions())),
        ("replay", {"num_timesteps": 0} if saved and _uses_model(typed) and not resumed else {}),
        ("drawn", drawn),
        ("checkpoint", brought),
    )
    values, origins = cli.resolve(*layers, *_by_origin(cli.only(RunOptions, typed), filed))
    options = RunOptions(**values)
    if meta.get("policy_only") and options.num_timesteps:
        raise UserError(f"--load_path={options.load_path}: {POLICY_ONLY}; give --play or --export=FILE")
    _check_network(options)
    typed = {name: value for name, value in typed.items() if name not in values}
    loaded = cli.tuples(_hyperparameters_of(meta))
    _check_hyperparameters(options.alg, loaded, typed)
    if options.env is None:
        raise UserError("--env: missing; for example --env=CartPole-v1, or a model that brings it, --load_path=FILE")
    trained = meta.get("counters", {}).get("timesteps", 0)
    return Settings(options, origins, trained, (("checkpoint", loaded), *_by_origin(typed, filed)), saved)


def _uses_model(typed: Mapping[str, Any]) -> bool:
    """Whether a model is to be used as it is, unless training is asked for, too."""
    return bool(typed.get("play") or typed.get("export"))


def _of_config_file(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the file that --config names, but for those that were typed; {} without one.

    Raises:
      UserError: the file cannot be used, or has the name of a module that the user has neither typed nor allowed.
    """
    path = typed.get("config")
    if path is None:
        return {}
    found = config_file.read(path, FLAGS)
    filed = {name: value for name, value in found.items() if name not in typed}
    for name in ("env", "network"):
        if ":" in filed.get(name, "") and not typed.get("trust"):
            raise UserError(
                f"--config={brief(path)}: its {name} is {brief(filed[name])}, which would run code of that module: if "
                f"you trust it, give --{name}={brief(filed[name])}, or --trust"
            )
    return filed


def _by_origin(given: Mapping[str, Any], filed: Mapping[str, Any]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Returns what was given as two layers of settings, of the file of --config and typed."""
    of_file = {name: value for name, value in given.items() if name in filed}
    typed = {name: value for name, value in given.items() if name not in filed}
    return ("config file", of_file), ("command line", typed)


def _resumed(typed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], SavedModel | None]:
    """Finds and reads the newest checkpoint for --resume.

    Returns:
      The typed flags, with its model as --load_path, or without --resume where there is nothing to go on from yet; the
      options that come with it; and the model.
    """
    if not typed.get("resume"):
        return typed, {}, None
    from baselines_acktr.session import checkpoints, schema  # late: NumPy
    from common.logger import default_folder

    if "load_path" in typed:
        raise UserError("--resume: finds its checkpoint in the log folder, so it cannot be given with --load_path")
    if "log_path" not in typed and "OPENAI_LOGDIR" not in os.environ:
        raise UserError("--resume: needs the log folder of the run, --log_path=FOLDER or OPENAI_LOGDIR")
    folder = Path(typed.get("log_path") or default_folder()) / checkpoints.FOLDER
    found = checkpoints.newest(folder)
    if found is None:
        if "env" not in typed:
            raise UserError(f"--resume: no checkpoint in {folder}")
        print(f"no checkpoint in {folder} yet: the run starts from its beginning", file=sys.stderr)
        return {**typed, "resume": False}, {}, None
    schema.check_run(found.model.with_suffix(".run"), *found.run)
    model = checkpoints.SavedModel(found.arrays, found.meta, str(found.model)).checked("--resume")
    saved = dataclasses.asdict(RunOptions()) | cli.tuples(cli.only(RunOptions, found.settings))
    for name in (*FIXED, "eval_episodes") if saved["eval_interval"] else FIXED:
        if name in typed and typed[name] != saved[name]:
            raise UserError(f"--{name}={typed[name]}: the run to be resumed has {brief(saved[name])}")
    print(f"going on from {found.model}", file=sys.stderr)
    for name in ("save_path", "video", "export"):
        if saved[name] is not None and name not in typed:
            was = brief(saved[name])
            print(f"--{name} was {was}; a checkpoint cannot say where to write: give it again", file=sys.stderr)
    return {**typed, "load_path": model.path}, {n: v for n, v in saved.items() if n not in NOT_RESUMED}, model


def _require_trust(path: str, brought: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raises `UserError` where a checkpoint brings the name of a module that the user has neither typed nor allowed."""
    if typed.get("trust"):
        return
    from baselines_acktr.session import schema  # late: NumPy

    networks = sys.modules.get("baselines_acktr.agent.networks")  # where it is not imported, nothing is registered
    env_id, network = brought.get("env", ""), brought.get("network", "")
    if "env" not in typed and schema.known_here(env_id) != env_id:
        schema.require_trust(path, "environment", env_id, "--env")
    if "env_kwargs" not in typed and any(isinstance(v, str | list) for v in _env_kwargs(brought).values()):
        kwargs = brought["env_kwargs"]
        raise UserError(
            f"checkpoint {path}: its environment is made with {brief(kwargs)}: if you trust it, give "
            f"--env_kwargs={brief(kwargs)}, or --trust"
        )
    if "network" not in typed and not (networks and networks.is_registered(network)):
        schema.require_trust(path, "network", network, "--network")


def check_files(settings: Settings) -> None:
    """Raises `UserError` if a file or folder of the run cannot be written; creates nothing."""
    options = settings.options
    if options.video is not None and not options.play:
        raise UserError(f"--video={options.video}: shows the replay, so it needs --play")
    if options.video is not None:
        from baselines_acktr.play import check_video_name  # late: Gymnasium

        check_video_name(options.video)
    for name in ("save_path", "video"):
        path = getattr(options, name)
        if path is not None:
            _check_file(name, path)
    _check_export(options)
    if options.log_path is not None:
        typed = settings.origins["log_path"] != "environment preset"
        argument = "--log_path" if typed else "OPENAI_LOGDIR"
        check_folder(argument, options.log_path, options.log_path, longest=_LONGEST_LOG)
    from common.logger import check_formats, default_formats, whole_formats  # late: rich and tqdm

    if options.log_format:
        check_formats(whole_formats(options.log_format, ()), "--log_format")
    else:
        check_formats(default_formats(), "OPENAI_LOG_FORMAT")
    for name, needs in (("play_episodes", "--play"), ("greedy", "--play or --save_video_interval")):
        if getattr(options, name) and not (options.play or (name == "greedy" and options.save_video_interval)):
            raise UserError(f"--{name}: has no effect without {needs}")
    for name in ("eval_episodes", "eval_sampled"):
        if settings.origins[name] == "command line" and not options.eval_interval:
            raise UserError(f"--{name}: has no effect without --eval_interval")
    if settings.origins["eval_interval"] == "command line" and options.num_timesteps == 0:
        raise UserError("--eval_interval: has no effect without training (--num_timesteps=0)")


def _check_export(options: RunOptions) -> None:
    """Raises `UserError` if the model cannot be exported as the options say."""
    if options.export is None:
        for name in ("export_format", "export_sample"):
            if getattr(options, name):
                raise UserError(f"--{name}: has no effect without --export")
        return
    if options.network in RECURRENT:
        raise UserError(f"--export: a model with --network={options.network} cannot be exported, as it remembers")
    format = find_format(options.export, options.export_format or None, "--export")
    check_export(options.export, format, "--export")
    check_folder("--export", options.export, os.path.dirname(options.export.rstrip(os.sep)))


def _settled(value: T | None) -> T:
    if value is None:
        raise RuntimeError("this setting has no value yet")
    return value


def _check_network(options: RunOptions) -> None:
    """Raises `UserError` for a network that nobody can have registered, before TensorFlow is imported."""
    name, env = options.network, options.env or ""
    if name is None or ":" in name or ":" in env:  # a module may register its own
        return
    networks = sys.modules.get("baselines_acktr.agent.networks")
    if name not in BUILT_IN and not (networks and networks.is_registered(name)):
        raise unknown_network(name, BUILT_IN)
    classes = [learner.config_class for (alg, _), learner in LEARNERS.items() if alg == options.alg]
    require_memory(name, classes, options.alg)


def _check_hyperparameters(alg: str, loaded: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raises `UserError` for typed hyperparameters that no learner of the algorithm takes with the loaded ones."""
    classes = [learner.config_class for (name, _), learner in LEARNERS.items() if name == alg]
    knowing = [cls for cls in classes if len(cli.only(cls, typed)) == len(typed)]
    if not knowing:
        foreign = [name for name in typed if not any(cli.only(cls, {name: None}) for cls in classes)]
        if len(foreign) == 1:
            raise UserError(f"--{foreign[0]}: {alg} does not have it, {_owners(foreign[0])}")
        flags = ", ".join(f"--{name}" for name in foreign or typed)
        raise UserError(f"{flags}: {alg} does not have them together")
    errors = []
    for config_class in knowing:
        try:
            config_class(**{**cli.only(config_class, loaded), **typed})
            return
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _owners(name: str) -> str:
    """Returns the algorithms that have a hyperparameter, as in "a2c and trpo have"."""
    algorithms = [
        alg for alg in ALGORITHMS if any(cli.only(LEARNERS[k].config_class, {name: 0}) for k in LEARNERS if k[0] == alg)
    ]
    return f"{' and '.join(algorithms)} {'has' if len(algorithms) == 1 else 'have'}"


def _env_kwargs(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that an environment is made with by options, which may not say any."""
    text = options.get("env_kwargs", "")
    return assignments.parse(text, "--env_kwargs") if text else {}


def _with_one_form(typed: dict[str, Any]) -> dict[str, Any]:
    """Returns the given flags with --kfac_clip turned into --delta, and --env_kwargs in the form that is compared."""
    if "env_kwargs" in typed:
        typed = {**typed, "env_kwargs": assignments.unparse(_env_kwargs(typed))}
    if "kfac_clip" not in typed:
        return typed
    if "delta" in typed:
        raise UserError("--kfac_clip: is 2 delta, so it cannot be given together with --delta")
    return {**typed, "delta": typed["kfac_clip"] / 2}


def _checked_meta(saved: SavedModel, typed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the meta of a checkpoint that the typed flags do not contradict."""
    from baselines_acktr.agent import description  # late: Gymnasium

    _, meta, path = saved
    shape = {name: value for name, value in typed.items() if name in ARCHITECTURE}
    env_id = typed["env"].rpartition(":")[2] if "env" in typed else None
    alg = typed.get("alg")
    description.check_compatible(meta, path, algorithm=alg, env_id=env_id, network=typed.get("network"), config=shape)
    return meta


def _hyperparameters_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the hyperparameters that a checkpoint brings, of its algorithm or of others."""
    from baselines_acktr.agent import description  # late: NumPy

    return description.hyperparameters(meta)


def _options_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that a checkpoint brings: algorithm, network, environment and what makes it."""
    from baselines_acktr.agent import description  # late: NumPy

    found = description.env_arguments(meta)
    env_id = found.get("env_id", meta.get("env_id"))  # the first has the module, too
    names = {"alg": meta.get("algorithm"), "env": env_id, "network": meta.get("network")}
    names |= {name: found[name] for name, kind in ENVIRONMENT.items() if isinstance(found.get(name), kind)}
    names["env_kwargs"] = assignments.unparse(found.get("env_kwargs", {}))
    return {name: value for name, value in names.items() if value is not None}


def _check_file(name: str, path: str) -> None:
    if os.path.isdir(path) or path.endswith(os.sep):
        raise UserError(f"--{name}={path}: is a folder; must be a file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"--{name}={path}: is not a regular file")
    check_folder(f"--{name}", path, os.path.dirname(path))


def check_folder(argument: str, path: str, folder: str, longest: str = "") -> None:
    """Raises unless files can be made in `folder`, or in the nearest folder above it that exists.

    Args:
      argument: what `path` was given by, for the message.
      path: as given.
      folder: the one that files shall be in.
      longest: name, below `path`, that is as long as any of theirs.
    """
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(os.path.join(path, longest) if longest else path)  # raises where a name is too long
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{argument}={brief(path, 300)}: cannot be written: {error.strerror}") from error
